"""Reads and actions of Azure Resource Manager over one pipeline: bounded, retried, with correlation ids."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from app.azure import failures
from app.errors import ProfileError
from app.outbound import choose_proxy, make_trust
from app.records import Record
from app.text import clean

if TYPE_CHECKING:
    from app.azure.pipeline import Lent, Pipeline
    from app.identity.clouds import CloudEndpoints
    from app.identity.identity import Identity

MAX_PAGES = 100
"""Pages of one collection: a hundred thousand resources; more is a server that goes in circles."""

_PATH_SAFE = "/()-._~!$&'*+,;=:@"
_log = logging.getLogger(__name__)


class ArmAnswer(Record):
    """A good answer (2xx) of ARM."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    """The JSON object; empty when there is none."""


class Arm:
    """ARM as one identity. All methods raise JumpdeckError only (layers sign-in, arm; profile for CA file and proxy).

    `proxy` None takes the environment's; there is none towards this computer. `ca_file` (or the cloud's own) is trusted
    in place of the operating system's store. Connections are made when first needed, in the loop that needs them.
    """

    def __init__(
        self, identity: Identity, endpoints: CloudEndpoints, *, proxy: str | None = None, ca_file: str | None = None
    ) -> None:
        self._identity, self._endpoints = identity, endpoints
        self._base = endpoints.resource_manager.rstrip("/")
        self._proxy = proxy
        self._ca_file = Path(ca_file) if ca_file else endpoints.ca_file
        self._pipeline: Pipeline | None = None
        self._making = asyncio.Lock()
        self._closed = False

    async def get(self, path: str, api_version: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        """The object at an ARM id or path (`/subscriptions/…`)."""
        return (await self._ask("GET", self._url(path, api_version, params))).body

    async def list(self, path: str, api_version: str, params: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """All items of a collection, over its pages (nextLink, same host only)."""
        items: list[dict[str, Any]] = []
        url, what = self._url(path, api_version, params), f"GET {path}"
        for _ in range(MAX_PAGES):
            page = (await self._ask("GET", url)).body
            value = page.get("value")
            if not isinstance(value, list):
                raise failures.bad_shape(what, "it has no list of values")
            items += [item for item in value if isinstance(item, dict)]
            following = page.get("nextLink")
            if not following:
                return items
            url = self._next(str(following), what)
        raise failures.too_large(what, f"{MAX_PAGES} pages")

    async def post(
        self, path: str, api_version: str, body: dict[str, Any] | None = None, params: dict[str, str] | None = None
    ) -> ArmAnswer:
        """An action. 202 is a good answer: its Location and Retry-After are in the headers.

        An action that only lists something (`list…`, `get…`) is repeated like a read, others only when refused by 429
        or never sent.
        """
        return await self._ask("POST", self._url(path, api_version, params), body)

    @asynccontextmanager
    async def lend(self, what: str) -> AsyncIterator[Lent]:
        """What a client of azure-mgmt-* needs to send one call (of which doing it twice does no harm) over this one.

        Raises JumpdeckError, also out of the client's own call: a refusal is read here.
        """
        pipeline = await self._opened("POST", what.partition(" ")[2])
        yield pipeline.lent(self._base, what)

    async def aclose(self) -> None:
        """Close the connections."""
        self._closed = True
        if self._pipeline is not None:
            await self._pipeline.aclose()

    def _url(self, path: str, api_version: str, params: dict[str, str] | None) -> str:
        if not path.startswith("/") or path.startswith("//") or ".." in path.split("/"):
            raise ProfileError("That is not an ARM id", clean(path), "It begins with /subscriptions/.",
                               code="JD-ARM-ID")  # fmt: skip
        query = urlencode({"api-version": api_version, **(params or {})})
        return f"{self._base}{quote(path.rstrip('/'), safe=_PATH_SAFE)}?{query}"

    def _next(self, link: str, what: str) -> str:
        """The address of the next page. A token never goes to another host."""
        try:
            here, there = urlsplit(self._base), urlsplit(link)
            same = (here.scheme, here.hostname, here.port or 443) == (there.scheme, there.hostname, there.port or 443)
        except ValueError:
            same = False
        if not same or there.username or there.password:
            raise failures.bad_shape(what, f"its next page is at another host: {clean(link[:200])}")
        return urlunsplit(there)  # as it was judged: what else may be in the text is read by nobody

    async def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> ArmAnswer:
        pipeline = await self._opened(method, url)
        from azure.core.rest import HttpRequest  # loaded with the pipeline

        from app.azure.pipeline import Call, lower

        parts = urlsplit(url)
        what = f"{method} {parts.path}"
        action = parts.path.rpartition("/")[2].lower()
        call = Call(what, repeatable=method == "GET" or action.startswith(("list", "get")))
        request_id = str(uuid.uuid4())
        headers = {"x-ms-client-request-id": request_id, "x-ms-correlation-request-id": request_id}
        response = await pipeline.send(HttpRequest(method, url, headers=headers, json=body), call)
        status, found = response.status_code, lower(response)
        _log.debug("%s: HTTP %d, %d bytes, correlation id %s", clean(what), status, len(call.body), request_id)
        if not 200 <= status < 300:
            raise failures.from_answer(status, found, call.body, what, tenant=call.tenant, request_id=request_id)
        answered: dict[str, Any] | None = {}
        if call.body.strip() or (method, status) == ("GET", 200):
            answered = failures.json_object(call.body)
        if answered is None:
            raise failures.not_arm(what, status, call.body)
        return ArmAnswer(status, found, answered)

    async def _opened(self, method: str, url: str) -> Pipeline:
        async with self._making:
            if self._closed:
                raise failures.closed(f"{method} {urlsplit(url).path}")
            if self._pipeline is None:
                parts = urlsplit(self._base)
                host = parts.hostname or ""
                proxy = _checked(choose_proxy(host, self._proxy, secure=parts.scheme == "https"))
                await asyncio.to_thread(_load)
                trust = await asyncio.to_thread(make_trust, self._ca_file)
                from app.azure.pipeline import Pipeline

                self._pipeline = Pipeline(
                    self._base, f"{host}:{parts.port or 443}", self._identity, self._endpoints.arm_scope, proxy, trust
                )
            return self._pipeline


def _load() -> None:
    import app.azure.pipeline  # noqa: F401


def _checked(proxy: str | None) -> str | None:
    if proxy is None:
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    if not url.lower().startswith("http://"):
        raise ProfileError("The proxy cannot be used", f"{clean(url.rpartition('@')[2])}: only http:// is supported",
                           "Write http://HOST:PORT.", code="JD-PROXY-URL")  # fmt: skip
    return url
