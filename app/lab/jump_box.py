"""A jump box of the lab: its door, who may log in, what it reaches, how it misbehaves and what it has counted.

The SSH server itself (`app.lab.ssh_server`) and its library are loaded when the first client comes, so that a lab
starts as quickly as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from app.lab.door import Door, ProtocolFactory
from app.lab.inside import InsideStream
from app.lab.jump_keys import HostKey, make_host_key
from app.tasks import TaskOwner

NOT_SSH = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request\n"
"""What the fault `bad-banner` answers: a web server on the port where SSH was."""

END_LIMIT = 1.0
"""Seconds that connections get to end when the lab ends; their door has cut them all before."""

SLOW_LOGIN = 5.0
"""Seconds that the fault `slow-login` keeps a login waiting: longer than a person likes, shorter than any limit."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may log in: the user, with this public key (`ssh-ed25519 AAAA…`) or this password."""

    user: str
    public_key: str = ""
    password: str = field(default="", repr=False)


class JumpBox:
    """One SSH server behind a door. An async context manager.

    `reaches` are the names that it resolves and the doors behind them; all else is unknown or prohibited there.
    """

    def __init__(
        self, admission: Admission, reaches: Mapping[Address, Door], *, banner: str = "", listens: bool = True
    ) -> None:
        self.admission = admission
        self.banner = banner
        self.host_key = make_host_key()
        self.door = Door(self._reach, listens=listens)
        self.faults: set[str] = set()
        """Names of the faults of the server itself that are on (`app.lab.fault_names`)."""
        self.logins = 0
        """How often somebody was let in."""
        self.refusals = 0
        """How many connections ended without a login after a try: what a lockout counter would count."""
        self.connections = 0
        """How many clients have come, logged in or not."""
        self.channels = 0
        """Forwarded streams that are open now."""
        self.slow_login = SLOW_LOGIN
        self.authority: Callable[[], str] = str
        """The key (`ssh-rsa AAAA…`) whose certificates let their principals in; empty when there is none."""
        self._reaches = dict(reaches)
        self._other_key = make_host_key()
        self._serving: set[asyncio.Task[None]] = set()
        self._owner = TaskOwner("lab jump box")

    async def __aenter__(self) -> JumpBox:
        await self.door.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.door.__aexit__()
        if self._serving:
            await asyncio.wait(self._serving, timeout=END_LIMIT)
        await self._owner.aclose()

    @property
    def shown_key(self) -> HostKey:
        """The host key that new clients see."""
        return self._other_key if "host-key" in self.faults else self.host_key

    def find(self, host: str, port: int) -> Door | None:
        """The door behind an address as a client names it, a loopback one too; None when there is no such name."""
        if (door := self._reaches.get((host.lower().rstrip("."), port))) is not None:
            return door
        if host in ("127.0.0.1", "localhost"):
            return next((door for door in self._reaches.values() if door.port == port), None)
        return None

    async def _reach(self, factory: ProtocolFactory) -> None:
        self.connections += 1
        if "bad-banner" in self.faults:
            InsideStream.join(factory(), _WebServer())
            return
        await asyncio.to_thread(importlib.import_module, "app.lab.ssh_server")  # takes a moment, the first time
        from app.lab import ssh_server

        joined = asyncio.Event()
        task = self._owner.spawn(ssh_server.serve(factory(), self, joined), name="serve")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        await joined.wait()


class _WebServer(asyncio.Protocol):
    """Says something that is not SSH. It leaves hanging up to the client: an early close would reset its reading."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        stream.write(NOT_SSH)
        stream.write_eof()


def is_address(host: str) -> bool:
    """Whether the host is an address, which needs no resolver."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return host == "localhost"
