"""Owners end their tasks; waits are jittered within bounds."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from app.tasks import Backoff, TaskOwner


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_waits_stay_within_full_jitter(seed: int, tries: int) -> None:
    backoff = Backoff(rng=random.Random(seed))
    for n in range(tries):
        assert 0.2 <= backoff.next() <= max(0.2, min(30.0, 0.5 * 2**n))


def test_the_far_ends_own_wait_wins_when_longer() -> None:
    assert Backoff().next(retry_after=120.0) == 120.0


def test_reset_forgets() -> None:
    backoff = Backoff(rng=random.Random(1))
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 0.5


async def test_an_owner_ends_its_tasks() -> None:
    ended = asyncio.Event()

    async def life() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async with TaskOwner("owner") as owner:
        task = owner.spawn(life(), name="life")
        await asyncio.sleep(0)
        assert task.get_name() == "owner: life"
    assert ended.is_set() and task.cancelled()


async def test_a_failure_is_not_lost() -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def fail() -> None:
        raise ValueError("lost?")

    async with TaskOwner("owner") as owner:
        task = owner.spawn(fail(), name="fail")
        await asyncio.wait({task})
        await asyncio.sleep(0)
    assert [str(context["exception"]) for context in told] == ["lost?"]
