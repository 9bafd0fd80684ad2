"""Standard output behind a thread: a reader that stops reading never stops the event loop (signals, other streams)."""

from __future__ import annotations

import asyncio
import errno
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

MAX_WAITING = 4 << 20
"""Bytes that wait for the reader of our output; beyond that we stop reading logs (back-pressure, R-12)."""

FLUSH_LIMIT = 2.0
"""Seconds at the end for what still waits; a reader that does not read must not keep us alive."""

MAX_AFTERWARDS = 1000
"""Words that wait for the bytes before them; beyond that the oldest is said at once."""


class Output:
    """Writes bytes in order, each as soon as the one before is out. Use as an async context manager."""

    def __init__(self, target: BinaryIO | None = None) -> None:
        # The raw file: a thread that hangs in a buffered one would break the interpreter's own flush at the end.
        stream = target or sys.stdout.buffer
        self._target = getattr(stream, "raw", stream)
        self._lock = threading.Condition()
        self._waiting: list[bytes] = []
        self._size = 0
        self._taken = 0
        self._afterwards: deque[tuple[int, Callable[[], None]]] = deque()
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.broken: asyncio.Future[None] = self._loop.create_future()
        """Done when nobody reads our output any more."""

    async def __aenter__(self) -> Output:
        threading.Thread(target=self._run, name="output", daemon=True).start()
        return self

    async def write(self, data: bytes) -> None:
        """Hand over bytes; waits while too many wait already."""
        if not data or self.broken.done():
            return
        with self._lock:
            self._waiting.append(data)
            self._size += len(data)
            self._taken += len(data)
            self._idle.clear()
            if self._size > MAX_WAITING:
                self._room.clear()
            self._lock.notify()
        if not self._room.is_set():
            await self._room.wait()

    def after(self, say: Callable[[], None], *, behind: bool = True) -> None:
        """Call `say` in the loop once the bytes handed over so far are out, at once when they are; in order.

        Without `behind` only what was given before is waited for.
        """
        if not self._size or self.broken.done() or (not behind and not self._afterwards):
            self._call_afterwards()
            say()
            return
        if len(self._afterwards) >= MAX_AFTERWARDS:
            self._afterwards.popleft()[1]()
        self._afterwards.append((self._taken if behind else 0, say))

    def _call_afterwards(self, written: int | None = None) -> None:
        while self._afterwards and (written is None or self._afterwards[0][0] <= written):
            self._afterwards.popleft()[1]()

    async def drain(self, limit: float = FLUSH_LIMIT) -> None:
        """Wait until all is out, at most `limit` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._idle.wait()

    async def __aexit__(self, *_: object) -> None:
        await self.drain()
        self._call_afterwards()
        with self._lock:
            self._ended = True
            self._lock.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._ended:
                    self._lock.wait()
                if not self._waiting:
                    return
                data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
                self._waiting.clear()
            try:
                self._write_all(data)
            except (OSError, ValueError) as error:
                quiet = isinstance(error, ValueError) or error.errno in (errno.EPIPE, errno.EINVAL, errno.EBADF)
                self._tell(self._break, None if quiet else error)
                return
            with self._lock:
                self._size -= len(data)
                written = self._taken - self._size
            self._tell(self._written, written)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:  # large writes: between two this thread waits for the interpreter, milliseconds under load
            view = view[self._target.write(view) or 0 :]

    def _tell(self, what: object, value: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, value)  # type: ignore[arg-type]
        except RuntimeError:
            return  # the loop has ended: nobody waits for this

    def _written(self, written: int) -> None:
        if self._size <= MAX_WAITING:
            self._room.set()
        self._call_afterwards(written)
        if self._size == 0:
            self._idle.set()

    def _break(self, error: OSError | None) -> None:
        self._call_afterwards()
        self._room.set()
        self._idle.set()
        if not self.broken.done():
            if error is None:
                self.broken.set_result(None)
            else:
                self.broken.set_exception(error)
