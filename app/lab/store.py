"""The objects of the practice cluster, with the history that watches and pages need.

Behaves as etcd behind a Kubernetes API server: one growing revision for everything, keys in the order of
`namespace/name`, a bounded history, and answers "too old" once a revision is forgotten.
"""

from __future__ import annotations

import asyncio
import bisect
import copy
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from aiohttp import web

from app.lab.log_files import LogFile

Object = dict[str, Any]
"""One Kubernetes object as JSON. What the store hands out is shared: copy before changing, or use `Store.modify`."""

HISTORY = 4_000
"""Events kept per resource: more than the five minutes of a real server, and at most some 100 MB of pods."""

FIRST_REVISION = 1_000
"""Where revisions start, so that a test can ask for an older one."""


class LogBook(Protocol):
    """Answers `GET pods/{name}/log` (and `HEAD`)."""

    async def answer(self, request: web.Request, pod: Object) -> web.StreamResponse:
        """The response for `pod`, which exists and may be read; checks container and parameters itself."""
        ...

    def running(self, pod: Object, container: str) -> LogFile | None:
        """The log of the container's newest run, or None when it has none."""
        ...


class Faults(Protocol):
    """What misbehaves on purpose, asked before a request is handled (before authentication)."""

    async def answer(self, request: web.Request) -> web.Response | None:
        """The answer that replaces the real one, or None. May also wait, to be slow."""
        ...


class NoFaults:
    """Faults of a cluster that behaves."""

    async def answer(self, request: web.Request) -> web.Response | None:
        return None


class Users:
    """Who owns which bearer token. The user's name is `admin`, `restricted` or `nobody`."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self.tokens = dict(tokens)
        """Token to user name; may be changed while the server runs (a token that expires is removed)."""

    def user(self, token: str) -> str | None:
        """The name of the user with this token, or None."""
        return self.tokens.get(token)

    def why_not(self, token: str) -> str:
        """The message of the answer to a token that is nobody's."""
        return "Unauthorized"


class Expired(Exception):
    """The revision asked for is no longer in the history. `revision` asked for, `oldest` that still works."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {revision} ({oldest})")
        self.revision, self.oldest = revision, oldest


@dataclass(slots=True)
class Entry:
    """One stored version of an object. `body` is its JSON without kind and apiVersion, `meta` that of its metadata."""

    obj: Object
    revision: int
    _body: bytes = b""
    _meta: bytes = b""

    @property
    def body(self) -> bytes:
        if not self._body:
            rest = {name: value for name, value in self.obj.items() if name not in ("kind", "apiVersion")}
            self._body = msgspec.json.encode(rest)
        return self._body

    @property
    def meta(self) -> bytes:
        if not self._meta:
            self._meta = msgspec.json.encode(self.obj["metadata"])
        return self._meta


@dataclass(slots=True)
class Change:
    """One event of the history: `kind` is ADDED, MODIFIED or DELETED."""

    kind: str
    key: str
    entry: Entry
    previous: Entry | None

    @property
    def revision(self) -> int:
        return self.entry.revision


Objects = list[Object]
Pairs = list[tuple[str, Entry]]
Changes = list[Change]


@dataclass(slots=True)
class _Table:
    entries: dict[str, Entry] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    history: list[Change] = field(default_factory=list)
    compacted: int = 0


class Subscription:
    """Wakes one watcher. `expired`: this watch shall end with 410; `ended`: it shall end as at a normal time-out."""

    def __init__(self) -> None:
        self.expired = False
        self.ended = False
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something changed."""
        self._wake.set()

    async def wait(self, seconds: float) -> bool:
        """Whether something changed within so many seconds."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return False
        self._wake.clear()
        return True


def stamp(seconds: float) -> str:
    """A time as Kubernetes writes it: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_of(namespace: str, name: str) -> str:
    """The sort key of an object, as in etcd."""
    return f"{namespace}/{name}" if namespace else name


