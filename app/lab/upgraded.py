"""A connection after `101 Switching Protocols`: raw bytes both ways, taken over from aiohttp.

aiohttp hands the bytes of an upgraded connection to a payload parser; its own WebSockets come by the same way. Here
the parser only collects them, so that any protocol can follow, and back-pressure works in both directions.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest

HELD = 256 * 1024
"""Bytes read but not yet taken, above which reading stops."""

LINGER = 1.0
"""Seconds that a client has for closing after the last byte; closing first could cost it bytes under way (RST)."""

Headers = Sequence[tuple[str, str]]


class RawConnection:
    """The bytes of one upgraded connection. Made by `take_over`."""

    def __init__(self, request: web.Request) -> None:
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        self._transport: asyncio.Transport = request.transport
        self._writer = request.writer
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._news = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Called by aiohttp with what was read. Answers that the stream goes on and that nothing is left over."""
        self._pieces.append(bytes(data))
        self._held += len(data)
        if self._held > HELD:
            self._transport.pause_reading()
        self._news.set()
        return False, b""

    def feed_eof(self) -> None:
        """Called by aiohttp when the connection is lost."""
        self._ended = True
        self._news.set()

    async def read(self) -> bytes:
        """The next bytes; empty when the client has gone."""
        while not self._pieces:
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        data = self._pieces.popleft()
        self._held -= len(data)
        if self._held <= HELD and not self._ended:
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; waits while the client does not keep up. Raises ConnectionError when it has gone."""
        if self._ended:
            raise ConnectionResetError("the client has gone")
        self._transport.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """Close once everything written has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()


class Answered(web.StreamResponse):
    """What a handler returns whose answer has been written by hand: aiohttp sends nothing more."""

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class FromKubelet(web.Response):
    """An answer that the API server only passes on: it lacks the API server's own headers."""


def kubelet_text(status: int, text: str, headers: Headers = ()) -> FromKubelet:
    """A kubelet's error in plain text."""
    answer = FromKubelet(status=status, body=text.encode(), headers={"Content-Type": "text/plain; charset=utf-8"})
    for name, value in headers:
        answer.headers.add(name, value)
    return answer


def _head(status: HTTPStatus, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def take_over(request: web.Request, headers: Headers) -> RawConnection:
    """Send `101 Switching Protocols` with exactly these headers and give out the connection.

    Raises ConnectionError when the client has gone.
    """
    raw = RawConnection(request)
    request.protocol.set_parser(cast("Any", raw))  # it only calls feed_data and feed_eof
    await raw.write(_head(HTTPStatus.SWITCHING_PROTOCOLS, headers))
    return raw


async def refuse(request: web.Request, status: HTTPStatus) -> Answered:
    """An answer without a body after which the connection is closed: how Go's WebSocket server refuses a handshake."""
    raw = RawConnection(request)
    await raw.write(_head(status, [("Connection", "close")]))
    return Answered()
