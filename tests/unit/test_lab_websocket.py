"""WebSocket frames as the lab reads and writes them (RFC 6455)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lab.websocket import MAX_MESSAGE, Broken, Frame, FrameReader, Op, frame_head, unmask

KEYS = st.binary(min_size=4, max_size=4)


def masked(op: int, data: bytes, *, key: bytes = b"abcd", last: bool = True) -> bytes:
    """A frame as a client sends it."""
    head = bytearray(frame_head(Op(op), len(data)))
    head[0] = (0x80 if last else 0) | op
    head[1] |= 0x80
    return bytes(head) + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(data))


@given(data=st.binary(max_size=400), key=KEYS)
@settings(max_examples=60, deadline=None)
def test_a_mask_is_its_own_opposite(data: bytes, key: bytes) -> None:
    assert unmask(data, key) == bytes(byte ^ key[at % 4] for at, byte in enumerate(data))


@given(parts=st.lists(st.tuples(st.binary(max_size=200), KEYS), max_size=6), cuts=st.lists(st.integers(1, 200)))
@settings(max_examples=60, deadline=None)
def test_frames_come_out_however_they_are_cut(parts: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(masked(Op.BINARY, data, key=key) for data, key in parts)
    reader, found = FrameReader(), []
    for cut in cuts:
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert found + reader.feed(stream) == [Frame(Op.BINARY, True, data) for data, _ in parts]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_lengths_of_all_three_forms(size: int) -> None:
    (frame,) = FrameReader().feed(masked(Op.TEXT, b"x" * size))
    assert (frame.op, len(frame.data)) == (Op.TEXT, size)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\x82\x01x", 1002, id="no mask"),
        pytest.param(b"\xc2\x81abcdx", 1002, id="a reserved bit"),
        pytest.param(b"\x09\x80abcd", 1002, id="a control frame in pieces"),
        pytest.param(b"\x89\xfe\x00\x7eabcd", 1002, id="a long control frame"),
        pytest.param(b"\x82\xff" + (MAX_MESSAGE + 1).to_bytes(8, "big"), 1009, id="too long"),
    ],
)
def test_what_breaks_the_protocol(data: bytes, code: int) -> None:
    with pytest.raises(Broken) as caught:
        FrameReader().feed(data)
    assert caught.value.code == code
