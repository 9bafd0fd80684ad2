"""Our own Bastion hop against the lab's bastion host: what ARM and the identity say, and streams that are kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from app.azure.context import Azure
from app.dialer import Dialer
from app.errors import JumpdeckError
from app.identity.clouds import CloudEndpoints
from app.identity.identity import AccessToken
from app.profiles.model import AksCluster, BastionHop, Profile
from app.records import replace
from app.routes.bastion import BastionDial
from app.routes.bastion_dialer import BastionDialer, BastionLimits
from app.routes.context import RouteContext
from app.routes.direct import DirectDialer
from app.routes.host_keys import HostKeys
from app.secrets.secret import Secret, SecretMemory, SecretSource
from tests.bastion_world import AKS, BASTION, TOKEN, VM, World
from tests.hops import Keep

WAIT = 20.0
"""Seconds after which a test gives up waiting for what must come."""
PATIENT = BastionLimits(dial=60.0, first_byte=30.0, last_first_byte=30.0, stream=60.0, close=WAIT)
"""Limits that a busy machine does not reach."""
QUICK = replace(PATIENT, first_byte=0.3, last_first_byte=0.3)
"""Limits for tests in which the target stays silent."""


class FakeIdentity:
    """A sign-in with one token; a fresh one when it is asked for."""

    label = "somebody"

    def __init__(self, token: str = TOKEN, fresh: str | None = None) -> None:
        self.current, self.fresh = token, fresh or token
        self.asked: list[tuple[str, bool]] = []

    async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> AccessToken:
        self.asked.append((scope, fresh))
        if fresh:
            self.current = self.fresh
        return AccessToken(Secret(self.current), time.time() + 3600)


class FakeArm:
    """ARM with the documents that it was given."""

    def __init__(self, documents: dict[str, dict[str, Any]]) -> None:
        self.documents = {name.lower(): document for name, document in documents.items()}
        self.asked: list[str] = []
        self.power: dict[str, str] = {}
        """By the machine's name; those not named run."""

    async def get(self, path: str, api_version: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        self.asked.append(path)
        if path.lower().endswith("/instanceview"):
            name = path.lower().removesuffix("/instanceview").rpartition("/")[2]
            return {"statuses": [{"code": f"PowerState/{self.power.get(name, 'running')}"}]}
        found = self.documents.get(path.lower())
        if found is None:
            raise JumpdeckError("not there", code="JD-ARM-NOT-FOUND", layer="arm")
        return found


def bastion_document(dns_name: str, sku: str = "Standard", **properties: Any) -> dict[str, Any]:
    """What ARM says of a bastion host."""
    return {
        "id": BASTION, "name": "lab-bastion", "sku": {"name": sku}, "location": "westeurope",
        "properties": {"dnsName": dns_name, "enableTunneling": True, "provisioningState": "Succeeded", **properties},
    }  # fmt: skip


class Client:
    """What a test opens hops with."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.identity = FakeIdentity()
        self.arm = FakeArm({BASTION: bastion_document(world.plane.host)})
        self.ca = folder / "client-ca.pem"
        self.ca.write_bytes(Path(world.certificates.ca).read_bytes())
        self.ca.chmod(0o600)
        self.known_hosts = folder / "known_hosts"
        self.proxy: str | None = None

    def azure(self) -> Azure:
        endpoints = CloudEndpoints("lab", "https://localhost", "https://localhost", "arm-scope", ca_file=self.ca)
        return Azure(self.identity, endpoints, cast("Any", self.arm))

    def context(self) -> RouteContext:
        async def azure() -> Azure:
            return self.azure()

        secrets = SecretSource(None, SecretMemory())
        return RouteContext(None, secrets, HostKeys(own=self.known_hosts, others=()), azure=azure)

    def hop(self, *targets: str, port: int | None = None, limits: BastionLimits | None = None) -> BastionDial:
        """The hop to these targets, or to the cluster."""
        spec = BastionHop(BASTION, targets, port)
        profile = Profile("p", AksCluster(AKS), via=(spec,), proxy=self.proxy)
        return BastionDial(spec, self.context(), profile, profile.cluster, limits=limits or PATIENT)

    @asynccontextmanager
    async def opened(
        self, *targets: str, limits: BastionLimits | None = None, through: Dialer | None = None
    ) -> AsyncIterator[BastionDialer]:
        async with asyncio.timeout(4 * WAIT), self.hop(*targets, limits=limits).open(through or DirectDialer()) as hop:
            yield hop


async def keep(dialer: Dialer, port: int = 443) -> tuple[asyncio.Transport, Keep]:
    """A stream, and the protocol that keeps what comes."""
    protocol = Keep()
    return await dialer.dial("api.private", port, lambda: protocol), protocol


__all__ = ["QUICK", "VM", "WAIT", "Client", "FakeArm", "FakeIdentity", "bastion_document", "keep"]
