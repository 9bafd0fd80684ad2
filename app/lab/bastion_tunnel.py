"""One tunnel of the lab's Azure Bastion: a WebSocket on one side, a stream to the target on the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Container
from contextlib import suppress
from typing import cast

from app.lab.bastion_frames import FrameDecoder, fragmented, head, message
from app.lab.door import Reach
from app.lab.upgraded import RawConnection
from app.lab.websocket import NORMAL, Broken, Op
from app.tasks import TaskOwner

HELD = 256 * 1024
"""Bytes from the target that wait for the client before reading stops."""

FRAME = 32 * 1024
"""Bytes of a binary frame at most; the service's own size is unknown, and no client may depend on it."""

BIG = 256 * 1024
"""Bytes of a frame at most under the fault `big-frames`."""

BIG_FROM = 64 * 1024 + 1
"""Bytes that this fault waits for: more than the 16 bits of a frame's shorter length hold."""

GATHER = 0.05
"""Seconds that this fault waits for them: a target that says little still gets through."""

FRAGMENT = 1_000
"""Bytes of a fragment under the fault `fragments`: several to a read of any size."""

CUT_AFTER = 16 * 1024
"""Bytes after which the fault `close-midstream` drops a tunnel: logins and TLS handshakes are over by then."""

CLOSE_LIMIT = 3.0
"""Seconds that a client has for its close frame, as in the published client, and a target to take what is left."""

REACH_LIMIT = 5.0
"""Seconds to connect with the target, on the same machine."""

INTERNAL_ERROR = 1011
"""The status of the close frame when the target cannot be reached. What the service says then is unknown."""


class _Target(asyncio.Protocol):
    """The stream to the target: what it says waits in a bounded queue."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._queue: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._queue.append(data)
        self._held += len(data)
        if self._held > HELD and self.transport is not None:
            self.transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        """A tunnel knows no half-open streams: the end of one direction ends both."""
        self._end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        if not self._ended:
            self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def write(self, data: bytes) -> None:
        """Pass on; waits while the target does not keep up."""
        if self.transport is not None and not self._ended:
            self.transport.write(data)
            await self._writable.wait()

    async def read(self) -> bytes:
        """All that has come; empty at the end."""
        while not self._queue:
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        data = self._queue[0] if len(self._queue) == 1 else b"".join(self._queue)
        self._queue.clear()
        self._held = 0
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        return data

    async def gather(self, data: bytes, least: int) -> bytes:
        """`data` and what follows, at least so many bytes if they come within GATHER."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER):
                while len(data) < least and (more := await self.read()):
                    data += more
        return data

    async def finish(self) -> None:
        """Close once everything written has been sent, or the limit is over."""
        if self.transport is None:
            return
        self.transport.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._lost.wait()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()


class Tunnel:
    """Carries bytes until either side ends. `faults` is looked at all the time, so that they can begin later."""

    def __init__(self, raw: RawConnection, faults: Container[str]) -> None:
        self._raw = raw
        self._faults = faults
        self._target = _Target()
        self._passed = 0
        self._ending = asyncio.Event()
        self._end_code = NORMAL
        self._said_close = False

    def end(self, code: int = NORMAL) -> None:
        """Close it in good order and with this status: its session was deleted."""
        self._end_code = code
        self._ending.set()

    async def run(self, reach: Reach | None) -> None:
        """Connect and carry; on return the client has been told and both sides are closed or closing."""
        try:
            if reach is None or not await self._connect(reach):
                await self._close(INTERNAL_ERROR)
                return
            async with TaskOwner("lab bastion") as owner:
                inward = owner.spawn(self._inward(), name="to the target")
                outward = owner.spawn(self._outward(), name="to the client")
                ending = owner.spawn(self._ending.wait(), name="deleted")
                await asyncio.wait((inward, outward, ending), return_when=asyncio.FIRST_COMPLETED)
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_LIMIT):
                        await self._part(inward)
            await self._target.finish()
        except ConnectionError:
            return  # the client has gone
        finally:
            self._target.abort()

    async def _part(self, inward: asyncio.Task[None]) -> None:
        """Say that it is over and wait for the client's word, unless that was first. Raises ConnectionError."""
        if not inward.done():
            await self._close(self._end_code)
            await inward

    async def _connect(self, reach: Reach) -> bool:
        try:
            async with asyncio.timeout(REACH_LIMIT):
                await reach(lambda: self._target)
        except OSError:  # a time-out too
            return False
        return True

    async def _inward(self) -> None:
        """From the client to the target, until the client closes, goes or breaks the protocol."""
        decoder = FrameDecoder()
        try:
            while data := await self._raw.read():
                for op, piece in decoder.feed(data):
                    if op == Op.BINARY:
                        await self._target.write(piece)
                    elif op == Op.PING:
                        await self._raw.write(head(Op.PONG, len(piece)) + piece)
                    elif op == Op.CLOSE:
                        await self._close(int.from_bytes(piece[:2], "big") or NORMAL)
                        return
        except Broken as error:
            await self._close(error.code)
        except ConnectionError:
            return

    async def _outward(self) -> None:
        """From the target to the client, until either has gone."""
        with suppress(ConnectionError):
            while data := await self._target.read():
                if "big-frames" in self._faults:
                    data = await self._target.gather(data, BIG_FROM)
                if self._said_close:
                    return
                if self._is_to_break(data):
                    self._said_close = True
                    await self._raw.write(head(Op.BINARY, len(data)) + data[: len(data) // 2])
                    self._raw.close()
                    return
                await self._raw.write(self._framed(data))

    def _is_to_break(self, data: bytes) -> bool:
        self._passed += len(data)
        return "close-midstream" in self._faults and self._passed > CUT_AFTER

    def _framed(self, data: bytes) -> bytes:
        if "fragments" in self._faults:
            return fragmented(data, FRAGMENT, b"lab")
        size = BIG if "big-frames" in self._faults else FRAME
        return message(data, size, rsv1="rsv1" in self._faults)

    async def _close(self, code: int) -> None:
        """Send the close frame, once. Raises ConnectionError."""
        if not self._said_close:
            self._said_close = True
            await self._raw.write(head(Op.CLOSE, 2) + code.to_bytes(2, "big"))
