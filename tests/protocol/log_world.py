"""A pod with one container on a scripted API server: the test writes its log, restarts it, rotates it, cuts streams."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from app.cluster.log_follow import LogFollow, LogRequest
from app.cluster.log_stream import SETTLED
from app.rows import LogBatch, LogMark, MarkKind
from app.tasks import Backoff, TaskOwner
from tests.protocol.pod_server import FakeLink, PodServer, Reply, status

BASE = 1_790_000_000


def stamped(at: float, text: str) -> bytes:
    """A line as a kubelet sends it; `at` in seconds after BASE."""
    whole, part = divmod(round(at * 1000), 1000)
    moment = datetime.fromtimestamp(BASE + whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{part * 1_000_000:09d}Z {text}\n".encode()


@dataclass
class Run:
    """One instance of the container."""

    number: int
    lines: list[tuple[float, bytes]] = field(default_factory=list)
    first: int = 0
    """The first line of the current file."""
    exit_code: int | None = None
    readable: bool = True
    pod: str = "uid-1"

    @property
    def id(self) -> str:
        return f"containerd://{self.pod}-{self.number}"


class World(PodServer):
    """Answers for pod `web` with container `app` in namespace `shop`."""

    def __init__(self) -> None:
        super().__init__()
        self.uid = "uid-1"
        self.version = 1
        self.exists = True
        self.started = True
        self.policy = "Always"
        self.phase = "Running"
        self.runs = [Run(0)]
        self.refuse: list[tuple[int, bytes]] = []
        """Answers to the next log requests in place of a log: status and body."""
        self.chop: list[int] = []
        """Bytes after which the next log streams are cut."""
        self.status_lag = False
        self.log_requests: list[dict[str, str]] = []
        self.streams = 0
        self.changed = asyncio.Event()
        self._cuts: list[Reply] = []
        self._stop = asyncio.Event()

    # -- what a test does -----------------------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        return self.runs[-1]

    def write(self, *lines: tuple[float, str]) -> None:
        """Lines into the present run's log."""
        self.run.lines += [(at, stamped(at, text)) for at, text in lines]
        self._change(version=False)

    def exit(self, code: int) -> None:
        """The container ends."""
        self.run.exit_code = code
        self._change()

    def restart(self) -> None:
        """The next instance starts."""
        self.runs.append(Run(len(self.runs)))
        self._change()

    def rotate(self) -> None:
        """The log file is put away; only what comes can be read."""
        self.run.first = len(self.run.lines)

    def cut(self) -> None:
        """Every open log stream is reset."""
        for reply in self._cuts:
            reply.cut()
        self._cuts.clear()

    def end_streams(self) -> None:
        """Every open log stream ends cleanly, although the container runs."""
        old, self._stop = self._stop, asyncio.Event()
        old.set()
        self._change(version=False)

    def replace(self) -> None:
        """Another pod takes the name."""
        self.uid = "uid-2"
        self.runs = [Run(0, pod=self.uid)]
        self._change()

    def delete(self) -> None:
        self.exists = False
        self._change()

    async def opened(self, streams: int) -> None:
        """When so many log streams have been opened."""
        while self.streams < streams:
            await self.changed.wait()

    def _change(self, *, version: bool = True) -> None:
        self.version += version
        old, self.changed = self.changed, asyncio.Event()
        old.set()

    # -- what it answers ------------------------------------------------------------------------------------------

    def pod(self) -> dict[str, Any]:
        run, state = self.run, {}
        if not self.started:
            state = {"waiting": {"reason": "ContainerCreating"}}
        elif run.exit_code is None:
            state = {"running": {"startedAt": "2026-11-22T05:55:37Z"}}
        else:
            state = {"terminated": self._ended(run)}
        found: dict[str, Any] = {"name": "app", "restartCount": run.number, "state": state, "lastState": {}}
        if self.started:
            found["containerID"] = run.id
        if run.number:
            found["lastState"] = {"terminated": self._ended(self.runs[-2])}
        return {
            "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "uid": self.uid, "resourceVersion": str(self.version)},
            "spec": {"containers": [{"name": "app"}], "restartPolicy": self.policy},
            "status": {"phase": self.phase, "containerStatuses": [found]},
        }

    @staticmethod
    def _ended(run: Run) -> dict[str, Any]:
        return {"exitCode": run.exit_code or 0, "reason": "Error" if run.exit_code else "Completed",
                "containerID": run.id}  # fmt: skip

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.script = [self._answer] * 1000
        await super()._serve(reader, writer)

    async def _answer(self, reply: Reply) -> None:
        if reply.path.endswith("/log"):
            await self._log(reply)
        elif reply.query.get("watch"):
            await self._watch(reply)
        elif self.exists:
            await reply.send(json.dumps(self.pod()).encode())
        else:
            await reply.send(status(404, "NotFound", 'pods "web" not found'), 404)

    async def _watch(self, reply: Reply) -> None:
        await reply.start()
        sent = int(reply.query["resourceVersion"])
        while True:
            if not self.exists:
                await reply.events(json.dumps({"type": "DELETED", "object": self.pod()}).encode() + b"\n")
                await reply.end()
                return
            if sent < self.version:
                sent = self.version
                await reply.events(json.dumps({"type": "MODIFIED", "object": self.pod()}).encode() + b"\n")
            await self.changed.wait()

    async def _log(self, reply: Reply) -> None:
        query = reply.query
        self.log_requests.append(query)
        self.streams += 1
        if self.refuse:
            code, body = self.refuse.pop(0)
            await reply.send(body, code)
            self._change(version=False)
            return
        run = self.runs[-2] if query.get("previous") and len(self.runs) > 1 else self.run
        if query.get("previous") and not run.readable:
            await reply.send(b"unable to retrieve container logs for " + run.id.encode())
            return
        room = self.chop.pop(0) if self.chop else 1 << 30
        stop, at = self._stop, self._begin(run, query)
        await reply.start()
        self._cuts.append(reply)
        self._change(version=False)
        while True:
            changed = self.changed
            data = b"".join(raw for when, raw in run.lines[at:] if self._since(query, when))[:room]
            at, room = len(run.lines), room - len(data)
            if data:
                await reply.chunk(data)
            if room <= 0:
                reply.cut()
                return
            if not query.get("follow") or run.exit_code is not None or stop.is_set() or not self.exists:
                await reply.end()
                return
            await changed.wait()

    @staticmethod
    def _begin(run: Run, query: dict[str, str]) -> int:
        if "tailLines" in query:
            return max(len(run.lines) - int(query["tailLines"]), run.first)
        return run.first

    @staticmethod
    def _since(query: dict[str, str], when: float) -> bool:
        if "sinceTime" not in query:
            return True
        return BASE + when >= datetime.fromisoformat(query["sinceTime"]).timestamp()


