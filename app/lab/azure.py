"""The lab's Azure as one thing: Entra, ARM with its actions, and the Bastion, joined to cluster and jump box."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from app.lab.arc import CLUSTERS, LabArc, hybrid_connection
from app.lab.arm import ArmServer
from app.lab.arm_resources import Facts
from app.lab.azure_names import CLUSTER, JUMP_ADDRESS, JUMP_VM, SCALE_SET, STOPPED_VM
from app.lab.bastion import BastionPlane
from app.lab.config_folder import API_NAME
from app.lab.door import HOST, Door, ProtocolFactory, Reach
from app.lab.entra import Entra
from app.lab.entra_tokens import BadToken, Tokens
from app.lab.invoke import Invoke
from app.lab.jit import Jit
from app.lab.relay import RelayServer, agent

Switch = Callable[[bool], Awaitable[None]]


class LabAzure:
    """A running Azure. Open it with `async with LabAzure.open(…) as azure`."""

    def __init__(self, tokens: Tokens, jump: Door, api: Door) -> None:
        self.tokens = tokens
        self.entra = Entra(tokens)
        self.arm: ArmServer
        self.bastion: BastionPlane
        self.invoke: Invoke
        self.arc: LabArc
        self.jit = Jit(jump)
        self._jump, self._api = jump, api

    @classmethod
    @asynccontextmanager
    async def open(
        cls, tokens: Tokens, tls: ssl.SSLContext, ca: Path, *, api: Door, behind_api: int, admin_token: str, jump: Door
    ) -> AsyncIterator[LabAzure]:
        """Start all of it. `api` and `jump` are the doors of API server and jump box.

        `behind_api` is the API server's own port: what runs inside the cluster does not go through its door.
        """
        async with AsyncExitStack() as stack:
            azure = cls(tokens, jump, api)
            stack.push_async_callback(azure.jit.aclose)
            await stack.enter_async_context(azure.entra.serve(tls))
            azure.arm = await stack.enter_async_context(ArmServer(tokens, azure.entra.url, admin_token).serve(tls))
            azure.bastion = await stack.enter_async_context(
                BastionPlane(tls, azure.accepts, azure._targets(), addresses={JUMP_ADDRESS: {22: azure._reach_jump}})
            )
            inside = ssl.create_default_context(cafile=str(ca))
            azure.invoke = Invoke(tokens, f"https://{HOST}:{behind_api}", inside, azure.arm.faults)
            stack.push_async_callback(azure.invoke.aclose)
            azure.arc = await azure._open_arc(stack, tls, inside, ca.parent)
            azure.arm.jit, azure.arm.invoke, azure.arm.arc = azure.jit, azure.invoke, azure.arc
            azure.arm.facts = azure._facts(ca)
            yield azure

    async def _open_arc(
        self, stack: AsyncExitStack, tls: ssl.SSLContext, inside: ssl.SSLContext, folder: Path
    ) -> LabArc:
        names, clock = [hybrid_connection(each) for each in CLUSTERS], self.tokens.clock
        server = RelayServer(names, agent(self._api, inside, API_NAME), clock)
        relay = await stack.enter_async_context(server.serve(tls))
        relay.online = lambda: not {"arc-offline", "arc-expired", "arc-no-agent"} & self.arm.faults
        arc = LabArc(folder, relay, clock)
        arc.install()
        return arc

    def _facts(self, ca: Path) -> Callable[[], Facts]:
        """What ARM shows. The Bastion has an address, no name: `localhost` may also be one that nothing listens on."""
        pem = ca.read_bytes()
        return lambda: Facts(f"{HOST}:{self.bastion.port}", self.bastion.sku, ip_connect=True, ca_pem=pem)

    def _targets(self) -> dict[str, dict[int, Reach]]:
        stopped: dict[int, Reach] = {22: _refuse}
        jump: dict[int, Reach] = {22: self._reach_jump}
        return {
            JUMP_VM: jump,
            STOPPED_VM: stopped,
            f"{SCALE_SET}/virtualMachines/0": stopped,
            f"{SCALE_SET}/virtualMachines/1": jump,
            CLUSTER: {443: self._reach_cluster},
        }

    async def _reach_jump(self, factory: ProtocolFactory) -> None:
        await (_refuse if "vm-stopped" in self.arm.faults else self._jump.connect)(factory)

    async def _reach_cluster(self, factory: ProtocolFactory) -> None:
        await (_refuse if "aks-stopped" in self.arm.faults else self._api.connect)(factory)

    def accepts(self, token: str) -> str | None:
        """Whose an ARM access token is; None when it is not good."""
        try:
            claims = self.tokens.read_for_arm(token)
        except BadToken:
            return None
        return str(claims.get("upn") or claims["oid"])

    def switches(self) -> dict[str, Switch]:
        """Faults that change more than an answer, by name, and how to switch each."""
        return {
            "jit-closed": self.jit.require,
            "basic-sku": self._sku("Basic"),
            "developer-sku": self._sku("Developer"),
        }

    def _sku(self, sku: str) -> Switch:
        async def switch(on: bool) -> None:
            self.bastion.sku = sku if on else "Standard"

        return switch


async def _refuse(_factory: ProtocolFactory) -> None:
    raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
