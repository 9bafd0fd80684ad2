"""What tests of SSH hops share: profiles through real servers, who is known, streams that keep what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.asking import Asker
from app.dialer import Dialer, Hop
from app.profiles.model import HopSpec, KubeconfigCluster, Profile, SshHop
from app.routes.build import build_hops
from app.routes.context import RouteContext
from app.routes.direct import DirectDialer
from app.routes.host_keys import HostKeys
from app.routes.route import Route
from app.routes.shared import SharedHops
from app.routes.ssh import SshDial, SshLimits
from app.routes.ssh_dialer import SshDialer
from app.secrets.secret import SecretMemory, SecretSource
from tests.sshd import USER, Sshd, make_key

WAIT = 40.0
"""Seconds after which a test gives up waiting for what must come; a busy build machine takes two, for fifty streams
at once twenty."""


class Ground:
    """One person's computer: the servers that it knows, the key that it has, the connections that it shares."""

    def __init__(self, folder: Path, *servers: Sshd, asker: Asker | None = None) -> None:
        self.known_hosts = folder / "known_hosts"
        self.key = make_key(folder / "id")
        for server in servers:
            self.know(server)
        self.host_keys = HostKeys(own=folder / "own_hosts", others=(self.known_hosts,))
        self.context = RouteContext(asker, SecretSource(asker, SecretMemory()), self.host_keys)
        self.shared = SharedHops()
        self.steps: list[str] = []

    def know(self, server: Sshd) -> None:
        """Its key is known, and it lets us in."""
        with self.known_hosts.open("a") as file:
            file.write(server.known_hosts_line)
        self.known_hosts.chmod(0o600)
        server.authorize(self.key)

    def hop(self, *ports: int, key: Path | None = None, user: str = USER, pin: str | None = None) -> SshHop:
        """A hop with servers on loopback as alternatives."""
        return SshHop(tuple(f"{user}@127.0.0.1:{port}" for port in ports), key=key or self.key, host_key=pin)

    def dial(self, *ports: int, policy: str = "ask", limits: SshLimits | None = None, **hop: str | None) -> SshDial:
        """The hop, to be opened by itself."""
        spec = self.hop(*ports, user=hop.get("user") or USER, pin=hop.get("pin"))
        return SshDial(spec, self.context, profile="p", policy=policy, limits=limits)

    def hops(self, *specs: HopSpec) -> tuple[Hop, ...]:
        """The hops of a profile."""
        return build_hops(Profile("p", KubeconfigCluster(Path("none")), via=specs), context=self.context)

    @asynccontextmanager
    async def step(self, label: str) -> AsyncIterator[None]:
        self.steps.append(label)
        yield

    @asynccontextmanager
    async def route(self, *specs: HopSpec, began: float | None = None) -> AsyncIterator[Route]:
        """An open route through these hops."""
        route = await Route.open(self.hops(*specs), DirectDialer(), self.shared, self.step, began=began)
        try:
            yield route
        finally:
            await route.aclose()

    @asynccontextmanager
    async def opened(self, dial: SshDial, through: Dialer | None = None) -> AsyncIterator[SshDialer]:
        """One hop by itself, not shared."""
        async with asyncio.timeout(WAIT), dial.open(through or DirectDialer()) as dialer:
            yield dialer


class Keep(asyncio.Protocol):
    """Keeps what comes; `ended` has what connection_lost brought."""

    def __init__(self, *, half_open: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self.half_open = half_open
        self.data = bytearray()
        self.eof = loop.create_future()
        self.ended: asyncio.Future[Exception | None] = loop.create_future()
        self.transport: asyncio.Transport | None = None
        self.paused = False
        self.news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.news.set()

    def eof_received(self) -> bool:
        self.eof.set_result(None)
        return self.half_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)
        self.news.set()

    def pause_writing(self) -> None:
        self.paused = True
        self.news.set()

    def resume_writing(self) -> None:
        self.paused = False
        self.news.set()

    async def until(self, size: int) -> bytes:
        """Wait for so many bytes."""
        async with asyncio.timeout(WAIT):
            while len(self.data) < size and not self.ended.done():
                self.news.clear()
                await self.news.wait()
        return bytes(self.data)


async def keep(dialer: Dialer, port: int, host: str = "127.0.0.1") -> tuple[asyncio.Transport, Keep]:
    """A stream to a port, and the protocol that keeps what comes."""
    protocol = Keep()
    return await dialer.dial(host, port, lambda: protocol), protocol
