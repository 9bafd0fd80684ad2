"""A web service of the lab: HTTPS on loopback behind a door that can misbehave."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from app.lab.door import HOST, Door

SHUTDOWN_LIMIT = 1.0
"""Seconds that answers under way get when the lab ends; the door has reset them all before."""

MAX_BODY = 8 * 1024 * 1024
"""Bytes of a request: files that go along with a command."""

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger("app.lab.server")
_log.addHandler(logging.NullHandler())  # else Python prints what nobody takes on standard error


@asynccontextmanager
async def behind_door(handle: Handle, tls: ssl.SSLContext) -> AsyncIterator[Door]:
    """Serve all requests with `handle` while the context lasts; yields the door that clients come to."""
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(
        app, access_log=None, logger=_log, handler_cancellation=True, shutdown_timeout=SHUTDOWN_LIMIT
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0, ssl_context=tls).start()
        async with Door(int(runner.addresses[0][1])) as door:
            yield door
    finally:
        await runner.cleanup()
