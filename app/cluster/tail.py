"""The logs of many containers at once: pods that fit the query, new ones joining through a watch."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from app.cluster.api import ApiClient
from app.cluster.log_follow import LogFollow
from app.cluster.log_query import TailQuery, scopes
from app.cluster.log_stream import Deliver, LogRequest
from app.cluster.pods import PodScope, PodWatch, list_pods
from app.dialer import Link, worth_waiting
from app.errors import JumpdeckError, NotFoundError
from app.rows import ContainerKind, ContainerRow, LogBatch, LogMark, LogSource, MarkKind, PodRow, PodSnapshot, Staleness
from app.tasks import TaskOwner

__all__ = ["Tail", "TailNews", "TailQuery", "What"]

MAX_QUEUED = 1000
"""Containers that wait their turn; beyond that the query is too wide to be read by anybody, and the rest is left."""

LAST_LINE_LIMIT = 10.0
"""Seconds for all questions for the time of the last lines."""


class What(Enum):
    """What a tail has to say that is not a line."""

    JOINED = "joined"
    LEFT = "left"
    WAITING_TURN = "waiting turn"
    NOTHING = "nothing"
    """No pod fits; a following tail waits for one."""
    NOT_STARTED = "not started"
    """A pod fits, but its container has no log yet."""
    FAILED = "failed"


@dataclass(frozen=True)
class TailNews:
    """Something that is said on standard error, not in the log."""

    what: What
    source: LogSource | None = None
    count: int = 0
    error: JumpdeckError | None = None
    pod: PodRow | None = None


@dataclass
class _Target:
    """One container instance's log in the tail."""

    source: LogSource
    pod: PodRow
    instance: str
    container_id: str
    anew: bool
    """The pod came after the tail began: its log is read from the start."""


