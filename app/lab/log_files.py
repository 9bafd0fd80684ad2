"""Container logs as a kubelet keeps them: one file per run of a container, long lines in pieces, rotation.

The rules are those of the CRI log format and of the recorded answers of a real kubelet: a stored entry is at most
16 KiB, only the current file can be read, and a follow that is under way goes across a rotation without a loss.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

PIECE = 16 * 1024
"""Bytes of one stored entry: containerd splits longer lines (recorded: real-log-long-line-tail-2)."""

FILE_LIMIT = 512 * 1024
"""Bytes after which a file is rotated. A kubelet takes 10 MiB; the lab keeps all files in memory."""

STEP_NS = 1_000
"""Nanoseconds between lines that a container writes at once, so that their stamps differ as on a real node."""


class Entry(NamedTuple):
    """One stored line, or a piece of one. `data` is without line feed; `partial` says that the line goes on."""

    at_ns: int
    partial: bool
    data: bytes


@dataclass(slots=True)
class LogFile:
    """The log of one run of one container: the current file, and the one before it for follows under way.

    Entries are numbered from 0 over the whole run, so that a reader's position survives a rotation.
    """

    container_id: str
    limit: int = FILE_LIMIT
    ended: bool = False
    """The container has exited: nothing more comes, and a follow ends."""
    first: int = 0
    """Number of the oldest entry that is still in memory."""
    current: int = 0
    """Number of the first entry of the current file."""
    _entries: list[Entry] = field(default_factory=list)
    _bytes: int = 0
    _rest: bytes = b""
    _readers: set[asyncio.Event] = field(default_factory=set)
    _wake_count: int = 0

    @property
    def end(self) -> int:
        """The number that the next entry gets."""
        return self.first + len(self._entries)

    @property
    def interruptions(self) -> int:
        """How often follows were told to end although the container runs on (a kubelet that restarts)."""
        return self._wake_count

    def write(self, data: bytes, at_ns: int, step_ns: int = STEP_NS) -> None:
        """Append what the container wrote; text without line feed waits for its end, as on a real node."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            at_ns = self._store(line, at_ns, step_ns)
        while len(self._rest) >= PIECE:
            self._append(Entry(at_ns, True, self._rest[:PIECE]))
            self._rest = self._rest[PIECE:]
            at_ns += step_ns
        self._wake()

    def _store(self, line: bytes, at_ns: int, step_ns: int) -> int:
        while len(line) > PIECE:
            self._append(Entry(at_ns, True, line[:PIECE]))
            line = line[PIECE:]
            at_ns += step_ns
        self._append(Entry(at_ns, False, line))
        return at_ns + step_ns

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._bytes += len(entry.data) + 1
        if self._bytes > self.limit and not entry.partial:
            self._rotate()

    def rotate(self) -> None:
        """Start a new file now: what was written so far can be read no more, except by follows under way."""
        self._rotate()
        self._wake()

    def _rotate(self) -> None:
        del self._entries[: max(self.current - self.first, 0)]
        self.first = self.current
        self.current, self._bytes = self.end, 0

    def finish(self, at_ns: int) -> None:
        """The container has exited; an unterminated last line is stored as it is."""
        if self._rest:
            self._append(Entry(at_ns, False, self._rest))
            self._rest = b""
        self.ended = True
        self._wake()

    def interrupt(self) -> None:
        """End the follows under way in good order, although the container runs on."""
        self._wake_count += 1
        self._wake()

    def read(self, position: int, most: int) -> list[Entry]:
        """Up to `most` entries from `position` on; forgotten ones are left out."""
        start = max(position - self.first, 0)
        return self._entries[start : start + max(most, 0)]

    def start_of(self, tail: int | None) -> int:
        """Where a reader of the current file starts that wants its last `tail` entries (pieces count)."""
        return self.current if tail is None else max(self.current, self.end - tail)

    @contextmanager
    def reader(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever there is something new, while the block runs."""
        event = asyncio.Event()
        self._readers.add(event)
        try:
            yield event
        finally:
            self._readers.discard(event)

    def _wake(self) -> None:
        for event in self._readers:
            event.set()


class LogShelf:
    """The log files of all containers. Keeps, per container, the run that is on and one dead run, as a kubelet does."""

    def __init__(self, limit: int = FILE_LIMIT) -> None:
        self.limit = limit
        self._files: dict[str, LogFile] = {}
        self._runs: dict[tuple[str, str], list[str]] = {}

    def start(self, pod_uid: str, container: str, container_id: str) -> LogFile:
        """The file of a run that starts now."""
        log = LogFile(container_id, self.limit)
        runs = self._runs.setdefault((pod_uid, container), [])
        runs.append(container_id)
        self._files[container_id] = log
        return log

    def end(self, pod_uid: str, container: str, at_ns: int) -> None:
        """The newest run of a container has ended; older dead runs vanish with their logs."""
        runs = self._runs.get((pod_uid, container), [])
        if not runs:
            return
        self._files[runs[-1]].finish(at_ns)
        for old in runs[:-1]:
            self._files.pop(old).finish(at_ns)
        del runs[:-1]

    def forget(self, pod_uid: str, at_ns: int) -> None:
        """The pod is gone: follows end, its logs vanish."""
        for key in [key for key in self._runs if key[0] == pod_uid]:
            for container_id in self._runs.pop(key):
                self._files.pop(container_id).finish(at_ns)

    def file(self, container_id: str) -> LogFile | None:
        """The log of one run, or None when it has vanished."""
        return self._files.get(container_id)

    def newest(self, pod_uid: str, container: str) -> LogFile | None:
        """The log of a container's newest run."""
        runs = self._runs.get((pod_uid, container))
        return self._files[runs[-1]] if runs else None

    def files(self) -> list[LogFile]:
        """All logs that exist."""
        return list(self._files.values())
