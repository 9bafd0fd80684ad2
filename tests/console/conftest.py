"""What all console tests share: waiting until the screen has taken in what was told, and the text that it shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from textual.pilot import Pilot

from tests.console.fakes_console import Stage, snapshot


async def settle(pilot: Pilot) -> None:
    """Let messages, workers and frames pass."""
    for _ in range(4):
        await pilot.pause()


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
