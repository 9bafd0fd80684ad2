"""Reads of the Kubernetes API over a route: bounded in bytes and seconds, and never anything but reads."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from app.cluster import failures
from app.cluster.access import Access
from app.cluster.http_date import seconds_of
from app.cluster.http_unary import Answer, Params, UnaryClient
from app.cluster.tls_dial import TlsDial
from app.dialer import Dialer, ProtocolFactory
from app.errors import JumpdeckError, Recovery
from app.records import Record
from app.text import clean

if TYPE_CHECKING:
    import aiohttp

    from app.cluster.streams import Streams

BODY_LIMIT = 64 << 20
"""Bytes of one answer after decompression (S-22); a list page of 500 pods has 3 to 10 MiB."""

UNARY_LIMIT = 30.0
"""Seconds for one whole answer (S-23): an idle timer alone would not end a server that drips."""

PROBE_LIMIT = 10.0
"""Seconds for the small request that shows that the whole chain works."""

PROBE_BODY_LIMIT = 64 << 10
"""Bytes of the answer to it, which has less than one KiB."""

FIRST_BYTE_LIMIT = 30.0
"""Seconds until a stream's headers; the API server itself asks the kubelet with such a limit."""

_HEADERS = {"User-Agent": "jumpdeck"}
_log = logging.getLogger(__name__)


class Probe(Record):
    """What `GET /version` told: the version, the seconds it took (on a connection that stood), and by how many seconds
    the server's clock is ahead."""

    version: str
    seconds: float
    date_skew: float | None = None


class ApiClient:
    """A client of one API server. All its methods raise JumpdeckError only. Create it inside the running loop."""

    def __init__(self, access: Access, dialer: Dialer) -> None:
        self.access = access
        if access.proxy is not None:
            from app.routes.proxy import ProxyDialer

            dialer = ProxyDialer(dialer, access.proxy)
        self._dial = TlsDial(access, dialer)
        self._unary = UnaryClient(access, self._dial, _HEADERS)
        self._streams: Streams | None = None
        self._closed = False
        self.proven = False
        """Whether the server has accepted the credential once: a later 401 may be the server's own trouble."""

    def _judged(self, error: JumpdeckError) -> JumpdeckError:
        """A refused token that was good before is tried again, unless getting another one asks a person (R-06).

        Credentials that know better what a refusal means have a `judged` of their own, and so have some clusters.
        """
        error = self._of_credential(error)
        return error if self.access.judge is None else self.access.judge(error)

    def _of_credential(self, error: JumpdeckError) -> JumpdeckError:
        if error.layer == "token" and (judged := getattr(self.access.credentials, "judged", None)) is not None:
            found: JumpdeckError = judged(error)
            return found
        if self.proven and error.layer == "token" and getattr(self.access.credentials, "patient", False):
            error.recovery = Recovery.TRANSIENT
            error.hint = "It was accepted before and is tried again; renew it if that does not help."
        return error

    @property
    def connector(self) -> aiohttp.BaseConnector:
        """The connector, for kubernetes.aio (`client_session_kwargs`); ours to close. Loads aiohttp."""
        return self._streaming("connector").connector

    async def aclose(self) -> None:
        """Close every connection. Streams that are still read end with an error."""
        self._closed = True
        await self._unary.aclose()
        if self._streams is not None:
            await self._streams.aclose()

    async def dial(self, factory: ProtocolFactory) -> asyncio.Transport:
        """A bare stream to the API server's port, as this client's own connections get it (route and web proxy).

        For another program, which speaks TLS on it itself and is not held to reading. Raises RouteError.
        """
        return await self._dial.dial(factory)

    async def get(
        self,
        path: str,
        params: Params | None = None,
        *,
        accept: str = "application/json",
        limit: int = BODY_LIMIT,
        timeout: float = UNARY_LIMIT,
    ) -> bytes:
        """The body of a GET: at most `limit` bytes once inflated, within `timeout` seconds in all."""
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        return (await self._ask("GET", path, params, headers, limit=limit, timeout=timeout)).body

    async def post_review(self, path: str, body: dict[str, Any], *, timeout: float = UNARY_LIMIT) -> dict[str, Any]:
        """Ask a question about ourselves (self-subject reviews only, S-24) and return the answered object."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        raw = msgspec.json.encode(body)
        answer = await self._ask("POST", path, None, headers, raw, limit=BODY_LIMIT, timeout=timeout)
        return failures.json_object(answer.body, _what("POST", path))

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Params | None = None,
        *,
        accept: str = "application/json",
        first_byte: float = FIRST_BYTE_LIMIT,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response without end: its status is checked, its headers came within `first_byte` seconds.

        What fails while the body is read inside the block comes out as JumpdeckError too. No total limit (R-13).
        """
        if "app.cluster.streams" not in sys.modules:
            await asyncio.to_thread(_load_streams)  # a quarter of a second, in which a screen must go on
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        try:
            async with self._streaming(_what("GET", path)).open(path, params, headers, first_byte) as response:
                _log.debug("GET %s %s: stream opened", clean(path), response.status)
                yield response
        except JumpdeckError as error:
            raise self._judged(error) from error.__cause__

    async def probe(self, *, timeout: float = PROBE_LIMIT) -> Probe:
        """Ask for /version: proof that the API server answers through the whole chain."""
        headers = {"Accept": "application/json"}
        try:
            answer = await self._ask(
                "GET", "/version", None, headers, limit=PROBE_BODY_LIMIT, timeout=timeout, at_once=True
            )  # whether the way is well must not wait behind long answers
        except JumpdeckError as error:  # that nothing answers says something about the way to some clusters
            raise error if self.access.judge is None else self.access.judge(error) from error.__cause__
        version = failures.json_object(answer.body, "GET /version").get("gitVersion")
        if not isinstance(version, str):
            raise failures.not_kubernetes(200, answer.body, "GET /version")
        date = seconds_of(answer.head.headers.get("date", ""))
        return Probe(clean(version), answer.seconds, None if date is None else date - time.time())

    async def _ask(
        self,
        method: str,
        path: str,
        params: Params | None,
        headers: dict[str, str],
        body: bytes | None = None,
        *,
        limit: int,
        timeout: float,
        at_once: bool = False,
    ) -> Answer:
        """One request and its good answer; a 401 is tried once more with a renewed credential."""
        what = _what(method, path)
        credentials = self.access.credentials

        sent = headers

        async def ask() -> Answer:
            nonlocal sent
            sent = {**headers, **await credentials.headers()}
            return await self._unary.request(method, path, params, sent, body, limit, at_once=at_once)

        with failures.mapped(what, self.access.at):
            async with failures.deadline(timeout, what):
                answer = await ask()
                if answer.head.status == 401 and await credentials.refresh():
                    answer = await ask()
        _log.debug("%s: %d, %d bytes", what, answer.head.status, len(answer.body))
        if answer.head.status not in (200, 201):
            raise self._judged(failures.from_status(
                answer.head.status, answer.body, answer.head.headers, what,
                sent=sent, expires_at=self.access.credentials_expiry(),
            ))  # fmt: skip
        return answer

    def _streaming(self, what: str) -> Streams:
        if self._closed:
            raise failures.closed_here(what)
        if self._streams is None:
            from app.cluster.streams import Streams

            self._streams = Streams(self.access, self._dial, _HEADERS)
        return self._streams


def _load_streams() -> None:
    import app.cluster.streams  # noqa: F401


def _what(method: str, path: str) -> str:
    """The request as errors name it: without its query, which may hold selectors of the operator."""
    return f"{method} {clean(path)}"
