"""Equal leading hops are one connection for all routes of this process.

It is opened once, counted, and closed with its last user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from app.dialer import Dialer, Hop
from app.errors import JumpdeckError, Recovery
from app.tasks import TaskOwner, spawn

Keys = tuple[Hashable, ...]
"""The keys of the hops up to a shared one: what makes two of them the same connection."""

CLOSE_LIMIT = 5.0
"""Seconds that the last user waits for the end: a hop's own clean end takes three at most."""
REFUSALS_KEPT = 64
"""Refused openings that are remembered; one for each way in that failed, of which a person has a few."""


def part_of_way(hop: Hop) -> Hashable:
    """What a hop adds to the keys of those behind it.

    One that carries nothing is still part of the way: the same address in another network is another server.
    """
    return hop.key if hop.key is not None else ("on", hop.label)


class SharedHops:
    """The open hops of one process. Each is opened and closed inside a task of its own, whoever asked for it."""

    def __init__(self) -> None:
        self._entries: dict[Keys, _Entry] = {}
        self._refused: dict[Keys, tuple[float, JumpdeckError]] = {}

    async def open(self, keys: Keys, hop: Hop, through: Dialer, *, began: float | None = None) -> SharedHop:
        """Use the hop that `keys` name, opening it through `through` when nobody has.

        All who wait for the same opening get the same connection, or the same error: one login, one failed try. A
        refusal that needs a person or a change counts also for those who began to connect (`began`, in the loop's
        time) before it came. Raises JumpdeckError.
        """
        if began is not None and (refused := self._refused.get(keys)) is not None and began < refused[0]:
            raise refused[1]
        entry = self._entries.get(keys)
        if entry is None:
            entry = self._entries[keys] = _Entry(self, keys, hop, through)
        return await entry.enter()

    def users(self, keys: Keys) -> int:
        """How many routes use this hop now."""
        entry = self._entries.get(keys)
        return entry.users if entry is not None else 0

    def dropped(self, keys: Keys, entry: _Entry, error: BaseException | None) -> None:
        """The entry cannot serve new routes any more: lost, closed, or never opened (`error`)."""
        if self._entries.get(keys) is entry:
            del self._entries[keys]
        if isinstance(error, JumpdeckError) and error.recovery is not Recovery.TRANSIENT:
            self._refused.pop(keys, None)
            self._refused[keys] = (asyncio.get_running_loop().time(), error)
            while len(self._refused) > REFUSALS_KEPT:
                del self._refused[next(iter(self._refused))]

    def opened(self, keys: Keys) -> None:
        """What refused before has let us in."""
        self._refused.pop(keys, None)

    async def aclose(self) -> None:
        """End every connection, whoever still uses it."""
        await asyncio.gather(*(entry.end() for entry in tuple(self._entries.values())))


class SharedHop:
    """One route's use of a shared hop."""

    def __init__(self, entry: _Entry, dialer: Dialer) -> None:
        self._entry: _Entry | None = entry
        self._of = entry
        self.dialer = dialer

    @property
    def users(self) -> int:
        """How many routes use it, this one among them."""
        return self._of.users

    async def aclose(self) -> None:
        """End this use; the last one closes the connection. More than once is as good as once."""
        entry, self._entry = self._entry, None
        if entry is not None:
            await entry.leave()


class _Entry:
    """One connection, its users, and the task that holds it open."""

    def __init__(self, shared: SharedHops, keys: Keys, hop: Hop, through: Dialer) -> None:
        self.users = 0
        self._shared, self._keys, self._hop, self._through = shared, keys, hop, through
        self._ready: asyncio.Future[Dialer] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(_take_note)
        self._unused = asyncio.Event()
        self._task = spawn(self._hold(), name=f"hold {hop.label}")

    async def enter(self) -> SharedHop:
        self.users += 1
        try:
            return SharedHop(self, await asyncio.shield(self._ready))
        except BaseException:
            await self.leave()
            raise

    async def leave(self) -> None:
        self.users -= 1
        if self.users <= 0:
            await self.end()

    async def end(self) -> None:
        """Close it and wait for that."""
        self._shared.dropped(self._keys, self, None)
        self._unused.set()
        if not self._ready.done():
            self._task.cancel()
        await asyncio.wait({self._task}, timeout=CLOSE_LIMIT)

    async def _hold(self) -> None:
        failure: BaseException | None = None
        try:
            async with self._hop.open(self._through) as dialer, TaskOwner(f"shared {self._hop.label}") as owner:
                self._shared.opened(self._keys)
                self._ready.set_result(dialer)
                ends = {owner.spawn(dialer.wait_lost(), name="wait lost"),
                        owner.spawn(self._unused.wait(), name="wait unused")}  # fmt: skip
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                self._shared.dropped(self._keys, self, None)
        except BaseException as exc:
            failure = exc
            if self._ready.done() or not isinstance(exc, Exception):
                raise
        finally:
            self._shared.dropped(self._keys, self, failure)
            if not self._ready.done():
                if isinstance(failure, Exception):
                    self._ready.set_exception(failure)
                else:
                    self._ready.cancel()


def _take_note(ready: asyncio.Future[Dialer]) -> None:
    """An error for which nobody waits any more is no defect."""
    if not ready.cancelled():
        ready.exception()
