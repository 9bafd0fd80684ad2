"""The streams of one exec or attach: numbered channels in WebSocket messages, or streams of a SPDY session."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import msgspec

from app.lab.exec_pipe import Pipe
from app.lab.exec_status import Outcome
from app.lab.spdy import SpdySession, SpdyStream
from app.lab.upgraded import RawConnection
from app.lab.websocket import Broken, Op, WebSocket, frame_head
from app.tasks import TaskOwner

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
"""The channels (k8s.io/apimachinery's remotecommand): what their bytes are, and that one of them ends."""

PIECE = 32 * 1024
"""Bytes of one message, as Go's copying makes them."""

STREAMS_LIMIT = 30.0
"""Seconds in which a SPDY client has to open all its streams, as in the kubelet's streaming server."""

RESIZE_MOST = 1_024
"""Bytes that a message about the terminal's size may have."""

V5, TRANSLATED = "v5.channel.k8s.io", frozenset(("v5.channel.k8s.io",))
WEBSOCKET_PROTOCOLS = frozenset(
    ("channel.k8s.io", "base64.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", V5)
)
SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
"""In the order in which a kubelet names them."""

_NAMES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the query asks for."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    def has(self, channel: int) -> bool:
        """Whether the client takes or sends this channel."""
        return {STDIN: self.stdin, STDOUT: self.stdout, STDERR: self.stderr, ERROR: True, RESIZE: self.tty}[channel]


class Size(msgspec.Struct):
    """The size of the client's terminal, in characters."""

    width: int = msgspec.field(name="Width", default=0)
    height: int = msgspec.field(name="Height", default=0)


class Channels(Protocol):
    """What an exec sees of its client. All raise ConnectionError when the client has gone."""

    wanted: Wanted
    resized: Callable[[Size], None]

    @property
    def stdin(self) -> Pipe:
        """What the client types."""
        ...

    async def open(self) -> None:
        """Wait until the client is ready."""
        ...

    async def read(self) -> None:
        """Take what the client sends until it goes."""
        ...

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes on STDOUT or STDERR; nothing happens when the client did not ask for them."""
        ...

    async def finish(self, outcome: Outcome) -> None:
        """Send the end."""
        ...


def _nobody(_size: Size) -> None:
    """Nobody listens to sizes."""


def _size(data: bytes) -> Size | None:
    try:
        return msgspec.json.decode(data, type=Size)
    except msgspec.DecodeError:
        return None


class WebSocketChannels:
    """Channels in messages: the first byte (a digit in the base64 forms) is the channel."""

    def __init__(self, socket: WebSocket, protocol: str, wanted: Wanted) -> None:
        self.wanted = wanted
        self._stdin = Pipe()
        self.resized: Callable[[Size], None] = _nobody
        self._socket, self._protocol = socket, protocol
        self._text = "base64" in protocol

    async def open(self) -> None:
        """An empty message on the first channel there is (recorded: every exec-ws-*)."""
        await self._send(next(number for number in (STDOUT, STDERR, ERROR) if self.wanted.has(number)), b"")

    async def read(self) -> None:
        try:
            while (message := await self._socket.receive()) is not None:
                if message:
                    await self._message(message)
        except Broken as broken:
            await self._socket.close(broken.code)

    async def _message(self, message: bytes) -> None:
        channel, data = message[0], message[1:]
        if self._text:
            channel -= ord("0")
            try:
                data = base64.b64decode(data)
            except binascii.Error:
                return
        if channel == STDIN and self.wanted.stdin:
            await _put(self._stdin, data)
        elif channel == RESIZE and (size := _size(data)) is not None:
            self.resized(size)
        elif channel == CLOSE and self._protocol == V5 and data[:1] == bytes([STDIN]):
            self._stdin.end()

    @property
    def stdin(self) -> Pipe:
        return self._stdin

    async def send(self, channel: int, data: bytes) -> None:
        if data and self.wanted.has(channel):
            await self._send(channel, data)

    async def _send(self, channel: int, data: bytes) -> None:
        view = memoryview(data)
        pieces: list[bytes | memoryview] = []
        for start in range(0, len(data) or 1, PIECE):
            piece: bytes | memoryview = view[start : start + PIECE]
            if self._text:
                piece = base64.b64encode(piece)
            head = frame_head(Op.TEXT if self._text else Op.BINARY, len(piece) + 1)
            pieces += [head, b"%d" % channel if self._text else bytes([channel]), piece]
        await self._socket.send(b"".join(pieces))

    async def finish(self, outcome: Outcome) -> None:
        old = not self._protocol.startswith(("v4.", "v5."))
        status = outcome.text() if old else outcome.json(translated=self._protocol in TRANSLATED)
        if status:
            await self._send(ERROR, status)
        await self._socket.close()


async def _put(pipe: Pipe, data: bytes) -> None:
    with suppress(BrokenPipeError):  # the program reads no more; what is typed is lost, as in a real container
        await pipe.put(data)


class SpdyChannels:
    """Streams of a SPDY session, told apart by their header `streamType`."""

    def __init__(self, raw: RawConnection, protocol: str, wanted: Wanted) -> None:
        self.wanted = wanted
        self.resized: Callable[[Size], None] = _nobody
        self._protocol = protocol
        self._session = SpdySession(raw, self._accept)
        self._streams: dict[int, SpdyStream] = {}
        self._all = asyncio.Event()
        self._silent = Pipe()
        needed = [number for number in (STDIN, STDOUT, STDERR, ERROR) if wanted.has(number)]
        if wanted.tty and protocol in SPDY_PROTOCOLS[:2]:
            needed.append(RESIZE)
        self._needed = frozenset(needed)

    def _accept(self, stream: SpdyStream) -> bool:
        channel = _NAMES.get(stream.headers.get("streamtype", ""))
        if channel is None or channel in self._streams:
            return False
        self._streams[channel] = stream
        if self._needed <= self._streams.keys():
            self._all.set()
        return True

    @property
    def stdin(self) -> Pipe:
        return self._streams[STDIN].incoming if STDIN in self._streams else self._silent

    async def open(self) -> None:
        """Wait for all streams. Raises ConnectionError when they do not come."""
        try:
            async with asyncio.timeout(STREAMS_LIMIT):
                await self._all.wait()
        except TimeoutError as error:
            raise ConnectionAbortedError("timed out waiting for client to create streams") from error

    async def read(self) -> None:
        async with TaskOwner("lab exec") as owner:
            owner.spawn(self._sizes(), name="sizes")
            await self._session.run()

    async def _sizes(self) -> None:
        await self._all.wait()
        stream = self._streams.get(RESIZE)
        while stream is not None and (line := await stream.incoming.readline(RESIZE_MOST)):
            if (size := _size(line)) is not None:
                self.resized(size)

    async def send(self, channel: int, data: bytes) -> None:
        stream = self._streams.get(channel)
        if data and stream is not None:
            await stream.send(data)

    async def finish(self, outcome: Outcome) -> None:
        for channel in (STDOUT, STDERR):
            if channel in self._streams:
                await self._streams[channel].finish()
        status = outcome.json(translated=False) if self._protocol == SPDY_PROTOCOLS[0] else outcome.text()
        if status:
            await self._streams[ERROR].send(status)
        for channel in (ERROR, STDIN, RESIZE):
            if channel in self._streams:
                await self._streams[channel].finish()
        await self._session.go_away()
