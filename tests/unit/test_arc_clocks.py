"""When what a tunnel lives by is renewed, by a clock that the tests turn."""

from __future__ import annotations

import asyncio
import random

from app.arc.clocks import RELAY, TOKEN, Clock, Patience
from app.errors import JumpdeckError, Recovery, SignInError

NOT_NOW = JumpdeckError("Azure cannot be reached", code="JD-ARM-UNREACHABLE", recovery=Recovery.TRANSIENT)
AFTER_SLEEP = 7_200.0
"""Seconds that a laptop slept."""


class World:
    """A clock, and something that is renewed by it; `answers` are what the service says, in order."""

    def __init__(self, patience: Patience, life: float, *answers: JumpdeckError | float) -> None:
        self.now = 1_000.0
        self.tried: list[float] = []
        self.troubles: list[JumpdeckError | None] = []
        self.answers = list(answers)
        self.clock = Clock("relay", self.now + life, self._renew, patience, now=lambda: self.now, sleep=self._sleep,
                           rng=random.Random(1))  # fmt: skip
        self.naps: list[float] = []
        self.slept = 0.0

    async def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += self.slept or seconds
        self.slept = 0.0
        await asyncio.sleep(0)

    async def _renew(self) -> float:
        self.tried.append(self.now)
        self.troubles.append(self.clock.trouble)
        if not self.answers:
            raise asyncio.CancelledError  # the story is over
        answer = self.answers.pop(0)
        if isinstance(answer, JumpdeckError):
            raise answer
        return self.now + answer

    async def run(self) -> JumpdeckError | None:
        try:
            return await self.clock.run()
        except asyncio.CancelledError:
            return None


async def test_each_is_renewed_in_time_and_not_before_half_of_its_life() -> None:
    relay, token, short = World(RELAY, 10_800, 10_800.0), World(TOKEN, 3_600, 3_600.0), World(TOKEN, 60, 60.0)
    for world, after in ((relay, 10_800 - 540), (token, 3_300), (short, 30)):
        assert await world.run() is None
        assert [round(at - 1_000) for at in world.tried] == [after, 2 * after]
        assert max(world.naps) <= 10.0, "the wall clock is looked at"


async def test_a_renewal_that_fails_for_four_of_five_minutes_and_then_succeeds_costs_nothing() -> None:
    world = World(TOKEN, 3_600, *[NOT_NOW] * 8, 3_600.0)
    assert await world.run() is None
    assert world.troubles == [None, *[NOT_NOW] * 8, None], "it is told meanwhile"
    gaps = [later - before for before, later in zip(world.tried, world.tried[1:9], strict=False)]
    for gap, step in zip(gaps, (5, 10, 20, 40, 40, 40, 40, 40), strict=True):
        assert 0.8 * step <= gap <= 1.2 * step
    assert 180 < world.tried[8] - world.tried[0] < 300 and world.clock.trouble is None
    assert world.tried[9] > 1_000 + 3_600, "it went on with the new one"


async def test_what_is_never_renewed_ends_with_its_real_end_and_the_last_reason() -> None:
    person = SignInError("A person is needed", code="JD-SIGN-IN-NEEDED", recovery=Recovery.NEEDS_PERSON)
    world = World(TOKEN, 3_600, *[NOT_NOW] * 6, *[person] * 20)
    assert await world.run() is person
    assert round(world.tried[-1], 3) == world.clock.ends == 1_000 + 3_600
    assert world.tried[-2] < world.clock.ends, "it was tried to the end"


async def test_a_sleep_of_the_computer_is_noticed_by_the_wall_clock() -> None:
    world = World(TOKEN, 3_600, 3_600.0)
    world.slept = AFTER_SLEEP
    assert await world.run() is None
    assert world.tried[0] == 1_000 + AFTER_SLEEP, "at the first look after it, though the token has ended"


async def test_a_service_that_hands_out_what_has_ended_is_not_asked_in_a_circle() -> None:
    world = World(TOKEN, 60, 0.0, 0.0, 0.0)
    assert await world.run() is None
    assert all(later - before >= 1.0 for before, later in zip(world.tried, world.tried[1:], strict=False))


async def test_it_is_renewed_at_once_when_somebody_wants_it() -> None:
    world = World(RELAY, 10_800, 500.0)
    await world.clock.renew_now()
    assert world.clock.ends == 1_500.0 and world.tried == [1_000.0]
    assert await world.run() is None
    assert world.tried[1] == 1_000 + 250
