"""Chunks become whole lines; overlong ones are cut and counted; memory stays bounded."""

from __future__ import annotations

import itertools
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from app.cluster.log_lines import MAX_LINE, LineAssembler, StampReader, last_line, overlong_mark
from tests.recordings import cases, load

TEXT = st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=20)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({place for place in places if place < len(data)} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(borders)]


def shortened(line: bytes, limit: int) -> bytes:
    return line if len(line) <= limit else line[:limit] + overlong_mark(len(line) - limit)


@given(TEXT, st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), CUTS, st.integers(1, 12))
def test_any_chunk_borders_give_the_same_lines(lines: list[bytes], tail: bytes, places: list[int], limit: int) -> None:
    assembler = LineAssembler(limit)
    source = b"".join(line + b"\n" for line in lines) + tail
    blocks = [assembler.feed(chunk) for chunk in cut(source, places)]
    assert b"".join(blocks) == b"".join(shortened(line, limit) + b"\n" for line in lines)
    assert all(block.endswith(b"\n") for block in blocks if block)
    assert assembler.take_tail() == shortened(tail, limit)
    assert assembler.cut_bytes == sum(max(len(line) - limit, 0) for line in [*lines, tail])


def test_a_line_of_200_megabytes_costs_little_memory() -> None:
    assembler = LineAssembler()
    chunk = b"x" * (1 << 20)
    tracemalloc.start()
    for _ in range(200):
        assert assembler.feed(chunk) == b""
    block = assembler.feed(b"\nnext\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
    assert block == b"x" * MAX_LINE + overlong_mark(199 << 20) + b"\nnext\n"
    assert assembler.cut_bytes == 199 << 20


def test_every_recorded_stream_reads_alike_at_its_own_borders_and_at_every_other() -> None:
    for case in cases():
        recording = load(case)
        if "-log-" not in f"-{case}" or recording.status != 200:
            continue
        whole = recording.body
        expected, _, tail = whole.rpartition(b"\n")
        borders = [recording.chunks, [whole[:1], whole[1:]], [whole]]
        borders += [[whole[at : at + size] for at in range(0, len(whole), size)] for size in (7, 1000)]
        if len(whole) < 2000:
            borders += [[whole[:at], whole[at:]] for at in range(len(whole))]
        for chunks in borders:
            if b"".join(chunks) != whole:
                continue
            assembler = LineAssembler()
            lines = b"".join(assembler.feed(chunk) for chunk in chunks)
            assert lines == (expected + b"\n" if b"\n" in whole else b""), case
            assert assembler.take_tail() == tail, case


def test_stamps_are_read_to_the_nanosecond_and_with_any_offset() -> None:
    stamps = StampReader()
    base = 1_795_327_000_000_000_000
    assert stamps.read(b"2026-11-22T05:56:40.000000001Z x") == base + 1
    assert stamps.read(b"2026-11-22T07:56:40.5+02:00 x") == base + 500_000_000
    assert stamps.read(b"2026-11-22T05:56:40Z x") == base
    assert stamps.read(b"2026-11-22T05:56:40.123456789Z \n") == base + 123_456_789
    assert stamps.read(b"unable to retrieve container logs for containerd://x") is None
    assert stamps.read(b"2026-11-22T05:56:40.5 no zone") is None
    assert stamps.read(b"") is None


@given(st.binary(max_size=60))
def test_no_bytes_break_the_stamp_reader(line: bytes) -> None:
    StampReader().read(line)


def test_the_last_line_of_a_block() -> None:
    assert last_line(b"one\ntwo\n") == b"two"
    assert last_line(b"one\n") == b"one"
    assert last_line(b"\n") == b""
