"""Kept-alive connections of HTTP/1.1 between their requests, and the bytes of a request (RFC 9112 §3, §9.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from app.cluster.http_answer import AnswerParser


def request_bytes(method: str, target: str, fields: Mapping[str, str], body: bytes = b"") -> bytes:
    """A whole request; `fields` are its headers, Host among them. Raises ValueError when one cannot be sent."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise ValueError("a header that cannot be sent")  # a line end in a value would begin another header
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body


class KeptConnection(asyncio.Protocol):
    """One connection, one request at a time, made inside the running loop; how an answer is read is the heir's."""

    def __init__(self) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended."""
        self._transport: asyncio.Transport | None = None
        self._parser: AnswerParser | None = None
        """That of the present request's answer; None while nobody has asked."""
        self._fresh = True
        self._timer: asyncio.TimerHandle | None = None

    @property
    def heard(self) -> bool:
        """Whether a byte of the answer has come."""
        return self._parser is not None and self._parser.started

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def rest(self, seconds: float) -> bool:
        """Wait for the next request, at most so long; False when there can be none on this connection."""
        usable = self._fresh or (self._parser is not None and self._parser.reusable)
        if not usable or not self._open:
            return False
        self._parser = None
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)
        return True

    def wake(self) -> bool:
        """The next request comes; False when the connection has ended meanwhile."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._open

    def abort(self) -> None:
        """Close without waiting for the other side."""
        self.wake()
        if self._transport is not None:
            self._transport.abort()

    @property
    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and not self.gone.done()

    def _begin(self, raw: bytes) -> AnswerParser:
        """Send a request, as far as the connection stands; what reads its answer."""
        parser = self._parser = AnswerParser()
        self._fresh = False
        if self._transport is not None and not self.gone.done():
            self._transport.write(raw)
        return parser


C = TypeVar("C", bound=KeptConnection)


class KeptConnections(Generic[C]):
    """All connections with one server. Those that nobody uses wait for the next request, `most` of them at a time."""

    def __init__(self, most: int, seconds: float) -> None:
        self.closed = False
        self.standing: set[C] = set()
        self._most, self._seconds = most, seconds
        self._idle: list[C] = []

    @property
    def idle(self) -> bool:
        """Whether one waits."""
        return bool(self._idle)

    def add(self, connection: C) -> None:
        """One was made, and somebody uses it."""
        self.standing.add(connection)
        connection.gone.add_done_callback(lambda _: self._forget(connection))

    def take(self, fits: Callable[[C], bool] = lambda _: True) -> C | None:
        """The one that was used last, if it still stands; those that do not fit any more are closed."""
        while self._idle:
            connection = self._idle.pop()
            if fits(connection) and connection.wake():
                return connection
            connection.abort()
        return None

    def put_back(self, connection: C) -> None:
        """Nobody uses it any more: let it wait, or close it."""
        if self.closed or len(self._idle) >= self._most or not connection.rest(self._seconds):
            connection.abort()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Drop every connection, now and from now on."""
        self.closed = True
        for connection in tuple(self.standing):
            connection.abort()

    def _forget(self, connection: C) -> None:
        self.standing.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
