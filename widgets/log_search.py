"""Finds the next matching line of a log ring without stopping the screen."""

from __future__ import annotations

import asyncio
import re
import time

from widgets.log_ring import Block, LogRing
from widgets.log_row import read_row

SLICE = 0.012
"""Seconds of searching before the loop gets its turn: less than half a frame."""


def compile_search(text: str) -> re.Pattern[str]:
    """A case-insensitive pattern; text that is no regular expression is looked for as it stands."""
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error:
        return re.compile(re.escape(text), re.IGNORECASE)


async def find_row(ring: LogRing, pattern: re.Pattern[str], start: int, *, back: bool = False) -> int | None:
    """The first row from `start` on (or, `back`, up to it) whose shown text matches; None when there is none.

    Blocks are first searched as a whole; only lines that may match are read one by one.
    """
    began = time.monotonic()
    for block in ring.blocks_from(start, back=back):
        for row in _candidates(block, pattern, start, back=back):
            shown = read_row(ring, row, stamps=False)
            if shown is not None and shown.mark is None and pattern.search(shown.text):
                return row
            if time.monotonic() - began > SLICE:
                await asyncio.sleep(0)
                began = time.monotonic()
        if time.monotonic() - began > SLICE:
            await asyncio.sleep(0)
            began = time.monotonic()
    return None


_ANCHORED = re.compile(r"[\^$]|\\[AZbB]|\(\?")
"""Patterns that look at where a line begins or ends: the stamps in front hide that from a whole block."""


def _candidates(block: Block, pattern: re.Pattern[str], start: int, *, back: bool) -> list[int]:
    """Rows of a block that deserve a closer look, in the order of the search."""
    if block.mark is not None:
        return []
    rows: list[int] = list(range(block.first, block.first + block.count))
    if not _ANCHORED.search(pattern.pattern):
        text = bytes(block.text).decode("utf-8", "replace")
        if not pattern.search(text) and "\x1b" not in text:
            return []
        lines = text.split("\n")
        rows = [row for row, line in zip(rows, lines, strict=False) if pattern.search(line) or "\x1b" in line]
    if back:
        return [row for row in reversed(rows) if row <= start]
    return [row for row in rows if row >= start]
