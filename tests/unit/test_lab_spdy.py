"""SPDY/3.1 as the lab speaks it: framing, header blocks, and what a session does with what it gets."""

from __future__ import annotations

import asyncio
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lab import spdy_frames
from app.lab.spdy import MAX_STREAMS, PIECE, SpdySession, SpdyStream
from app.lab.spdy_frames import (
    DICTIONARY,
    MAX_FRAME,
    MAX_HEADERS,
    Control,
    Data,
    FrameReader,
    FrameWriter,
    HeaderPacker,
    HeaderUnpacker,
    Kind,
    SpdyError,
    data_head,
)
from app.tasks import spawn

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20)
VALUES = st.text(st.characters(max_codepoint=255), max_size=60)
HEADERS = st.dictionaries(NAMES, VALUES, max_size=6)
STREAMS = st.integers(1, 2**31 - 1)
FRAMES = st.lists(
    st.one_of(
        st.builds(Data, STREAMS, st.binary(max_size=300), st.booleans()),
        st.builds(
            Control, st.sampled_from((Kind.SYN_STREAM, Kind.SYN_REPLY, Kind.HEADERS)), STREAMS, HEADERS, st.booleans()
        ),
        st.builds(
            Control, st.sampled_from((Kind.RST_STREAM, Kind.GOAWAY, Kind.WINDOW_UPDATE)), STREAMS, st.none(),
            st.just(False), st.integers(0, 2**31 - 1),
        ),
        st.builds(Control, st.just(Kind.PING), st.integers(1, 2**32 - 1)),
    ),
    max_size=8,
)  # fmt: skip


def _bytes(writer: FrameWriter, frame: Data | Control) -> bytes:
    return writer.data(frame) if isinstance(frame, Data) else writer.control(frame)


def test_the_dictionary_is_that_of_the_draft() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)  # the id in every SPDY/3 header block


@given(frames=FRAMES, cuts=st.lists(st.integers(1, 400), max_size=20))
@settings(max_examples=60, deadline=None)
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[Data | Control], cuts: list[int]) -> None:
    writer, reader = FrameWriter(), FrameReader()
    data = b"".join(_bytes(writer, frame) for frame in frames)
    found = []
    for cut in cuts:
        found += reader.feed(data[:cut])
        data = data[cut:]
    assert found + reader.feed(data) == frames


@given(blocks=st.lists(HEADERS, max_size=5))
@settings(max_examples=40, deadline=None)
def test_header_blocks_share_one_packed_stream(blocks: list[dict[str, str]]) -> None:
    packer, unpacker = HeaderPacker(), HeaderUnpacker()
    assert [unpacker.unpack(packer.pack(block)) for block in blocks] == blocks


@given(data=st.binary(max_size=400), start=st.sampled_from((b"", b"\x80\x03\x00\x01", b"\x80\x03\x00\x02\x00\x00")))
@settings(max_examples=100, deadline=None)
def test_rubbish_is_a_protocol_error_at_worst(data: bytes, start: bytes) -> None:
    with suppress(SpdyError):
        FrameReader().feed(start + data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(data_head(1, MAX_FRAME + 1), id="a frame too long"),
        pytest.param(struct.pack(">HHI", 0x8002, 1, 0), id="another version"),
        pytest.param(struct.pack(">HHI", 0x8003, 3, 4) + bytes(4), id="a frame too short"),
        pytest.param(struct.pack(">HHI", 0x8003, 2, 8) + bytes(8), id="headers that cannot be unpacked"),
    ],
)
def test_what_a_reader_does_not_take(data: bytes) -> None:
    with pytest.raises(SpdyError):
        FrameReader().feed(data)


def test_a_small_block_cannot_unpack_to_a_large_one() -> None:
    block = HeaderPacker().pack({"bomb": "x" * (MAX_HEADERS * 4)})
    assert len(block) < 4_096
    with pytest.raises(SpdyError, match="too long"):
        HeaderUnpacker().unpack(block)


def test_names_are_sent_in_lower_case() -> None:
    assert HeaderUnpacker().unpack(HeaderPacker().pack({"streamType": "error"})) == {"streamtype": "error"}


