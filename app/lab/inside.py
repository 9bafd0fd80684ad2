"""A stream between two protocols of the lab, without a socket: nothing listens, and no system call is made."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

HELD = 256 * 1024
"""Bytes that wait for a paused reader before its writer is told to pause."""


class InsideStream(asyncio.Transport):
    """One end: what is written here is read by the protocol of the other end, once this step of the loop is done.

    The queue is bounded by the writer, which is told to pause; asyncssh does not heed that and is bounded by its
    channels' windows. Closing and aborting are the same: the other end reads what was written, then its end, and is
    lost too, as with a process that dies.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._other: InsideStream
        self._queue: deque[bytes] = deque()
        self._held = 0
        self._reading = True
        self._due = self._closed = self._lost = self._ended = self._end_told = False

    @staticmethod
    def join(one: asyncio.Protocol, other: asyncio.Protocol) -> None:
        """Connect two protocols; `one` hears of it first."""
        first, second = InsideStream(one), InsideStream(other)
        first._other, second._other = second, first
        one.connection_made(first)
        other.connection_made(second)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._closed and not self._ended_by_us and data:
            self._other._take(bytes(data))

    @property
    def _ended_by_us(self) -> bool:
        return self._other._ended

    def _take(self, data: bytes) -> None:
        if self._lost or self._closed:
            return
        self._queue.append(data)
        self._schedule()
        before, self._held = self._held, self._held + len(data)
        if before <= HELD < self._held and not self._other._lost:
            self._other._protocol.pause_writing()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        return self._reading and not self._closed

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading and not self._closed:
            self._reading = True
            self._schedule()

    def _deliver(self) -> None:
        self._due = False
        while self._queue and self._reading and not self._closed:
            data = self._next()
            before, self._held = self._held, self._held - len(data)
            self._protocol.data_received(data)
            if self._held <= HELD < before and not self._other._lost:
                self._other._protocol.resume_writing()
        if self._ended and not self._queue and self._reading and not self._closed:
            self._tell_end()

    def _next(self) -> bytes:
        """What one step of the writer wrote, as one piece: one system call behind the door."""
        pieces, length = [self._queue.popleft()], 0
        while self._queue and length < HELD:
            length += len(self._queue[0])
            pieces.append(self._queue.popleft())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closed and not self._other._ended:
            self._other._ended = True
            self._other._schedule()

    def _tell_end(self) -> None:
        if not self._end_told:
            self._end_told = True
            if not self._protocol.eof_received():
                self.close()
        if self._other._closed:
            self.close()

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.clear()
        self._loop.call_soon(self._lose)
        self._other._ended = True
        self._other._schedule()

    def abort(self) -> None:
        self.close()

    def _lose(self) -> None:
        self._lost = True
        self._protocol.connection_lost(None)

    def get_write_buffer_size(self) -> int:
        return self._other._held
