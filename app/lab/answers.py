"""HTTP answers of the API server: compressed and chunked where the real one does so."""

from __future__ import annotations

import asyncio
import gzip

from aiohttp import web

GZIP_FROM = 128 * 1024
"""Bytes of an answer from which on it is compressed for those who ask, as in apiserver's response writer."""

CHUNKED_FROM = 2_048
"""Bytes above which an answer is sent chunked instead of with a Content-Length, as Go's server does."""

JSON, TEXT = "application/json", "text/plain; charset=utf-8"


async def encoded(request: web.Request, body: bytes, content_type: str = JSON, status: int = 200) -> web.Response:
    """An answer, compressed where the client asks and it is worth it."""
    headers = {"Content-Type": content_type}
    if len(body) > GZIP_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = await asyncio.to_thread(gzip.compress, body, 1)
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    response = web.Response(status=status, body=body, headers=headers)
    if len(body) > CHUNKED_FROM:
        response.enable_chunked_encoding()
    return response


def page_not_found() -> web.Response:
    headers = {"Content-Type": TEXT, "X-Content-Type-Options": "nosniff"}
    return web.Response(status=404, body=b"404 page not found\n", headers=headers)
