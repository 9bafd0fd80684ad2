"""Reads a cluster without a network path: kubectl, run by ARM in a pod of the cluster, once for each asking.

Nothing here asks by itself: no watch, no follow, no second try. Snapshots say that they are snapshots.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from app.cluster.kubectl_answers import Part, Script, check, json_of
from app.cluster.paging import PodScope
from app.errors import JumpdeckError, RefusedError
from app.rows import EventRow, PodRow, PodSnapshot, Staleness
from app.text import clean, clean_line

if TYPE_CHECKING:
    from app.azure.run_command import RunCommand
    from app.cluster.invoke_logs import InvokeLog, InvokeTail
    from app.cluster.log_query import TailQuery
    from app.cluster.log_stream import LogRequest
    from app.cluster.pods import OnChange
    from app.cluster.tail import TailNews
    from app.profiles.model import Profile


class InvokeReader:
    """Reads through command invoke, each thing once when asked. Every method raises JumpdeckError only.

    It has the methods of `ClusterReader`; what there is a stream is a snapshot here. `told` hears what is waited for,
    and an empty text when that is over.
    """

    live: Literal[False] = False
    """Nothing here follows by itself."""

    def __init__(self, command: RunCommand, profile: Profile) -> None:
        self._command, self.profile = command, profile
        self._running: set[InvokePods] = set()
        self.told: Callable[[str], None] | None = None
        self.asked: Callable[[], None] = lambda: None
        """Called after each command: tokens may have been renewed for it."""

    @property
    def home_namespaces(self) -> tuple[str, ...]:
        """Where to look without a choice: the profile's namespaces, else `default`."""
        return self.profile.namespaces or ("default",)

    def pods(self, scope: PodScope) -> InvokePods:
        """Pods of a scope, fetched when run and again at each `refresh`."""
        return InvokePods(self, scope)

    def refresh(self) -> None:
        """Somebody asks for what is shown to be fetched anew."""
        for pods in self._running:
            pods.refresh()

    def log(self, request: LogRequest) -> InvokeLog:
        """The log of one container as it is when asked."""
        from app.cluster.invoke_logs import InvokeLog

        return InvokeLog(self, request)

    def tail(self, query: TailQuery, news: Callable[[TailNews], None] | None = None) -> InvokeTail:
        """The logs of many containers as they are when asked."""
        from app.cluster.invoke_logs import InvokeTail

        return InvokeTail(self, query, news)

    async def events(self, namespace: str, *, about: PodRow | None = None) -> list[EventRow]:
        """Events of a namespace (`""`: all), or of one pod, oldest first."""
        (part,) = await self.ask([_list_events(namespace, about)])
        return _events_of(part)

    async def namespaces(self) -> list[str]:
        """Names of all namespaces. RefusedError where listing them is forbidden."""
        (part,) = await self.ask([["kubectl", "get", "namespaces", "-o", "name"]])
        check(part, "the list of namespaces")
        names = [line.partition("/")[2] for line in part.output.splitlines() if line.startswith("namespace/")]
        return [clean(name) for name in names]

    async def may_list_all_pods(self) -> bool:
        """Always True: a question of its own would cost a pod; the list itself tells."""
        return True

    async def whoami(self) -> str:
        """Whom the API server takes the command for."""
        (part,) = await self.ask([["kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]])
        check(part, "the question who we are")
        return clean_line(part.output.strip())

    async def describe(self, pod: PodRow) -> str:
        """A pod as `kubectl describe` tells it; cleaned text of several lines."""
        from app.cluster.review import describe_body

        get = ["kubectl", "get", "pod", pod.name, "-n", pod.namespace, "-o", "json"]
        found, told = await self.ask([get, _list_events(pod.namespace, pod)])
        body = json_of(found, f"pod {clean(pod.name)}")
        try:
            events, note = _events_of(told), ""
        except JumpdeckError as error:
            events, note = None, f"not readable: {error.title}"
        return await asyncio.to_thread(describe_body, body, events, note)

    async def pod_lists(self, scope: PodScope) -> list[bytes]:
        """The pods of a scope as kubectl's JSON (a `List`), one for each namespace of the scope."""
        parts = await self.ask([_list_pods(scope, namespace, "json") for namespace in scope.namespaces or ("",)])
        return [json_of(part, "the list of pods") for part in parts]

    async def list_pods(self, scope: PodScope, *, wide: bool = True, rows: bool = True) -> list[PodRow]:
        """The pods of a scope in the server's order; without `rows` (and `wide`) with what a printed table shows.

        Less of each pod means more pods in the 512 kB of an answer: about 1,200 with all, 2,500 for a table.
        """
        from app.cluster.invoke_pods import rows_of, template

        form = f"go-template={template(wide=wide, rows=rows)}"
        asked = [_list_pods(scope, namespace, form) for namespace in scope.namespaces or ("",)]
        return [row for part in await self.ask(asked) for row in rows_of(part)]

    async def ask(self, commands: Sequence[Sequence[str]]) -> list[Part]:
        """Run kubectl commands, all in one pod, and put that on record. Raises what keeps them from running."""
        script = Script(commands, self.profile.name)
        recorded(self.profile.name, commands[0], script.line)
        try:
            result = await self._command.run(script.line, told=self.told)
        finally:
            self.asked()
            if self.told is not None:
                self.told("")
        return script.parts(result.output, result.exit_code, cut=result.cut)


def recorded(profile: str, command: Sequence[str], line: str, files: int = 0) -> None:
    """Put a command on record: what it is and what was sent, as a digest, for arguments may hold secrets (S-06)."""
    from app.audit import record

    verb = next((word for word in command[1:] if not word.startswith("-")), "")
    digest = hashlib.sha256(line.encode("utf-8", "replace")).hexdigest()
    record("command-invoke", profile=profile, program=clean(command[0]), verb=clean(verb)[:64], sha256=digest,
           files=files)  # fmt: skip


def _where(namespace: str) -> list[str]:
    return ["-n", namespace] if namespace else ["-A"]


def _list_events(namespace: str, about: PodRow | None) -> list[str]:
    command = ["kubectl", "get", "events", *_where(namespace), "-o", "json"]
    if about is not None:
        command.append(f"--field-selector=involvedObject.name={about.name},involvedObject.uid={about.uid}")
    return command


def _events_of(part: Part) -> list[EventRow]:
    from app.cluster.events import decode_events

    rows, _ = decode_events(json_of(part, "the list of events"))
    return sorted(rows, key=lambda row: row.last_seen or 0.0)


def _list_pods(scope: PodScope, namespace: str, form: str) -> list[str]:
    command = ["kubectl", "get", "pods", *_where(namespace), "-o", form]
    command += [f"--selector={scope.labels}"] if scope.labels else []
    return command + ([f"--field-selector={scope.fields}"] if scope.fields else [])


class InvokePods:
    """The pods of a scope as a snapshot that is taken when asked, and never by itself."""

    def __init__(self, reader: InvokeReader, scope: PodScope) -> None:
        self._reader, self._scope = reader, scope
        self._asked = asyncio.Event()

    def refresh(self) -> None:
        """Fetch them anew. While they are being fetched this asks for nothing more."""
        self._asked.set()

    async def run(self, publish: Callable[[PodSnapshot], None], on_change: OnChange | None = None) -> None:
        """Hand over one snapshot, then one at each `refresh`, until cancelled.

        A failure stands in the snapshot, with the rows as last seen. Returns when the cluster refuses the list.
        """
        snapshot = PodSnapshot()
        self._reader._running.add(self)
        try:
            while not isinstance(snapshot.error, RefusedError):
                snapshot = await self._fetched(snapshot)
                publish(snapshot)
                if isinstance(snapshot.error, RefusedError):
                    return
                self._asked.clear()
                await self._asked.wait()
        finally:
            self._reader._running.discard(self)

    async def _fetched(self, before: PodSnapshot) -> PodSnapshot:
        try:
            rows = await self._reader.list_pods(self._scope)
        except JumpdeckError as error:
            return PodSnapshot(before.rows, Staleness.STALE, before.heard_at, error, before.revision + 1)
        found = {row.uid: row for row in rows}
        return PodSnapshot(found, Staleness.SNAPSHOT, time.time(), None, before.revision + 1)