class Tail:
    """Reads every log of a query. Run it once, inside the loop in which `api` lives.

    `news` is called in the loop with what is not a line: who joined, who left, that some wait their turn.
    """

    def __init__(
        self, api: ApiClient, link: Link, query: TailQuery, news: Callable[[TailNews], None] | None = None
    ) -> None:
        self._api = api
        self._link = link
        self._query = query
        self._news = news or _nobody
        self._owner = TaskOwner("tail")
        self._turns = asyncio.Semaphore(query.requests)
        self._active: dict[tuple[str, str, str], _Target] = {}
        self._done: dict[tuple[str, str, str], str] = {}
        self._known: dict[tuple[str, str], PodRow] = {}
        self._deliver: Deliver
        self._failure: asyncio.Future[None]
        self._errors: list[JumpdeckError] = []
        self._read_well = False
        self._said_turn = self._said_nothing = False

    async def run(self, deliver: Deliver) -> None:
        """Deliver batches of all containers; without follow until all are read, else until cancelled.

        Raises JumpdeckError: a bad query (usage), `kind/name` not found, refused, the session failed.
        """
        self._deliver = deliver
        self._failure = asyncio.get_running_loop().create_future()
        await self._link.wait_up()
        found = await scopes(self._api, self._query)
        async with self._owner:
            if self._query.follow and not self._query.previous:
                await self._follow(found)
            else:
                await self._once(found)

    @property
    def sources(self) -> list[LogSource]:
        """All containers read so far or now."""
        return [target.source for target in self._active.values()]

    async def last_lines(self) -> list[tuple[LogSource, bytes]]:
        """For each container the stamp of its last line (empty: it has none), as far as the cluster answers."""
        sources = [
            LogSource(row.namespace, row.name, each.name, row.uid, self._query.profile)
            for row in self._known.values()
            for each in row.containers
            if self._query.wants(row, each) and each.container_id
        ][: self._query.requests]
        answers = await asyncio.gather(*(self._last_stamp(source) for source in sources))
        return list(zip(sources, answers, strict=True))

    async def _last_stamp(self, source: LogSource) -> bytes:
        got: list[bytes] = []

        async def keep(batch: LogBatch) -> None:
            if batch.text:
                got[:] = [batch.text]

        request = LogRequest(source.namespace, source.pod, source.container, follow=False, tail=1)
        try:
            async with asyncio.timeout(LAST_LINE_LIMIT):
                await LogFollow(self._api, self._link, request).run(keep)
        except (JumpdeckError, TimeoutError):
            return b""
        return got[0].split(b" ", 1)[0] if got else b""

    # -- once -----------------------------------------------------------------------------------------------------

    async def _once(self, found: list[PodScope]) -> None:
        for scope in found:
            for row in (await list_pods(self._api, scope)).rows:
                self._known[(row.namespace, row.name)] = row
        targets = [target for row in self._known.values() for target in self._targets(row, anew=False)]
        self._join(targets)
        self._say_what_is_missing(targets)
        await asyncio.gather(
            *(self._owner.spawn(self._read(target), name=_label(target.source)) for target in targets)
        )
        if self._errors:
            raise self._errors[0]

    def _say_what_is_missing(self, targets: list[_Target]) -> None:
        for row in self._known.values():
            for each in row.containers:
                if self._query.wants(row, each) and not each.container_id:
                    source = LogSource(row.namespace, row.name, each.name, row.uid, self._query.profile)
                    self._news(TailNews(What.NOT_STARTED, source, pod=row))
        if not targets:
            self._news(TailNews(What.NOTHING))

    # -- follow ---------------------------------------------------------------------------------------------------

    async def _follow(self, found: list[PodScope]) -> None:
        begun: set[int] = set()

        def on_snapshot(number: int, snapshot: PodSnapshot) -> None:
            if snapshot.error is not None and not worth_waiting(self._link, snapshot.error):
                self._fail(snapshot.error, final=snapshot.staleness is Staleness.STALE)
            if snapshot.staleness is not Staleness.LIVE:
                return
            self._forget(found[number], snapshot)
            self._known.update({(row.namespace, row.name): row for row in snapshot.rows.values()})
            self._start([each for row in snapshot.rows.values() for each in self._targets(row, anew=number in begun)])
            begun.add(number)
            if len(begun) == len(found) and not self._active and not self._done and not self._said_nothing:
                self._said_nothing = True
                self._say_what_is_missing([])

        for number, scope in enumerate(found):
            run = PodWatch(self._api, self._link, scope).run(functools.partial(on_snapshot, number))
            self._owner.spawn(run, name=f"pods {number}")
        await self._failure

    def _start(self, targets: list[_Target]) -> None:
        self._join(targets)
        for target in targets:
            self._owner.spawn(self._read(target), name=_label(target.source))

    def _fail(self, error: JumpdeckError, *, final: bool) -> None:
        """Say a failure once; with nothing left to read it ends the tail."""
        if final and not self._failure.done():
            self._failure.set_exception(error)
        elif not final and error.code not in {each.code for each in self._errors}:
            self._errors.append(error)
            self._news(TailNews(What.FAILED, error=error))

    def _forget(self, scope: PodScope, snapshot: PodSnapshot) -> None:
        """Drop pods of this scope that are gone, so that what is kept stays as small as the cluster is."""
        present = {(row.namespace, row.name) for row in snapshot.rows.values()}
        gone = [
            key for key in self._known
            if key not in present and (not scope.namespaces or key[0] in scope.namespaces)
        ]  # fmt: skip
        for key in gone if len(self._known) > len(present) else []:
            self._known.pop(key)
            for done in [each for each in self._done if each[:2] == key]:
                self._done.pop(done)

    def _targets(self, row: PodRow, *, anew: bool) -> list[_Target]:
        """The containers of a pod that are to be read now: wanted, started, and not read already."""
        found = []
        for each in row.containers:
            key = (row.namespace, row.name, each.name)
            if not self._query.wants(row, each) or not each.container_id or key in self._active:
                continue
            instance = f"{row.uid}/{each.container_id}"
            if self._done.get(key) == instance or len(self._active) >= MAX_QUEUED + self._query.requests:
                continue
            source = LogSource(row.namespace, row.name, each.name, row.uid, self._query.profile)
            late = (anew and not _has_ended_long_ago(each)) or key in self._done
            self._active[key] = target = _Target(source, row, instance, each.container_id, late)
            found.append(target)
        return found

    def _join(self, targets: list[_Target]) -> None:
        for target in targets:
            self._news(TailNews(What.JOINED, target.source, pod=target.pod))
        waiting = len(self._active) - self._query.requests
        if waiting > 0 and not self._said_turn:
            self._said_turn = True
            self._news(TailNews(What.WAITING_TURN, count=waiting))

    async def _read(self, target: _Target) -> None:
        source, query, anew = target.source, self._query, target.anew
        request = LogRequest(
            source.namespace, source.pod, source.container, source.pod_uid, target.container_id,
            follow=query.follow, previous=query.previous,
            tail=None if anew else query.tail, since=None if anew else query.since,
            since_time=None if anew else query.since_time, profile=query.profile, max_line=query.max_line,
        )  # fmt: skip
        log = LogFollow(self._api, self._link, request)
        failure: JumpdeckError | None = None
        try:
            async with self._turns:
                await log.run(self._deliver)
            self._read_well = True
        except JumpdeckError as error:
            failure = error
        key = (source.namespace, source.pod, source.container)
        self._active.pop(key, None)
        self._done[key] = log.followed or target.instance
        self._news(TailNews(What.LEFT, source))
        if failure is not None:
            await self._failed(source, failure)
        if query.follow and not query.previous and (row := self._known.get(key[:2])):
            # A snapshot that told of the next instance may have come while this one was still being read.
            self._start(self._targets(row, anew=True))

    async def _failed(self, source: LogSource, error: JumpdeckError) -> None:
        if self._query.follow and not self._query.previous:
            if not isinstance(error, NotFoundError):  # a pod that goes while we look is no failure
                self._fail(error, final=not self._active)
        elif isinstance(error, NotFoundError) and (self._active or self._read_well):
            # The others' logs are still of use; which container has none is said in its place.
            mark = LogMark(MarkKind.NOTE, f"{error.title} ({_label(source)})", time.time())
            await self._deliver(LogBatch(source, mark=mark))
        else:
            self._errors.append(error)


def _has_ended_long_ago(container: ContainerRow) -> bool:
    return container.kind is ContainerKind.INIT and container.state == "terminated"


def _label(source: LogSource) -> str:
    return f"{source.pod}/{source.container}"


def _nobody(_: TailNews) -> None:
    pass
