"""Logs through command invoke: snapshots with stamps, of one container or of many, for the price of one pod each."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

from app.azure.run_command import OUTPUT_LIMIT
from app.cluster.kubectl_answers import Part, check, json_of
from app.cluster.log_query import TailQuery, scopes
from app.cluster.log_stream import LogRequest
from app.cluster.tail import TailNews, What
from app.errors import JumpdeckError, UsageError
from app.rows import LogBatch, LogMark, LogSource, MarkKind, PodRow
from app.text import clean, prose

if TYPE_CHECKING:
    from app.cluster.invoke import InvokeReader

MAX_CONTAINERS = 20
"""Containers of one tail: they share 512 kB of output, and less than 25 kB of each is nothing to read."""
RESERVE = 8_192
"""Bytes of the output left for kubectl's own words and for the marks between logs."""
_STAMP = len("2026-01-01T00:00:00Z")

Deliver = Callable[[LogBatch], Awaitable[None]]


def log_command(request: LogRequest, limit: int) -> list[str]:
    """`kubectl logs` for a request, at most `limit` bytes."""
    command = ["kubectl", "logs", request.pod, "-n", request.namespace, "-c", request.container, "--timestamps"]
    command.append(f"--limit-bytes={min(limit, request.limit_bytes or limit)}")
    if request.previous:
        command.append("--previous")
    if request.tail is not None:
        command.append(f"--tail={request.tail}")
    if request.since is not None:
        command.append(f"--since={max(1, round(request.since))}s")
    elif request.since_time is not None:
        command.append(f"--since-time={datetime.fromtimestamp(request.since_time, UTC).isoformat()}")
    return command


async def deliver_log(part: Part, source: LogSource, limit: int, deliver: Deliver) -> bytes:
    """Hand over the lines of one log; says when it was cut. Returns the last line."""
    text = part.output.encode("utf-8", "replace")
    lines = [line + b"\n" for line in text.split(b"\n") if line[:4].isdigit() and len(line) >= _STAMP]
    kept = b"".join(lines)
    if kept:
        await deliver(LogBatch(source, kept, len(lines)))
    if not part.whole or len(text) >= limit:
        why = f"cut after {len(text):,} bytes of 512 kB for all: newer lines are missing; ask for less with --tail"
        await deliver(LogBatch(source, mark=LogMark(MarkKind.GAP, why, time.time())))
    return lines[-1] if lines else b""


class InvokeLog:
    """One container's log as it is now. Run it once for each look."""

    def __init__(self, reader: InvokeReader, request: LogRequest) -> None:
        self._reader, self._request = reader, request

    async def run(self, deliver: Deliver) -> None:
        """Deliver what there is and return. Raises JumpdeckError."""
        request, limit = self._request, OUTPUT_LIMIT - RESERVE
        (part,) = await self._reader.ask([log_command(request, limit)])
        check(part, f"the log of {clean(request.pod)}")
        source = LogSource(
            clean(request.namespace), clean(request.pod), clean(request.container), request.pod_uid, request.profile
        )
        await deliver_log(part, source, limit, deliver)
        if request.follow:
            why = "this is the log as of now: command invoke cannot follow; ask again for what comes"
            await deliver(LogBatch(source, mark=LogMark(MarkKind.NOTE, why, time.time())))


class InvokeTail:
    """The logs of a query as they are now: one pod to find the containers, one for all their logs."""

    def __init__(
        self, reader: InvokeReader, query: TailQuery, news: Callable[[TailNews], None] | None = None
    ) -> None:
        self._reader, self._query = reader, query
        self._news = news or (lambda _: None)
        self._last: list[tuple[LogSource, bytes]] = []

    @property
    def sources(self) -> list[LogSource]:
        """All containers that were read."""
        return [source for source, _ in self._last]

    async def last_lines(self) -> list[tuple[LogSource, bytes]]:
        """For each container that was read the stamp of its last line (empty: it has none). Asks nobody."""
        return [(source, line.split(b" ", 1)[0]) for source, line in self._last]

    async def run(self, deliver: Deliver) -> None:
        """Deliver the logs of all containers that fit, and return. Raises JumpdeckError."""
        rows = [row for scope in await scopes(_Objects(self._reader), self._query)
                for row in await self._reader.list_pods(scope)]  # fmt: skip
        targets = self._targets(rows)
        if not targets:
            self._news(TailNews(What.NOTHING))
            return
        limit = (OUTPUT_LIMIT - RESERVE) // len(targets)
        parts = await self._reader.ask([log_command(self._request(source), limit) for source, _ in targets])
        failed: JumpdeckError | None = None
        for (source, row), part in zip(targets, parts, strict=True):
            self._news(TailNews(What.JOINED, source, pod=row))
            try:
                check(part, f"the log of {source.pod}")
            except JumpdeckError as error:
                failed = failed or error
                why = f"{error.title} ({source.pod}/{source.container})"
                await deliver(LogBatch(source, mark=LogMark(MarkKind.NOTE, why, time.time())))
                continue
            self._last.append((source, await deliver_log(part, source, limit, deliver)))
            self._news(TailNews(What.LEFT, source))
        if failed is not None and not self._last:
            raise failed

    def _targets(self, rows: Sequence[PodRow]) -> list[tuple[LogSource, PodRow]]:
        found: list[tuple[LogSource, PodRow]] = []
        for row in rows:
            for each in row.containers:
                if not self._query.wants(row, each):
                    continue
                source = LogSource(row.namespace, row.name, each.name, row.uid, self._query.profile)
                if each.container_id:
                    found.append((source, row))
                else:
                    self._news(TailNews(What.NOT_STARTED, source, pod=row))
        if len(found) > MAX_CONTAINERS:
            raise UsageError(
                "Too many logs for command invoke",
                f"{len(found)} containers fit; at most {MAX_CONTAINERS} share 512 kB",
                "Narrow the query: a pod's name, -n, -l or -c.", code="JD-INVOKE-TOO-MANY",
            )  # fmt: skip
        return found

    def _request(self, source: LogSource) -> LogRequest:
        query = self._query
        return LogRequest(
            source.namespace, source.pod, source.container, source.pod_uid, follow=False, previous=query.previous,
            tail=query.tail, since=query.since, since_time=query.since_time, profile=query.profile,
        )  # fmt: skip


class _Objects:
    """The API's objects by their paths, as kubectl gets them: what `scopes` needs for `kind/name`."""

    def __init__(self, reader: InvokeReader) -> None:
        self._reader = reader

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> bytes:
        """One object, or a list of all namespaces with a field selector. Raises NotFoundError and others."""
        words = [unquote(word) for word in path.strip("/").split("/")]
        if "namespaces" in words:
            at = words.index("namespaces")
            namespace, plural, name = words[at + 1 : at + 4]
            command = ["kubectl", "get", plural, name, "-n", namespace, "-o", "json"]
        else:
            selector = f"--field-selector={(params or {}).get('fieldSelector', '')}"
            command = ["kubectl", "get", words[-1], "-A", selector, "-o", "json"]
        (part,) = await self._reader.ask([command])
        return json_of(part, prose(" ".join(command[1:4]), 200))
