"""HTTPS to one Bastion, dialled through the hop before it: small requests over kept-alive connections, and bare TLS.

One TLS context serves requests and WebSockets alike, so that a private CA is one setting.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

from app.cluster.http_answer import BadAnswer, Head
from app.cluster.http_connection import KeptConnection, KeptConnections, request_bytes
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
        self._kept: KeptConnections[_Connection] = KeptConnections(MAX_IDLE, IDLE_LIMIT)

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
        if (anew or not self._kept.idle) and not self._kept.closed:
            self._kept.put_back(await self._new())

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, limit: float
    ) -> HttpAnswer:
        """Send one request and read its answer, whatever its status, within `limit` seconds.

        It is sent anew, once, when a connection that had been idle turns out to be closed: nobody has seen it.
        """
        raw = self._bytes(method, path, headers, body)
        try:
            async with asyncio.timeout(limit):
                while (used := self._kept.take()) is not None:
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
        self._kept.close()

    def _bytes(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        fields = {"Host": self.place.header, "User-Agent": "jumpdeck", "Accept": "application/json", **headers}
        if body or method == "POST":
            fields["Content-Length"] = str(len(body))
        return request_bytes(method, path, fields, body)

    async def _exchange(self, connection: _Connection, raw: bytes) -> HttpAnswer:
        try:
            answer = await connection.ask(raw)
        except BaseException:
            connection.abort()
            raise
        self._kept.put_back(connection)
        return answer

    async def _new(self) -> _Connection:
        connection = _Connection()
        await self.connect(connection)
        self._kept.add(connection)
        if self._kept.closed:
            connection.abort()
        return connection

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


class _Connection(KeptConnection):
    """One that hears whole answers."""

    def __init__(self) -> None:
        super().__init__()
        self._body = bytearray()
        self._answer: asyncio.Future[HttpAnswer] | None = None

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
        super().connection_lost(exc)
        parser = self._parser
        if parser is not None and parser.end() and parser.head is not None:
            self._succeed(parser.head)
        self._fail(exc or EOFError("the connection ended"))

    async def ask(self, raw: bytes) -> HttpAnswer:
        """Send a request and wait for its answer. Raises EOFError, OSError or BadAnswer."""
        if self.gone.done():
            raise EOFError("the connection ended")
        self._answer = asyncio.get_running_loop().create_future()
        self._begin(raw)
        try:
            return await self._answer
        finally:
            self._answer = None

    def _succeed(self, head: Head | None) -> None:
        if head is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(HttpAnswer(head.status, head.headers, bytes(self._body)))
            self._body.clear()  # it may hold secrets

    def _fail(self, exc: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc)
        self.abort()


def _drop(transport: asyncio.Transport | None) -> None:
    if transport is not None:
        transport.abort()


def _silent(at: str, seconds: float) -> RouteError:
    return RouteError("The Bastion does not answer", f"{at}: nothing within {seconds:g} s",
                      "Check the network and the web proxy of this computer; it is tried again.",
                      code="JD-BASTION-SILENT", recovery=Recovery.TRANSIENT)  # fmt: skip
