"""The latency that is shown is that of a request of now, not of one that a frozen hop held back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.cluster.api import Probe
from app.errors import JumpdeckError, Recovery, RouteError
from app.rows import SessionPhase
from app.sessions.liveness import Liveness
from app.sessions.states import StateBoard
from app.tasks import TaskOwner

LIMIT = 20.0


class Held:
    """An API server whose next answer took `first` seconds, and every one after it 38 ms."""

    def __init__(self, first: float) -> None:
        self.times = [first]
        self.probes = 0
        self.access = SimpleNamespace(credentials_expiry=lambda: None)

    async def probe(self) -> Probe:
        self.probes += 1
        return Probe("v1.36.2", self.times.pop() if self.times else 0.038)


class Way:
    """A route that stands. `on_look` happens when it is looked at."""

    def __init__(self, on_look: Callable[[], None] = lambda: None) -> None:
        self.on_look = on_look

    async def wait_lost(self) -> JumpdeckError:
        await asyncio.get_running_loop().create_future()
        raise NotImplementedError

    async def verify(self) -> None:
        self.on_look()

    def hop_states(self) -> tuple[()]:
        return ()


async def probes_after_a_doubt(first: float) -> tuple[int, float | None]:
    board = StateBoard("prod", lambda _: None)
    board.move(SessionPhase.CONNECTING)
    board.move(SessionPhase.UP)
    api, looked = Held(first), asyncio.Event()
    liveness = Liveness(board, cast("Any", Way()), every=LIMIT)

    def settled() -> bool:
        looked.set()
        return True

    async with TaskOwner("test") as owner:
        owner.spawn(liveness.hold(cast("Any", api), settled), name="hold")
        liveness.report(RouteError("lost", code="JD-TEST", recovery=Recovery.TRANSIENT))
        await asyncio.wait_for(looked.wait(), LIMIT)
    return api.probes, board.state.latency


async def test_an_answer_that_was_held_back_is_measured_again() -> None:
    assert await probes_after_a_doubt(4.2) == (2, 0.038)


async def test_a_usual_answer_costs_one_request() -> None:
    assert await probes_after_a_doubt(0.04) == (1, 0.04)


async def test_what_opening_it_took_is_measured_anew_at_once() -> None:
    board = StateBoard("prod", lambda _: None)
    board.move(SessionPhase.CONNECTING)
    board.move(SessionPhase.UP, latency=6.3)
    looked = asyncio.Event()
    liveness = Liveness(board, cast("Any", Way()), every=100 * LIMIT)
    async with TaskOwner("test") as owner:
        owner.spawn(liveness.hold(cast("Any", Held(0.038)), lambda: bool(looked.set()) or True), name="hold")
        await asyncio.wait_for(looked.wait(), LIMIT)
        assert board.state.latency == 0.038


async def test_a_doubt_is_looked_into_at_the_hops_before_the_api_server_is_asked() -> None:
    """A frozen hop shows itself in 3 s, the API server's silence takes 10."""
    board, api = StateBoard("prod", lambda _: None), Held(0.038)
    board.move(SessionPhase.CONNECTING)
    board.move(SessionPhase.UP)

    def frozen() -> None:
        raise RouteError("the hub is silent", code="JD-TEST-HUB", recovery=Recovery.TRANSIENT)

    liveness = Liveness(board, cast("Any", Way(frozen)), every=100 * LIMIT)
    liveness.report(RouteError("lost", code="JD-TEST", recovery=Recovery.TRANSIENT))
    with pytest.raises(JumpdeckError) as caught:
        await asyncio.wait_for(liveness.hold(cast("Any", api), lambda: True), LIMIT)
    assert (caught.value.code, api.probes) == ("JD-TEST-HUB", 0)
