"""An HTTP/1.1 answer from the bytes of a connection (RFC 9112), without input or output of its own.

Strict where leniency lets answers be confused with one another: line ends are CRLF, lengths are plain digits, a
message has one framing only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD_LIMIT = 64 << 10
"""Bytes of an answer's head, and of its trailers; the API server's head has less than one KiB."""

LINE_LIMIT = 4 << 10
"""Bytes of the line before a chunk: its size and extensions that nobody uses."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n\0]*)?")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


class BadAnswer(ValueError):
    """The bytes are no answer of HTTP/1.1."""


class Head(NamedTuple):
    """Status and headers; names in lower case, values of repeated headers joined by a comma (RFC 9110 §5.3)."""

    status: int
    headers: dict[str, str]
    keep_alive: bool
    """Whether the server leaves the connection open, as far as the head tells."""


class AnswerParser:
    """Takes the bytes of one answer to a GET or POST as they come and gives the body's bytes.

    `head` is there once it is complete, `done` says that the body is, `excess` that more bytes came than belong to it.
    """

    def __init__(self) -> None:
        self.head: Head | None = None
        self.started = False
        self.done = False
        self.excess = False
        self._held = b""
        self._left = 0
        """Bytes of the body or of the chunk that are still to come."""
        self._read = self._body_to_end

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        return self.done and not self.excess and self.head is not None and self.head.keep_alive

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of body in `data`. Raises BadAnswer."""
        self.started = self.started or bool(data)
        pieces: list[bytes] = []
        if self.head is None:
            data = self._take_head(self._held + data)
        if data:
            if self.done:
                self.excess = True
            elif self.head is not None:
                self._read(data, pieces)
        return pieces

    def end(self) -> bool:
        """The connection has ended; whether the answer is complete."""
        if self.head is not None and self._read == self._body_to_end:
            self.done = True
        return self.done

    def _take_head(self, data: bytes) -> bytes:
        """Read the head when it is complete, past interim answers (1xx); returns what follows it."""
        while self.head is None:
            self._held = b""
            if data[:7] != b"HTTP/1."[: len(data)]:
                raise BadAnswer(f"it begins with {data[:40]!r}")
            end = data.find(b"\r\n\r\n", 0, HEAD_LIMIT)
            if end < 0:
                if len(data) >= HEAD_LIMIT:
                    raise BadAnswer("its head has no end")
                self._held = data
                return b""
            head = _read_head(data[:end])
            data = data[end + 4 :]
            if head.status == 101:
                raise BadAnswer("it switches to another protocol")
            if head.status >= 200:
                self._frame(head)
                self.head = head
            elif not data:
                return b""
        return data

    def _frame(self, head: Head) -> None:
        """How long the body is (RFC 9112 §6.3)."""
        coding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
        if head.status in (204, 304):
            self.done = True
        elif coding is not None:
            if coding.strip().lower() != "chunked" or length is not None:
                raise BadAnswer("its length is told in an unknown way")
            self._read = self._chunks
            self._next = self._size
        elif length is not None:
            values = {value.strip() for value in length.split(",")}
            value = values.pop()
            if values or not _LENGTH.fullmatch(value):
                raise BadAnswer("its length is not a number")
            self._left = int(value)
            self._read = self._body_of_length
            self.done = not self._left

    def _body_to_end(self, data: bytes, pieces: list[bytes]) -> None:
        pieces.append(data)

    def _body_of_length(self, data: bytes, pieces: list[bytes]) -> None:
        taken = data[: self._left]
        pieces.append(taken)
        self._left -= len(taken)
        self.done = not self._left
        self.excess = len(data) > len(taken)

    def _chunks(self, data: bytes, pieces: list[bytes]) -> None:
        """Chunks (RFC 9112 §7.1): size line, bytes, line end; the last has size 0 and trailers after it."""
        if self._held:
            data, self._held = self._held + data, b""
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            end = data.find(b"\r\n", at, at + LINE_LIMIT)
            if end < 0:
                self._held = data[at:]
                if len(self._held) >= LINE_LIMIT:
                    raise BadAnswer("a line of its chunks has no end")
                return
            line, at = data[at:end], end + 2
            self._next(line)
        self.excess = at < len(data)

    def _size(self, line: bytes) -> None:
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise BadAnswer(f"a chunk's size is {line[:40]!r}")
        self._left = int(found[1], 16)
        self._next = self._chunk_end if self._left else self._trailer
        self._trailers = HEAD_LIMIT

    def _chunk_end(self, line: bytes) -> None:
        if line:
            raise BadAnswer("a chunk is longer than its size")
        self._next = self._size

    def _trailer(self, line: bytes) -> None:
        """Trailers say nothing to us; an empty line is their end."""
        self.done = not line
        self._trailers -= len(line) + 2
        if self._trailers < 0:
            raise BadAnswer("its trailers have no end")


def _read_head(raw: bytes) -> Head:
    first, *lines = raw.split(b"\r\n")
    found = _STATUS.fullmatch(first)
    if found is None:
        raise BadAnswer(f"it begins with {first[:40]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        field = _HEADER.fullmatch(line)
        if field is None:  # also a line that continues the one before, which RFC 9112 §5.2 gives up
            raise BadAnswer(f"a line of its head is {line[:40]!r}")
        name, value = field[1].decode("ascii").lower(), field[2].rstrip(b" \t").decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    keep = "close" not in options and (found[1] == b"1" or "keep-alive" in options)
    return Head(int(found[2]), headers, keep)
