"""The living estate: pods that write, crash, roll out and finish, deterministic by seed.

Every behaviour is a generator that yields the seconds until its next act. One task runs them all from a heap; the
time before the lab started is played at once on a virtual clock, so that logs, restarts and ages are there from the
first moment.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Generator

from app.lab.kubelet import Cluster
from app.lab.log_files import LogFile

PAST = 300.0
"""Seconds before the start that are played at once: enough for every log to hold something, quick to make."""

LAG_LIMIT = 1.0
"""Seconds by which acts may be late before what was missed is left out (a machine that slept)."""

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"

Life = Generator[float, None, None]
"""A behaviour: yields seconds until its next act; ends when there is nothing more to do."""


class Stage:
    """What behaviours act on: the cluster, a source of chance, and the time, which is virtual at first."""

    def __init__(self, cluster: Cluster, rng: random.Random, start: float) -> None:
        self.cluster = cluster
        self.rng = rng
        self.now = start
        """Epoch seconds of the act that runs."""
        self.past = True
        """The time before the start of the lab is being played."""
        self._order = itertools.count()
        self._due: list[tuple[float, int, Life]] = []

    def add(self, life: Life, delay: float = 0.0) -> None:
        """Let a behaviour begin `delay` seconds from now."""
        heapq.heappush(self._due, (self.now + delay, next(self._order), life))

    @property
    def next_due(self) -> float | None:
        """When the next act is due, in epoch seconds."""
        return self._due[0][0] if self._due else None

    def act(self, now: float | None = None) -> None:
        """Run the act that is due first, at its own time or at `now`."""
        due, _, life = heapq.heappop(self._due)
        self.now = due if now is None else now
        wait = next(life, None)
        if wait is None:
            return
        base = due if now is None or now - due < LAG_LIMIT else now
        heapq.heappush(self._due, (base + wait, next(self._order), life))

    def write(self, log: LogFile, data: bytes) -> None:
        """Write log lines now. In the past that is played, a little chance makes the stamps look as on a real node."""
        log.write(data, round(self.now * 1e9) + (self.rng.randrange(2_000_000) if self.past else 0))

    def suffix(self, length: int) -> str:
        """The random end of a generated name, from Kubernetes' own alphabet."""
        return "".join(self.rng.choices(_ALPHABET, k=length))


class Estate:
    """Fills a cluster and keeps it alive."""

    def __init__(self, cluster: Cluster, *, seed: int = 1) -> None:
        self._cluster = cluster
        self._start = cluster.store.clock()
        self.stage = Stage(cluster, random.Random(seed), self._start - PAST)

    def populate(self) -> None:
        """Put everything in place and play the past."""
        from app.lab.estate_layout import furnish

        furnish(self.stage)
        while (due := self.stage.next_due) is not None and due <= self._start:
            self.stage.act()
        self.stage.now, self.stage.past = self._start, False

    async def run(self) -> None:
        """Play on in real time until cancelled."""
        clock = self._cluster.store.clock
        while (due := self.stage.next_due) is not None:
            now = clock()
            if due > now:
                await asyncio.sleep(due - now)
                continue
            self.stage.act(now)
