"""Where a log stream stands, so that it goes on after a cut without loss and without doubles; sans I/O.

The API takes `sinceTime` in whole seconds only, and many lines share a second (or a stamp). So the cursor keeps the
raw lines of the last seconds as the blocks in which they came, asks again from `floor(newest) - 2 s`, and drops each
replayed line that it still holds, one for one (requirement R-09). A log file is only ever appended to: what was seen
comes before what was not, so the first line that is not held is new, and from there on blocks pass untouched.

When the held bytes reach their limit the oldest go, and their newest stamp becomes the lower edge: replayed lines at
or below it were seen. The same edge serves a stream that did not begin at the log's first line.

Where nothing that was seen comes back, or the node's clock went backwards, lines may be missing: `Taken.gap` says so
(requirement R-10). What no client can see: a rotation between two lines that equal each other to the nanosecond.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from app.cluster.log_lines import StampReader, last_line

REPLAY_SECONDS = 2
"""Asked again before the newest line: standard output and error reach the file slightly out of order."""

WINDOW_BYTES = 4 << 20
"""Held at most for one stream: about 50,000 lines of usual length."""

EXACT_BYTES = 4 << 10
"""Blocks up to this size have the newest stamp of all their lines; in larger ones, which come at high rates and span
little time, the first and last line stand for the rest."""

EDGE_SLACK = 1
"""Seconds for which larger blocks are held longer, because their newest stamp is an estimate."""

_NANO = 1_000_000_000

ROTATED = "lines may be missing: the log was rotated or removed while the connection was down"
UNSURE = "lines may be doubled: too many share the stamp at which the kept part of the log begins"
CLOCK = "lines may be missing or doubled: the clock of the node went backwards"


@dataclass(frozen=True, slots=True)
class Taken:
    """What is new in a block. `gap` says why lines may be missing before it; `joined` that a replay has just shown
    that nothing is."""

    text: bytes
    gap: str = ""
    joined: bool = False


@dataclass(slots=True)
class _Held:
    block: bytes
    newest: int
    exact: bool


class LogCursor:
    """The place in one container instance's log. `from_start` False: the first answer may begin anywhere."""

    def __init__(self, *, from_start: bool = False, window_bytes: int = WINDOW_BYTES) -> None:
        self._limit = window_bytes
        self._held: deque[_Held] = deque()
        self._bytes = 0
        self._stamps = StampReader()
        self._edge: int | None = None
        self._from_start = from_start
        self._highest = 0
        self._replay: Counter[bytes] | None = None
        self._matched = False
        self.newest: int | None = None
        """Nanoseconds since 1970 of the newest line, or None before the first."""

    @property
    def held_bytes(self) -> int:
        """Bytes held for the next resume."""
        return self._bytes

    @property
    def replaying(self) -> bool:
        """Whether the lines that come may be ones that were already seen."""
        return self._replay is not None

    def resume(self) -> int | None:
        """Begin a new answer after a cut. Returns `sinceTime` in POSIX seconds, or None when no line was ever seen.

        The caller has thrown the unfinished line away and sends no `tailLines` (it is applied before `sinceTime`).
        """
        self._matched = False
        if self.newest is None:
            self._replay = None
            return None
        self._replay = Counter()
        for held in self._held:
            self._replay.update(held.block.split(b"\n")[:-1])
        since = self.newest // _NANO - REPLAY_SECONDS
        return since if self._edge is None else max(since, self._edge // _NANO)

    def take(self, block: bytes) -> Taken:
        """The unseen part of a block of whole stamped lines.

        A block with the gap `ROTATED` may be of another instance: the caller makes sure, then calls `accept` with it.
        """
        if self._replay is None:
            self._hold(block)
            return Taken(block)
        return self._filter(block, self._replay)

    def _filter(self, block: bytes, replay: Counter[bytes]) -> Taken:
        matched = self._matched
        at = 0
        for line in block.split(b"\n")[:-1]:
            if replay[line] > 0:
                replay[line] -= 1
                self._matched = True
            elif self._matched or not self._below_edge(line):
                break
            at += len(line) + 1
        joined = self._matched and not matched
        gap = CLOCK if joined and self._stepped_back() else ""
        if at == len(block):
            return Taken(b"", gap, joined)
        rest = block[at:] if at else block
        if not self._matched:
            return Taken(rest, ROTATED)
        if not gap and self._below_edge(rest[:64]):
            gap = UNSURE
        self.accept(rest)
        return Taken(rest, gap, joined)

    def accept(self, block: bytes) -> None:
        """These lines follow, whatever came before them: what the caller says to a block with the gap `ROTATED`."""
        self._replay = None
        self._hold(block)

    def _stepped_back(self) -> bool:
        return self.newest is not None and self.newest < self._highest - REPLAY_SECONDS * _NANO

    def _below_edge(self, line: bytes) -> bool:
        if self._edge is None:
            return False
        stamp = self._stamps.read(line)
        return stamp is not None and stamp <= self._edge

    def _hold(self, block: bytes) -> None:
        newest, exact = self._newest_of(block)
        last = self._stamps.read(last_line(block))
        if newest is None or last is None:  # without a stamp a line cannot be told apart later
            return
        if self.newest is None and not self._from_start:
            self._edge = self._stamps.read(block[:64])
        self.newest = max(newest, self.newest or 0)
        self._highest = max(self._highest, self.newest)
        if last < self.newest - REPLAY_SECONDS * _NANO:  # the clock stepped back: go by what it says now
            self.newest, self._edge = last, None
        self._held.append(_Held(block, newest, exact))
        self._bytes += len(block)
        self._let_go((self.newest // _NANO - REPLAY_SECONDS) * _NANO)

    def _let_go(self, since: int) -> None:
        while len(self._held) > 1:
            oldest = self._held[0]
            old = oldest.newest < since - (0 if oldest.exact else EDGE_SLACK * _NANO)
            if not old and self._bytes <= self._limit:
                return
            self._held.popleft()
            self._bytes -= len(oldest.block)
            if self.newest is not None and oldest.newest <= self.newest:  # else it is from before a clock step
                self._edge = max(oldest.newest, self._edge or 0)

    def _newest_of(self, block: bytes) -> tuple[int | None, bool]:
        read = self._stamps.read
        if len(block) <= EXACT_BYTES:
            stamps = [stamp for line in block.split(b"\n")[:-1] if (stamp := read(line)) is not None]
            return (max(stamps) if stamps else None), True
        edges = [stamp for line in (block[:64], last_line(block)) if (stamp := read(line)) is not None]
        return (max(edges) if edges else None), False
