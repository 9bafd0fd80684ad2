"""HTTP/1.1 as the stand-in needs it (RFC 9112): heads, bodies by length and in chunks, small answers of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

HEAD_MOST = 64 * 1024
"""Bytes of a request's head."""
BODY_MOST = 4 * 1024 * 1024
"""Bytes of a body that is for the stand-in itself."""
PIECE = 64 * 1024
"""Bytes of a body that are passed on at once."""


class BadRequest(Exception):
    """What the client sent is not HTTP, or too long."""


@dataclass(slots=True)
class Head:
    """A request's line and headers."""

    method: str
    target: str
    headers: list[tuple[str, str]]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def get(self, name: str) -> str:
        """A header's value; empty when there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def upgrades(self) -> bool:
        return bool(self.get("upgrade")) and "upgrade" in self.get("connection").lower()

    @property
    def keeps_alive(self) -> bool:
        return "close" not in self.get("connection").lower()

    def wire(self, target: str, headers: list[tuple[str, str]]) -> bytes:
        """The head as it goes on, with another target and other headers."""
        lines = [f"{self.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next request's head; None when the client has gone. Raises BadRequest."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, OSError):
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("the head is too long") from error
    first, *rest = raw[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest("this is not HTTP/1.1")
    pairs = (line.partition(":") for line in rest)
    return Head(words[0], words[1], [(name.strip(), value.strip()) for name, _, value in pairs])


async def body_pieces(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """A request's body as it stands on the wire, chunks with their sizes. Raises BadRequest and EOFError."""
    if "chunked" in head.get("transfer-encoding").lower():
        while True:
            line = await reader.readuntil(b"\r\n")
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError as error:
                raise BadRequest("a broken chunk") from error
            yield line
            if not size:
                break
            left = size + 2
            while left:
                piece = await reader.readexactly(min(left, PIECE))
                left -= len(piece)
                yield piece
        while True:
            line = await reader.readuntil(b"\r\n")
            yield line
            if line == b"\r\n":
                return
    text = head.get("content-length") or "0"
    if not text.isdigit():
        raise BadRequest("a broken length")
    left = int(text)
    while left:
        piece = await reader.readexactly(min(left, PIECE))
        left -= len(piece)
        yield piece


async def read_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    """A whole small body, which a GET may have too. Raises BadRequest and EOFError."""
    body = b""
    async for piece in body_pieces(reader, head):
        body += piece
        if len(body) > BODY_MOST:
            raise BadRequest("the body is too long")
    return body


def answer(status: int, body: Any, *, raw: bytes | None = None) -> bytes:
    """A JSON answer with its length; `raw` bytes in place of JSON."""
    data = json.dumps(body).encode() if raw is None else raw
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def refusal(status: int, message: str) -> bytes:
    """An answer to a Kubernetes client, as a Status."""
    reasons = {401: "Unauthorized", 502: "InternalError", 503: "ServiceUnavailable"}
    return answer(status, {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reasons.get(status, "InternalError"), "code": status,
    })  # fmt: skip
