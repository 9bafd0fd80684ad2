"""Reads the log of one container instance through cuts: opens streams, keeps the cursor, puts the marks.

Which instance that is, and what comes after it, is `log_follow`'s part.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from app.cluster.log_lines import MAX_LINE, LineAssembler
from app.cluster.log_pod import LogApi, pod_path
from app.cluster.log_resume import REPLAY_SECONDS, ROTATED, LogCursor
from app.dialer import Link, ends_sign_in, worth_waiting
from app.errors import JumpdeckError, NotFoundError, Recovery, RouteError
from app.rows import LogBatch, LogMark, LogSource, MarkKind
from app.tasks import Backoff
from app.text import clean, prose

READ_BUDGET = 0.012
"""Seconds of reading after which the loop gets its turn: a full buffer does not yield by itself."""

LINK_CHECK = 5.0
"""Seconds of silence after which the session is asked whether the link is up; a quiet log is not a lost one."""

SETTLED = 10.0
"""Seconds that a stream must have lasted for earlier failures to be forgotten."""

_AT_ONCE = 0.05
"""Seconds: `wait_up` of a session that is up returns without waiting; this only lets it run."""

_UNAVAILABLE = b"unable to retrieve container logs for"
"""What a kubelet sends, with status 200 and no line feed, in place of a log that is gone."""

Deliver = Callable[[LogBatch], Awaitable[None]]


@dataclass(frozen=True)
class LogRequest:
    """Which log, from where. `tail` lines, `since` seconds ago and `since_time` (POSIX seconds) bound its beginning."""

    namespace: str
    pod: str
    container: str
    pod_uid: str = ""
    instance: str = ""
    """Container id as last seen in the pod's status, with `pod_uid`: saves the first look at the pod."""
    follow: bool = True
    previous: bool = False
    tail: int | None = None
    since: float | None = None
    since_time: float | None = None
    limit_bytes: int | None = None
    profile: str = ""
    max_line: int = MAX_LINE
    """Bytes kept of one line."""

    @property
    def from_start(self) -> bool:
        """Whether the log is asked for from its first line."""
        return self.tail is None and self.since is None and self.since_time is None


class OtherInstanceError(Exception):
    """The answer is of another instance than the cursor; nothing of it was taken. Never leaves this package."""


class Sender:
    """Makes batches and marks of one source and hands them over."""

    def __init__(self, request: LogRequest, deliver: Deliver) -> None:
        self._source = LogSource(
            clean(request.namespace), clean(request.pod), clean(request.container), request.pod_uid, request.profile
        )
        self._deliver = deliver

    async def lines(self, text: bytes, cut_bytes: int = 0, kind: MarkKind | None = None, why: str = "") -> None:
        """Whole stamped lines, after a mark when there is a `kind`."""
        mark = None if kind is None else LogMark(kind, why, time.time())
        await self._deliver(LogBatch(self._source, text, text.count(b"\n"), mark, cut_bytes=cut_bytes))

    async def mark(self, kind: MarkKind, why: str) -> None:
        """A mark alone."""
        await self.lines(b"", 0, kind, why)


class Patience:
    """What is done after a failure: raise, or report it, say it once, and wait for the next try."""

    def __init__(self, link: Link, sender: Sender, backoff: Backoff | None = None, *, settled: float = SETTLED) -> None:
        self.link = link
        self.backoff = backoff or Backoff()
        self._settled = settled
        self.lost_at: float | None = None
        """POSIX seconds at which the connection was lost, until lines have come again."""
        self._sender = sender
        self._told = ""

    async def after(self, error: JumpdeckError, lasted: float = 0.0) -> None:
        """Return when trying again makes sense. Raises the error when it does not, or the session's own.

        `lasted`: seconds that the stream stood. After a long time a cut is the first again, however many were before.
        """
        if lasted >= self._settled:
            self.backoff.reset()
        if not worth_waiting(self.link, error):
            raise error
        if not isinstance(error, RouteError) and not ends_sign_in(error):  # the server answered: the link is well
            if error.code not in (self._told, "JD-LOG-WAITING"):
                self._told = error.code
                await self._sender.mark(MarkKind.NOTE, f"{error.title}; it is tried again")
        else:
            self.link.report(error)
            self.lost_at = self.lost_at or time.time()
        await asyncio.sleep(self.backoff.next(error.retry_after))
        await self.link.wait_up()

    async def after_end(self, lasted: float) -> None:
        """After a clean end: the first look at the pod is at once, ends that repeat wait."""
        if lasted >= self._settled:
            self.backoff.reset()
        elif self.backoff.tries:
            await asyncio.sleep(self.backoff.next())
        self.backoff.tries += self.backoff.tries == 0

    def settled(self) -> None:
        """New lines came: what was said before may be said again."""
        self._told = ""


