"""aiohttp's connections carried by our own Dialer: TLS runs end to end to the API server, no local port exists.

`_create_connection` is the one private method of aiohttp that is overridden (as its own UnixConnector does); a canary
test calls it through a real request, so that an aiohttp that changes it is noticed.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_proto import ResponseHandler

from app.cluster import failures
from app.cluster.access import Access
from app.dialer import Dialer
from app.errors import JumpdeckError

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

TLS_LIMIT = 10.0
"""Seconds for a TLS handshake: two round trips and a signature; a server that needs longer does not answer."""

CONTEXT_LIMIT = 20.0
"""Seconds to read the trust store and the client certificate; a cold disk or a virus scanner takes a few."""

IDLE_LIMIT = 30.0
"""Seconds that an idle connection is kept for the next request; below the idle limits of common balancers (60 s)."""

REVIEWS = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})
"""The resources that may be created: questions about ourselves, which change nothing (S-24)."""


def check_reading(method: str, path: str) -> None:
    """Refuse every request that could change something (S-24). Raises JumpdeckError (JD-API-READ-ONLY)."""
    if method in ("GET", "HEAD"):
        return
    if method == "POST" and path.rstrip("/").rpartition("/")[2] in REVIEWS and "/apis/" in path:
        return
    raise JumpdeckError(
        "Jumpdeck only reads", f"{method} is not sent", "Changes are made with another tool: jumpdeck exec.",
        code="JD-API-READ-ONLY", layer="local",
    )  # fmt: skip


class RouteConnector(aiohttp.BaseConnector):
    """Opens every connection through a Dialer to the one API server, whatever address the request names."""

    def __init__(self, access: Access, dialer: Dialer) -> None:
        # No limit: each watch and log follow holds a connection for hours, a limit would queue them in silence.
        super().__init__(limit=0, limit_per_host=0, keepalive_timeout=IDLE_LIMIT)
        self._access = access
        self._dialer = dialer
        self._context: ssl.SSLContext | None = None
        self._context_version = -1
        self._context_lock = asyncio.Lock()

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """As aiohttp's; every request passes here, also those of kubernetes.aio, so reading only is enforced here."""
        check_reading(req.method, req.url.raw_path)
        return await super().connect(req, traces, timeout)

    async def context(self) -> ssl.SSLContext:
        """The TLS context, made once off the loop, and again when the client certificate has changed."""
        async with self._context_lock:
            version = self._access.context_version()
            if self._context is None or version != self._context_version:
                async with failures.deadline(CONTEXT_LIMIT, "reading certificates"):
                    self._context = await asyncio.to_thread(self._access.context_factory)
                self._context_version = version
            return self._context

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout
    ) -> ResponseHandler:
        access = self._access
        loop = asyncio.get_running_loop()
        if not access.server.startswith("https:"):
            plain = ResponseHandler(loop=loop)
            await self._dialer.dial(access.host, access.port, lambda: plain)
            return plain
        context = await self.context()
        transport = await self._dialer.dial(access.host, access.port, asyncio.Protocol)
        handler = ResponseHandler(loop=loop)
        try:
            secured = await self._secure(transport, handler, context)
        except ssl.SSLCertVerificationError as exc:
            names = await self._names_of_server() if failures.is_wrong_name(exc) else ()
            raise failures.from_tls(exc, access.at, access.tls_name, names) from exc
        except (OSError, TypeError) as exc:
            raise failures.from_tls(exc, access.at, access.tls_name) from exc
        handler.connection_made(secured)
        return handler

    async def _secure(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, context: ssl.SSLContext
    ) -> asyncio.Transport:
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, protocol, context, server_hostname=self._access.tls_name, ssl_handshake_timeout=TLS_LIMIT
            )
        except BaseException:
            transport.abort()
            raise
        if secured is None:  # asyncio's answer when the transport was closed meanwhile
            raise ConnectionResetError("closed during the handshake")
        return secured

    async def _names_of_server(self) -> tuple[str, ...]:
        """The names in the server's certificate, for the error: a second handshake that verifies all but the name.

        Nothing is sent on it.
        """
        try:
            context = await asyncio.to_thread(self._access.context_factory)
            context.check_hostname = False
            transport = await self._dialer.dial(self._access.host, self._access.port, asyncio.Protocol)
            secured = await self._secure(transport, asyncio.Protocol(), context)
        except (OSError, JumpdeckError):
            return ()
        found = secured.get_extra_info("peercert") or {}
        secured.abort()
        return tuple(str(value) for _, value in found.get("subjectAltName", ()))
