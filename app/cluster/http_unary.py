"""Requests with one bounded answer, over kept-alive connections of our own (HTTP/1.1, RFC 9112).

A command that lists pods needs no more than this, and starts in half the time without an HTTP library. Endless answers
(watches, logs) are read by aiohttp in `app.cluster.streams`, which shares the dialling below.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, quote_plus, urlsplit

from app.cluster import failures
from app.cluster.access import Access
from app.cluster.http_answer import Head
from app.cluster.http_connection import KeptConnection, KeptConnections, request_bytes
from app.cluster.reading import check_reading
from app.cluster.tls_dial import TlsDial
from app.errors import JumpdeckError
from app.tasks import CLOSE_LIMIT

IDLE_LIMIT = 30.0
"""Seconds that an idle connection is kept for the next request; below the idle limits of common balancers (60 s)."""

MAX_CONNECTIONS = 4
"""Connections side by side; what comes beyond waits for one. Through a Bastion each is a session of its own, so that
fifty requests at once cost four of them and not fifty."""

MAX_IDLE = MAX_CONNECTIONS
"""Idle connections that are kept: all that there may be, for each that is dropped between two answers is made anew."""

READ_BUFFER = 2 << 20
"""Bytes that wait to be inflated before reading pauses."""

REFUSAL_LIMIT = 64 << 10
"""Bytes of a refusal's body that are read: a Status object has one KiB."""

_INFLATE_PIECE = 1 << 20
"""Bytes inflated at a time, so that the loop is held for milliseconds only."""

_PATH_SAFE = "/%:@!$&'()*+,;=~"
_QUERY_SAFE = ",()/:~*'!@"

Params = Mapping[str, str | int]


class Answer(NamedTuple):
    """A whole answer, its body inflated."""

    head: Head
    body: bytes
    seconds: float = 0.0
    """From the request to its answer's end, on a connection that stood."""


class UnaryClient:
    """Asks one API server and reads whole answers. Make it inside the running loop."""

    def __init__(self, access: Access, dial: TlsDial, headers: Mapping[str, str]) -> None:
        """`headers` go with every request."""
        self._dial = dial
        self._base_path = access.base_path
        self._headers = {"Host": host_header(access.server), **headers}
        self._kept: KeptConnections[_Connection] = KeptConnections(MAX_IDLE, IDLE_LIMIT)
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)

    async def request(
        self, method: str, path: str, params: Params | None, headers: Mapping[str, str], body: bytes | None, limit: int,
        *, at_once: bool = False,
    ) -> Answer:  # fmt: skip
        """Send one request and read its answer, whatever its status; `at_once`: also when all connections are in use.

        A body of a 200 or 201 has at most `limit` bytes once inflated, that of a refusal is cut or left away. Raises
        JumpdeckError, and what `failures.mapped` maps. A GET is sent anew, once, when a connection that had been idle
        turns out to be closed: nobody has seen that request.
        """
        check_reading(method, path)
        what = f"{method} {path}"
        raw = self._bytes(method, path, params, headers, body)
        if at_once:
            return await self._request(raw, limit, what, again=method == "GET")
        async with self._turns:
            return await self._request(raw, limit, what, again=method == "GET")

    async def _request(self, raw: bytes, limit: int, what: str, *, again: bool) -> Answer:
        if (used := await self._idle()) is not None:
            try:
                return await self._exchange(used, raw, limit, what)
            except (EOFError, OSError):
                if not again or used.heard or self._kept.closed:
                    raise
        return await self._exchange(await self._connect(what), raw, limit, what)

    async def aclose(self) -> None:
        """Close every connection; requests that still wait end with an error."""
        standing = [connection.gone for connection in self._kept.standing]
        self._kept.close()
        if standing:
            await asyncio.wait(standing, timeout=CLOSE_LIMIT)

    def _bytes(
        self, method: str, path: str, params: Params | None, headers: Mapping[str, str], body: bytes | None
    ) -> bytes:
        target = quote(self._base_path + path, safe=_PATH_SAFE)
        if params:
            pairs = [f"{quote_plus(name)}={quote_plus(str(value), safe=_QUERY_SAFE)}" for name, value in params.items()]
            target += "?" + "&".join(pairs)
        fields = {**self._headers, **headers}
        if body is not None:
            fields["Content-Length"] = str(len(body))
        return request_bytes(method, target, fields, body or b"")

    async def _exchange(self, connection: _Connection, raw: bytes, limit: int, what: str) -> Answer:
        began = time.perf_counter()
        try:
            head = await connection.ask(raw)
            if head.status in (200, 201):
                body = await read_body(connection, head, limit, what)
            else:
                body = await _refusal_body(connection, head, what)
        except BaseException as exc:
            connection.abort()
            if self._kept.closed and isinstance(exc, EOFError | OSError):
                raise failures.closed_here(what) from exc
            raise
        self._kept.put_back(connection)
        return Answer(head, body, time.perf_counter() - began)

    async def _connect(self, what: str) -> _Connection:
        self._check_open(what)
        connection = _Connection(await self._dial.context() if self._dial.secure else None)
        await self._dial.open(connection)
        try:
            self._check_open(what)
        except JumpdeckError:
            connection.abort()
            raise
        self._kept.add(connection)
        return connection

    def _check_open(self, what: str) -> None:
        if self._kept.closed:
            raise failures.closed_here(what)

    async def _idle(self) -> _Connection | None:
        """An idle connection made with the client certificate of now, if there is one."""
        if not self._kept.idle:
            return None
        context = await self._dial.context() if self._dial.secure else None
        return self._kept.take(lambda connection: connection.context is context)


