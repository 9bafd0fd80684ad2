"""The console, headless, with a log pane that follows: how many lines come in, and how long the loop stalls.

`python -m bench.pane SECONDS PROFILE…` opens profiles of the environment's configuration folder, follows (for SECONDS)
the log of the first one's pod and prints as JSON: `rate` (lines a second), `lag` (milliseconds by which 99 of 100
wake-ups of the loop come late at most) and `listening` (sockets that this process listens on).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable

from app.console import build_app
from app.profiles.store import load
from app.rows import SessionPhase
from screens.app import ConsoleApp
from tests.leftovers import listening

SAMPLE = 0.005
"""Seconds between two looks at the clock; what is above is the loop's lateness."""
WARM = 3.0
"""Seconds before anything is counted: the first screens, the first blocks."""


async def until(true: Callable[[], bool]) -> None:
    """Wait for something on the screen, which tells nobody outside."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def lateness(seconds: float) -> float:
    """Milliseconds by which 99 of 100 wake-ups come late at most."""
    loop = asyncio.get_running_loop()
    end, found = loop.time() + seconds, []
    while loop.time() < end:
        due = loop.time() + SAMPLE
        await asyncio.sleep(SAMPLE)
        found.append(loop.time() - due)
    found.sort()
    return found[int(len(found) * 0.99)] * 1000


async def opened(app: ConsoleApp, name: str) -> None:
    """Open a profile and wait until it is UP."""
    await app.main.open(name)
    session = app.main.bridge.sessions.get(name)
    async with asyncio.timeout(30):
        while session.state.phase is not SessionPhase.UP:
            await session.changed()


async def main(names: list[str], seconds: float) -> None:
    """Open every profile; with a time, follow the first one's log as long."""
    app = build_app(load, None, ascii_only=False)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: app.main.bridge is not None)
        for name in names:
            await opened(app, name)
        result = {"listening": float(len(listening(os.getpid())))}
        if seconds:
            view = app.main.view(names[0])
            await until(lambda: bool(view.snapshot.rows))
            await pilot.press("l")
            await until(lambda: view.log_ring is not None and view.log_ring.received > 0)
            await asyncio.sleep(WARM)
            before, began = view.log_ring.received, time.perf_counter()
            result["lag"] = await lateness(seconds)
            result["rate"] = (view.log_ring.received - before) / (time.perf_counter() - began)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2:], float(sys.argv[1])))
