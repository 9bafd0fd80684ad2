"""A pseudo-terminal with a program in it: what it writes, what it leaves behind."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable

SEEN_LIMIT = 60.0
"""Seconds until something must have appeared."""


class Terminal:
    """Runs `python -m jumpdeck …`, or a script, on a pseudo-terminal of its own; keeps every byte that reaches it."""

    def __init__(
        self, *words: str, columns: int = 120, rows: int = 36, script: str | None = None, **environment: str
    ) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.modes_before = termios.tcgetattr(self.ours)
        self.written = b""
        self._news = asyncio.Event()
        self._drained = False
        """Whether the last program on the terminal has gone, and everything is read."""
        self.process = subprocess.Popen(
            [sys.executable, *(("-m", "jumpdeck") if script is None else ("-c", script)), *words],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8", **environment},
        )  # fmt: skip
        os.close(theirs)
        os.set_blocking(self.ours, False)
        asyncio.get_running_loop().add_reader(self.ours, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.ours, 1 << 16)
        except OSError:  # the last program on the terminal has gone
            data = b""
        if not data:
            self._drained = True
            asyncio.get_running_loop().remove_reader(self.ours)
        self.written += data
        self._news.set()

    async def until(self, seen: Callable[[bytes], bool]) -> None:
        """Wait until what was written satisfies `seen`."""
        async with asyncio.timeout(SEEN_LIMIT):
            while not seen(self.written):
                self._news.clear()
                await self._news.wait()

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.ours, keys)

    def modes(self) -> list[object]:
        """The terminal's modes as they are now."""
        return termios.tcgetattr(self.ours)

    def hang_up(self) -> None:
        """Close the terminal under the program."""
        asyncio.get_running_loop().remove_reader(self.ours)
        os.close(self.ours)
        self.ours = -1

    async def ended(self) -> int:
        """The exit code (negative: the signal that killed it), once all that it wrote is here."""
        async with asyncio.timeout(SEEN_LIMIT):
            code = await asyncio.to_thread(self.process.wait)
            while self.ours >= 0 and not self._drained:  # what was written before the end comes a little after it
                self._news.clear()
                await self._news.wait()
            return code

    def close(self) -> None:
        """End the program if it still runs, and the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.ours >= 0:
            asyncio.get_running_loop().remove_reader(self.ours)
            os.close(self.ours)
