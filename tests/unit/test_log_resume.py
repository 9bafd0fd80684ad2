"""Log continuity (R-09, R-10): whatever cuts the stream, what is shown is what was written, or a mark stands there."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from app.cluster.log_lines import LineAssembler
from app.cluster.log_resume import CLOCK, ROTATED, LogCursor

BASE = 1_790_000_000


def stamped(at: int, text: str) -> bytes:
    """A line as a kubelet sends it; `at` in milliseconds after BASE."""
    moment = datetime.fromtimestamp(BASE + at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{at % 1000 * 1_000_000:09d}Z {text}\n".encode()


@dataclass
class Kubelet:
    """A log file as a kubelet serves it: the current file only, `sinceTime` in whole seconds, tail first."""

    lines: list[tuple[int, bytes]] = field(default_factory=list)
    first: int = 0
    """Index of the first line of the current file."""
    rotations: int = 0

    def rotate(self, place: int) -> None:
        """Put lines away. Two that equal each other to the nanosecond stay on one side: nothing tells them apart."""
        raws = [raw for _, raw in self.lines]
        while set(raws[:place]) & set(raws[place:]):
            place += 1
        self.first = place
        self.rotations += 1

    def answer(self, since: int | None, tail: int | None = None) -> bytes:
        found = self.lines[self.first :]
        if tail is not None:
            found = found[len(found) - min(tail, len(found)) :]
        return b"".join(raw for at, raw in found if since is None or BASE * 1000 + at >= since * 1000)


@dataclass
class Reader:
    """Reads a Kubelet through cuts, as LogFollow does."""

    cursor: LogCursor
    tail: int | None = None
    shown: bytes = b""
    gaps: list[str] = field(default_factory=list)
    begun: bool = False

    def read(self, kubelet: Kubelet, stop: int | None, piece: int) -> None:
        """One answer, in chunks of `piece` bytes, lost after `stop` bytes (None: a clean end)."""
        since = self.cursor.resume()
        answer = kubelet.answer(since, self.tail if since is None else None)
        answer = answer if stop is None else answer[: stop % (len(answer) + 1)]
        assembler = LineAssembler()
        for at in range(0, len(answer), piece):
            if block := assembler.feed(answer[at : at + piece]):
                taken = self.cursor.take(block)
                self.shown += taken.text
                if taken.gap:
                    self.gaps.append(taken.gap)
                if taken.gap == ROTATED:
                    self.cursor.accept(taken.text)


LINE = st.tuples(
    st.integers(0, 400).map(lambda step: 0 if step < 150 else step),  # many share a stamp
    st.sampled_from(["same", "same", "a", "b", ""]),  # many are identical
    st.integers(-900, 0),  # standard error overtakes standard output
)
ROUND = st.tuples(
    st.lists(LINE, max_size=12),
    st.one_of(st.none(), st.integers(0, 5000)),  # where the stream is cut; None: a clean end
    st.integers(1, 300),  # chunk size
    st.integers(0, 9),  # 0: the file is rotated here; 1: the clock steps back
)


def play(rounds: list, *, window: int, rotate: bool, disorder: bool) -> tuple[Kubelet, Reader]:
    """From a first line that is read in peace to a last one that comes after everything."""
    kubelet, reader, clock = Kubelet(), Reader(LogCursor(from_start=True, window_bytes=window)), 10_000
    kubelet.lines.append((clock, stamped(clock, "first")))
    reader.read(kubelet, None, 1000)
    for lines, stop, piece, event in rounds:
        if rotate and event == 0:
            kubelet.rotate(random.Random(clock).randint(kubelet.first, len(kubelet.lines)))
        for step, text, early in lines:
            clock += step
            at = clock + (early if disorder else 0)
            kubelet.lines.append((at, stamped(at, f"{text} {kubelet.rotations}")))
        reader.read(kubelet, stop, piece)
    kubelet.lines.append((clock + 500, stamped(clock + 500, "last")))
    reader.read(kubelet, None, 1000)
    return kubelet, reader


@settings(max_examples=150, deadline=None)
@given(st.lists(ROUND, max_size=8))
def test_cuts_and_clean_ends_lose_and_double_nothing(rounds: list) -> None:
    kubelet, reader = play(rounds, window=4 << 20, rotate=False, disorder=True)
    assert reader.shown == kubelet.answer(None)
    assert reader.gaps == []


@settings(max_examples=150, deadline=None)
@given(st.lists(ROUND, max_size=8), st.integers(60, 900))
def test_rotation_and_a_full_window_are_seamless_or_marked(rounds: list, window: int) -> None:
    kubelet, reader = play(rounds, window=window, rotate=True, disorder=False)
    written = b"".join(raw for _, raw in kubelet.lines)
    assert reader.shown == written or reader.gaps


@settings(max_examples=150, deadline=None)
@given(st.lists(ROUND, max_size=8))
def test_rotation_never_passes_unmarked_with_a_whole_window(rounds: list) -> None:
    kubelet, reader = play(rounds, window=4 << 20, rotate=True, disorder=True)
    written = b"".join(raw for _, raw in kubelet.lines)
    assert reader.shown == written or reader.gaps


@settings(max_examples=200, deadline=None)
@given(st.lists(ROUND, min_size=1, max_size=6), st.integers(1, 8))
def test_a_stream_that_began_with_a_tail_resumes_from_there(rounds: list, tail: int) -> None:
    kubelet, reader = Kubelet(), Reader(LogCursor(), tail)
    clock, start = 10_000, None
    for lines, stop, piece, _ in rounds:
        for number, (step, text, _early) in enumerate(lines):
            clock += step
            kubelet.lines.append((clock, stamped(clock, f"{text} {clock} {number} {len(kubelet.lines)}")))
        if reader.cursor.newest is None:
            start = max(len(kubelet.lines) - tail, 0)
        reader.read(kubelet, stop, piece)
    reader.read(kubelet, None, 1000)
    if reader.shown and not reader.gaps and start is not None:
        written = b"".join(raw for _, raw in kubelet.lines)
        assert written.endswith(reader.shown)
        assert reader.shown.count(b"\n") >= min(tail, len(kubelet.lines[start:]))


def follow(first: bytes, second: bytes) -> list[str]:
    cursor = LogCursor(from_start=True)
    cursor.take(first)
    cursor.resume()
    return [taken.gap for taken in (cursor.take(second),) if taken.gap]


def test_nothing_that_was_seen_comes_back_marks_a_rotation() -> None:
    assert follow(stamped(1000, "old"), stamped(9000, "new")) == [ROTATED]
    assert follow(stamped(1000, "old"), stamped(1000, "old") + stamped(9000, "new")) == []


def test_a_clock_that_went_back_is_marked() -> None:
    first = stamped(90_000, "late") + stamped(10_000, "early")
    assert follow(first, stamped(10_000, "early") + stamped(10_001, "next")) == [CLOCK]


def test_asks_again_from_two_whole_seconds_before_the_newest_line() -> None:
    cursor = LogCursor(from_start=True)
    assert cursor.resume() is None
    cursor.take(stamped(7900, "x"))
    assert cursor.resume() == BASE + 5


def test_a_replay_says_when_it_has_joined() -> None:
    cursor = LogCursor(from_start=True)
    cursor.take(stamped(7000, "x") + stamped(7001, "y"))
    cursor.resume()
    assert cursor.take(stamped(7000, "x")).joined
    taken = cursor.take(stamped(7001, "y") + stamped(7002, "z"))
    assert (taken.text, taken.gap, taken.joined) == (stamped(7002, "z"), "", False)
    assert not cursor.replaying


def test_the_window_is_bounded_and_a_fast_stream_still_resumes() -> None:
    lines = 2000
    cursor = LogCursor(from_start=True, window_bytes=20_000)
    raws = [stamped(10_000 + number // 10, f"line {number}") for number in range(lines)]
    for at in range(0, lines, 100):
        cursor.take(b"".join(raws[at : at + 100]))
    assert cursor.held_bytes <= 20_000
    since = cursor.resume()
    assert since is not None
    replay = [raw for number, raw in enumerate(raws) if BASE + 10 + number // 10_000 >= since]
    taken = cursor.take(b"".join(replay) + stamped(20_000, "new"))
    assert (taken.text, taken.gap) == (stamped(20_000, "new"), "")


def test_slow_lines_leave_the_window() -> None:
    cursor = LogCursor(from_start=True)
    for second in range(100):
        cursor.take(stamped(second * 1000, "x"))
    assert cursor.held_bytes <= 4 * len(stamped(0, "x"))


def test_lines_without_a_stamp_pass_untouched() -> None:
    cursor = LogCursor()
    assert cursor.take(b"no stamp\n").text == b"no stamp\n"
    assert cursor.resume() is None
