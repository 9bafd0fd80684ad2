"""HTTPS to one Bastion, dialled through the hop before it: small requests over kept-alive connections, and bare TLS.

One TLS context serves requests and WebSockets alike, so that a private CA is one setting.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping

from app.cluster.http_answer import AnswerParser, BadAnswer, Head
from app.cluster.tls_failures import from_tls
from app.dialer import Dialer
from app.errors import JumpdeckError, Recovery, RouteError
from app.records import Record
from app.routes.failures import from_os_error
from app.text import clean, prose

TLS_LIMIT = 10.0
"""Seconds for a TLS handshake: two round trips and a signature."""
IDLE_LIMIT = 20.0
"""Seconds that an idle connection is kept for the next request. Whether the service keeps its end open is unknown, so
this is below all usual limits of gateways (60 s and more)."""
MAX_IDLE = 4
"""Idle connections that are kept: a screen opens a few streams side by side."""
BODY_LIMIT = 256 << 10
"""Bytes of an answer: those of a token exchange have two thousand."""


class Place(Record):
    """Where the data plane of a Bastion is: `dnsName` of ARM, which may carry a port."""

    host: str
    port: int = 443

    @property
    def at(self) -> str:
        """`host:port` for people; cleaned text."""
        return f"{clean(self.host)}:{self.port}"

    @property
    def header(self) -> str:
        """The Host of requests (RFC 9110 §7.2)."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"


