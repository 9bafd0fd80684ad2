"""Lists of pods page by page (Kubernetes API concepts, "Retrieving large results sets in chunks")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from app.errors import JumpdeckError
from app.records import Record
from app.tasks import Backoff

if TYPE_CHECKING:
    from app.cluster.api import ApiClient

PAGE = 500
"""Pods per page: about 3 MB or 10 ms of decoding, between which the loop breathes; kubectl's own page size."""

PAGE_LIMIT = 60.0
"""Seconds for one page: compressed it has up to 1 MB, which a link of 256 kbit/s carries in half of this."""

MAX_RESTARTS = 3
"""Lists begun again because the continue token had expired, before the server is given a rest."""

BUSY_TRIES = 5
"""Times that a page is asked for again when the server is busy (429): it asks for a second or so each time."""

JSON = "application/json"


class PodScope(Record):
    """Which pods: namespaces (none means all), a label selector and a field selector, both as kubectl takes them."""

    namespaces: tuple[str, ...] = ()
    labels: str = ""
    fields: str = ""


def pods_path(namespace: str) -> str:
    """The API path of a namespace's pods, or of all pods for `""`."""
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods" if namespace else "/api/v1/pods"


def selectors(scope: PodScope) -> dict[str, str | int]:
    """The scope's selectors as query parameters."""
    found: dict[str, str | int] = {}
    if scope.labels:
        found["labelSelector"] = scope.labels
    if scope.fields:
        found["fieldSelector"] = scope.fields
    return found


async def raw_pages(
    api: ApiClient, path: str, params: dict[str, str | int], accept: str = JSON
) -> AsyncIterator[tuple[bytes, PageToken]]:
    """The bodies of a list's pages. The consumer sets the token's `value` from the body before it asks for the next."""
    token = PageToken()
    while True:
        more: dict[str, str | int] = {"continue": token.value} if token.value else {}
        body = await _page(api, path, {**params, "limit": PAGE, **more}, accept)
        token.value = ""
        yield body, token
        if not token.value:
            return


async def _page(api: ApiClient, path: str, params: dict[str, str | int], accept: str) -> bytes:
    backoff = Backoff()
    while True:
        try:
            return await api.get(path, params, accept=accept, timeout=PAGE_LIMIT)
        except JumpdeckError as error:
            # Busy is no failure of the list: the server names its wait and the token stays good.
            if error.code != "JD-API-BUSY" or backoff.tries == BUSY_TRIES:
                raise
            await asyncio.sleep(backoff.next(error.retry_after))


class PageToken:
    """Where the next page of a list begins."""

    def __init__(self) -> None:
        self.value = ""
