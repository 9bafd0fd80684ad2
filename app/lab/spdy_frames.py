"""Frames of SPDY/3.1 (the draft of 2013: draft-mbelshe-httpbis-spdy, with the changes of 3.1), as bytes.

Kubernetes still carries exec, attach and port-forward over it. Of the draft only what its peers use is here: no
CREDENTIAL frames and no server push.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

VERSION = 3
MAX_FRAME = 1024 * 1024
"""Bytes of one frame; Kubernetes' clients send 32 KiB at a time."""
MAX_HEADERS = 64 * 1024
"""Bytes of one header block, unpacked."""
FIN = 0x01

_WORDS = (
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "age", "allow", "authorization", "cache-control", "connection", "content-base",
    "content-encoding", "content-language", "content-length", "content-location", "content-md5", "content-range",
    "content-type", "date", "etag", "expect", "expires", "from", "host", "if-match", "if-modified-since",
    "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location", "max-forwards", "pragma",
    "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after", "server", "te", "trailer",
    "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning", "www-authenticate", "method", "get",
    "status", "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin",
)  # fmt: skip
_CODES = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
)
_REST = (
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS) + (_CODES + _REST).encode()
"""What both ends put before every header block (draft 2.6.10.1): words with their length, then what often occurs."""

Headers = Mapping[str, str]


class Kind(IntEnum):
    """The types of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


_LEAST: dict[int, int] = {
    Kind.SYN_STREAM: 10, Kind.SYN_REPLY: 4, Kind.RST_STREAM: 8, Kind.PING: 4, Kind.GOAWAY: 8, Kind.HEADERS: 4,
    Kind.WINDOW_UPDATE: 8,
}  # fmt: skip
"""Bytes that a frame has at least after its head."""


class Reset(IntEnum):
    """Why a stream is reset (RST_STREAM)."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    CANCEL = 5


class SpdyError(Exception):
    """The other end broke the protocol, or sent more than is taken: the session ends."""


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream; `fin` when they are its last."""

    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Control:
    """A control frame. `stream` is also a PING's id or a GOAWAY's last good stream; `code` a status or a growth."""

    kind: int
    stream: int = 0
    headers: Headers | None = None
    fin: bool = False
    code: int = 0


class HeaderPacker:
    """Packs header blocks; all blocks of one direction share the state of one zlib stream."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(zdict=DICTIONARY)

    def pack(self, headers: Headers) -> bytes:
        """The packed block. Names are written in lower case, as the draft asks."""
        pieces = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode("latin-1")):
                pieces += [struct.pack(">I", len(text)), text]
        return self._zlib.compress(b"".join(pieces)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class HeaderUnpacker:
    """The other way round."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def unpack(self, block: bytes) -> dict[str, str]:
        """Names in lower case with their values; several values of a name stay joined by NUL. Raises SpdyError."""
        try:
            text = self._zlib.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"a header block that cannot be unpacked: {error}") from error
        if self._zlib.unconsumed_tail:
            raise SpdyError("a header block is too long")
        texts: list[str] = []
        at = 4
        count = int.from_bytes(text[:4], "big")
        while len(texts) < 2 * count:
            size = int.from_bytes(text[at : at + 4], "big")
            if len(text) < at + 4 + size:
                raise SpdyError("a header block ends early")
            texts.append(text[at + 4 : at + 4 + size].decode("latin-1"))
            at += 4 + size
        return {name.lower(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}


def data_head(stream: int, size: int, fin: bool = False) -> bytes:
    """The head of a data frame with `size` bytes."""
    return struct.pack(">II", stream, (FIN if fin else 0) << 24 | size)


class FrameWriter:
    """Makes the bytes of frames; header blocks have to be sent in the order in which they were made."""

    def __init__(self) -> None:
        self._headers = HeaderPacker()

    @staticmethod
    def data(frame: Data) -> bytes:
        return data_head(frame.stream, len(frame.data), frame.fin) + frame.data

    def control(self, frame: Control) -> bytes:
        """The bytes of any control frame but SETTINGS."""
        stream = struct.pack(">I", frame.stream)
        if frame.kind == Kind.SYN_STREAM:
            body = stream + bytes(6) + self._headers.pack(frame.headers or {})
        elif frame.kind in (Kind.SYN_REPLY, Kind.HEADERS):
            body = stream + self._headers.pack(frame.headers or {})
        elif frame.kind == Kind.PING:
            body = stream
        else:
            body = stream + struct.pack(">I", frame.code)
        flags = FIN if frame.fin else 0
        return struct.pack(">HHI", 0x8000 | VERSION, frame.kind, flags << 24 | len(body)) + body


class FrameReader:
    """Cuts bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._headers = HeaderUnpacker()

    def feed(self, data: bytes) -> list[Data | Control]:
        """The frames that are complete now. Raises SpdyError, after which the reader is of no use any more."""
        self._buffer += data
        frames: list[Data | Control] = []
        at = 0
        while len(self._buffer) - at >= 8:
            first, second = struct.unpack_from(">II", self._buffer, at)
            flags, size = second >> 24, second & 0xFFFFFF
            if size > MAX_FRAME:
                raise SpdyError(f"a frame of {size} bytes")
            if len(self._buffer) - at < 8 + size:
                break
            body = bytes(memoryview(self._buffer)[at + 8 : at + 8 + size])
            at += 8 + size
            if first >> 31:
                frames.append(self._control(first, flags, body))
            else:
                frames.append(Data(first, body, bool(flags & FIN)))
        del self._buffer[:at]
        return frames

    def _control(self, first: int, flags: int, body: bytes) -> Control:
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"SPDY version {version}")
        if kind == Kind.SETTINGS:
            return Control(kind)
        least = _LEAST.get(kind, 0)
        if len(body) < least:
            raise SpdyError(f"a frame of type {kind} is too short")
        stream = int.from_bytes(body[:4], "big") & (0xFFFFFFFF if kind == Kind.PING else 0x7FFFFFFF)
        if kind in (Kind.SYN_STREAM, Kind.SYN_REPLY, Kind.HEADERS):
            headers = self._headers.unpack(body[least:])
            return Control(kind, stream, headers, bool(flags & FIN))
        return Control(kind, stream, code=int.from_bytes(body[4:8], "big"))
