"""What all console tests share: waiting until the screen has taken in what was told, and the text that it shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from textual.pilot import Pilot

from screens.app import ConsoleApp
from tests.console.fakes_console import Stage, snapshot

LIMIT = 40.0
"""Seconds after which a console that does not come to something counts as failed."""
LOOK = 0.01
"""Seconds between two looks at it."""
FRAMES = 4
TURNS = 10_000
"""Turns of the loop after which whatever still runs is a clock of its own."""


async def until(pilot: Pilot, fact: Callable[[], object]) -> None:
    """Let the console run until this is so."""
    async with asyncio.timeout(LIMIT):
        while not fact():
            await pilot.pause(LOOK)


async def settle(pilot: Pilot) -> None:
    """Let messages, workers and frames pass, until whatever is left waits for a clock.

    A pause of the pilot alone ends when little was computed for a while: on a busy machine that is too early, on a
    slow one it takes as long as what is shown in passing stands there.
    """
    app, loop = pilot.app, asyncio.get_running_loop()
    if isinstance(app, ConsoleApp) and not app._leaving:
        await until(pilot, lambda: app._bridge is not None)  # threads load the services
    for _ in range(FRAMES):
        await app._animator.wait_until_complete()
        await pilot.pause(0)
        for _ in range(TURNS):
            if not loop._ready:  # type: ignore[attr-defined]
                break
            await asyncio.sleep(0)


def shown(pilot: Pilot) -> str:
    """All text on the screen, line by line."""
    width, height = pilot.app.size
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text[:width] for strip in strips[:height])


@asynccontextmanager
async def running(stage: Stage, *pods, size: tuple[int, int] = (120, 40), up: str = "prod-weu") -> AsyncIterator[Pilot]:
    """The console with a first session UP and these pods in it."""
    async with stage.app.run_test(size=size) as pilot:
        await settle(pilot)
        if up:
            await stage.app.main.open(up)
            await settle(pilot)
            stage.reader(up).snapshot = snapshot(*pods)
            stage.session(up).up()
            await settle(pilot)
        yield pilot


@pytest.fixture
def console() -> Callable[..., AbstractAsyncContextManager[Pilot]]:
    """`async with console(stage, *pods) as pilot`."""
    return running
