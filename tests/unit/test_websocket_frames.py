"""Frames of RFC 6455, written and read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routes import websocket_frames
from app.routes.websocket_frames import FRAME_SIZE_MAX, FrameReader, Op, close_code, frame, frames, mask

Part = tuple[int, bytes]


def served(data: bytes, op: int = Op.BINARY, *, final: bool = True, reserved: int = 0) -> bytes:
    """A frame as a server sends it."""
    size = len(data)
    first = (0x80 if final else 0) | reserved | op
    if size < 126:
        return bytes((first, size)) + data
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big") + data
    return bytes((first, 127)) + size.to_bytes(8, "big") + data


def unmasked(raw: bytes) -> list[tuple[int, bool, bytes]]:
    """The client's frames: kind, whether final, payload. Byte by byte, unlike the code under test."""
    found = []
    while raw:
        first, second = raw[0], raw[1]
        assert second & 0x80, "a client's frame is masked"
        size, at = second & 0x7F, 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(raw[2:at], "big")
        key, data = raw[at : at + 4], raw[at + 4 : at + 4 + size]
        found.append((first & 0x0F, bool(first & 0x80), bytes(byte ^ key[i % 4] for i, byte in enumerate(data))))
        raw = raw[at + 4 + size :]
    return found


def fed(raw: bytes, cuts: list[int]) -> list[tuple[Op, bytes]]:
    """Events of a reader that gets the bytes in pieces; neighbouring bytes joined."""
    reader, at, events = FrameReader(), 0, []
    for cut in [*sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]:
        for op, data in reader.feed(raw[at:cut]):
            if events and op is Op.BINARY and events[-1][0] is Op.BINARY:
                events[-1] = (op, events[-1][1] + data)
            else:
                events.append((op, data))
        at = cut
    return events


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_the_mask_is_that_of_the_standard(data: bytes, key: bytes) -> None:
    assert mask(data, key) == bytes(byte ^ key[at % 4] for at, byte in enumerate(data))
    assert mask(bytes(mask(data, key)), key) == data


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_the_quick_mask_is_the_same(data: bytes, key: bytes) -> None:
    websocket_frames.quicken()
    assert websocket_frames._quick is not None, "aiohttp has moved it: masks are ten times slower for those who upload"
    try:
        quick = mask(data, key)
    finally:
        websocket_frames._quick = None
    assert quick == mask(data, key)


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 700))
def test_what_we_send_is_whole_masked_messages(data: bytes, size: int) -> None:
    found = unmasked(frames(data, size))
    assert b"".join(payload for _, _, payload in found) == data
    assert all(op == Op.BINARY and final and 0 < len(payload) <= size for op, final, payload in found)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_000])
def test_lengths_at_the_edges(size: int) -> None:
    assert unmasked(frame(bytes(size)))[0][2] == bytes(size)
    if size:
        assert fed(served(bytes(size)), [1, 3]) == [(Op.BINARY, bytes(size))]


def test_each_frame_has_a_key_of_its_own() -> None:
    raw = frames(bytes(FRAME_SIZE_MAX * 4), FRAME_SIZE_MAX)
    step = FRAME_SIZE_MAX + 8
    assert len({raw[at + 4 : at + 8] for at in range(0, len(raw), step)}) > 1


@given(
    st.lists(st.tuples(st.sampled_from((Op.BINARY, Op.TEXT)), st.binary(min_size=1, max_size=400),
                       st.integers(1, 100), st.sampled_from((0, 0x40, 0x70)), st.booleans()), max_size=12),
    st.lists(st.integers(0, 10_000), max_size=30),
)  # fmt: skip
def test_any_server_in_any_pieces(messages: list[tuple[Op, bytes, int, int, bool]], cuts: list[int]) -> None:
    """Fragments, reserved bits, text and pings between fragments: the bytes are the same."""
    raw, wanted, pings = b"", b"", 0
    for op, data, part, reserved, ping in messages:
        wanted += data
        pieces = [data[at : at + part] for at in range(0, len(data), part)]
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            raw += served(piece, op if not number else Op.CONTINUATION, final=last, reserved=reserved)
            if ping and not last:
                raw += served(b"p", Op.PING)
                pings += 1
    events = fed(raw, cuts)
    assert b"".join(data for op, data in events if op is Op.BINARY) == wanted
    assert sum(op is Op.PING for op, _ in events) == pings
    assert not [op for op, _ in events if op not in (Op.BINARY, Op.PING)]


@given(st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=10))
def test_no_bytes_make_the_reader_fail(raw: bytes, cuts: list[int]) -> None:
    assert fed(raw, cuts) == fed(raw, [])


@pytest.mark.parametrize(
    "raw",
    [
        bytes((0x83, 0)), bytes((0x8B, 1, 0)),  # kinds that do not exist
        bytes((0x82, 0x81, 1, 2, 3, 4, 5)),  # masked, as only clients do
        bytes((0x89, 126, 0, 200)) + bytes(200),  # a ping that is too long
        bytes((0x82, 127)) + b"\xff" * 8,  # longer than can be
    ],
)  # fmt: skip
def test_what_is_no_frame_ends_the_stream_after_the_bytes_before_it(raw: bytes) -> None:
    events = fed(served(b"good") + raw + served(b"never"), [])
    assert events[0] == (Op.BINARY, b"good")
    assert [op for op, _ in events[1:]] == [Op.BROKEN]


def test_an_empty_message_is_an_end_and_an_empty_fragment_is_not() -> None:
    assert fed(served(b""), []) == [(Op.EMPTY, b"")]
    assert fed(served(b"x") + served(b"") + served(b"never"), []) == [(Op.BINARY, b"x"), (Op.EMPTY, b"")]
    assert fed(served(b"", final=False) + served(b"", Op.CONTINUATION), []) == [(Op.EMPTY, b"")]
    raw = served(b"", final=False) + served(b"x", Op.CONTINUATION, final=False) + served(b"", Op.CONTINUATION)
    assert fed(raw + served(b"y"), []) == [(Op.BINARY, b"xy")]


def test_nothing_is_read_after_a_close() -> None:
    raw = served((1000).to_bytes(2, "big") + b"bye", Op.CLOSE) + served(b"late")
    events = fed(raw, [])
    assert events == [(Op.CLOSE, b"\x03\xe8bye")]
    assert close_code(events[0][1]) == (1000, b"bye")
    assert close_code(b"") == (1005, b"")


def test_reserved_bits_are_noticed() -> None:
    reader = FrameReader()
    reader.feed(served(b"x"))
    assert not reader.reserved
    reader.feed(served(b"x", reserved=0x40))
    assert reader.reserved
