"""The SSH hop: one server, or several as alternatives. The SSH library is loaded when the hop is first opened."""

from __future__ import annotations

import asyncio
import getpass
import ipaddress
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app.errors import JumpdeckError, Recovery, RouteError
from app.profiles.model import BastionHop, SshHop
from app.records import Record
from app.routes.context import RouteContext
from app.text import clean

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.dialer import Dialer
    from app.routes.ssh_certificates import Certificate
    from app.routes.ssh_dialer import SshDialer

    Connect = Callable[["SshDial", "Endpoint", Dialer, float], Awaitable[SshDialer]]

SSH_PORT = 22


class SshLimits(Record):
    """Seconds for each part of an SSH connection."""

    connect: float = 15.0
    """From the first packet to an agreed key: a slow line with three lost packets takes ten."""
    alternative: float = 5.0
    """The same while another server can be tried: the second serves within ten seconds of the first's death."""
    login: float = 60.0
    """From the agreed key to the login; the time in which a person is asked does not count."""
    stream: float = 15.0
    """For the server to connect to where a stream goes: it dials itself, and its own limit is minutes."""
    close: float = 3.0
    """For a clean end, before the connection is dropped: a Windows console that closes leaves five in all."""


class Endpoint(Record):
    """One server of a hop, as whom it is entered."""

    user: str
    host: str
    port: int

    @property
    def at(self) -> str:
        """`host:port` for people; cleaned text."""
        return f"[{clean(self.host)}]:{self.port}" if ":" in self.host else f"{clean(self.host)}:{self.port}"


class SshDial:
    """The `ssh` hop. Its streams are channels of one connection; nothing listens on this computer.

    `policy` is strict, ask or pinned; `profile` names the profile in questions and hints.
    """

    def __init__(
        self, spec: SshHop, context: RouteContext, *, profile: str, policy: str, limits: SshLimits | None = None,
        bastion: BastionHop | None = None,
    ) -> None:  # fmt: skip
        self.bastion = bastion
        """The hop before it, where that is one."""
        self.access_note = ""
        """Until when its port is open, where access is given for a time."""
        self.spec, self.context, self.profile, self.policy = spec, context, profile, policy
        self.limits = limits or SshLimits()
        self.servers = tuple(endpoint(text, spec.user) for text in spec.ssh)

    @property
    def label(self) -> str:
        named = clean(self.spec.name) or " or ".join(clean(server.host) for server in self.servers)
        return f"{named} (SSH)"

    @property
    def key(self) -> Hashable:
        """Where, as whom, with which credentials, by which rules of trust."""
        spec = self.spec
        return ("ssh", self.servers, spec.key, spec.certificate, spec.agent, spec.password, spec.host_key,
                spec.entra_certificate, spec.vm, self.policy)  # fmt: skip

    @asynccontextmanager
    async def open(self, through: Dialer) -> AsyncIterator[SshDialer]:
        """Log in at the first server that answers. Raises RouteError and SignInError."""
        dialer = await self._first(through)
        try:
            yield dialer
        finally:
            if dialer.lost:
                self.context.lost[self.key] = dialer.server.at
            await dialer.aclose()

    async def _first(self, through: Dialer) -> SshDialer:
        """Only what may pass by itself goes on to the next server: never a key in doubt, never a refused login."""
        connect = await asyncio.to_thread(_load)
        order = self._order()
        failed: list[tuple[Endpoint, JumpdeckError]] = []
        for server in order:
            limit = self.limits.connect if server is order[-1] else self.limits.alternative
            try:
                return await self._through_any(connect, server, through, limit)
            except JumpdeckError as error:
                if not error.transient:
                    raise
                failed.append((server, error))
        if len(failed) == 1:
            raise failed[0][1]
        raise RouteError(
            "No SSH server of this hop can be reached",
            "; ".join(f"{server.at}: {error.title[:1].lower()}{error.title[1:]}" for server, error in failed),
            failed[0][1].hint, code="JD-SSH-NO-SERVER", recovery=Recovery.TRANSIENT,
        ) from failed[0][1]  # fmt: skip

    async def _through_any(self, connect: Connect, server: Endpoint, through: Dialer, limit: float) -> SshDialer:
        """Connect by what is below, which may itself have alternatives and take its time to open a stream."""
        while True:
            await self._have_access(server, through)
            try:
                return await connect(self, server, through, limit + getattr(through, "dial_limit", 0.0))
            except JumpdeckError as error:
                if not error.transient or not getattr(through, "next_target", _none_left)():
                    raise

    async def _have_access(self, server: Endpoint, through: Dialer) -> None:
        """Have the port opened where the profile says that it must be asked for (`jit`). Raises JumpdeckError."""
        jit = self.spec.jit or (self.bastion.jit if self.bastion else None)
        target = getattr(through, "target", None)
        vm = target.resource if target is not None else self.spec.vm
        if jit is None or not vm:
            return
        from app.routes.jit import Place, open_port

        port = target.port if target is not None and target.port else server.port
        seen_from = self.bastion.bastion if self.bastion is not None else None
        place = Place(vm, server.host, server.port, port, jit, seen_from)
        self.access_note = (await open_port(place, through, self.context, self.profile)).note

    def _order(self) -> tuple[Endpoint, ...]:
        """In the profile's order, beginning after the one that was lost last."""
        lost = self.context.lost.get(self.key)
        start = next((at + 1 for at, server in enumerate(self.servers) if server.at == lost), 0)
        return self.servers[start:] + self.servers[:start]

    def position(self, server: Endpoint) -> str:
        """Who and where it is, and which of several: `ops@jump02.corp:22, server 2 of 3`."""
        where = f"{clean(server.user)}@{server.at}"
        if len(self.servers) == 1:
            return where
        number = [(each.host, each.port) for each in self.servers].index((server.host, server.port)) + 1
        return f"{where}, server {number} of {len(self.servers)}"

    def named_by(self, server: Endpoint, certificate: Certificate) -> Endpoint:
        """The server as entered by a certificate of Entra: as its first principal, unless the profile names a user."""
        named = self.spec.user or any("@" in text for text in self.spec.ssh if endpoint(text).host == server.host)
        if named or not certificate.principals:
            return server
        return Endpoint(certificate.principals[0].lower(), server.host, server.port)

    def alias(self, server: Endpoint, through: Dialer) -> str:
        """The name under which trust is kept when the address says nothing: the VM behind a tunnel (S-04)."""
        return getattr(through, "trusted_as", "") or alias_of(server.host, self.spec.vm)


def endpoint(text: str, user: str | None = None) -> Endpoint:
    """`[user@]host[:port]`, as the profile checked it."""
    named, _, place = text.rpartition("@")
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest.lstrip(":")
    else:
        host, _, port = place.partition(":")
    return Endpoint(user or named or getpass.getuser(), host, int(port or SSH_PORT))


def alias_of(host: str, vm: str | None) -> str:
    """The name that stands for a server, for its host key and its password, where its address is a local tunnel's."""
    return f"vm:{vm.lower()}" if vm and is_loopback(host) else ""


def is_loopback(host: str) -> bool:
    """Whether an address is this computer's own, where a tunnel to anywhere may listen."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def _none_left() -> bool:
    """What is below has one way only."""
    return False


def _load() -> Connect:
    """The part that needs the SSH library: a quarter of a second, so not on the loop."""
    from app.routes.ssh_connect import connect

    return connect
