"""How long a command waits for its route: what was asked for holds, and steps that take their time have theirs."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from app.arc.steps import BY_AZ, DOWNLOAD, PATIENCE
from app.cli.frame import CONNECT_LIMIT, REFUSED_TRIES, _limits, wait_first_up
from app.errors import JumpdeckError, Recovery, RouteError
from app.profiles.model import ArcCluster, KubeconfigCluster, Profile
from app.rows import SessionPhase, SessionState, Step, StepState
from app.sessions.states import StateBoard
from app.sessions.supervisor import Session

ARC = Profile("edge", ArcCluster("/subscriptions/s/…/connectedClusters/c"))
NEVER = 60.0
"""Seconds that are not waited for."""


class FakeSession:
    """A session that somebody else moves."""

    def __init__(self, *steps: str) -> None:
        self.profile = ARC
        self._board = StateBoard("edge", lambda _: None)
        self._board.move(SessionPhase.CONNECTING, steps=tuple(Step(label, StepState.RUNNING) for label in steps))

    @property
    def state(self) -> SessionState:
        return self._board.state

    async def changed(self) -> SessionState:
        return await self._board.changed()

    def up(self) -> None:
        self._board.move(SessionPhase.UP, steps=())

    def fails(self, code: str, tries: int) -> None:
        error = RouteError("It fails", code=code, layer="arc", recovery=Recovery.TRANSIENT)
        self._board.move(SessionPhase.RETRYING, steps=(), error=error, tries=tries)


async def failure(session: FakeSession, limit: float, **patience: float) -> JumpdeckError:
    with pytest.raises(JumpdeckError) as caught:
        await wait_first_up(cast("Session", session), limit, patience)
    return caught.value


def test_what_was_asked_for_holds_and_az_has_its_time_without() -> None:
    assert _limits(ARC, 12.0) == (12.0, {})
    assert _limits(ARC, None) == (CONNECT_LIMIT, PATIENCE) and {BY_AZ, DOWNLOAD} == set(PATIENCE)
    assert _limits(Profile("p", KubeconfigCluster("~/.kube/config", "c")), None) == (CONNECT_LIMIT, {})


async def test_the_clock_rests_while_a_step_runs_that_takes_its_time() -> None:
    session = FakeSession("shop-01 (Azure Arc)", "slow")
    waiting = asyncio.ensure_future(wait_first_up(cast("Session", session), 0.05, {"slow": NEVER}))
    asyncio.get_running_loop().call_later(0.3, session.up)
    await waiting


async def test_the_step_that_did_not_end_is_named() -> None:
    for patience in ({}, {"other": NEVER}, {"slow": 0.05}):
        error = await failure(FakeSession("shop-01 (Azure Arc)", "slow"), 0.05, **patience)
        assert error.code == "JD-ROUTE-TIMEOUT" and "last step: slow" in error.detail


@pytest.mark.parametrize(
    "code",
    [
        "JD-ARC-START",
        "JD-ARC-PORT",
        "JD-ARC-KEY",
        "JD-ARC-ENDED",
        "JD-ARC-AGENT",
        "JD-ARM-CLOSED",
        "JD-SIGN-IN-NO-SERVER",
    ],
)
async def test_what_fails_at_once_and_always_ends_a_command_after_its_tries(code: str) -> None:
    session = FakeSession()
    waiting = asyncio.ensure_future(failure(session, NEVER))
    await asyncio.sleep(0)
    for tries in range(1, REFUSED_TRIES + 1):
        assert not waiting.done()
        session.fails(code, tries)
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(waiting, 10)).code == code