class Shown:
    """Keeps what a follow delivers, and waits for it."""

    def __init__(self) -> None:
        self.batches: list[LogBatch] = []
        self._news = asyncio.Event()

    async def __call__(self, batch: LogBatch) -> None:
        assert batch.count == batch.text.count(b"\n")
        self.batches.append(batch)
        self._news.set()

    @property
    def text(self) -> bytes:
        return b"".join(batch.text for batch in self.batches)

    @property
    def marks(self) -> list[LogMark]:
        return [batch.mark for batch in self.batches if batch.mark]

    @property
    def story(self) -> list[str]:
        """The text of each line, and each mark's kind in brackets, in order."""
        found: list[str] = []
        for batch in self.batches:
            found += [f"<{batch.mark.kind.value}>"] if batch.mark else []
            found += [line.split(b" ", 1)[1].decode() for line in batch.text.splitlines()]
        return found

    def kinds(self) -> list[MarkKind]:
        return [mark.kind for mark in self.marks]

    async def until(self, fits: Callable[[Shown], bool]) -> None:
        async with asyncio.timeout(30):
            while not fits(self):
                self._news.clear()
                await self._news.wait()

    async def lines(self, count: int) -> None:
        """When so many lines have come."""
        await self.until(lambda shown: shown.text.count(b"\n") >= count)


class Following:
    """A follow that runs against a world; `async with` ends it."""

    def __init__(self, world: World, *, settled: float = SETTLED, **request: Any) -> None:
        self.world = world
        self.backoff = Backoff(base=0.01, floor=0.0)
        self._settled = settled
        self.link = FakeLink()
        self.shown = Shown()
        self.request = LogRequest("shop", "web", "app", **request)
        self._owner = TaskOwner("follow")

    async def __aenter__(self) -> Following:
        self._api = self.world.client()
        self.follow = LogFollow(
            self._api, self.link, self.request, link_check=0.1, backoff=self.backoff, settled=self._settled
        )
        self.task = self._owner.spawn(self.follow.run(self.shown), name="run")
        return self

    async def ended(self) -> None:
        async with asyncio.timeout(30):
            await self.task

    async def __aexit__(self, *_: object) -> None:
        await self._owner.aclose()
        await self._api.aclose()


def now() -> float:
    """Seconds after BASE."""
    return time.time() - BASE
