"""Answers without end (watches, logs), read by aiohttp. Loading this module loads that library: import it late."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from app.cluster import failures
from app.cluster.access import Access
from app.cluster.aiohttp_failures import mapped
from app.cluster.connector import RouteConnector
from app.cluster.http_unary import REFUSAL_LIMIT, Params
from app.cluster.reading import check_reading
from app.cluster.tls_dial import TlsDial
from app.errors import JumpdeckError
from app.text import clean

READ_BUFFER = 2 << 20
"""Bytes that are buffered per connection before reading pauses."""


class Streams:
    """aiohttp's session over our own dialling. Make it inside the running loop."""

    def __init__(self, access: Access, dial: TlsDial, headers: Mapping[str, str]) -> None:
        """`headers` go with every request."""
        self._access = access
        self._dial = dial
        self.connector = RouteConnector(dial)
        self._session = aiohttp.ClientSession(
            connector=self.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            headers=headers,
            trust_env=False,
        )
        self._root = str(URL(access.server).origin()) + access.base_path

    async def aclose(self) -> None:
        """Close every connection. Streams that are still read end with an error."""
        await self._session.close()
        await self.connector.close()

    @asynccontextmanager
    async def open(
        self, path: str, params: Params | None, headers: Mapping[str, str], first_byte: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a GET, its status checked; what fails inside the block comes out as JumpdeckError too."""
        check_reading("GET", path)
        what = f"GET {clean(path)}"
        with mapped(what, self._access.at):
            async with failures.deadline(first_byte, what):
                response = await self._send(path, params, headers)
                if response.status == 401 and await self._renewed(response):
                    response = await self._send(path, params, headers)
                if response.status != 200:
                    raise await self._refusal(response, what)
            try:
                yield response
            finally:
                # Closes the connection unless the body was read to its end: a half-read stream is of no more use.
                response.release() if response.content.at_eof() else response.close()

    async def _send(self, path: str, params: Params | None, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        url = URL(self._root + path)
        if params:
            url = url.update_query({name: str(value) for name, value in params.items()})
        credential = await self._access.credentials.headers()
        extra: dict[str, Any] = {}
        if self._dial.secure:
            extra["ssl"] = await self._dial.context()  # a part of the pool's key: a new certificate, a new pool
        return await self._session.get(url, headers={**headers, **credential}, allow_redirects=False, **extra)

    async def _renewed(self, response: aiohttp.ClientResponse) -> bool:
        """Whether a 401 is worth one more try with a renewed credential."""
        response.close()
        return await self._access.credentials.refresh()

    async def _refusal(self, response: aiohttp.ClientResponse, what: str) -> JumpdeckError:
        raw = b""
        try:
            async for chunk in response.content.iter_any():
                raw += chunk[: REFUSAL_LIMIT - len(raw)]
                if len(raw) == REFUSAL_LIMIT:
                    break
        except (aiohttp.ClientError, OSError):
            raw = b""  # the status says enough when the body does not come
        finally:
            response.close()
        return failures.from_status(
            response.status, raw, response.headers, what,
            sent=response.request_info.headers, expires_at=self._access.credentials_expiry(),
        )