class PairedLink:
    """A link whose other end is the test."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent: list[Data | Control] = []
        self._reader = FrameReader()

    async def read(self) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        self.sent += self._reader.feed(data)


class Client:
    """Plays a client: writes frames, then goes; keeps what the session answered."""

    def __init__(self, accepts: bool = True) -> None:
        self.link = PairedLink()
        self.streams: list[SpdyStream] = []
        self.accepts = accepts
        self.session = SpdySession(self.link, self._accept)
        self._writer = FrameWriter()

    def _accept(self, stream: SpdyStream) -> bool:
        self.streams.append(stream)
        return self.accepts

    async def talk(self, *frames: Data | Control | bytes) -> list[Data | Control]:
        for frame in frames:
            self.link.incoming.put_nowait(frame if isinstance(frame, bytes) else _bytes(self._writer, frame))
        self.link.incoming.put_nowait(b"")
        await self.session.run()
        return self.link.sent


def _syn(number: int, **headers: str) -> Control:
    return Control(Kind.SYN_STREAM, number, headers or {"streamtype": "data"})


async def test_a_stream_is_answered_read_and_ended() -> None:
    client = Client()
    sent = await client.talk(_syn(1, streamtype="stdin"), Data(1, b"hello"), Data(1, b"", fin=True))
    stream = client.streams[0]
    assert sent == [Control(Kind.SYN_REPLY, 1, {})]
    assert (stream.headers, await stream.incoming.read(), await stream.incoming.read()) == (
        {"streamtype": "stdin"}, b"hello", b"",
    )  # fmt: skip


async def test_refused_doubled_and_even_streams_are_reset() -> None:
    refusing = Client(accepts=False)
    assert await refusing.talk(_syn(1)) == [Control(Kind.RST_STREAM, 1, code=5)]
    client = Client()
    sent = await client.talk(_syn(3), _syn(3), _syn(1), _syn(6))
    assert sent[1:] == [Control(Kind.RST_STREAM, number, code=1) for number in (3, 1, 6)]


async def test_there_are_not_more_streams_than_one_session_may_have() -> None:
    client = Client()
    sent = await client.talk(*(_syn(2 * number + 1) for number in range(MAX_STREAMS + 1)))
    assert sent[-1] == Control(Kind.RST_STREAM, 2 * MAX_STREAMS + 1, code=3)
    assert len(client.streams) == MAX_STREAMS


async def test_pings_of_the_client_come_back() -> None:
    ours, theirs = Control(Kind.PING, 2), Control(Kind.PING, 7)
    assert await Client().talk(ours, theirs) == [theirs]


async def test_after_going_away_no_stream_is_opened() -> None:
    client = Client()
    assert await client.talk(_syn(1), Control(Kind.GOAWAY, 0, code=0), _syn(3)) == [Control(Kind.SYN_REPLY, 1, {})]


async def test_settings_windows_and_data_of_unknown_streams_change_nothing() -> None:
    settings_frame = struct.pack(">HHI", 0x8003, 4, 12) + struct.pack(">III", 1, 7, 65_536)
    window = Control(Kind.WINDOW_UPDATE, 1, code=1_000)
    assert await Client().talk(settings_frame, window, Data(9, b"lost")) == []


async def test_a_broken_client_is_told_so() -> None:
    client = Client()
    assert await client.talk(_syn(1), b"\x80\x09" + bytes(6)) == [
        Control(Kind.SYN_REPLY, 1, {}), Control(Kind.GOAWAY, 1, code=1),
    ]  # fmt: skip
    assert client.streams[0].gone


async def test_a_stream_that_the_client_reset_takes_nothing_more() -> None:
    client = Client()
    await client.talk(_syn(1), Control(Kind.RST_STREAM, 1, code=5))
    with pytest.raises(BrokenPipeError):
        await client.streams[0].send(b"x")
    await client.streams[0].finish()
    assert len(client.link.sent) == 1


async def test_data_is_sent_in_pieces_and_an_end_once() -> None:
    client = Client()
    running = spawn(client.talk(), name="test session")
    stream = SpdyStream(client.session, 1, {})
    await stream.send(b"x" * (PIECE + 5))
    await stream.finish()
    await stream.finish()
    await running
    assert [(len(frame.data), frame.fin) for frame in client.link.sent if isinstance(frame, Data)] == [
        (PIECE, False), (5, False), (0, True),
    ]  # fmt: skip


def test_the_frames_of_the_draft_have_their_numbers() -> None:
    assert spdy_frames.VERSION == 3
    assert FrameWriter().control(Control(Kind.PING, 1)) == bytes.fromhex("8003000600000004") + b"\0\0\0\1"
    assert FrameWriter.data(Data(5, b"ab", fin=True)) == bytes.fromhex("0000000501000002") + b"ab"
