"""The paths that are no resources: version, health, discovery and the index of schemas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from app.lab import discovery
from app.lab.accept import clauses
from app.lab.answers import JSON, TEXT, encoded, page_not_found
from app.lab.options import truth
from app.lab.resources import GROUPS


async def _json(request: web.Request, answer: Any) -> web.Response:
    return await encoded(request, msgspec.json.encode(answer) + b"\n")


async def _version(request: web.Request, rest: list[str]) -> web.Response:
    return page_not_found() if rest else await encoded(request, discovery.version())


async def _health(request: web.Request, _rest: list[str]) -> web.Response:
    name = request.path.strip("/")
    text = discovery.health(name, verbose=truth(request.query.get("verbose")))
    return await encoded(request, text.encode(), TEXT)


async def _openapi(request: web.Request, rest: list[str]) -> web.Response:
    if rest == ["v3"]:
        return await encoded(request, msgspec.json.encode(discovery.openapi_index()), TEXT)
    schema = discovery.openapi_schema("/".join(rest[1:])) if rest[:1] == ["v3"] else None
    return page_not_found() if schema is None else await _json(request, schema)


async def _api(request: web.Request, rest: list[str]) -> web.Response:
    if rest:
        return await _json(request, discovery.resource_list("")) if rest == ["v1"] else page_not_found()
    return await _discovered(request, discovery.api_versions(request.host), core=True)


async def _apis(request: web.Request, rest: list[str]) -> web.Response:
    if not rest:
        return await _discovered(request, discovery.group_list(), core=False)
    if rest[0] not in GROUPS or rest[1:] not in ([], ["v1"]):
        return page_not_found()
    return await _json(request, (discovery.resource_list if rest[1:] else discovery.one_group)(rest[0]))


async def _discovered(request: web.Request, plain: discovery.Json, *, core: bool) -> web.Response:
    """The plain answer, or everything at once for a client that prefers so (kubectl does)."""
    for name, asked in clauses(request.headers.get("Accept", "")):
        version = asked.get("v", "")
        if name != JSON or version not in ("", "v2", "v2beta1"):
            continue
        if asked.get("as") == "APIGroupDiscoveryList":
            body = msgspec.json.encode(discovery.aggregated(version, core=core)) + b"\n"
            kind = f"{JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            return await encoded(request, body, kind)
        if "as" not in asked:
            break
    return await _json(request, plain)


_ANSWERS: dict[str, Callable[[web.Request, list[str]], Awaitable[web.Response]]] = {
    "version": _version,
    "readyz": _health,
    "livez": _health,
    "healthz": _health,
    "openapi": _openapi,
    "api": _api,
    "apis": _apis,
}


async def answer(request: web.Request, segments: list[str]) -> web.Response:
    """Answer a path that is no resource, split into its segments."""
    found = _ANSWERS.get(segments[0])
    return await found(request, segments[1:]) if found else page_not_found()