class InstanceReader:
    """The log of one instance, from where the request says or from its start."""

    def __init__(self, api: LogApi, request: LogRequest, sender: Sender, patience: Patience, *, anew: bool) -> None:
        self._api = api
        self._request = request
        self._sender = sender
        self._patience = patience
        self._link = patience.link
        self._path = pod_path(request.namespace, request.pod) + "/log"
        self._from_start = anew or request.from_start
        self._cursor = LogCursor(from_start=self._from_start)
        self._opened_at: float | None = None
        self._stands_since: float | None = None
        self._doubtful = False
        self.link_check = LINK_CHECK
        self.same: Callable[[], Awaitable[bool]] = _always
        """Asked before lines that do not join what was read: whether this is still the same instance."""

    async def snapshot(self) -> None:
        """The log as it is, once; what stands at its end without a line feed counts as a line."""
        await self._link.wait_up()
        assembler = LineAssembler(self._request.max_line)
        async with self._api.stream(self._path, self._query(follow=False, previous=self._request.previous)) as response:
            async for block, cut in self._blocks(response, assembler):
                await self._sender.lines(block, cut)
        tail = assembler.take_tail()
        if tail.startswith(_UNAVAILABLE):
            await self._sender.mark(MarkKind.NOTE, prose(tail))
        elif tail:
            await self._sender.lines(tail + b"\n")

    async def follow(self) -> None:
        """One stream to its end, clean or not; returns when the pod is to be looked at. Raises what is final."""
        self._stands_since = None
        try:
            await self._link.wait_up()
            await self._stream(follow=True, previous=False)
        except OtherInstanceError:
            return
        except NotFoundError as error:
            if error.code == "JD-LOG-NO-CONTAINER":
                raise
            await self._patience.after_end(0.0)  # the pod is gone, or only its node: the pod tells
            return
        except JumpdeckError as error:
            await self._patience.after(error, self._lasted())
            return
        await self._patience.after_end(self._lasted())

    def _lasted(self) -> float:
        """Seconds that the stream stood; an answer that was long in coming, and none, is no time of it."""
        return 0.0 if self._stands_since is None else time.monotonic() - self._stands_since

    async def rest(self, *, previous: bool) -> bool:
        """What an instance that has ended wrote after the last line seen. False: its log is not there."""
        while True:
            try:
                await self._link.wait_up()
                return await self._stream(follow=False, previous=previous)
            except (OtherInstanceError, NotFoundError):
                return False
            except JumpdeckError as error:
                await self._patience.after(error)

    async def _stream(self, *, follow: bool, previous: bool) -> bool:
        assembler = LineAssembler(self._request.max_line)
        self._doubtful = self._opened_at is not None and not previous
        async with self._api.stream(self._path, self._query(follow=follow, previous=previous)) as response:
            self._stands_since = time.monotonic()
            if self._opened_at is None:
                self._opened_at = _server_time(response)
            async for block, cut in self._blocks(response, assembler):
                await self._take(block, cut)
        tail = assembler.take_tail()
        if tail.startswith(_UNAVAILABLE):
            await self._sender.mark(MarkKind.NOTE, prose(tail))
            return False
        if tail and not follow:  # the instance has ended: nothing will complete this line
            await self._take(tail + b"\n", 0)
        return True

    def _query(self, *, follow: bool, previous: bool) -> dict[str, str | int]:
        """`sinceTime` goes alone on a resume: `tailLines` would be applied first and could cut the missed lines."""
        asked = self._request
        query: dict[str, str | int] = {"container": asked.container, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if previous:
            query["previous"] = "true"
        since = self._cursor.resume()
        if since is None and self._opened_at is not None and not self._from_start:
            # Nothing was there at the first look, so what has come since then is what is missing.
            since = int(asked.since_time or self._opened_at - (asked.since or 0)) - REPLAY_SECONDS
        if since is not None:
            query["sinceTime"] = _rfc3339(since)
        elif not self._from_start:
            if asked.tail is not None:
                query["tailLines"] = asked.tail
            if asked.since_time is not None:
                query["sinceTime"] = _rfc3339(asked.since_time)
            elif asked.since is not None:
                query["sinceSeconds"] = max(round(asked.since), 1)
        if asked.limit_bytes is not None and not follow:
            query["limitBytes"] = asked.limit_bytes
        return query

    async def _blocks(self, response: Any, assembler: LineAssembler) -> AsyncIterator[tuple[bytes, int]]:
        """Whole lines as they come, each block with the bytes cut from it."""
        turn = time.perf_counter() + READ_BUDGET
        cut = 0
        while chunk := await self._chunk(response.content):
            self._link.alive()
            if block := assembler.feed(chunk):
                yield block, assembler.cut_bytes - cut
                cut = assembler.cut_bytes
            if time.perf_counter() > turn:
                await asyncio.sleep(0)
                turn = time.perf_counter() + READ_BUDGET

    async def _chunk(self, content: Any) -> bytes:
        """The next bytes, or b"" at the end. Raises RouteError when nothing comes and the session is not up."""
        while True:
            try:
                async with asyncio.timeout(self.link_check):
                    return bytes(await content.readany())
            except TimeoutError:
                try:
                    async with asyncio.timeout(_AT_ONCE):
                        await self._link.wait_up()
                except TimeoutError:
                    raise _link_down() from None

    async def _take(self, block: bytes, cut: int) -> None:
        first = self._doubtful and self._cursor.newest is None
        taken = self._cursor.take(block)
        if taken.gap == ROTATED or first:
            if self._doubtful and not await self.same():
                raise OtherInstanceError
            self._doubtful = False
        if taken.gap == ROTATED:
            self._cursor.accept(taken.text)
        lost_at, kind, why = self._patience.lost_at, None, ""
        if taken.gap:
            kind, why = MarkKind.GAP, taken.gap
        elif lost_at is not None and (taken.joined or taken.text):
            lost = max(time.time() - lost_at, 0.0)
            kind, why = MarkKind.CUT, f"the connection was lost for {lost:.0f} s; nothing is missing"
        if kind:
            self._patience.lost_at = None
        if taken.text or kind:
            self._patience.settled()
            await self._sender.lines(taken.text, cut, kind, why)


async def _always() -> bool:
    return True


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(int(seconds), 0)))


def _server_time(response: Any) -> float:
    """The API server's clock, from the Date header; ours without one."""
    try:
        return email.utils.parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return time.time()


def _link_down() -> JumpdeckError:
    return RouteError(
        "The link is down", "nothing has come and the session is not up", "Jumpdeck tries again by itself.",
        code="JD-ROUTE-LOST", recovery=Recovery.TRANSIENT,
    )  # fmt: skip
