"""The practice ground as one thing: cluster, door, faults, folder and control channel, opened and closed together."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from app.lab.api import make_app
from app.lab.arc import account_claims
from app.lab.azure import LabAzure
from app.lab.azure_names import AKS_NAME, SERVICE_ACCOUNT
from app.lab.certificates import Certificates, make_certificates
from app.lab.config_folder import (
    API_NAME,
    ARC_PROFILES,
    CONTEXTS,
    INNER_NAME,
    SSH_USER,
    AzureEnds,
    LabFolder,
    lab_folder,
    write_kubeconfig,
    write_profiles,
)
from app.lab.control import ControlServer, Request
from app.lab.door import HOST, Door
from app.lab.entra_errors import EntraError, error_body
from app.lab.entra_tokens import EntraUsers, Tokens
from app.lab.estate import Estate
from app.lab.fault_names import FAULTS
from app.lab.faults import FaultBoard
from app.lab.jump_box import Admission, JumpBox
from app.lab.jump_keys import make_login
from app.lab.kubelet import Cluster
from app.lab.log_files import FILE_LIMIT
from app.lab.store import Store
from app.tasks import TaskOwner
from app.text import clean

SHUTDOWN_LIMIT = 1.0
"""Seconds that answers under way get when the lab ends; its door has reset them all before."""

BANNER = (
    "Practice jump box of the Jumpdeck lab: nothing behind it is real.\n"
    "What follows tries to harm a terminal: \x1b]52;c;cm0gLXJmIC8=\x07\x1b[2J\x1b[31mred \u202edesrever\u202c\n"
)
"""What the jump box says before a login. A clipboard write, a cleared screen and reversed text come out harmless."""

_log = logging.getLogger("app.lab.server")
_log.addHandler(logging.NullHandler())  # else Python prints what nobody takes on standard error

EstateKind = Literal["living", "still", "none"]


class Lab:
    """A running lab. Make one with `async with Lab.open() as lab`."""

    def __init__(self, folder: LabFolder, certificates: Certificates, seed: int, log_limit: int) -> None:
        self.store = Store(rng=random.Random(seed))
        self.cluster = Cluster(self.store, seed=seed, log_limit=log_limit)
        """The emulated cluster: tests add, change and delete pods and write log lines through it."""
        self.tokens = {user: f"lab-{user}-{secrets.token_hex(16)}" for user in CONTEXTS.values()}
        """User name (admin, restricted, nobody) to bearer token."""
        self.entra_tokens = Tokens()
        """Makes and reads the tokens of the lab's Entra."""
        self.account_token = self.entra_tokens.sign(account_claims(self.entra_tokens.clock()))
        """The token of the service account, as it stands in its Secret."""
        known = {**{token: user for user, token in self.tokens.items()}, self.account_token: SERVICE_ACCOUNT}
        self.users = EntraUsers(known, self.entra_tokens)
        self.faults = FaultBoard(self.cluster, self.users)
        self.door: Door
        """The door of the API server, for clients outside and for the jump boxes."""
        self.jump: JumpBox
        self.inner: JumpBox
        """The second jump box; only the first one reaches it."""
        self.azure: LabAzure
        """Entra, ARM and the Bastion in front of the jump box and the API server."""
        self.login = make_login(folder)
        self._behind_api = 0
        self.ended = asyncio.Event()
        """Set when somebody asked over the control channel that the lab ends."""
        self._folder = folder
        self._certificates = certificates

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        seed: int = 1,
        folder: Path | None = None,
        estate: EstateKind = "living",
        log_limit: int = FILE_LIMIT,
    ) -> AsyncIterator[Lab]:
        """Start a lab and remove all of it at the end. `folder` must be new or empty; without one it is temporary.

        `estate="none"` is an empty cluster for tests that add their own pods, "still" the estate of a moment, for tests
        that read it twice. `log_limit` is the size in bytes at which a container's log is rotated. Raises OSError when
        the folder cannot be made.
        """
        async with AsyncExitStack() as stack:
            place = stack.enter_context(lab_folder(folder))
            lab = cls(place, make_certificates(place.root), seed, log_limit)
            if estate == "none":
                lab.cluster.add_namespace("default")
            else:
                kept = Estate(lab.cluster, seed=seed)
                kept.populate()
                if estate == "living":
                    owner = await stack.enter_async_context(TaskOwner("lab estate"))
                    owner.spawn(kept.run(), name="life")
            await lab._listen(stack)
            await lab._open_jump_boxes(stack)
            await lab._open_azure(stack)
            stack.push_async_callback(lab.faults.aclose)
            await stack.enter_async_context(ControlServer(place, lab.handle))
            yield lab

    async def _listen(self, stack: AsyncExitStack) -> None:
        app = make_app(self.store, self.cluster.logs, self.users, self.faults)
        runner = web.AppRunner(
            app, access_log=None, logger=_log, handler_cancellation=True, shutdown_timeout=SHUTDOWN_LIMIT
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, HOST, 0, ssl_context=self._certificates.server_context()).start()
        self._behind_api = int(runner.addresses[0][1])
        self.door = await stack.enter_async_context(Door(self._behind_api))
        self.faults.add_door("api", self.door)
        write_kubeconfig(self._folder, self.door.port, self._certificates.ca, self.tokens)

    async def _open_jump_boxes(self, stack: AsyncExitStack) -> None:
        api = {(API_NAME, 443): self.door, (AKS_NAME, 443): self.door}
        inside = Admission(SSH_USER, password=self.login.password)
        self.inner = await stack.enter_async_context(JumpBox(inside, api, listens=False))
        reaches = {**api, (INNER_NAME, 22): self.inner.door}
        outside = Admission(SSH_USER, public_key=self.login.public)
        self.jump = await stack.enter_async_context(JumpBox(outside, reaches, banner=BANNER))
        self.faults.add_box("inner", self.inner)
        self.faults.add_box("jump", self.jump)

    async def _open_azure(self, stack: AsyncExitStack) -> None:
        opening = LabAzure.open(
            self.entra_tokens, self._certificates.server_context(), self._certificates.ca, api=self.door,
            behind_api=self._behind_api, admin_token=self.tokens["admin"], jump=self.jump.door,
        )  # fmt: skip
        self.azure = azure = await stack.enter_async_context(opening)
        self.jump.authority = lambda: azure.entra.ssh.public
        for place, server in (("entra", azure.entra), ("arm", azure.arm), ("bastion", azure.bastion)):
            self.faults.add_server(place, server.door, server.faults)
        self.faults.add_door("relay", azure.arc.relay.door)
        self.faults.add_faults("arc", azure.arc.faults)
        self.faults.add_switches(azure.switches())
        keys = self.jump.host_key.fingerprint, self.inner.host_key.fingerprint
        ends = AzureEnds(azure.entra.url, azure.arm.url, self._certificates.ca, azure.arc.program)
        write_profiles(self._folder, self.jump.door.port, *keys, ends)

    @property
    def config_dir(self) -> Path:
        """The folder for JUMPDECK_CONFIG_DIR."""
        return self._folder.config

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig: lab (admin), lab-restricted, lab-nobody, and lab-private behind the jump box."""
        return self._folder.kubeconfig

    @property
    def ca_pem(self) -> Path:
        """The certificate of the lab's own authority."""
        return self._certificates.ca

    @property
    def api_url(self) -> str:
        """The API server as a client reaches it: through the door."""
        return f"https://{HOST}:{self.door.port}"

    async def fault(
        self, name: str, place: str | None = None, on: bool = True, *, seconds: float | None = None
    ) -> None:
        """Switch a fault; in effect on return. Raises UsageError for an unknown one."""
        await self.faults.switch(name, place, on, seconds)

    async def handle(self, request: Request) -> dict[str, Any]:
        """Answer a request of the control channel: ping, fault, faults, secret, token, approve or stop."""
        command = request.get("command")
        if command == "fault":
            seconds = request.get("seconds")
            place = request.get("place")
            await self.faults.switch(
                str(request.get("name", "")),
                None if place is None else str(place),
                bool(request.get("on", True)),
                None if seconds is None else float(seconds),
            )
        elif command == "secret":
            return self._secret(str(request.get("name", "")))
        elif command == "token":
            return await self._token(request)
        elif command == "approve":
            code = request.get("user_code")
            declined = bool(request.get("declined"))
            typed = self.azure.entra.approve(None if code is None else str(code), declined=declined)
            return {"ok": True, "typed": typed}
        elif command == "stop":
            self.ended.set()
        elif command not in ("ping", "status", "faults"):
            return {"error": _unknown(str(command))}
        known = [
            {"name": each.name, "sentence": each.sentence, "places": each.places, "lasting": each.lasting}
            for each in FAULTS
        ]
        facts = {"config_dir": str(self.config_dir), "kubeconfig": str(self.kubeconfig), "api": self.api_url}
        return {"ok": True, "faults": known, "on": self.faults.active(), **facts}

    def _secret(self, name: str) -> dict[str, Any]:
        value = self.azure.entra.client_secret if name.startswith("client-secret ") else self.login.secret(name)
        if name == f"token {ARC_PROFILES[1]}":
            value = self.account_token
        if value is not None:
            return {"ok": True, "value": value}
        title = f"the lab has no secret {clean(name)!r}"
        detail = "It has those that its own profiles need."
        return {"error": {"title": title, "detail": detail, "hint": "", "code": "JD-LAB-SECRET", "exit_code": 1}}

    async def _token(self, request: Request) -> dict[str, Any]:
        """A token of the lab's person: `scope`, and `data` for what else goes into a token request."""
        data = request.get("data")
        form = {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}
        if request.get("claims"):
            form["claims"] = str(request["claims"])
        try:
            return {"ok": True, **await self.azure.entra.give(str(request.get("scope", "")), form)}
        except EntraError as error:
            code = {53003: "JD-SIGN-IN-CONDITIONAL-ACCESS", 90033: "JD-SIGN-IN-UNREACHABLE"}
            return {
                "entra": error_body(error),
                "error": {
                    "title": "The lab's Entra refuses to sign in", "detail": str(error), "hint": "jumpdeck lab faults",
                    "code": code.get(error.number, "JD-SIGN-IN-REFUSED"), "exit_code": 4,
                },
            }  # fmt: skip


def _unknown(command: str) -> dict[str, Any]:
    title = f"the lab does not know the command {command!r}"
    return {"title": title, "detail": "", "hint": "Is it of another version?", "code": "JD-LAB-COMMAND", "exit_code": 1}
