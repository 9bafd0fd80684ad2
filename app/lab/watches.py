"""Watches: a stream of JSON lines, one per event, that follows the store from a revision on."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import msgspec
from aiohttp import web

from app.lab.accept import Form
from app.lab.encoding import partial, whole
from app.lab.options import Options, revision
from app.lab.resources import Resource
from app.lab.selectors import Match, selection
from app.lab.statuses import StatusError
from app.lab.store import Change, Entry, Expired, Store, Subscription
from app.lab.tables import definitions, row, table

BOOKMARK_INTERVAL = 60.0
"""Seconds between bookmarks, as a Kubernetes API server sends them."""

BOOKMARK_BEFORE_END = 1.5
"""Seconds before the end of a watch with `timeoutSeconds` at which one more bookmark comes."""

SHORTEST_LIMIT = 1_800.0
"""Seconds after which a watch without `timeoutSeconds` ends; up to twice as long, so that not all end at once."""

WRITE_SIZE = 64 * 1024
"""Bytes of a burst of events that are handed to the socket at once."""

_END_OF_INITIAL = {"k8s.io/initial-events-end": "true"}


def _expired(error: Expired) -> StatusError:
    return StatusError(410, "Expired", str(error))


@dataclass(frozen=True, slots=True)
class Scope:
    """What is watched: a resource, in one namespace or ("") in all, selected or not, in a form."""

    resource: Resource
    namespace: str
    match: Match | None
    form: Form
    include: str

    def selects(self, entry: Entry | None) -> bool:
        return entry is not None and (self.match is None or self.match(entry.obj))


class Frames:
    """Encodes the events of one watch; only the first Table has column definitions."""

    def __init__(self, scope: Scope, store: Store) -> None:
        self._scope, self._store = scope, store
        self._columns = definitions(scope.resource)

    def _object(self, entry: Entry, *, bookmark: bool = False) -> bytes:
        form = self._scope.form
        if form.kind == "partial":
            return partial(entry, form.version)
        if form.kind != "table":
            return whole(self._scope.resource, entry)
        metadata = msgspec.json.encode({"resourceVersion": entry.obj["metadata"]["resourceVersion"]})
        columns = b"null" if bookmark else self._columns
        if not bookmark:
            self._columns = b"null"
        rows = [row(self._scope.resource, entry, self._store.clock(), self._scope.include)]
        return table(columns, rows, metadata, form.version)

    def event(self, kind: str, entry: Entry) -> bytes:
        """One line of the stream."""
        return b'{"type":"' + kind.encode() + b'","object":' + self._object(entry) + b"}\n"

    def change(self, change: Change) -> bytes:
        """The line for a change of the store as this watch sees it; empty when it does not."""
        namespace = self._scope.namespace
        if namespace and not change.key.startswith(f"{namespace}/"):
            return b""
        before = self._scope.selects(change.previous)
        if change.kind == "DELETED":
            return self.event("DELETED", change.entry) if before else b""
        if self._scope.selects(change.entry):
            return self.event("MODIFIED" if before else "ADDED", change.entry)
        if not before or change.previous is None:
            return b""
        # It left the selection: the client gets its last selected state, at the revision of the change.
        last = change.previous.obj
        metadata = {**last["metadata"], "resourceVersion": str(change.revision)}
        return self.event("DELETED", Entry({**last, "metadata": metadata}, change.revision))

    def bookmark(self, at: int, *, initial_end: bool = False) -> bytes:
        """A line that only says how far the watch has come."""
        metadata: dict[str, object] = {"resourceVersion": str(at)}
        if initial_end:
            metadata["annotations"] = _END_OF_INITIAL
        obj: dict[str, object] = {"metadata": metadata, "spec": {}, "status": {}}
        if self._scope.resource.name == "pods":
            obj["spec"] = {"containers": None}
        return b'{"type":"BOOKMARK","object":' + self._object(Entry(obj, at), bookmark=True) + b"}\n"

    @staticmethod
    def error(error: StatusError) -> bytes:
        """An ERROR event: a plain Status also where the rest are Tables."""
        return b'{"type":"ERROR","object":' + msgspec.json.encode(error.object()) + b"}\n"


class Watch:
    """One watch request from its first to its last line."""

    def __init__(self, store: Store, scope: Scope, options: Options, *, interval: float = BOOKMARK_INTERVAL) -> None:
        self._store, self._scope, self._options = store, scope, options
        self._asked = revision(options)
        self._frames = Frames(scope, store)
        self._interval = interval
        self._at = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Stream until the time limit, an error, or the end of the server. Never compressed."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        with self._store.subscribe(self._scope.resource.name) as subscription:
            try:
                await self._start(response)
                await self._follow(response, subscription)
            except Expired as error:
                await response.write(Frames.error(_expired(error)))
            await response.write_eof()
        return response

    async def _start(self, response: web.StreamResponse) -> None:
        """Send what exists already, where that is asked for, and set the revision to go on from."""
        options, fresh = self._options, self._asked in (None, 0)
        if options.initial or (options.initial is None and fresh):
            self._at = self._store.revision
            pairs = self._store.entries(self._scope.resource.name, self._scope.namespace)
            lines = [self._frames.event("ADDED", entry) for _, entry in pairs if self._scope.selects(entry)]
            if options.initial and options.bookmarks:
                lines.append(self._frames.bookmark(self._at, initial_end=True))
            await self._write(response, lines)
        elif fresh:
            self._at = self._store.revision
        else:
            self._at = self._asked or 0

    @staticmethod
    async def _write(response: web.StreamResponse, lines: list[bytes]) -> None:
        piece: list[bytes] = []
        size = 0
        for line in lines:
            piece.append(line)
            size += len(line)
            if size >= WRITE_SIZE:
                await response.write(b"".join(piece))
                piece, size = [], 0
        if size:
            await response.write(b"".join(piece))

    async def _follow(self, response: web.StreamResponse, subscription: Subscription) -> None:
        loop = asyncio.get_running_loop()
        limit = self._options.timeout or SHORTEST_LIMIT * random.uniform(1, 2)
        end = loop.time() + limit
        last_bookmark = end - BOOKMARK_BEFORE_END if limit > BOOKMARK_BEFORE_END else end + 1
        bookmark = min(loop.time() + self._interval, last_bookmark)
        while True:
            if subscription.expired:
                raise Expired(self._at, self._store.revision)
            newest = self._store.revision
            changes = self._store.changes(self._scope.resource.name, self._at)
            self._at = max(self._at, newest)
            await self._write(response, [line for change in changes if (line := self._frames.change(change))])
            now = loop.time()
            if now >= bookmark:  # also when a busy machine comes to it after the end only
                if self._options.bookmarks:
                    await response.write(self._frames.bookmark(self._at))
                following = min(now + self._interval, last_bookmark)
                bookmark = following if following > now else end + 1
            if now >= end or subscription.ended:
                return
            await subscription.wait(max(min(bookmark, end) - now, 0.0))


def scope_of(resource: Resource, namespace: str, options: Options, form: Form, name: str = "") -> Scope:
    """The scope of a watch, of one object when `name` is given. Raises StatusError 400 for a bad selector."""
    match = selection(options.labels, options.fields, resource)
    if not name:
        return Scope(resource, namespace, match, form, options.include)

    def named(obj: dict[str, object]) -> bool:
        metadata = obj["metadata"]
        return isinstance(metadata, dict) and metadata.get("name") == name and (match is None or match(obj))

    return Scope(resource, namespace, named, form, options.include)
