"""Reads of the Kubernetes API over a route: bounded in bytes and seconds, and never anything but reads."""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from app.cluster import failures
from app.cluster.access import Access
from app.cluster.connector import RouteConnector, check_reading
from app.dialer import Dialer
from app.errors import JumpdeckError
from app.text import clean

BODY_LIMIT = 64 << 20
"""Bytes of one answer after decompression (S-22); a list page of 500 pods has 3 to 10 MiB."""

ERROR_BODY_LIMIT = 64 << 10
"""Bytes of an error's body that are read: a Status object has one KiB."""

UNARY_LIMIT = 30.0
"""Seconds for one whole answer (S-23): an idle timer alone would not end a server that drips."""

PROBE_LIMIT = 10.0
"""Seconds for the small request that shows that the whole chain works."""

FIRST_BYTE_LIMIT = 30.0
"""Seconds until a stream's headers; the API server itself asks the kubelet with such a limit."""

READ_BUFFER = 2 << 20
"""Bytes that are buffered per connection before reading pauses."""

_INFLATE_PIECE = 1 << 20
"""Bytes inflated at a time, so that the loop is held for milliseconds only."""

_AGENT = "jumpdeck"

Params = Mapping[str, str | int]


@dataclass(frozen=True)
class Probe:
    """What `GET /version` told: the version, the seconds it took, and how far the server's clock is ahead (seconds)."""

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
        self._connector = RouteConnector(access, dialer)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            headers={"User-Agent": _AGENT},
            trust_env=False,
        )
        parts = URL(access.server)
        self._root = str(parts.origin()) + access.base_path

    @property
    def connector(self) -> aiohttp.BaseConnector:
        """The connector, for kubernetes.aio (`client_session_kwargs`); ours to close."""
        return self._connector

    async def aclose(self) -> None:
        """Close every connection. Streams that are still read end with an error."""
        await self._session.close()
        await self._connector.close()

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
        async with failures.deadline(timeout, _what("GET", path)):
            headers = {"Accept": accept, "Accept-Encoding": "gzip"}
            async with self._request("GET", path, params, headers) as response:
                return await read_bounded(response, limit, path)

    async def post_review(self, path: str, body: dict[str, Any], *, timeout: float = UNARY_LIMIT) -> dict[str, Any]:
        """Ask a question about ourselves (self-subject reviews only, S-24) and return the answered object."""
        async with failures.deadline(timeout, _what("POST", path)):
            headers = {"Accept": "application/json", "Content-Type": "application/json"}
            async with self._request("POST", path, None, headers, json.dumps(body).encode()) as response:
                raw = await read_bounded(response, BODY_LIMIT, path)
        return failures.json_object(raw, _what("POST", path))

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
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        async with self._request("GET", path, params, headers, first_byte=first_byte) as response:
            yield response

    async def probe(self, *, timeout: float = PROBE_LIMIT) -> Probe:
        """Ask for /version: proof that the API server answers through the whole chain."""
        started = time.perf_counter()
        async with (
            failures.deadline(timeout, _what("GET", "/version")),
            self._request("GET", "/version", None, {"Accept": "application/json"}) as response,
        ):
            raw = await read_bounded(response, ERROR_BODY_LIMIT, "/version")
            date = response.headers.get("Date", "")
        seconds = time.perf_counter() - started
        answer = failures.json_object(raw, "GET /version")
        version = answer.get("gitVersion")
        if not isinstance(version, str):
            raise failures.not_kubernetes(200, raw, "GET /version")
        return Probe(clean(version), seconds, _skew(date))

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        params: Params | None,
        headers: dict[str, str],
        body: bytes | None = None,
        *,
        first_byte: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        check_reading(method, path)
        what = _what(method, path)
        with failures.mapped(what, self.access.at):
            async with failures.deadline(first_byte, what):
                response = await self._send(method, path, params, headers, body)
                if response.status == 401 and await self._renewed(response):
                    response = await self._send(method, path, params, headers, body)
                if response.status != 200 and response.status != 201:
                    raise await self._refusal(response, what)
            try:
                yield response
            finally:
                # Closes the connection unless the body was read to its end: a half-read stream is of no more use.
                response.release() if response.content.at_eof() else response.close()

    async def _send(
        self, method: str, path: str, params: Params | None, headers: dict[str, str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        url = URL(self._root + path)
        if params:
            url = url.update_query({name: str(value) for name, value in params.items()})
        credential = await self.access.credentials.headers()
        extra: dict[str, Any] = {}
        if self.access.server.startswith("https:"):
            extra["ssl"] = await self._connector.context()  # a part of the pool's key: a new certificate, a new pool
        return await self._session.request(
            method, url, headers={**headers, **credential}, data=body, allow_redirects=False, **extra
        )

    async def _renewed(self, response: aiohttp.ClientResponse) -> bool:
        """Whether a 401 is worth one more try with a renewed credential."""
        response.close()
        return await self.access.credentials.refresh()

    async def _refusal(self, response: aiohttp.ClientResponse, what: str) -> JumpdeckError:
        try:
            raw = await read_bounded(response, ERROR_BODY_LIMIT, what)
        except (JumpdeckError, aiohttp.ClientError, OSError):
            raw = b""  # the status says enough when the body does not come
        finally:
            response.close()
        return failures.from_status(
            response.status, raw, response.headers, what, expires_at=self.access.credentials_expiry()
        )


async def read_bounded(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    """The whole body, inflated in pieces, at most `limit` bytes. Raises JumpdeckError (JD-API-TOO-LARGE)."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS) if _is_gzip(response) else None
    pieces: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        rest = chunk
        while rest:
            if inflater is None:
                piece, rest = rest, b""
            else:
                piece = inflater.decompress(rest, _INFLATE_PIECE)
                rest = inflater.unconsumed_tail
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


def _is_gzip(response: aiohttp.ClientResponse) -> bool:
    return response.headers.get("Content-Encoding", "").lower() == "gzip"


def _what(method: str, path: str) -> str:
    """The request as errors name it: without its query, which may hold selectors of the operator."""
    return f"{method} {clean(path)}"


def _skew(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except (TypeError, ValueError):
        return None
