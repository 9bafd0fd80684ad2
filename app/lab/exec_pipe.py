"""A pipe inside the lab: bytes from one coroutine to another, held back when the reader is slow."""

from __future__ import annotations

import asyncio
from collections import deque

ROOM = 256 * 1024
"""Bytes that wait in a pipe before its writer has to."""


class Pipe:
    """One writer's bytes for one reader."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._put = self._taken = 0
        self._marks: deque[int] = deque()
        self._ended = False
        self._shut = False
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Append; waits while the pipe is full. Raises BrokenPipeError when the reader has gone."""
        while len(self._buffer) >= ROOM and not self._shut:
            self._room.clear()
            await self._room.wait()
        if self._shut:
            raise BrokenPipeError("nobody reads")
        self._buffer += data
        self._put += len(data)
        self._news.set()

    def end(self) -> None:
        """The writer has no more."""
        self._ended = True
        self._news.set()

    def mark_end(self) -> None:
        """One read comes back empty here, and more may follow: Ctrl-D at a terminal."""
        self._marks.append(self._put)
        self._news.set()

    def shut(self) -> None:
        """The reader wants no more: the writer is told at its next byte."""
        self._shut = True
        self._buffer.clear()
        self._room.set()

    def _here(self) -> int:
        """Bytes that can be read up to the next end."""
        return min(len(self._buffer), self._marks[0] - self._taken) if self._marks else len(self._buffer)

    def _take(self, size: int) -> bytes:
        data = bytes(memoryview(self._buffer)[: min(size, self._here())])
        del self._buffer[: len(data)]
        self._taken += len(data)
        if not data and self._marks:
            self._marks.popleft()
        self._room.set()
        return data

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def read(self, most: int = ROOM) -> bytes:
        """Up to `most` bytes, at least one; empty at an end."""
        while not self._here() and not self._ended and not self._marks:
            await self._wait()
        return self._take(most)

    async def readline(self, most: int = ROOM) -> bytes:
        """A line with its line feed, or what is left of one at an end or after `most` bytes; empty at an end."""
        looked = 0
        while (at := self._buffer.find(b"\n", looked, self._here())) < 0 and len(self._buffer) < most:
            if self._ended or self._marks:
                break
            looked = len(self._buffer)
            await self._wait()
        return self._take(at + 1 if at >= 0 else most)
