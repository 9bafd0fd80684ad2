"""What a program says on its output, kept for whoever asks why it ended: the last lines of it, without credentials."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from app.arc.redaction import redacted
from app.tasks import spawn

_LINE_LIMIT = 4 << 10
"""Bytes of a line that are looked at; the rest of it is dropped."""
_READ = 64 << 10
_READ_UP_LIMIT = 1.0
"""Seconds for the last words of a program that has ended: they are in the pipe already."""


class LastLines:
    """Reads from the beginning to `close`, so that the program never waits for us. `seen` is told each line."""

    def __init__(
        self, pipe: asyncio.StreamReader | None, kept: int, name: str, seen: Callable[[str], None] | None = None
    ) -> None:
        assert pipe is not None, "it was started with one"
        self._lines: deque[str] = deque(maxlen=kept)
        self._pipe, self._seen = pipe, seen
        self._reader = spawn(self._read(), name=f"read {name}")

    @property
    def all(self) -> tuple[str, ...]:
        """Lines that say something, redacted; the newest at the end."""
        return tuple(self._lines)

    @property
    def last(self) -> str:
        """The newest one; empty when it said nothing."""
        return self._lines[-1] if self._lines else ""

    async def read_up(self) -> None:
        """Wait for the rest of what a program said that has ended, unless a child of it holds the pipe open."""
        await asyncio.wait({self._reader}, timeout=_READ_UP_LIMIT)

    def close(self) -> None:
        """Read no more."""
        self._reader.cancel()

    async def _read(self) -> None:
        line = bytearray()
        while piece := await self._pipe.read(_READ):
            for part in piece.splitlines(keepends=True):
                line += part[: _LINE_LIMIT - len(line)]
                if part.endswith((b"\n", b"\r")):
                    self._keep(line)
                    line = bytearray()
        self._keep(line)

    def _keep(self, line: bytearray) -> None:
        text = redacted(bytes(line).rstrip(b"\r\n"))
        if text.strip():
            self._lines.append(text)
            if self._seen is not None:
                self._seen(text)
