"""A program that opens profiles and tells what happens, a JSON object a line: a client in a process of its own.

`python -m tests.session_client PROFILE… [--follow POD]… [--watch]` runs until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from app.cluster.log_stream import LogRequest
from app.cluster.pods import PodScope
from app.profiles.store import load
from app.rows import LogBatch, PodSnapshot, SessionPhase, SessionState
from app.sessions.supervisor import Session, Sessions
from app.tasks import TaskOwner


def tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


class Teller:
    """Tells each change of phase once."""

    def __init__(self) -> None:
        self._last: dict[str, SessionPhase] = {}

    def state(self, state: SessionState) -> None:
        if self._last.get(state.profile) is not state.phase:
            self._last[state.profile] = state.phase
            error = state.error.code if state.error else ""
            tell(profile=state.profile, phase=state.phase.value, error=error)

    async def lines(self, batch: LogBatch) -> None:
        for line in batch.text.splitlines():
            tell(pod=batch.source.pod, line=line.partition(b" ")[2].decode())

    def pods(self, snapshot: PodSnapshot) -> None:
        tell(pods=sorted(row.name for row in snapshot.rows.values()), staleness=snapshot.staleness.value)


async def up(session: Session) -> None:
    while session.state.phase is not SessionPhase.UP:
        await session.changed()


async def main(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: ended.set())
    teller = Teller()
    async with Sessions(load()) as sessions, TaskOwner("client") as tasks:
        sessions.on_change(teller.state)
        opened = [sessions.open(name) for name in args.profile]
        waiting = [tasks.spawn(up(session), name="up") for session in opened]
        await asyncio.wait([*waiting, tasks.spawn(ended.wait(), name="end")], return_when=asyncio.FIRST_COMPLETED)
        if not ended.is_set():
            reader = opened[0].reader
            for pod in args.follow:
                tasks.spawn(reader.log(LogRequest("default", pod, "app")).run(teller.lines), name=f"log {pod}")
            if args.watch:
                tasks.spawn(reader.pods(PodScope(())).run(teller.pods), name="watch")
        await ended.wait()
    tell(closed=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("profile", nargs="+")
    parser.add_argument("--follow", action="append", default=[])
    parser.add_argument("--watch", action="store_true")
    asyncio.run(main(parser.parse_args()))
