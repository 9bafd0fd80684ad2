"""Live pods: list, watch, resume (Kubernetes API concepts, "Efficient detection of changes").

A reader per namespace keeps its rows and its resourceVersion. What it loses with a stream it fetches again from that
version; only when the server no longer has it (410) the list is read anew and replaces what was known.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from app.cluster import failures
from app.cluster.api import ApiClient
from app.cluster.paging import JSON, MAX_RESTARTS, PodScope, pods_path, raw_pages, selectors
from app.cluster.pod_decode import RawPod, decode_pod_list, pod_row, read_watch_event
from app.dialer import Link, worth_waiting
from app.errors import JumpdeckError, Recovery, RouteError
from app.records import Record
from app.rows import PodRow, PodSnapshot, Staleness
from app.tasks import CLOSE_LIMIT, Backoff, spawn

__all__ = ["EventLines", "PodList", "PodScope", "PodWatch", "list_pods"]

EVENT_LIMIT = 8 << 20
"""Bytes of one watch event: an object has at most 1.5 MiB in etcd, its JSON can be a few times that."""

WATCH_SECONDS = (300, 600)
"""The watch's own end, asked of the server at random within this, so that many watches do not end together."""

OVERTIME = 15.0
"""Seconds that a watch may outlive the end it asked for before it counts as hung."""

LINK_CHECK = 5.0
"""Seconds of silence after which the session is asked whether the link is up: a banner must come within seconds."""

IDLE_LIMIT = 90.0
"""Seconds without a byte after which a watch is opened anew; API servers send a bookmark about every 60 s (R-08)."""

SILENT_WATCHES = 3
"""Watches in a row that brought nothing, after which the list is read again: a server that was restored from a backup
answers a version of its future with silence."""

SETTLED = 10.0
"""Seconds that a watch must have lasted for earlier failures to be forgotten."""

COALESCE = 0.1
"""Seconds between two snapshots: faster than ten a second nobody reads, and each costs a copy of the index."""

PENDING = 256
"""Changed pods that may wait to be made into rows: a storm on few pods costs a row per snapshot, not per event, and
many pods never pile up into a pause of more than a few milliseconds."""

BUDGET = 0.012
"""Seconds of decoding after which the loop gets its turn."""

_RELIST = {"JD-API-GONE", "JD-API-MALFORMED", "JD-API-TOO-LARGE"}
"""Codes after which the same version would bring the same failure again."""


class PodList(Record):
    """Pods in the server's order and, per namespace (`""` is all), the resourceVersion to watch from."""

    rows: list[PodRow]
    versions: dict[str, str]


async def list_pods(
    api: ApiClient, scope: PodScope, *, on_page: Callable[[list[PodRow]], None] | None = None
) -> PodList:
    """All pods of a scope, page by page.

    `on_page` gets each page's rows as it comes; a list that had to begin again repeats rows (same uids). Raises
    JumpdeckError.
    """
    rows: list[PodRow] = []
    versions: dict[str, str] = {}
    for namespace in scope.namespaces or ("",):
        found, versions[namespace] = await _list_one(api, namespace, scope, on_page)
        rows += found
    return PodList(rows, versions)


async def _list_one(
    api: ApiClient, namespace: str, scope: PodScope, on_page: Callable[[list[PodRow]], None] | None
) -> tuple[list[PodRow], str]:
    for attempt in range(MAX_RESTARTS):
        rows: list[PodRow] = []
        version = ""
        try:
            async for body, token in raw_pages(api, pods_path(namespace), selectors(scope)):
                page = decode_pod_list(body)
                version, token.value = page.resource_version, page.token
                rows += page.rows
                if on_page is not None:
                    on_page(page.rows)
                await asyncio.sleep(0)
        except JumpdeckError as error:
            # The continue token lives about five minutes; the rest of an expired list would not fit its beginning.
            if error.code != "JD-API-GONE" or attempt == MAX_RESTARTS - 1:
                raise
            continue
        return rows, version
    raise AssertionError("unreachable")


class EventLines:
    """Chunks of a watch as they come, cut into whole lines of at most `limit` bytes."""

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes. Raises JumpdeckError JD-API-TOO-LARGE."""
        *lines, rest = chunk.split(b"\n")
        if lines and self._pieces:
            self._pieces.append(lines[0])
            lines[0] = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
        if self._size > self._limit or any(len(line) > self._limit for line in lines):
            raise failures.too_large("one event of the watch", self._limit)
        return lines


class _Place:
    """What is known of one namespace, or of all (`""`)."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.rows: dict[str, PodRow] = {}
        self.pending: dict[str, RawPod] = {}
        """Pods as last told, by uid, that are not yet in `rows`."""
        self.version = ""
        """The resourceVersion to watch from; opaque. Empty: the list comes first."""
        self.staleness = Staleness.LOADING
        self.heard_at = 0.0
        self.error: JumpdeckError | None = None
        self.failed = False
        """For good: nobody reads this place any more."""
        self.silent = 0

    def settle(self) -> None:
        """Bring `rows` up to date."""
        for pod in self.pending.values():
            row = pod_row(pod)
            self.rows[row.uid] = row
        self.pending.clear()


