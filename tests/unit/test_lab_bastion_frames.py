"""Frames of the lab's Azure Bastion, with websocket-client's own code as the other side."""

from __future__ import annotations

import pytest
import websocket
from hypothesis import given
from hypothesis import strategies as st
from websocket._abnf import ABNF, continuous_frame, frame_buffer

from app.lab.bastion_frames import RSV1, FrameDecoder, fragmented, head, message
from app.lab.websocket import Broken, Op, unmask

CLIENT_FRAMES = st.lists(
    st.one_of(
        st.tuples(st.just(Op.BINARY), st.binary(max_size=400)),
        st.tuples(st.sampled_from((Op.PING, Op.PONG, Op.CLOSE)), st.binary(max_size=125)),
    ),
    max_size=8,
)
CUTS = st.lists(st.integers(1, 300), max_size=30)


def _masked(op: int, data: bytes, *, last: int = 1, key: bytes = b"\x01\xf2\x83\x74") -> bytes:
    frame = ABNF(last, 0, 0, 0, op, 1, data)
    frame.get_mask_key = lambda size: key  # the hook that the library has for it
    return frame.format()


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    return [*(piece for piece in pieces if piece), data]


def _read(data: bytes) -> list[tuple[int, bytes]]:
    """What websocket-client reads from a server's bytes: whole messages and control frames."""
    rest = bytearray(data)

    def take(size: int) -> bytes:
        taken = bytes(rest[:size])
        del rest[:size]
        return taken

    frames, messages = frame_buffer(take, skip_utf8_validation=False), continuous_frame(False, False)
    found: list[tuple[int, bytes]] = []
    while rest:
        frame = frames.recv_frame()
        if frame.opcode in (ABNF.OPCODE_PING, ABNF.OPCODE_CLOSE):
            found.append((frame.opcode, frame.data))
            continue
        messages.validate(frame)
        messages.add(frame)
        if messages.is_fire(frame):
            found.append((messages.extract(frame)[0], frame.data))
    return found


@given(frames=CLIENT_FRAMES, cuts=CUTS, key=st.binary(min_size=4, max_size=4))
def test_a_clients_bytes_arrive_however_they_are_cut(
    frames: list[tuple[Op, bytes]], cuts: list[int], key: bytes
) -> None:
    wire = b"".join(_masked(op, data, key=key) for op, data in frames)
    decoder = FrameDecoder()
    pieces = [piece for part in _cut(wire, cuts) for piece in decoder.feed(part)]
    assert b"".join(data for op, data in pieces if op == Op.BINARY) == b"".join(
        d for op, d in frames if op == Op.BINARY
    )
    assert [piece for piece in pieces if piece[0] != Op.BINARY] == [frame for frame in frames if frame[0] != Op.BINARY]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_003])
def test_every_length_of_a_clients_frame(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    pieces = FrameDecoder().feed(_masked(Op.BINARY, data) + _masked(Op.PING, b"p"))
    assert b"".join(piece for op, piece in pieces if op == Op.BINARY) == data and pieces[-1] == (Op.PING, b"p")


def test_a_long_frame_is_passed_on_as_it_comes() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0") == []
    assert decoder.feed(b"begin") == [(Op.BINARY, b"begin")]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (_masked(Op.BINARY, b"x", last=0), 1002),
        (_masked(Op.CONTINUATION, b"x"), 1002),
        (_masked(Op.TEXT, b"x"), 1003),
        (b"\x82\x01x", 1002),  # not masked
        (b"\xc2\x81\0\0\0\0x", 1002),  # RSV1
        (b"\x83\x81\0\0\0\0x", 1002),  # a kind that nobody knows
        (b"\x89\xfe\x00\x7e\0\0\0\0", 1002),  # a ping of 126 bytes
        (b"\x09\x80\0\0\0\0", 1002),  # a ping in fragments
    ],
)
def test_what_a_client_must_not_send(wire: bytes, code: int) -> None:
    with pytest.raises(Broken) as broken:
        FrameDecoder().feed(wire)
    assert broken.value.code == code


@given(wire=st.binary(max_size=400), cuts=CUTS)
def test_no_bytes_break_the_decoder(wire: bytes, cuts: list[int]) -> None:
    decoder = FrameDecoder()
    got = 0
    try:
        for part in _cut(wire, cuts):
            got += sum(len(data) for _, data in decoder.feed(part))
    except Broken:
        return
    assert got <= len(wire)


@given(data=st.binary(min_size=1, max_size=3_000), size=st.integers(1, 3_100))
def test_messages_are_read_by_the_published_library(data: bytes, size: int) -> None:
    found = _read(message(data, size))
    assert {op for op, _ in found} == {ABNF.OPCODE_BINARY} and b"".join(piece for _, piece in found) == data
    assert all(piece and len(piece) <= size for _, piece in found)


@given(data=st.binary(min_size=1, max_size=3_000), size=st.integers(100, 3_100))
def test_fragments_are_read_by_the_published_library(data: bytes, size: int) -> None:
    found = _read(fragmented(data, size, b"ping"))
    assert found == [(ABNF.OPCODE_PING, b"ping")] * ((len(data) - 1) // size) + [(ABNF.OPCODE_BINARY, data)]


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 200_000])
def test_every_length_of_our_frames(size: int) -> None:
    assert _read(head(Op.BINARY, size) + b"d" * size) == [(ABNF.OPCODE_BINARY, b"d" * size)]


def test_a_reserved_bit_is_refused_by_the_published_library() -> None:
    wire = message(b"x", 10, rsv1=True)
    assert wire[0] & RSV1
    with pytest.raises(websocket.WebSocketProtocolException):
        _read(wire)


@given(size=st.integers(0, 20_000), key=st.binary(min_size=4, max_size=4))
def test_a_mask_lies_over_every_byte(size: int, key: bytes) -> None:
    data = bytes(number % 251 for number in range(size))
    assert unmask(data, key) == bytes(byte ^ key[at % 4] for at, byte in enumerate(data))
