"""What aiohttp raises, as Jumpdeck's errors: the seam for that library, loaded only where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from app.cluster import failures
from app.errors import JumpdeckError
from app.text import clean


@contextmanager
def mapped(where: str, at: str = "") -> Iterator[None]:
    """As `failures.mapped`, and for what aiohttp raises too; `at` is `host:port`."""
    try:
        with failures.mapped(where, at):
            try:
                yield
            except aiohttp.ClientError as exc:
                raise _from_aiohttp(exc, clean(where), at or clean(where)) from exc
    except aiohttp.http_exceptions.HttpProcessingError as exc:
        raise failures.not_http(where, str(exc)) from exc
    except RuntimeError as exc:
        if "closed" not in str(exc).lower():
            raise
        raise failures.closed_here(where) from exc


def _from_aiohttp(error: aiohttp.ClientError, where: str, at: str) -> JumpdeckError:
    if isinstance(error, aiohttp.ClientPayloadError):
        return failures.truncated(where)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return failures.closed(where)
    if isinstance(error, aiohttp.ClientResponseError):
        return failures.not_http(where, str(error))
    if not isinstance(error, OSError) and "closed" in str(error).lower():
        return failures.closed_here(where)
    return failures.from_exception(error, where, at)
