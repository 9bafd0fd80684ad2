"""A loopback port for other programs: each connection to it is piped to a stream dialled through the route (S-14).

It carries bytes and nothing else: the other program speaks TLS with the API server itself and brings its own
credential. Only connections of this user are served (S-15). Half-closes pass on, both ways are held back by whoever
reads slowly, and a connection whose stream cannot be had is reset, so that its program sees a failure and no answer.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

from app.dialer import Link, ProtocolFactory
from app.errors import JumpdeckError, Recovery, RouteError
from app.records import Record
from app.routes.failures import number_of
from app.socket_owner import Address, PeerOwner, owner_of_peer, owner_of_port
from app.tasks import TaskOwner
from app.text import prose

HOST = "127.0.0.1"
"""The one address that is ever bound."""
BACKLOG = 128
"""Connections that the system holds before we take them; kubectl opens one, a browser a few dozen."""
MAX_OPEN = 512
"""Connections at the same time: far above k9s with every view open, far below the limit of open files."""
HELD_BYTES = 256 << 10
"""Bytes kept per direction before the reader is held back: what one read brings (256 KiB) may come on top."""
UP_LIMIT = 15.0
"""Seconds that a connection waits for the session: clients of Kubernetes give a TLS handshake 10 s."""
DIAL_LIMIT = 30.0
"""Seconds to a stream through an open route; each kind of hop has a nearer limit of its own."""

Dial = Callable[[ProtocolFactory], Awaitable[asyncio.Transport]]
OwnerOf = Callable[[Address, Address], Awaitable[PeerOwner]]


class ListenerFacts(Record):
    """What went through a listener so far: open now, served in all, refused (another user's), failed (no stream)."""

    open: int
    served: int
    refused: int
    failed: int


async def listening_socket(port: int = 0) -> socket.socket:
    """A socket that listens on 127.0.0.1 alone; `port` 0 takes a free one. Whoever connects waits in the system.

    Raises RouteError (JD-LISTENER-PORT), with the owner of the port where that can be seen.
    """
    try:
        return _listening_socket(port)
    except OSError as exc:
        raise await asyncio.to_thread(_no_port, exc, port) from exc


def _listening_socket(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # there SO_REUSEADDR would let another program bind the same port beside us
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        elif port:  # a port of our own may be taken again at once after a restart; POSIX lets nobody else share it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _no_port(error: OSError, port: int) -> RouteError:
    """Why a port cannot be had, with its owner where that can be seen. Blocks: it looks through the processes."""
    taken = number_of(error) in (errno.EADDRINUSE, 10048)
    owner = owner_of_port(port) if port else ""
    if taken or owner:
        why = f"{owner} listens there" if owner else "another program listens there"
    elif number_of(error) == errno.EACCES:
        why = "this user may not listen there"
    else:
        why = prose(error.strerror or str(error))
    return RouteError(
        f"Port {port} is taken" if taken or owner else "No port to listen on", why,
        "Leave --port out to get a free one, or name another.", code="JD-LISTENER-PORT", layer="local",
    )  # fmt: skip


class Listener:
    """Listens from `start` to `aclose`, which also ends every connection. Use as an async context manager.

    `dial` opens one stream at the far end of the route. `link` is the session: a new connection waits for it to be up,
    and it is told of failures. `on_refused` hears of each connection that is not this user's, `on_failed` why a
    connection got no stream; both are called in the loop and must not block or raise.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        link: Link | None = None,
        on_refused: Callable[[PeerOwner], object] = lambda _: None,
        on_failed: Callable[[JumpdeckError], object] = lambda _: None,
        owner_of: OwnerOf = owner_of_peer,
        up_limit: float = UP_LIMIT,
    ) -> None:
        self.port = 0
        self._dial, self._link, self._owner_of, self._up_limit = dial, link, owner_of, up_limit
        self._on_refused, self._on_failed = on_refused, on_failed
        self._owner = TaskOwner("listener")
        self._server: asyncio.Server | None = None
        self._ends: set[_End] = set()
        self._open = self._served = self._refused = self._failed = 0

    async def start(self, sock: socket.socket) -> None:
        """Begin to take connections from a socket that `listening_socket` made, which is the listener's from here."""
        try:
            self._server = await asyncio.get_running_loop().create_server(self._accept, sock=sock, backlog=BACKLOG)
        except BaseException:
            sock.close()
            raise
        self.port = int(sock.getsockname()[1])

    async def aclose(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._owner.aclose()
        for end in tuple(self._ends):
            end.reset()
        await asyncio.sleep(0)  # the loop closes the sockets in its next round

    async def __aenter__(self) -> Listener:
        """Listen on a free port unless it was started."""
        if self._server is None:
            await self.start(await listening_socket())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def facts(self) -> ListenerFacts:
        """What went through it so far."""
        return ListenerFacts(self._open, self._served, self._refused, self._failed)

    def _accept(self) -> _End:
        return _Accepted(self._begin, self._ended)

    def _begin(self, local: _End) -> None:
        """A connection came in: nothing is read from it until its owner is known."""
        self._ends.add(local)
        self._open += 1
        local.hold()
        if self._open > MAX_OPEN:
            local.reset()
            self._fail(RouteError("Too many connections", f"{MAX_OPEN} are open on port {self.port}",
                                  "Is a program opening them without end?", code="JD-LISTENER-FULL"))  # fmt: skip
            return
        task = self._owner.spawn(self._serve(local), name="connection")
        local.when_lost = task.cancel

    def _ended(self, end: _End) -> None:
        self._ends.discard(end)
        if isinstance(end, _Accepted):
            self._open -= 1

    def _fail(self, error: JumpdeckError) -> None:
        self._failed += 1
        self._on_failed(error)

    async def _serve(self, local: _End) -> None:
        try:
            await self._serve_owner(local)
        except BaseException:  # a defect of ours: the program must not wait for ever
            local.reset()
            raise

    async def _serve_owner(self, local: _End) -> None:
        owner = await self._owner_of(local.address("peername"), local.address("sockname"))
        if not owner.served:
            self._refused += 1
            local.reset()
            self._on_refused(owner)
            return
        local.release()
        try:
            remote = await self._stream()
        except JumpdeckError as error:
            local.reset()
            self._fail(error)
            return
        local.when_lost = None
        self._served += 1
        join(local, remote)

    async def _stream(self) -> _End:
        """A stream through the route. One that fails as a lost link does is tried once more when the session is back.

        Raises JumpdeckError.
        """
        await self._wait_up()
        try:
            return await self._dial_once()
        except JumpdeckError as error:
            if self._link is None or not error.transient:
                raise
            self._link.report(error)
        await self._wait_up()
        return await self._dial_once()

    async def _wait_up(self) -> None:
        if self._link is None:
            return
        try:
            await asyncio.wait_for(self._link.wait_up(), self._up_limit)
        except TimeoutError as exc:
            raise RouteError(
                "The route is down", f"it did not come back within {self._up_limit:g} s",
                "It is tried again; so will the other program have to.",
                code="JD-LISTENER-DOWN", recovery=Recovery.TRANSIENT,
            ) from exc  # fmt: skip

    async def _dial_once(self) -> _End:
        made: list[_End] = []

        def make() -> _End:
            made.append(_End(self._ends.add, self._ended))
            return made[-1]

        try:
            transport = await asyncio.wait_for(self._dial(make), DIAL_LIMIT)
        except TimeoutError as exc:
            raise RouteError("No stream through the route", f"nothing within {DIAL_LIMIT:g} s", "It is tried again.",
                             code="JD-LISTENER-DIAL", recovery=Recovery.TRANSIENT) from exc  # fmt: skip
        if not made or made[-1].transport is None:
            transport.abort()
            raise RouteError("No stream through the route", "it ended as it began", "It is tried again.",
                             code="JD-LISTENER-DIAL", recovery=Recovery.TRANSIENT)  # fmt: skip
        return made[-1]


class _End(asyncio.Protocol):
    """One end of a pipe. What it receives goes to the other end, and before there is one, is kept up to a limit."""

    def __init__(self, began: Callable[[_End], object], ended: Callable[[_End], object]) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self.when_lost: Callable[[], object] | None = None
        self.lost = False
        self.error: Exception | None = None
        self._began, self._ended = began, ended
        self._early = bytearray()
        self._heard_all = self._said_all = self._full = False

    # -- what the transport calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=HELD_BYTES)
        self._began(self)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.send(data)
            return
        self._early += data
        if len(self._early) >= HELD_BYTES:
            self.hold()

    def eof_received(self) -> bool:
        self._heard_all = True
        if self.other is not None:
            self.other.send_end()
        return True  # the way back stays open

    def pause_writing(self) -> None:
        self._full = True
        if self.other is not None:
            self.other.hold()

    def resume_writing(self) -> None:
        self._full = False
        if self.other is not None:
            self.other.release()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self.error = True, exc
        self._ended(self)
        if self.when_lost is not None:
            self.when_lost()
        if self.other is not None:
            self.other.finish(exc)

    # -- what the other end and the listener call ----------------------------------------------------------------------

    def address(self, name: str) -> Address:
        """`peername` or `sockname`."""
        found = self.transport.get_extra_info(name) if self.transport is not None else None
        return (str(found[0]), int(found[1])) if found else ("0.0.0.0", 0)  # noqa: S104 (it has gone: no row has this)

    def hold(self) -> None:
        """Read no more for now."""
        if self.transport is not None:
            self.transport.pause_reading()

    def release(self) -> None:
        """Read on."""
        if self.transport is not None and not self.lost:
            self.transport.resume_reading()

    def send(self, data: bytes) -> None:
        """Write, unless this end has gone."""
        if self.transport is not None and not self.lost:
            self.transport.write(data)

    def send_end(self) -> None:
        """Pass on that the other end has said all; when both have, this is the end."""
        if self.transport is None or self.lost or self._said_all:
            return
        self._said_all = True
        if self._heard_all or not self.transport.can_write_eof():
            self.transport.close()
        else:
            with suppress(OSError):  # it has just been closed
                self.transport.write_eof()

    def hand_over(self) -> None:
        """Give the other end what came before there was one."""
        assert self.other is not None
        early, self._early = bytes(self._early), bytearray()
        if early:
            self.other.send(early)
        if self._heard_all:
            self.other.send_end()
        if self.lost:
            self.other.finish(self.error)
        elif not self.other._full:
            self.release()

    def finish(self, error: Exception | None) -> None:
        """The other end has gone: in order, or not."""
        if error is not None:
            self.reset()
        elif self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """End at once, so that the peer sees a failure and never an orderly end of what it waits for."""
        if self.transport is None:
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()


class _Accepted(_End):
    """The end that the other program connected to."""


_AT_ONCE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""struct linger: closing discards what is unsent and sends RST."""


def join(local: _End, remote: _End) -> None:
    """Make a pipe of two ends: what each has received already goes over first."""
    local.other, remote.other = remote, local
    local.hand_over()
    remote.hand_over()
