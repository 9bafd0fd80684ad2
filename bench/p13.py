"""P-13: Bastion sessions that a console spends on one AKS cluster: pods listed and watched, 20 logs, small requests.

Each session costs most of a second in the real service; the lab's own counters tell how many it gave out.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from app.cluster.log_stream import LogRequest
from app.cluster.pods import PodScope
from app.cluster.reader import ClusterReader
from app.lab.practice import Lab
from app.profiles.store import load
from app.rows import LogBatch, PodRow, PodSnapshot
from app.sessions.supervisor import Sessions
from app.tasks import TaskOwner
from bench.rows import Row, at_most

FOLLOWS = 20
REQUESTS = 10
GOAL = 22
"""One for the watch, one for each log, one for all that is small."""
LIMIT = 60.0


def run() -> list[Row]:
    """A session of the lab's profile lab-bastion-aks, with the lab in this process: what counts here is not time."""
    with tempfile.TemporaryDirectory(prefix="jumpdeck-bench-") as name:
        os.environ["JUMPDECK_STATE_DIR"] = name
        return asyncio.run(_run())


class Seen:
    """What the console has been told, for those who wait for it."""

    def __init__(self) -> None:
        self.pods: dict[str, PodRow] = {}
        self.logs: set[str] = set()
        self.news = asyncio.Event()

    def snapshot(self, snapshot: PodSnapshot) -> None:
        self.pods = {row.name: row for row in snapshot.rows.values()}
        self.news.set()

    async def lines(self, batch: LogBatch) -> None:
        if batch.count:
            self.logs.add(batch.source.pod)
        self.news.set()

    async def until(self, pods: int, logs: int) -> None:
        async with asyncio.timeout(LIMIT):
            while len(self.pods) < pods or len(self.logs) < logs:
                self.news.clear()
                await self.news.wait()


async def _run() -> list[Row]:
    async with Lab.open(estate="none") as lab:
        for number in range(FOLLOWS):
            lab.cluster.add_pod({"metadata": {"name": f"web-{number}", "namespace": "default"}})
            lab.cluster.write_log("default", f"web-{number}", "app", b"a line\n")
        os.environ["JUMPDECK_CONFIG_DIR"] = str(Path(lab.config_dir))
        counters = lab.azure.bastion.counters
        async with Sessions(load()) as sessions, TaskOwner("bench") as tasks:
            session = sessions.open("lab-bastion-aks")
            async with asyncio.timeout(LIMIT):
                await session.wait_up()
            reader, seen = session.reader, Seen()
            assert isinstance(reader, ClusterReader)
            tasks.spawn(reader.pods(PodScope(("default",))).run(seen.snapshot), name="watch")
            await seen.until(FOLLOWS, 0)
            for pod in tuple(seen.pods.values()):
                request = LogRequest("default", pod.name, "app", pod.uid, pod.containers[0].container_id)
                tasks.spawn(reader.log(request).run(seen.lines), name=f"log {pod.name}")
            await seen.until(FOLLOWS, FOLLOWS)
            lab.cluster.add_pod({"metadata": {"name": "late", "namespace": "default"}})  # the watch is one that watches
            await seen.until(FOLLOWS + 1, FOLLOWS)
            before = counters.issued
            for _ in range(REQUESTS):
                await reader.events("default")
            spent = counters.issued
        left = counters.standing
    return [
        at_most("P-13", f"Bastion sessions for list, watch, {FOLLOWS} logs, {REQUESTS} requests", spent, GOAL, ""),
        at_most("P-13", f"of these, for the {REQUESTS} requests", spent - before, 0, ""),
        at_most("P-13", "of these, not deleted when the console has closed", left, 0, ""),
    ]