OnChange = Callable[[str, PodRow], None]
"""Called with LISTED (the first list), ADDED, MODIFIED or DELETED, and the row."""


class _Board:
    """Puts the places together and hands over snapshots, at most one per COALESCE seconds."""

    def __init__(
        self, places: list[_Place], publish: Callable[[PodSnapshot], None], on_change: OnChange | None
    ) -> None:
        self._places = places
        self._publish = publish
        self.on_change = on_change
        self._revision = 0
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def touch(self) -> None:
        """Something has changed: a snapshot follows at once, or when the last one is old enough."""
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        wait = self._last + COALESCE - loop.time()
        if wait <= 0:
            self.flush()
        else:
            self._timer = loop.call_later(wait, self.flush)

    def flush(self) -> None:
        """Hand over a snapshot now."""
        self.close()
        self._last = asyncio.get_running_loop().time()
        self._revision += 1
        self._publish(self._snapshot())

    def close(self) -> None:
        """Forget a snapshot that is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _snapshot(self) -> PodSnapshot:
        rows: dict[str, PodRow] = {}
        for place in self._places:
            place.settle()
            rows.update(place.rows)
        reading = [place for place in self._places if not place.failed] or self._places
        states = {place.staleness for place in reading}
        worst = next(state for state in (Staleness.STALE, Staleness.LOADING, Staleness.LIVE) if state in states)
        error = next((place.error for place in (*reading, *self._places) if place.error), None)
        heard = min(place.heard_at for place in reading)
        return PodSnapshot(rows, worst, heard, error, self._revision)


class PodWatch:
    """Pods of a scope, kept up to date across lost links, server restarts and expired versions."""

    def __init__(self, api: ApiClient, link: Link, scope: PodScope, *, link_check: float = LINK_CHECK) -> None:
        self._api = api
        self._link = link
        self._scope = scope
        self._link_check = link_check
        self._params = selectors(scope)
        self._random = random.Random()  # noqa: S311 (spreads load, hides nothing)

    async def run(self, publish: Callable[[PodSnapshot], None], on_change: OnChange | None = None) -> None:
        """Hand over snapshots until cancelled, or until no namespace of the scope can be read for good.

        In that case the last snapshot is STALE and carries the error; nothing is raised. `publish` runs in the loop,
        and so does `on_change`, which is told of every single change, also of those that a new list brings to light.
        """
        places = [_Place(namespace) for namespace in self._scope.namespaces or ("",)]
        board = _Board(places, publish, on_change)
        keepers = [spawn(self._keep(place, board), name=f"pods of {place.namespace or '*'}") for place in places]
        try:
            await asyncio.gather(*keepers)
            board.flush()
        finally:
            board.close()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.wait(keepers, timeout=CLOSE_LIMIT)

    async def _keep(self, place: _Place, board: _Board) -> None:
        """List and watch one place; returns when it has failed for good."""
        backoff = Backoff()
        while True:
            started = time.monotonic()
            failure: JumpdeckError | None = None
            try:
                if not place.version:
                    await self._list(place, board)
                await self._watch(place, board)
            except JumpdeckError as error:
                failure = error
            lasted = time.monotonic() - started
            if lasted >= SETTLED:
                backoff.reset()
            try:
                await self._after(place, board, failure, lasted, backoff)
            except JumpdeckError as error:
                place.error, place.staleness, place.failed = error, Staleness.STALE, True
                board.touch()
                return

    async def _after(
        self, place: _Place, board: _Board, failure: JumpdeckError | None, lasted: float, backoff: Backoff
    ) -> None:
        """Make ready for the next try. Raises what cannot be tried again."""
        if failure is None:
            # The usual end after the seconds that we asked for. A server that ends every watch at once is spared.
            if lasted < 1.0:
                await asyncio.sleep(backoff.next())
            return
        if failure.code in _RELIST:
            place.version = ""
            if failure.code == "JD-API-GONE" and backoff.tries == 0:
                backoff.next()  # the first relist goes out at once; one after the other waits
                return
        elif not worth_waiting(self._link, failure):
            raise failure
        place.error, place.staleness = failure, Staleness.STALE
        board.touch()
        self._link.report(failure)
        await asyncio.sleep(backoff.next(failure.retry_after))
        await self._link.wait_up()

    async def _list(self, place: _Place, board: _Board) -> None:
        loading = place.staleness is Staleness.LOADING

        def on_page(rows: list[PodRow]) -> None:
            self._link.alive()
            place.heard_at = time.time()
            if loading:
                place.rows = {**place.rows, **{row.uid: row for row in rows}}
                board.touch()

        await self._link.wait_up()
        rows, version = await _list_one(self._api, place.namespace, self._scope, on_page)
        # Taken as a whole: what vanished while nobody watched is gone from here, too.
        place.settle()
        before, place.rows = place.rows, {row.uid: row for row in rows}
        if board.on_change is not None:
            _tell_differences(board.on_change, {} if loading else before, place.rows, "LISTED" if loading else "ADDED")
        self._live(place, board)
        place.version, place.silent = version, 0

    def _live(self, place: _Place, board: _Board) -> None:
        place.staleness, place.error, place.heard_at = Staleness.LIVE, None, time.time()
        self._link.alive()
        board.touch()

    async def _watch(self, place: _Place, board: _Board) -> None:
        """One watch from the place's version to its end. Returns at a clean end; raises JumpdeckError else."""
        seconds = self._random.randint(*WATCH_SECONDS)
        params: dict[str, str | int] = {
            **self._params,
            "watch": "true",
            "resourceVersion": place.version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": seconds,
        }
        async with self._api.stream(pods_path(place.namespace), params, accept=JSON) as response:
            self._live(place, board)
            await self._read(response.content.readany, place, board, time.monotonic() + seconds + OVERTIME)

    async def _read(self, read: Callable[[], Awaitable[bytes]], place: _Place, board: _Board, end: float) -> None:
        lines = EventLines()
        heard = time.monotonic()
        something = False
        while True:
            try:
                async with asyncio.timeout(self._link_check):
                    chunk = await read()
            except TimeoutError:
                if await self._given_up(heard, end):
                    place.silent += not something
                    if place.silent >= SILENT_WATCHES:
                        place.version = ""
                    return
                continue
            if not chunk:
                return
            heard = time.monotonic()
            something = True
            place.silent = 0
            await self._apply(lines.feed(chunk), place, board.on_change)
            self._live(place, board)

    async def _given_up(self, heard: float, end: float) -> bool:
        """After a silence: whether this watch is to be opened anew. Raises when the link is down."""
        try:
            async with asyncio.timeout(_AT_ONCE):
                await self._link.wait_up()
        except TimeoutError:
            raise _link_down() from None
        now = time.monotonic()
        return now - heard > IDLE_LIMIT or now > end

    async def _apply(self, lines: list[bytes], place: _Place, on_change: OnChange | None) -> None:
        turn = time.perf_counter() + BUDGET
        for line in lines:
            if not line:
                continue
            event = read_watch_event(line)
            if event.pod is not None:
                self._take(event.kind, event.pod, place, on_change)
            elif event.kind == "ERROR":
                raise failures.from_watch_error(event.status, "the watch of pods")
            if event.resource_version:
                place.version = event.resource_version
            if time.perf_counter() > turn:
                await asyncio.sleep(0)
                turn = time.perf_counter() + BUDGET

    def _take(self, kind: str, pod: RawPod, place: _Place, on_change: OnChange | None) -> None:
        place.pending[pod.metadata.uid] = pod
        if kind != "DELETED" and on_change is None and len(place.pending) < PENDING:
            return
        place.settle()
        row = pod_row(pod)
        if kind == "DELETED":
            del place.rows[row.uid]
        if on_change is not None:
            on_change(kind, row)


def _tell_differences(tell: OnChange, before: dict[str, PodRow], after: dict[str, PodRow], new: str) -> None:
    """What a list brought to light that no event had told."""
    for uid, row in before.items():
        if uid not in after:
            tell("DELETED", row)
    for uid, row in after.items():
        old = before.get(uid)
        if old is None:
            tell(new, row)
        elif old != row:
            tell("MODIFIED", row)


_AT_ONCE = 0.05
"""Seconds: `wait_up` of a session that is up returns without waiting; this only lets it run."""


def _link_down() -> JumpdeckError:
    return RouteError(
        "The link is down", "nothing has come and the session is not up", "Jumpdeck tries again by itself.",
        code="JD-ROUTE-LOST", recovery=Recovery.TRANSIENT,
    )  # fmt: skip
