"""A SPDY/3.1 session as a kubelet keeps it: many streams over one connection, opened by the client.

The kubelet's library (moby/spdystream) has no windows: it sends no WINDOW_UPDATE and ignores those it gets, so a
stream is held back by TCP alone, and one that nobody reads holds up all others. The lab does the same on purpose:
a client that waits for windows hangs here as it does at a real cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from aiohttp import web

from app.lab.exec_pipe import Pipe
from app.lab.spdy_frames import (
    Control,
    Data,
    FrameReader,
    FrameWriter,
    Headers,
    Kind,
    Reset,
    SpdyError,
    data_head,
)
from app.lab.upgraded import RawConnection, kubelet_text, take_over
from app.lab.websocket import Op, WebSocket, frame_head

PIECE = 32 * 1024
"""Bytes of one data frame, as Go's copying makes them."""

MAX_STREAMS = 1_000
"""Streams of one session that are open at a time."""

VERSION_HEADER, ACCEPTED_HEADER = "X-Stream-Protocol-Version", "X-Accepted-Stream-Protocol-Versions"
_PROTOCOL_ERROR = 1


class Link(Protocol):
    """The bytes below a session."""

    async def read(self) -> bytes:
        """The next bytes; empty when the other end has gone."""
        ...

    async def write(self, data: bytes) -> None:
        """Send; waits while the other end does not keep up. Raises ConnectionError."""
        ...


class Tunnel:
    """A SPDY session inside the messages of a WebSocket (`SPDY/3.1+portforward.k8s.io`)."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while (message := await self._socket.receive()) is not None:
            if message:
                return message
        return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send(frame_head(Op.BINARY, len(data)) + data)


class SpdyStream:
    """One stream that the client opened. What it sends is in `incoming`."""

    def __init__(self, session: SpdySession, number: int, headers: Headers) -> None:
        self.number, self.headers = number, headers
        self.incoming = Pipe()
        self.gone = False
        """The client has reset it: nothing can be sent any more."""
        self._session = session
        self._finished = False

    async def send(self, data: bytes) -> None:
        """Send bytes. Raises ConnectionError when the stream or the connection has gone."""
        if self.gone or self._finished:
            raise BrokenPipeError("the stream has ended")
        view = memoryview(data)
        pieces: list[bytes | memoryview] = []
        for start in range(0, len(data), PIECE):
            piece = view[start : start + PIECE]
            pieces += [data_head(self.number, len(piece)), piece]
        await self._session.link.write(b"".join(pieces))

    async def finish(self) -> None:
        """Tell the client that nothing more comes. Raises ConnectionError."""
        if not self.gone and not self._finished:
            self._finished = True
            await self._session.link.write(data_head(self.number, 0, fin=True))


class SpdySession:
    """The server's end. `accept` sees every new stream and says whether it is taken; it must not wait."""

    def __init__(self, link: Link, accept: Callable[[SpdyStream], bool]) -> None:
        self.link = link
        self._accept = accept
        self._reader, self._writer = FrameReader(), FrameWriter()
        self._streams: dict[int, SpdyStream] = {}
        self._newest = 0
        self._away = False

    async def run(self) -> None:
        """Handle frames until the client goes. Raises ConnectionError when it goes while it is written to."""
        try:
            while data := await self.link.read():
                for frame in self._reader.feed(data):
                    if isinstance(frame, Data):
                        await self._data(frame)
                    else:
                        await self._control(frame)
        except SpdyError:
            await self.go_away(_PROTOCOL_ERROR)
        finally:
            for stream in self._streams.values():
                stream.gone = True
                stream.incoming.end()

    async def _data(self, frame: Data) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:  # closed long ago, or never opened: the peer's library drops it too
            return
        if frame.data:
            with suppress(BrokenPipeError):  # its reader has all it wants; what still comes is dropped
                await stream.incoming.put(frame.data)
        if frame.fin:
            stream.incoming.end()

    async def _control(self, frame: Control) -> None:
        if frame.kind == Kind.SYN_STREAM:
            await self._open(frame)
        elif frame.kind == Kind.RST_STREAM:
            if (stream := self._streams.pop(frame.stream, None)) is not None:
                stream.gone = True
                stream.incoming.end()
        elif frame.kind == Kind.PING:
            if frame.stream & 1:  # ours would be even
                await self.link.write(self._writer.control(frame))
        elif frame.kind == Kind.GOAWAY:
            self._away = True
        elif frame.kind in (Kind.HEADERS, Kind.SYN_REPLY) and frame.fin and frame.stream in self._streams:
            self._streams[frame.stream].incoming.end()

    async def _open(self, frame: Control) -> None:
        if self._away:
            return
        if frame.stream <= self._newest or not frame.stream & 1:
            await self._reset(frame.stream, Reset.PROTOCOL_ERROR)
            return
        self._newest = frame.stream
        stream = SpdyStream(self, frame.stream, frame.headers or {})
        if len(self._streams) >= MAX_STREAMS:
            await self._reset(frame.stream, Reset.REFUSED_STREAM)
        elif not self._accept(stream):
            await self._reset(frame.stream, Reset.CANCEL)
        else:
            self._streams[frame.stream] = stream
            if frame.fin:
                stream.incoming.end()
            await self.link.write(self._writer.control(Control(Kind.SYN_REPLY, frame.stream, {})))

    async def _reset(self, number: int, why: Reset) -> None:
        await self.link.write(self._writer.control(Control(Kind.RST_STREAM, number, code=why)))

    def forget(self, stream: SpdyStream) -> None:
        """Both directions are through: make room for others."""
        self._streams.pop(stream.number, None)

    async def go_away(self, status: int = 0) -> None:
        """Tell the client that no new streams are taken. Raises ConnectionError."""
        self._away = True
        await self.link.write(self._writer.control(Control(Kind.GOAWAY, self._newest, code=status)))


def is_spdy(request: web.Request) -> bool:
    """Whether the client asks for SPDY."""
    connection = request.headers.get("Connection", "").lower()
    return "upgrade" in connection and request.headers.get("Upgrade", "").lower() == "spdy/3.1"


async def accept(request: web.Request, known: tuple[str, ...]) -> tuple[RawConnection, str] | web.Response:
    """The connection with the stream protocol agreed on, or the refusal (recorded: exec-spdy-bad-version).

    A client that names no protocol gets the last of `known`. Raises ConnectionError when the client has gone.
    """
    asked = [name.strip() for line in request.headers.getall(VERSION_HEADER, []) for name in line.split(",")]
    chosen = next((name for name in asked if name in known), None) if asked else known[-1]
    if chosen is None:
        words = f"client supports [{' '.join(asked)}], server accepts [{' '.join(known)}]"
        text = f"unable to upgrade: unable to negotiate protocol: {words}\n"
        headers = [*((ACCEPTED_HEADER, name) for name in known), ("X-Content-Type-Options", "nosniff")]
        return kubelet_text(403, text * 2, headers)
    headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), (VERSION_HEADER, chosen)]
    return await take_over(request, headers), chosen
