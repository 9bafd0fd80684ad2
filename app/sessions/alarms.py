"""Notices that this computer has slept, was stopped, or stands in another network: then every link is in doubt.

Timers cannot tell it: the clock they run on stands still while Linux sleeps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from app.routes.network import source_address

_ELSEWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses that only a default route leads to (documentation, RFC 5737 and RFC 3849); nothing is sent there."""
TICK = 1.0
"""Seconds between two looks at the clocks."""
JUMP = 5.0
"""Seconds by which a look may be late, or the wall clock ahead, before that counts as sleep: a busy machine stays
below, and no link is given up for less."""
TICKS_PER_LOOK = 5
"""Looks at the clocks for one at the network: a few system calls, no packet."""

_log = logging.getLogger(__name__)


class Alarms:
    """Calls `ring(why)` after sleep or a stop, and when packets leave from another address than before.

    `ranges` names addresses beside the default route whose way counts (the networks that open profiles must be on).
    One per process, run while sessions are open.
    """

    def __init__(
        self,
        ring: Callable[[str], object],
        *,
        ranges: Callable[[], Iterable[str]] = tuple,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        way: Callable[[str], str | None] = source_address,
        jump: float = JUMP,
    ) -> None:
        self._ring, self._ranges, self._way, self._jump = ring, ranges, way, jump
        self._wall, self._monotonic = wall, monotonic
        self._last_wall, self._last_monotonic = wall(), monotonic()
        self._ticks = 0
        self._ways = self._look()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self.tick()

    def tick(self) -> None:
        """One look, a second after the one before."""
        wall, monotonic = self._wall(), self._monotonic()
        passed = monotonic - self._last_monotonic
        ahead = wall - self._last_wall - passed
        self._last_wall, self._last_monotonic = wall, monotonic
        self._ticks += 1
        slept = max(passed - TICK, ahead)
        if slept > self._jump:
            self._ways = self._look()
            self._tell(f"this computer slept or was stopped for {slept:.0f} s")
        elif self._ticks % TICKS_PER_LOOK == 0 and self._moved():
            self._tell("the network has changed")

    def _look(self) -> dict[str, str | None]:
        return {address: self._way(address) for address in (*_ELSEWHERE, *self._ranges())}

    def _moved(self) -> bool:
        """Whether an address is reached from elsewhere than at the last look; new addresses are only noted."""
        before, self._ways = self._ways, self._look()
        return any(address in before and before[address] != way for address, way in self._ways.items())

    def _tell(self, why: str) -> None:
        _log.info("every link is checked: %s", why)
        self._ring(why)
