"""The server side of WebSockets (RFC 6455) on a connection that was taken over: no extensions, no compression.

aiohttp's own WebSockets are not used: the recorded answers have other headers, an empty subprotocol among them, close
without waiting, and refuse an unknown subprotocol.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Container
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus

from aiohttp import web

from app.lab.upgraded import Answered, RawConnection, refuse, take_over

MAX_MESSAGE = 1024 * 1024
"""Bytes of one message: Kubernetes' clients send 32 KiB at a time."""

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BLOCK = 4_096
_EVERY_FOURTH = int.from_bytes(b"\x01\0\0\0" * (_BLOCK // 4), "little")
NORMAL, PROTOCOL_ERROR, TOO_BIG = 1000, 1002, 1009


class Op(IntEnum):
    """The kinds of frames (RFC 6455, 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Broken(Exception):
    """The client broke the protocol; `code` is the status of the close frame."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, unmasked. `last` is false when the message goes on."""

    op: int
    last: bool
    data: bytes


def frame_head(op: Op, length: int) -> bytes:
    """The head of an unmasked frame that is a whole message of `length` bytes."""
    if length < 126:
        return bytes((0x80 | op, length))
    if length < 1 << 16:
        return bytes((0x80 | op, 126)) + length.to_bytes(2, "big")
    return bytes((0x80 | op, 127)) + length.to_bytes(8, "big")


def unmask(data: bytes, key: bytes) -> bytes:
    """`data` with the four bytes of `key` laid over it, again and again (RFC 6455, 5.3).

    As large numbers, in blocks that stay in the processor's cache: twice as quick as in one.
    """
    mask = int.from_bytes(key, "little") * _EVERY_FOURTH
    number, size = int.from_bytes, len(data)
    whole = size - size % _BLOCK
    parts = [
        (number(data[start : start + _BLOCK], "little") ^ mask).to_bytes(_BLOCK, "little")
        for start in range(0, whole, _BLOCK)
    ]
    if rest := size - whole:
        parts.append((number(data[whole:], "little") ^ mask & ((1 << 8 * rest) - 1)).to_bytes(rest, "little"))
    return b"".join(parts)


class FrameReader:
    """Cuts the bytes of a client into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises Broken."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        if buffer[0] & 0x70:
            raise Broken(PROTOCOL_ERROR, "reserved bits are set")
        if not buffer[1] & 0x80:
            raise Broken(PROTOCOL_ERROR, "a client has to mask its frames")
        op, last, size, at = buffer[0] & 0x0F, bool(buffer[0] & 0x80), buffer[1] & 0x7F, 2
        if op >= Op.CLOSE and (size > 125 or not last):
            raise Broken(PROTOCOL_ERROR, "a control frame is short and in one piece")
        if size > 125:
            more = 2 if size == 126 else 8
            if len(buffer) < at + more:
                return None
            size, at = int.from_bytes(buffer[at : at + more], "big"), at + more
        if size > MAX_MESSAGE:
            raise Broken(TOO_BIG, f"a frame of {size} bytes")
        if len(buffer) < at + 4 + size:
            return None
        data = unmask(bytes(buffer[at + 4 : at + 4 + size]), bytes(buffer[at : at + 4]))
        del buffer[: at + 4 + size]
        return Frame(op, last, data)


class WebSocket:
    """Messages over a connection. One reader; several may send."""

    def __init__(self, raw: RawConnection) -> None:
        self.raw = raw
        self._frames = FrameReader()
        self._ready: list[Frame] = []
        self._begun: list[bytes] | None = None
        self._closed = False

    async def receive(self) -> bytes | None:
        """The next message, text or binary; None when the client has closed or gone. Answers pings."""
        while True:
            while self._ready:
                frame = self._ready.pop(0)
                if frame.op == Op.PING:
                    await self._send(Op.PONG, frame.data)
                elif frame.op == Op.CLOSE:
                    await self.close(int.from_bytes(frame.data[:2], "big") or NORMAL)
                    return None
                elif frame.op != Op.PONG and (message := self._joined(frame)) is not None:
                    return message
            data = await self.raw.read()
            if not data:
                return None
            self._ready = self._frames.feed(data)

    def _joined(self, frame: Frame) -> bytes | None:
        """The whole message when this frame ends it."""
        if frame.op not in (Op.CONTINUATION, Op.TEXT, Op.BINARY) or (frame.op == 0) == (self._begun is None):
            raise Broken(PROTOCOL_ERROR, f"a frame of kind {frame.op} out of place")
        if self._begun is None and frame.last:
            return frame.data
        self._begun = [*(self._begun or []), frame.data]
        if sum(len(piece) for piece in self._begun) > MAX_MESSAGE:
            raise Broken(TOO_BIG, "a message in too many pieces")
        if not frame.last:
            return None
        message, self._begun = b"".join(self._begun), None
        return message

    async def send(self, frames: bytes) -> None:
        """Send frames that are made already (`frame_head` and their bytes). Raises ConnectionError."""
        if not self._closed:
            await self.raw.write(frames)

    async def _send(self, op: Op, data: bytes) -> None:
        await self.send(frame_head(op, len(data)) + data)

    async def close(self, code: int = NORMAL) -> None:
        """Send the close frame, once."""
        if not self._closed:
            await self._send(Op.CLOSE, code.to_bytes(2, "big"))
            self._closed = True


def proof(key: str) -> str:
    """Sec-WebSocket-Accept for a client's Sec-WebSocket-Key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def is_websocket(request: web.Request) -> bool:
    """Whether the client asks for a WebSocket."""
    connection = request.headers.get("Connection", "").lower()
    return "upgrade" in connection and request.headers.get("Upgrade", "").lower() == "websocket"


def offered(request: web.Request) -> list[str]:
    """The subprotocols that the client offers, in its order."""
    words = ",".join(request.headers.getall("Sec-WebSocket-Protocol", [])).split(",")
    return [word.strip() for word in words if word.strip()]


def agree(request: web.Request, known: Container[str]) -> str | None:
    """The first offered subprotocol that is known, empty when none is offered, None when none of them is known."""
    names = offered(request)
    if not names:
        return ""
    return next((name for name in names if name in known), None)


async def accept(request: web.Request, protocol: str | None) -> WebSocket | Answered:
    """Shake hands on `protocol` (recorded: exec-ws-v5, exec-ws-no-proto).

    Answers the refusal when there is none to agree on or the handshake is broken (recorded: exec-ws-proto-unknown).
    Raises ConnectionError when the client has gone.
    """
    key = request.headers.get("Sec-WebSocket-Key", "")
    if not key or request.headers.get("Sec-WebSocket-Version") != "13":
        return await refuse(request, HTTPStatus.BAD_REQUEST)
    if protocol is None:
        return await refuse(request, HTTPStatus.FORBIDDEN)
    headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", proof(key))]
    return WebSocket(await take_over(request, [*headers, ("Sec-WebSocket-Protocol", protocol)]))