class _Connection(KeptConnection):
    """One whose answers are read as they come."""

    def __init__(self, context: object) -> None:
        super().__init__()
        self.context = context
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None

    # -- asyncio's side ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.abort()  # nobody asked: the next answer could not be told from this
            return
        try:
            pieces = self._parser.feed(data)
        except ValueError as exc:
            self._failure = self._failure or exc
            self.abort()
        else:
            self._pieces += pieces
            self._size += sum(map(len, pieces))
            if self._size > READ_BUFFER and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._parser is not None:
            self._parser.end()
        self._failure = self._failure or exc or EOFError("the connection ended")
        super().connection_lost(exc)
        self._tell()

    # -- the client's side ---------------------------------------------------------------------------------------------

    async def ask(self, raw: bytes) -> Head:
        """Send a request; the head of its answer. Raises EOFError, OSError or ValueError."""
        parser = self._begin(raw)
        while parser.head is None:
            await self._more()
        return parser.head

    async def read(self) -> list[bytes]:
        """What has come of the body since the last call; empty at its end. Raises EOFError, OSError or ValueError."""
        assert self._parser is not None
        while not self._pieces:
            if self._parser.done:
                return []
            await self._more()
        pieces, self._pieces, self._size = self._pieces, [], 0
        if self._paused and self._transport is not None and not self.gone.done():
            self._paused = False
            self._transport.resume_reading()
        return pieces

    async def _more(self) -> None:
        """Wait until something has happened since the state was looked at. Raises the connection's failure."""
        if self._failure is not None:
            raise self._failure
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _tell(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def read_body(connection: _Connection, head: Head, limit: int, what: str) -> bytes:
    """The whole body, inflated in pieces, at most `limit` bytes. Raises JumpdeckError (JD-API-TOO-LARGE)."""
    coding = head.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise ValueError(f"a body coded as {coding[:40]!r}")
    inflater = None if coding == "identity" else zlib.decompressobj(16 + zlib.MAX_WBITS)
    pieces: list[bytes] = []
    size = 0
    while chunks := await _next_chunks(connection, what):
        for chunk in chunks:
            rest = chunk
            while rest:
                if inflater is None:
                    piece, rest = rest, b""
                else:
                    piece, rest = _inflate(inflater, rest)
                size += len(piece)
                if size > limit:
                    raise failures.too_large(what, limit)
                pieces.append(piece)
                if rest:
                    await asyncio.sleep(0)  # a body that inflates a thousandfold must not hold the loop
    if inflater is not None:
        pieces.append(inflater.flush())
        if not inflater.eof:
            raise failures.truncated(what)
    return b"".join(pieces)


async def _next_chunks(connection: _Connection, what: str) -> list[bytes]:
    try:
        return await connection.read()
    except (EOFError, OSError) as exc:
        raise failures.truncated(what) from exc


def _inflate(inflater: zlib._Decompress, data: bytes) -> tuple[bytes, bytes]:
    """A piece of what `data` inflates to, and what is left of `data`. Raises ValueError."""
    try:
        return inflater.decompress(data, _INFLATE_PIECE), inflater.unconsumed_tail
    except zlib.error as exc:
        raise ValueError("its compression is broken") from exc


async def _refusal_body(connection: _Connection, head: Head, what: str) -> bytes:
    """What a refusal says; nothing when it does not come in order: the status says enough."""
    try:
        return await read_body(connection, head, REFUSAL_LIMIT, what)
    except (JumpdeckError, ValueError, OSError, EOFError):
        connection.abort()
        return b""


def host_header(server: str) -> str:
    """The Host of requests to a server: its URL's host, and its port when it is not the usual one (RFC 9110 §7.2)."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if ":" in host:
        host = f"[{host}]"
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    return host if parts.port in (None, usual) else f"{host}:{parts.port}"
