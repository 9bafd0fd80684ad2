"""The pseudo-terminal of an exec with `tty=true`: echo, editing of a line, CR and LF, Ctrl-C and Ctrl-D.

As a Linux terminal in its usual (cooked) mode: what is typed reaches the program line by line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from app.lab.exec_pipe import Pipe

LINE = 4_096
"""Bytes of a line at most, as on Linux; what is typed beyond is dropped."""

_INTR, _EOF, _KILL, _WORD = 0x03, 0x04, 0x15, 0x17
_ERASE = (0x08, 0x7F)


class Terminal:
    """Between the client's keys and a program. `show` writes to the client."""

    def __init__(self, show: Callable[[bytes], Awaitable[None]]) -> None:
        self.input = Pipe()
        self.width = self.height = 0
        self.foreground: asyncio.Task[Any] | None = None
        """What Ctrl-C cancels; None while a shell waits at its prompt."""
        self._show = show
        self._line = bytearray()

    async def write(self, data: bytes) -> None:
        """What a program writes: LF becomes CR LF."""
        await self._show(data.replace(b"\n", b"\r\n"))

    async def typed(self, data: bytes) -> None:
        """Take what the client typed. Raises ConnectionError when the client has gone."""
        echo = bytearray()
        for key in data:
            if key == _INTR:
                echo += b"^C\r\n"
                self._line.clear()
                await self._flush(echo)
                await self._interrupt()
            elif key == _EOF:
                await self._flush(echo)
                await self._pass()
            elif key in (0x0D, 0x0A):
                echo += b"\r\n"
                self._line += b"\n"
                await self._flush(echo)
                await self._pass()
            else:
                echo += self._edit(key)
        await self._flush(echo)

    async def _flush(self, echo: bytearray) -> None:
        if echo:
            await self._show(bytes(echo))
            echo.clear()

    async def _pass(self) -> None:
        """Hand the line to the program; an empty one without a line feed is an end of input."""
        line, self._line = bytes(self._line), bytearray()
        if not line:
            self.input.mark_end()
            return
        try:
            await self.input.put(line)
        except BrokenPipeError:  # the program reads no more
            return

    async def _interrupt(self) -> None:
        if self.foreground is not None:
            self.foreground.cancel()
            return
        self._line += b"\n"  # a shell at its prompt writes a new one
        await self._pass()

    def _edit(self, key: int) -> bytes:
        """The echo of one key that changes the line."""
        gone = 0
        if key in _ERASE:
            gone = 1 if self._line else 0
        elif key == _KILL:
            gone = len(self._line)
        elif key == _WORD:
            gone = len(self._line) - max(self._line.rstrip().rfind(b" ") + 1, 0)
        elif len(self._line) < LINE and (key >= 0x20 or key == 0x09):
            self._line.append(key)
            return bytes((key,))
        if not gone:
            return b""
        del self._line[-gone:]
        return b"\b \b" * gone
