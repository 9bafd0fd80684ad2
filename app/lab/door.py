"""The door of the lab: a relay on loopback that can cut, freeze, slow down or refuse what passes through it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from app.lab.inside import InsideStream
from app.tasks import TaskOwner

HOST = "127.0.0.1"
"""All of the lab listens on loopback only."""

LATENCY = 0.15
"""Seconds that each direction takes when the door is slow: a far continent."""

BANDWIDTH = 256 * 1024
"""Bytes per second and direction when the door is slow."""

QUEUE = 64 * 1024
"""Bytes that a direction holds back at most before it stops reading."""

DIAL_LIMIT = 30.0
"""Seconds to reach the emulator behind the door; on the same machine only a starved one needs more than a few."""

ProtocolFactory = Callable[[], asyncio.Protocol]

Reach = Callable[[ProtocolFactory], Awaitable[None]]
"""Connects the factory's protocol with what stands behind a door. Raises OSError."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of FIN."""
_RESET_WINDOWS = struct.pack("hh", 1, 0)


class _Side(asyncio.Protocol):
    """One end of a relayed stream: what it reads goes to its `peer`, held back as the door says."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.peer: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self._queue: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._blocked = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.door.sides.add(self)
        if self.peer is None:
            self.transport.pause_reading()
            self.door.accepted(self)

    def join(self, peer: _Side) -> None:
        """Start to relay."""
        self.peer = peer
        self.flow()

    def data_received(self, data: bytes) -> None:
        if not self._queue and not self.door.slow and not self.door.frozen:
            self._pass(data)
            return
        now = asyncio.get_running_loop().time()
        due = max(self._due, now + LATENCY) + len(data) / BANDWIDTH if self.door.slow else max(self._due, now)
        self._due = due
        self._queue.append((due, data))
        self._held += len(data)
        self.flow()
        self._arm()

    def _pass(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def _arm(self) -> None:
        if self._queue and self._timer is None and not self.door.frozen:
            self._timer = asyncio.get_running_loop().call_at(self._queue[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._queue and not self.door.frozen and self._queue[0][0] <= now:
            data = self._queue.popleft()[1]
            self._held -= len(data)
            self._pass(data)
        self._arm()
        self.flow()
        self._pass_end()

    @property
    def done(self) -> bool:
        """Its end has been read and everything before it passed on."""
        return self._ended and not self._queue

    def _pass_end(self) -> None:
        if not self.done or self.peer is None or self.peer.transport is None or self.transport is None:
            return
        if self.peer.done:  # both directions have ended
            self.peer.transport.close()
            self.transport.close()
        elif not self.peer.transport.is_closing():
            self.peer.transport.write_eof()

    def thaw(self) -> None:
        """Take up the work again after a freeze."""
        self.flow()
        self._arm()

    def flow(self) -> None:
        """Read, or stop reading, as the peer, the held bytes and the door allow."""
        if self.transport is None or self.transport.is_closing():
            return
        stop = self._blocked or self._held > QUEUE or self.door.frozen or self.peer is None
        if stop and self.transport.is_reading():
            self.transport.pause_reading()
        elif not stop and not self.transport.is_reading():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer._blocked = True
            self.peer.flow()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer._blocked = False
            self.peer.flow()

    def eof_received(self) -> bool:
        self._ended = True
        self._pass_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.sides.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.peer is not None and self.peer.transport is not None:
            if exc is None:
                self.peer.transport.close()
            else:
                self.peer.reset()

    def reset(self) -> None:
        """End this connection with RST."""
        if self.transport is None or self.transport.is_closing():
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            linger = _RESET_WINDOWS if hasattr(socket, "SIO_RCVALL") else _RESET
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


def _reach_port(port: int) -> Reach:
    async def reach(factory: ProtocolFactory) -> None:
        await asyncio.get_running_loop().create_connection(factory, HOST, port)

    return reach


def bound(port: int = 0) -> socket.socket:
    """A socket of this port, or of a free one, that does not listen: who connects is refused, and nobody else gets it.

    Raises OSError when the port is taken.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # streams of the listener before it may still be there; on Windows it means theft
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
    except OSError:
        made.close()
        raise
    return made


class Door:
    """Relays to `behind`: a loopback port, or what connects. An async context manager.

    It listens on a loopback port of its own; with `listens=False` nowhere, and the way in is `connect`.
    """

    def __init__(self, behind: int | Reach, *, listens: bool = True) -> None:
        self._reach = behind if callable(behind) else _reach_port(behind)
        self._listens = listens
        self.port = 0
        """The port of the door; the same for its whole life, also after it was shut. 0 when it listens nowhere."""
        self.slow = False
        self.frozen = False
        self.sides: set[_Side] = set()
        self._server: asyncio.Server | None = None
        self._kept: socket.socket | None = None
        """Keeps the port while the door is shut: a busy computer gives free ports to others within seconds."""
        self._owner = TaskOwner("lab door")
        self._shut: set[str] = set()

    async def __aenter__(self) -> Door:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_listening()
        if self._kept is not None:
            self._kept.close()
        self.cut_streams()
        await self._owner.aclose()

    async def _listen(self) -> None:
        if not self._listens:
            return
        sock, self._kept = self._kept or bound(self.port), None
        self.port = sock.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(lambda: _Side(self), sock=sock)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    @property
    def closed(self) -> bool:
        """Whether nothing comes through for a newcomer: shut or frozen."""
        return bool(self._shut) or self.frozen

    async def connect(self, factory: ProtocolFactory) -> None:
        """Come in as a client from inside the lab. Raises OSError, refused ones while the door is shut."""
        loop = asyncio.get_running_loop()
        if self._listens:
            await loop.create_connection(factory, HOST, self.port)
            return
        if self._shut:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        InsideStream.join(_Side(self), factory())

    def accepted(self, side: _Side) -> None:
        """A client has come: connect it with the emulator."""
        self._owner.spawn(self._connect(side), name="connect")

    async def _connect(self, client: _Side) -> None:
        server = _Side(self)
        server.peer = client
        try:
            async with asyncio.timeout(DIAL_LIMIT):
                await self._reach(lambda: server)
        except OSError:  # a time-out too
            client.reset()
            return
        if client.transport is None or client.transport.is_closing():
            server.reset()
            return
        client.join(server)
        server.flow()

    async def shut(self, reason: str) -> None:
        """Close the listening socket: new connections are refused. `reason` names who wants it shut."""
        self._shut.add(reason)
        if self._server is not None:
            self._stop_listening()
            with contextlib.suppress(OSError):  # somebody has been quicker: `unshut` tries again
                self._kept = bound(self.port)

    async def unshut(self, reason: str) -> None:
        """Listen again, on the same port, once nobody wants the door shut. Raises OSError when the port is taken."""
        self._shut.discard(reason)
        if not self._shut and self._server is None:
            await self._listen()

    def cut_streams(self) -> None:
        """Reset all streams."""
        for side in list(self.sides):
            side.reset()

    def set_slow(self, on: bool) -> None:
        """Delay what passes by LATENCY and BANDWIDTH, or no longer."""
        self.slow = on

    def set_frozen(self, on: bool) -> None:
        """Let nothing pass, or everything again; connections are accepted all the same."""
        self.frozen = on
        for side in list(self.sides):
            side.thaw()
