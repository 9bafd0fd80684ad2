"""The open hops of one session, folded: a dialer at the far end, how each hop is, and the end of all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from msgspec.structs import replace

from app.dialer import Connection, Dialer, Explaining, Hop, Reachable
from app.errors import JumpdeckError
from app.routes.shared import Keys, SharedHop, SharedHops, part_of_way
from app.rows import HopState, StepState
from app.tasks import TaskOwner

StepOf = Callable[[str], AbstractAsyncContextManager[None]]
"""Shows one step of connecting by its label, with its time, and what fails in it."""


BLAME_KEPT = 10.0
"""Seconds for which a hop that took no connection counts as the one to blame: a look and the error that follows it."""


class _OpenHop:
    """One hop of this route: shared, or entered for it alone."""

    def __init__(self, hop: Hop, through: Dialer, dialer: Dialer, shared: SharedHop | None) -> None:
        self.label, self.through, self.dialer, self.shared = hop.label, through, dialer, shared
        self.since = time.time()
        self.stack = AsyncExitStack()

    @property
    def lost(self) -> bool:
        """Whether the connection that it rests on has gone."""
        return isinstance(self.dialer, Connection) and self.dialer.facts().state is StepState.FAILED

    def state(self) -> HopState:
        if not isinstance(self.dialer, Connection):
            return HopState(label=self.label, since=self.since)
        facts = replace(self.dialer.facts(), label=self.label)
        users = self.shared.users if self.shared is not None else 1
        if users < 2:
            return facts
        return replace(facts, note=", ".join(part for part in (facts.note, f"shared by {users} routes") if part))


class Route:
    """Made by `Route.open`; closed by `aclose`, which leaves hops that other routes use."""

    def __init__(self, base: Dialer) -> None:
        self.dialer: Dialer = base
        """The far end: dials hosts as they are named there."""
        self._hops: list[_OpenHop] = []
        self._keys: Keys = ()
        self._blame: tuple[float, JumpdeckError] | None = None
        """The hop that took no connection, and when (monotonic seconds)."""

    @classmethod
    async def open(
        cls, hops: tuple[Hop, ...], base: Dialer, shared: SharedHops, step: StepOf, *, began: float | None = None
    ) -> Route:
        """Open the hops in order, each through the one before it; equal leading ones are taken from `shared`.

        `began`: when this connecting began, in the loop's time, before any wait for a turn (see `SharedHops.open`).
        Raises JumpdeckError, with everything closed again that was opened.
        """
        route = cls(base)
        try:
            await route.extend(hops, shared, step, began=began)
        except BaseException:
            await route.aclose()
            raise
        return route

    async def extend(
        self, hops: tuple[Hop, ...], shared: SharedHops, step: StepOf, *, began: float | None = None
    ) -> None:
        """Open those of `hops` that are not open yet. Raises JumpdeckError; what was opened until then stays open."""
        for hop in hops[len(self._hops) :]:
            async with step(hop.label):
                await self._enter(hop, shared, began)

    async def _enter(self, hop: Hop, shared: SharedHops, began: float | None) -> None:
        key = part_of_way(hop)
        if hop.key is None:
            stack = AsyncExitStack()
            opened = _OpenHop(hop, self.dialer, await stack.enter_async_context(hop.open(self.dialer)), None)
            opened.stack = stack
        else:
            use = await shared.open((*self._keys, key), hop, self.dialer, began=began)
            opened = _OpenHop(hop, self.dialer, use.dialer, use)
            opened.stack.push_async_callback(use.aclose)
        self._hops.append(opened)
        self._keys = (*self._keys, key)
        self.dialer = opened.dialer

    async def shed(self) -> None:
        """Close the hops from the first one on that has gone; those before it stay open."""
        keep = next((at for at, hop in enumerate(self._hops) if hop.lost), len(self._hops))
        await self._close(keep)

    async def _close(self, keep: int) -> None:
        """Close all hops but the first `keep`, in reverse order."""
        self._keys = self._keys[:keep]
        while len(self._hops) > keep:
            hop = self._hops.pop()
            self.dialer = hop.through
            await hop.stack.aclose()

    @property
    def labels(self) -> tuple[str, ...]:
        """The open hops, in order."""
        return tuple(hop.label for hop in self._hops)

    @property
    def _connections(self) -> list[Connection]:
        """Hops that rest on a connection of their own, the nearest first, each once."""
        found: list[Connection] = []
        for hop in self._hops:
            if isinstance(hop.dialer, Connection) and hop.dialer not in found:
                found.append(hop.dialer)
        return found

    @property
    def carries(self) -> bool:
        """Whether a hop carries the streams: names are then those of its far end, not of this computer."""
        return bool(self._connections)

    async def wait_lost(self) -> JumpdeckError:
        """Return when any hop has gone, with the reason of the nearest one; never, without hops that can be lost."""
        async with TaskOwner("route") as owner:
            hops: Sequence[Dialer] = self._connections or [self.dialer]
            waits = [owner.spawn(hop.wait_lost(), name="wait lost") for hop in hops]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return next(wait for wait in waits if wait.done()).result()

    def hop_states(self) -> tuple[HopState, ...]:
        """How each hop is now, in order. Costs nothing, sends nothing."""
        states = [hop.state() for hop in self._hops]
        return tuple(states)

    async def verify(self, limit: float) -> None:
        """Have every hop that is a connection answer within `limit` seconds, all at once.

        Raises the RouteError of the nearest one that does not; that connection has then ended.
        """
        asked = [hop.verify(limit) for hop in self._connections]
        async with TaskOwner("route blame") as owner:  # side by side: a frozen way must not be waited for twice
            blaming = owner.spawn(self._look(limit), name="look")
            answers = await asyncio.gather(*asked, return_exceptions=True)
            failed = next((answer for answer in answers if isinstance(answer, BaseException)), None)
            if failed is not None or all(isinstance(hop, Reachable) for hop in self._connections):
                await blaming
        if failed is not None:
            raise failed

    async def blamed(self, error: JumpdeckError, limit: float) -> JumpdeckError:
        """The error of what is behind these hops, with the hop named that is to blame, or that answers.

        A stream inside a Bastion ends without a word about it: what lies behind seems silent whoever is.
        """
        for hop in self._hops:
            if isinstance(hop.dialer, Explaining):
                return await hop.dialer.explain(error, limit)
        ways = [hop.label for hop in self._hops if isinstance(hop.dialer, Reachable)]
        if not ways or any(label.partition(" (")[0] in error.detail for label in ways):
            return error
        if (found := await self._look(limit)) is not None:
            return found
        error.detail = f"{error.detail}; by way of {' and '.join(ways)}, which answers"
        return error

    async def _look(self, limit: float) -> JumpdeckError | None:
        """The error of the nearest hop that takes no connection now; None when all do."""
        if self._blame is not None and time.monotonic() - self._blame[0] < BLAME_KEPT:
            return self._blame[1]
        asked = [hop.dialer.reach(limit) for hop in self._hops if isinstance(hop.dialer, Reachable)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found = next((answer for answer in answers if isinstance(answer, JumpdeckError)), None)
        self._blame = None if found is None else (time.monotonic(), found)
        return found

    async def aclose(self) -> None:
        """End this route: hops close in reverse order, those in use by others stay."""
        await self._close(0)
