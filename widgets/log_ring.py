"""What a log pane keeps: the newest lines as the bytes that came, in blocks, bounded in lines and in bytes.

Nothing is decoded here: a line costs its bytes and four more, and only what is drawn is ever cleaned.
Invariant: `received == kept + dropped`, whatever is appended.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter

from app.rows import LogBatch, LogMark

MAX_LINES = 100_000
"""Lines kept: what a person can search through; older ones are dropped and counted."""
MAX_BYTES = 64 << 20
"""Bytes kept: 100,000 lines of 640 bytes. Bounds memory when lines are long."""
BLOCK_BYTES = 64 << 10
"""Small batches are joined up to this size, so that one line a second does not cost one block a line."""
BLOCK_LINES = 4_096
"""Lines of one block: whole blocks are dropped, so this is also the grain of forgetting."""

_FIRST = attrgetter("first")


class Block:
    """Lines that came one after the other, or one mark. `first` is the row number of its first line."""

    __slots__ = ("_indexed", "_starts", "count", "first", "mark", "stamped", "text")

    def __init__(self, first: int, *, stamped: bool, mark: LogMark | None = None) -> None:
        self.first = first
        self.stamped = stamped
        self.mark = mark
        self.text = bytearray()
        self.count = 1 if mark else 0
        self._starts = array("L")
        self._indexed = 0

    def add(self, text: bytes, count: int) -> None:
        """Append whole lines."""
        self.text += text
        self.count += count

    def starts(self) -> array[int]:
        """Where each line starts; found when first asked for, and only for what came since."""
        at, find, note = self._indexed, self.text.find, self._starts.append
        size = len(self.text)
        while at < size:
            note(at)
            end = find(b"\n", at)
            at = size if end < 0 else end + 1
        self._indexed = at
        return self._starts

    def line(self, index: int, limit: int) -> tuple[bytes, int]:
        """A line without its line feed, at most `limit` bytes of it, and how many bytes were left out."""
        starts = self.starts()
        if index >= len(starts):
            return b"", 0
        start = starts[index]
        end = starts[index + 1] if index + 1 < len(starts) else len(self.text)
        if end > start and self.text[end - 1] == 0x0A:
            end -= 1
        return bytes(self.text[start : min(end, start + limit)]), max(0, end - start - limit)


class LogRing:
    """Rows (lines and marks) numbered from 0 for ever: `first` is the oldest kept, `end` the next to come."""

    def __init__(self, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        self.max_lines = max_lines
        self.max_bytes = max_bytes
        self.received = 0
        """Lines that came."""
        self.dropped = 0
        """Lines that were forgotten to stay within the limits."""
        self.ended = False
        """Whether no more will come: the container's last run is over, or the log cannot be had."""
        self.cut_bytes = 0
        """Bytes that were left out of overlong lines before they came here."""
        self.end = 0
        self.size = 0
        """Bytes kept."""
        self._blocks: list[Block] = []

    @property
    def first(self) -> int:
        """The oldest row kept."""
        return self._blocks[0].first if self._blocks else self.end

    @property
    def kept(self) -> int:
        """Lines kept."""
        return self.received - self.dropped

    def append(self, batch: LogBatch) -> None:
        """Keep a batch: its mark, then its lines."""
        if batch.mark is not None:
            self._blocks.append(Block(self.end, stamped=batch.stamped, mark=batch.mark))
            self.end += 1
        if batch.count:
            self._add_lines(batch)
        self.cut_bytes += batch.cut_bytes
        self._forget()

    def _add_lines(self, batch: LogBatch) -> None:
        text, count = batch.text, batch.count
        last = self._blocks[-1] if self._blocks else None
        if (
            last is None
            or last.mark is not None
            or last.stamped != batch.stamped
            or len(last.text) + len(text) > BLOCK_BYTES
            or last.count + count > BLOCK_LINES
            or not last.text.endswith(b"\n")
        ):
            last = Block(self.end, stamped=batch.stamped)
            self._blocks.append(last)
        last.add(text, count)
        self.end += count
        self.received += count
        self.size += len(text)

    def _forget(self) -> None:
        """Drop whole blocks from the front until the limits hold. The newest block always stays."""
        gone = 0
        lines = self.kept
        while gone < len(self._blocks) - 1 and (lines > self.max_lines or self.size > self.max_bytes):
            block = self._blocks[gone]
            gone += 1
            self.size -= len(block.text)
            if block.mark is None:
                lines -= block.count
                self.dropped += block.count
        if len(self._blocks) - gone > self.max_lines:  # marks alone must not grow without end either
            gone += 1
        if gone:
            del self._blocks[:gone]

    def block_at(self, row: int) -> Block | None:
        """The block that holds a row, or None when it is not kept."""
        if not self.first <= row < self.end:
            return None
        return self._blocks[bisect_right(self._blocks, row, key=_FIRST) - 1]

    def blocks_from(self, row: int, *, back: bool = False) -> Iterator[Block]:
        """Blocks from the one that holds `row` on, towards newer rows or (`back`) older ones."""
        at = bisect_right(self._blocks, row, key=_FIRST) - 1
        if back:
            yield from reversed(self._blocks[: at + 1])
        else:
            yield from self._blocks[max(at, 0) :]