class HttpAnswer(Record):
    """A whole answer. The body may hold secrets."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HttpAnswer({self.status}, {len(self.body)} bytes)"


class BastionHttp:
    """Asks one host. Make it inside the running loop; all methods raise JumpdeckError only."""

    def __init__(self, dialer: Dialer, place: Place, context: ssl.SSLContext, *, dial_limit: float) -> None:
        self.place = place
        self._dialer, self._context, self._dial_limit = dialer, context, dial_limit
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._closed = False

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """A TLS stream for `protocol`, verified. Raises RouteError within the limit for dialling."""
        lower: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(self._dial_limit):
                lower = await self._dialer.dial(self.place.host, self.place.port, asyncio.Protocol)
                secured = await asyncio.get_running_loop().start_tls(
                    lower, protocol, self._context, server_hostname=self.place.host, ssl_handshake_timeout=TLS_LIMIT
                )
            if secured is None:  # asyncio's answer when the transport was closed meanwhile
                raise ConnectionResetError("closed during the handshake")
        except TimeoutError as exc:
            _drop(lower)
            raise _silent(self.place.at, self._dial_limit) from exc
        except (OSError, TypeError) as exc:
            _drop(lower)
            raise self._tls_error(exc) from exc
        except BaseException:
            _drop(lower)
            raise
        protocol.connection_made(secured)
        return secured

    async def warm(self, *, anew: bool = False) -> None:
        """Have a connection ready for the next request, one made now if `anew`. Raises RouteError."""
        if (anew or not self._idle) and not self._closed:
            self._put_back(await self._new())

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, limit: float
    ) -> HttpAnswer:
        """Send one request and read its answer, whatever its status, within `limit` seconds.

        It is sent anew, once, when a connection that had been idle turns out to be closed: nobody has seen it.
        """
        raw = self._bytes(method, path, headers, body)
        try:
            async with asyncio.timeout(limit):
                while (used := self._kept()) is not None:
                    try:
                        return await self._exchange(used, raw)
                    except (EOFError, OSError):
                        if used.heard:
                            raise
                return await self._exchange(await self._new(), raw)
        except TimeoutError as exc:
            raise _silent(self.place.at, limit) from exc
        except BadAnswer as exc:
            raise RouteError(
                "The Bastion's answer cannot be read", f"{self.place.at}: {prose(str(exc), 200)}",
                "Does a web proxy stand between? It is tried again.", code="JD-BASTION-ANSWER",
                recovery=Recovery.TRANSIENT,
            ) from exc  # fmt: skip
        except EOFError as exc:
            raise from_os_error(ConnectionResetError("closed before the answer's end"), self.place.at) from exc
        except OSError as exc:
            raise from_os_error(exc, self.place.at) from exc

    def close(self) -> None:
        """Drop every connection."""
        self._closed = True
        for connection in tuple(self._all):
            connection.abort()

    def _bytes(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        fields = {"Host": self.place.header, "User-Agent": "jumpdeck", "Accept": "application/json", **headers}
        if body or method == "POST":
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        if not all(line.isascii() and line.isprintable() for line in lines):
            raise ValueError("a header that cannot be sent")  # a line end in a value would begin another header
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body

    async def _exchange(self, connection: _Connection, raw: bytes) -> HttpAnswer:
        try:
            answer = await connection.ask(raw)
        except BaseException:
            connection.abort()
            raise
        self._put_back(connection)
        return answer

    async def _new(self) -> _Connection:
        connection = _Connection()
        await self.connect(connection)
        self._all.add(connection)
        connection.on_lost = self._forget
        if connection.lost or self._closed:
            self._forget(connection)
            connection.abort()
        return connection

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.wake():
                return connection
            connection.abort()
        return None

    def _put_back(self, connection: _Connection) -> None:
        if self._closed or len(self._idle) >= MAX_IDLE or not connection.rest(IDLE_LIMIT):
            connection.abort()
        else:
            self._idle.append(connection)

    def _forget(self, connection: _Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _tls_error(self, exc: Exception) -> JumpdeckError:
        error = from_tls(exc, self.place.at, self.place.host)
        if error.code == "JD-TLS-UNKNOWN-CA":
            error.hint = (
                "A proxy that inspects TLS may stand between: name its CA as ca-file of the cloud ([cloud.NAME]), "
                "or have it in the operating system's trust store."
            )
        elif error.code == "JD-TLS-WRONG-NAME":
            error.hint = "Something else answers in the Bastion's place: a proxy, or a name that resolves elsewhere."
        return error


class _Connection(asyncio.Protocol):
    """One connection, one request at a time, whole answers."""

    def __init__(self) -> None:
        self.lost = False
        self.on_lost: Callable[[_Connection], None] = _ignore
        self._transport: asyncio.Transport | None = None
        self._parser: AnswerParser | None = AnswerParser()
        self._body = bytearray()
        self._answer: asyncio.Future[HttpAnswer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fresh = True

    @property
    def heard(self) -> bool:
        """Whether a byte of the answer has come."""
        return self._parser is not None and self._parser.started

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or self._answer is None:
            self.abort()  # nobody asked: the next answer could not be told from this
            return
        try:
            for piece in parser.feed(data):
                self._body += piece
        except ValueError as exc:
            self._fail(exc)
            return
        if len(self._body) > BODY_LIMIT:
            self._fail(BadAnswer("it is longer than any answer of a Bastion"))
        elif parser.done:
            self._succeed(parser.head)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        parser = self._parser
        if parser is not None and parser.end() and parser.head is not None:
            self._succeed(parser.head)
        self._fail(exc or EOFError("the connection ended"))
        self.on_lost(self)

    async def ask(self, raw: bytes) -> HttpAnswer:
        """Send a request and wait for its answer. Raises EOFError, OSError or BadAnswer."""
        self._parser, self._fresh = AnswerParser(), False
        self._body.clear()
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or self.lost:
            raise EOFError("the connection ended")
        self._transport.write(raw)
        try:
            return await self._answer
        finally:
            self._answer = None

    def rest(self, seconds: float) -> bool:
        """Wait for the next request, at most so long; False when there can be none on this connection."""
        usable = self._fresh or (self._parser is not None and self._parser.reusable)
        if not usable or not self._open:
            return False
        self._parser = None
        self._body.clear()
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
        return self._transport is not None and not self._transport.is_closing() and not self.lost

    def _succeed(self, head: Head | None) -> None:
        if head is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(HttpAnswer(head.status, head.headers, bytes(self._body)))

    def _fail(self, exc: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc)
        self.abort()


def _ignore(_: _Connection) -> None:
    """Nobody wants to know yet."""


def _drop(transport: asyncio.Transport | None) -> None:
    if transport is not None:
        transport.abort()


def _silent(at: str, seconds: float) -> RouteError:
    return RouteError("The Bastion does not answer", f"{at}: nothing within {seconds:g} s",
                      "Check the network and the web proxy of this computer; it is tried again.",
                      code="JD-BASTION-SILENT", recovery=Recovery.TRANSIENT)  # fmt: skip
