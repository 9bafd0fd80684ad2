"""aiohttp's connections carried by our own Dialer: TLS runs end to end to the API server, no local port exists.

`_create_connection` is the one private method of aiohttp that is overridden (as its own UnixConnector does); a canary
test calls it through a real request, so that an aiohttp that changes it is noticed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_proto import ResponseHandler

from app.cluster.reading import check_reading
from app.cluster.tls_dial import TlsDial

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

IDLE_LIMIT = 30.0
"""Seconds that an idle connection is kept for the next request; below the idle limits of common balancers (60 s)."""


class RouteConnector(aiohttp.BaseConnector):
    """Opens every connection through a Dialer to the one API server, whatever address the request names."""

    def __init__(self, dial: TlsDial) -> None:
        # No limit: each watch and log follow holds a connection for hours, a limit would queue them in silence.
        super().__init__(limit=0, limit_per_host=0, keepalive_timeout=IDLE_LIMIT)
        self._dial = dial

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """As aiohttp's; every request passes here, also those of kubernetes.aio, so reading only is enforced here."""
        check_reading(req.method, req.url.raw_path)
        return await super().connect(req, traces, timeout)

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout
    ) -> ResponseHandler:
        handler = ResponseHandler(loop=asyncio.get_running_loop())
        await self._dial.open(handler)
        return handler
