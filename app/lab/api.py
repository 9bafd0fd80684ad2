"""The Kubernetes API server of the practice cluster: HTTP in front of the store.

It answers as the recorded v1.36 server does, for reading and for streams into pods (app.lab.exec). Writing objects is
not part of it. Run it with
`handler_cancellation=True`, so that a watch ends at once when its client goes.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import dataclass
from email.utils import formatdate

import msgspec
from aiohttp import web

from app.lab import about
from app.lab.accept import choose
from app.lab.access import Asked, User, require, user_named
from app.lab.answers import encoded, page_not_found
from app.lab.exec import KINDS, PodStreams
from app.lab.lists import list_body, object_body
from app.lab.options import read, truth
from app.lab.resources import GROUPS, Resource, find
from app.lab.reviews import MAX_REVIEW, review
from app.lab.statuses import StatusError, method_not_allowed, not_found
from app.lab.store import Entry, Faults, LogBook, NoFaults, Store, Users
from app.lab.upgraded import FromKubelet
from app.lab.watches import Watch, scope_of

_FLOW = {
    "X-Kubernetes-Pf-Flowschema-Uid": "5f0f1c66-58c4-4f43-8c4b-3d1f0d6f1a01",
    "X-Kubernetes-Pf-Prioritylevel-Uid": "0f2b6a0e-6d5c-4a6c-9a5e-2f6c1f0f7b02",
}
_PATCHES = frozenset((
    "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
    "application/apply-patch+yaml", "application/apply-patch+cbor",
))  # fmt: skip
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "OPTIONS": ""}


@dataclass(frozen=True, slots=True)
class _Target:
    """What the path of a resource request names."""

    group: str
    version: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    def asked(self, request: web.Request) -> Asked:
        verb = _VERBS.get(request.method)
        if verb is None:
            watch = truth(request.query.get("watch"))
            verb = "watch" if watch else "get" if self.name else "list"
        return Asked(verb, self.group, self.resource, self.subresource, self.namespace, self.name)


def _target(segments: list[str]) -> _Target | None:
    """The target of a path below /api/v1 or /apis/GROUP/VERSION; None for every other path."""
    if segments[0] == "api" and len(segments) > 2:
        group, version, rest = "", segments[1], segments[2:]
    elif segments[0] == "apis" and len(segments) > 3:
        group, version, rest = segments[1], segments[2], segments[3:]
    else:
        return None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        return _Target(group, version, rest[2], rest[1], *rest[3:5])
    return _Target(group, version, rest[0], "", *rest[1:3])


class ApiServer:
    """Answers requests; one for each store."""

    def __init__(self, store: Store, logs: LogBook, users: Users, faults: Faults) -> None:
        self._store, self._logs, self._users, self._faults = store, logs, users, faults
        self._streams = PodStreams(store, logs)
        self._audit = random.Random(0)

    async def decorate(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Give every answer the headers of an API server, and the date of the store's clock."""
        headers = response.headers
        headers.pop("Server", None)
        headers["Date"] = formatdate(self._store.clock(), usegmt=True)
        if isinstance(response, FromKubelet):
            return
        headers["Audit-Id"] = str(uuid.UUID(int=self._audit.getrandbits(128), version=4))
        headers["Cache-Control"] = "no-cache, private"
        if response.status != 401:
            headers.extend(_FLOW)

    async def close(self, _app: web.Application) -> None:
        """End the watches and the streams of pods, when the server stops."""
        self._store.end_watches()
        self._streams.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        if (fault := await self._faults.answer(request)) is not None:
            return fault
        try:
            return await self._route(request, self._user(request))
        except StatusError as error:
            return error.response()
        except ConnectionError:  # the client went while it was written to; nobody reads what is returned
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    def _user(self, request: web.Request) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        name = self._users.user(token.strip()) if scheme.lower() == "bearer" else None
        if name is None:
            raise StatusError(401, "Unauthorized", self._users.why_not(token.strip()))
        return user_named(name)

    async def _route(self, request: web.Request, user: User) -> web.StreamResponse:
        segments = request.path.strip("/").split("/")
        target = _target(segments)
        if target is None:
            require(user, Asked(request.method.lower(), path=request.path))
            return await about.answer(request, segments)
        require(user, target.asked(request))
        if target.version != "v1" or (target.group and target.group not in GROUPS):
            return page_not_found()
        resource = find(target.group, target.version, target.resource)
        if resource is None:
            raise StatusError(404, "NotFound", "the server could not find the requested resource", {})
        if not resource.served:
            return await self._review(request, user, resource)
        return await self._objects(request, resource, target)

    async def _review(self, request: web.Request, user: User, resource: Resource) -> web.Response:
        if request.method != "POST":
            raise method_not_allowed()
        raw = await request.read()
        answer = review(resource, user, raw, request.content_type, self._store.clock())
        return await encoded(request, answer + b"\n", status=201)

    async def _objects(self, request: web.Request, resource: Resource, target: _Target) -> web.StreamResponse:
        if request.method == "PATCH" and not target.subresource and request.content_type not in _PATCHES:
            raise StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
        if resource.name == "pods" and target.subresource in KINDS and request.method in ("GET", "POST"):
            return await self._streams.answer(request, self._entry(resource, target).obj, target.subresource)
        if request.method != "GET":
            raise method_not_allowed()
        if target.subresource:
            return await self._subresource(request, resource, target)
        if target.name and not truth(request.query.get("watch")):
            return await self._object(request, resource, self._entry(resource, target))
        return await self._collection(request, resource, target)

    def _entry(self, resource: Resource, target: _Target) -> Entry:
        entry = self._store.entry(resource.name, target.namespace, target.name)
        if entry is None:
            raise not_found(resource.name, target.name, resource.group)
        return entry

    async def _subresource(self, request: web.Request, resource: Resource, target: _Target) -> web.StreamResponse:
        if target.subresource not in {name for name, _, _ in resource.subresources}:
            raise StatusError(404, "NotFound", "the server could not find the requested resource", {})
        entry = self._entry(resource, target)
        if target.subresource == "log":
            return await self._logs.answer(request, entry.obj)
        return await self._object(request, resource, entry)

    async def _object(self, request: web.Request, resource: Resource, entry: Entry) -> web.Response:
        form = choose(request.headers.get("Accept", ""), "get")
        include = request.query.get("includeObject") or "Metadata"
        body = object_body(self._store, resource, entry, form, include)
        return await self._formed(request, body, form.kind)

    async def _collection(self, request: web.Request, resource: Resource, target: _Target) -> web.StreamResponse:
        watching = truth(request.query.get("watch"))
        form = choose(request.headers.get("Accept", ""), "watch" if watching else "list")
        options = read(request.query)
        if watching:
            scope = scope_of(resource, target.namespace, options, form, target.name)
            return await Watch(self._store, scope, options).answer(request)
        return await self._formed(request, list_body(self._store, resource, target.namespace, options, form), form.kind)

    async def _formed(self, request: web.Request, body: bytes, kind: str) -> web.Response:
        if kind != "yaml":
            return await encoded(request, body + b"\n")
        import yaml

        text = await asyncio.to_thread(yaml.safe_dump, msgspec.json.decode(body))
        return await encoded(request, text.encode(), "application/yaml")


def make_app(store: Store, logs: LogBook, users: Users, faults: Faults | None = None) -> web.Application:
    """The web application of the API server. `logs` answers for log requests, `faults` (if any) comes first."""
    server = ApiServer(store, logs, users, faults or NoFaults())
    app = web.Application(client_max_size=MAX_REVIEW)
    app.router.add_route("*", "/{path:.*}", server.handle)
    app.on_response_prepare.append(server.decorate)
    app.on_shutdown.append(server.close)
    return app
