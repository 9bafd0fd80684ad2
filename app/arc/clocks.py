"""When what a tunnel lives by is renewed: each thing on a clock of its own, with patience until it really ends.

The wall clock counts: timers stand still while a computer sleeps, expiry times do not.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from app.errors import JumpdeckError
from app.records import Record

_log = logging.getLogger(__name__)


class Patience(Record):
    """How early something is renewed, and how patiently after a failure. All in seconds."""

    margin: float = 300.0
    """Before the end: what az takes, and below which MSAL hands out no cached token."""
    part: float = 0.0
    """Or this part of the whole life, when that is more."""
    steps: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0)
    """Between two tries; the last one repeats."""
    jitter: float = 0.2
    """Part of a step by which it varies: several tunnels must not ask together."""
    look: float = 10.0
    """Longest sleep before the wall clock is looked at again."""

    def due(self, got: float, ends: float) -> float:
        """When something got at `got` that ends at `ends` is renewed: never before half of its life."""
        life = max(0.0, ends - got)
        return ends - min(max(self.margin, life * self.part), life / 2)


RELAY = Patience(part=0.05)
"""Of the relay's credential, which lives three hours."""
TOKEN = Patience()
"""Of the identity's token."""


class Clock:
    """Renews one thing until it cannot.

    `renew` brings a new one and returns its end (POSIX seconds); it must ask nobody. `now` and `sleep` are for tests.
    """

    def __init__(
        self, name: str, ends: float, renew: Callable[[], Awaitable[float]], patience: Patience, *,
        now: Callable[[], float] = time.time, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.ends = ends
        """POSIX seconds at which the present one ends."""
        self.trouble: JumpdeckError | None = None
        """Why the last try to renew it failed; None when all is well."""
        self._renew, self._patience, self._now, self._sleep = renew, patience, now, sleep
        self._rng = rng or random.Random()  # noqa: S311 (jitter is no secret)
        self._due = patience.due(now(), ends)
        self._tries = 0
        self._turn = asyncio.Lock()

    async def run(self) -> JumpdeckError:
        """Renew it again and again; returns the failure with which it ended."""
        while True:
            await self._wait()
            ended = self._now() >= self.ends
            try:
                await self.renew_now()
            except JumpdeckError as error:
                if ended or self._now() >= self.ends:
                    return error
                # The last try is at the very end: what has ended may be had anew at once.
                self._due = min(self._now() + self._pause(), self.ends)

    async def renew_now(self) -> None:
        """Renew it whatever the time. Raises JumpdeckError; the present one then serves on to its end."""
        async with self._turn:
            try:
                self.ends = await self._renew()
            except JumpdeckError as error:
                self.trouble = error
                _log.info("%s is not renewed: %s", self.name, error)
                raise
            self.trouble, self._tries, now = None, 0, self._now()
            # A service that hands out the same end again is not asked in a circle.
            self._due = max(self._patience.due(now, self.ends), now + min(self._patience.steps[0], 1.0))

    def _pause(self) -> float:
        step = self._patience.steps[min(self._tries, len(self._patience.steps) - 1)]
        self._tries += 1
        return step * self._rng.uniform(1 - self._patience.jitter, 1 + self._patience.jitter)

    async def _wait(self) -> None:
        while (left := self._due - self._now()) > 0:
            await self._sleep(min(left, self._patience.look))