class Store:
    """Objects by resource (`pods`, `events`, `namespaces`, `nodes`, `deployments`, …). One event loop only.

    `clock` gives seconds since the epoch; `rng` makes the uids, so that a seed gives the same cluster again; `first`
    is the revision to start from.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        history: int = HISTORY,
        first: int = FIRST_REVISION,
    ) -> None:
        self.clock = clock
        self.rng = rng or random.Random()
        self.revision = first
        """The newest revision of the whole store."""
        self._limit = history
        self._oldest = first - 1
        self._tables: dict[str, _Table] = {}
        self._subscriptions: dict[str, set[Subscription]] = {}

    def _table(self, resource: str) -> _Table:
        return self._tables.setdefault(resource, _Table(compacted=self._oldest))

    def put(self, resource: str, obj: Object, *, keep_version: bool = False) -> Object:
        """Store a new or changed object; returns it as stored.

        Sets uid and creationTimestamp where absent, and always a new resourceVersion, unless `keep_version` (to load
        recorded objects): then the revision of the store moves up to it.
        """
        stored = copy.deepcopy(obj)
        meta = stored.setdefault("metadata", {})
        table, key = self._table(resource), key_of(meta.get("namespace", ""), meta["name"])
        previous = table.entries.get(key)
        old = previous.obj["metadata"] if previous else {}
        meta.setdefault("uid", old.get("uid") or str(uuid.UUID(int=self.rng.getrandbits(128), version=4)))
        meta.setdefault("creationTimestamp", old.get("creationTimestamp") or stamp(self.clock()))
        if keep_version and "resourceVersion" in meta:
            self.revision = max(self.revision, int(meta["resourceVersion"]))
        else:
            self.revision += 1
            meta["resourceVersion"] = str(self.revision)
        entry = Entry(stored, self.revision)
        if previous is None:
            bisect.insort(table.keys, key)
        table.entries[key] = entry
        self._record(resource, table, Change("MODIFIED" if previous else "ADDED", key, entry, previous))
        return stored

    def modify(self, resource: str, namespace: str, name: str, change: Callable[[Object], None]) -> Object:
        """Change a copy of an object with `change` and store it. Raises KeyError when it is not there."""
        obj = copy.deepcopy(self._table(resource).entries[key_of(namespace, name)].obj)
        change(obj)
        return self.put(resource, obj)

    def delete(self, resource: str, namespace: str, name: str, *, last: Object | None = None) -> Object | None:
        """Remove an object; returns its last state (with the revision of the deletion), or None.

        `last` is a last state that was never stored: a deletion often changes the object, too.
        """
        table, key = self._table(resource), key_of(namespace, name)
        previous = table.entries.pop(key, None)
        if previous is None:
            return None
        del table.keys[bisect.bisect_left(table.keys, key)]
        self.revision += 1
        state = last or previous.obj
        state = {**state, "metadata": {**state["metadata"], "resourceVersion": str(self.revision)}}
        self._record(resource, table, Change("DELETED", key, Entry(state, self.revision), previous))
        return state

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        entry = self.entry(resource, namespace, name)
        return entry.obj if entry else None

    def entry(self, resource: str, namespace: str, name: str) -> Entry | None:
        """The object in its stored form, or None."""
        return self._table(resource).entries.get(key_of(namespace, name))

    def list(self, resource: str, namespace: str = "") -> Objects:
        """All objects, or those of one namespace, in the order of the API."""
        return [entry.obj for _, entry in self.entries(resource, namespace)]

    def entries(self, resource: str, namespace: str = "", *, at: int | None = None) -> Pairs:
        """Keys and entries in order, now or at an earlier revision. Raises Expired."""
        table = self._table(resource)
        found = [(key, table.entries[key]) for key in table.keys]
        if at is not None and at < self.revision:
            found = self._as_of(table, found, at)
        prefix = f"{namespace}/"
        return [pair for pair in found if pair[0].startswith(prefix)] if namespace else found

    def _as_of(self, table: _Table, now: Pairs, at: int) -> Pairs:
        if at < table.compacted:
            raise Expired(at, table.compacted)
        state: dict[str, Entry] = dict(now)
        for change in reversed(table.history[self._position(table, at) :]):
            if change.previous is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.previous
        return sorted(state.items())

    @staticmethod
    def _position(table: _Table, revision: int) -> int:
        return bisect.bisect_right(table.history, revision, key=lambda change: change.revision)

    def changes(self, resource: str, after: int) -> Changes:
        """Events newer than the revision `after`. Raises Expired when some of them are forgotten."""
        table = self._table(resource)
        if after < table.compacted:
            raise Expired(after, table.compacted)
        return table.history[self._position(table, after) :]

    def _record(self, resource: str, table: _Table, change: Change) -> None:
        table.history.append(change)
        if len(table.history) > self._limit + self._limit // 4:  # in blocks: trimming each time would cost O(n)
            dropped = len(table.history) - self._limit
            table.compacted = table.history[dropped - 1].revision
            del table.history[:dropped]
        for subscription in self._subscriptions.get(resource, ()):
            subscription.wake()

    @contextmanager
    def subscribe(self, resource: str) -> Iterator[Subscription]:
        """Be woken at each change of a resource while the block runs."""
        subscription = Subscription()
        group = self._subscriptions.setdefault(resource, set())
        group.add(subscription)
        try:
            yield subscription
        finally:
            group.discard(subscription)

    def watchers(self, resource: str) -> int:
        """How many watches of a resource run."""
        return len(self._subscriptions.get(resource, ()))

    def compact(self) -> None:
        """Forget all history: what was read before the newest change gets 410; running watches go on."""
        for table in self._tables.values():
            if table.history:
                table.compacted = table.history[-1].revision
                table.history.clear()

    def expire(self) -> None:
        """Make every earlier revision too old, and end running watches with an ERROR event that says 410."""
        self.compact()
        self.revision += 1
        self._oldest = self.revision
        for table in self._tables.values():
            table.compacted = self.revision
        for group in self._subscriptions.values():
            for subscription in group:
                subscription.expired = True
                subscription.wake()

    def end_watches(self) -> None:
        """End running watches with a clean end of the stream, as a server does that stops."""
        for group in self._subscriptions.values():
            for subscription in group:
                subscription.ended = True
                subscription.wake()
