"""Finds out that a session which is UP has lost its link: probes, doubts of readers, connections that end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.dialer import ends_sign_in
from app.errors import JumpdeckError, Recovery, RouteError
from app.rows import SessionPhase
from app.sessions.route import RouteKeeper
from app.sessions.states import StateBoard
from app.tasks import TaskOwner

if TYPE_CHECKING:
    from app.cluster.api import ApiClient

PROBE_EVERY = 15.0
"""Seconds without a doubt after which the API server is asked; also how often the latency is measured."""
PROBE_LIMIT = 5.0
"""Seconds that a probe may take. One that misses makes the session DEGRADED, a second in a row RETRYING; with the look
at the route between them a frozen link is known after 28 s at most."""

HELD_BACK = 1.0
"""Seconds above which a round trip is measured once more: the slowest links have shorter ones."""

UP_PHASES = frozenset({SessionPhase.UP, SessionPhase.DEGRADED})


class Liveness:
    """Watches one session's link."""

    def __init__(
        self, board: StateBoard, route: RouteKeeper, *, every: float = PROBE_EVERY, limit: float = PROBE_LIMIT
    ) -> None:
        self._board, self._route = board, route
        self._every, self._limit = every, limit
        self._heard = time.monotonic()
        self.suspect: JumpdeckError | None = None
        """What a reader reported and what has not been looked into yet: streams wait until it has."""
        self.wake = asyncio.Event()
        """Set to have it look at once; between tries, to try at once."""

    def report(self, error: JumpdeckError) -> None:
        """A stream failed in a way that may mean that the link is gone."""
        if self._board.state.phase in UP_PHASES and (error.transient or ends_sign_in(error)):
            self.suspect = error
            self.wake.set()

    def alive(self) -> None:
        """Bytes came from the API server."""
        self._heard = time.monotonic()

    async def probe(self, api: ApiClient) -> str:
        """One small request through everything; keeps the latency. Returns the server's version, if it may be known."""
        try:
            probe = await api.probe()
        except JumpdeckError as error:
            self._board.publish(token_until=api.access.credentials_expiry())
            if error.code == "JD-API-FORBIDDEN":  # it answered, and knows us: /version may be closed to us
                return ""
            raise
        until = api.access.credentials_expiry()
        self._board.publish(latency=probe.seconds, token_until=until, hops=self._route.hop_states())
        return probe.version

    async def hold(self, api: ApiClient, settled: Callable[[], bool]) -> None:
        """Stay UP until the link is lost; raises the reason. `settled` tells whether earlier tries are forgotten."""
        async with TaskOwner(f"liveness {self._board.state.profile}") as owner:
            lost = owner.spawn(self._route.wait_lost(), name="wait lost")
            if (self._board.state.latency or 0.0) > HELD_BACK:  # what opened just now was held back: measure anew
                self.wake.set()
            while True:
                doubted = await self._pause(owner, lost)
                if lost.done():
                    await self._route.shed()
                    raise lost.result()
                if doubted:  # a frozen hop shows itself in 3 s, the API server's silence takes 10
                    await self._route.verify()
                answered = await self._answers(api)
                if answered and (self._board.state.latency or 0.0) > HELD_BACK:
                    # The time of an answer that a frozen hop held back is no latency; that of the one after it is.
                    answered = await self._answers(api)
                if answered:
                    self.suspect = None
                    tries = 0 if settled() else self._board.state.tries
                    self._board.move(SessionPhase.UP, error=None, tries=tries, hops=self._route.hop_states())

    async def _pause(self, owner: TaskOwner, lost: asyncio.Task[JumpdeckError]) -> bool:
        """Wait until something is doubted (True), a connection is lost, or it is time to measure."""
        wake = owner.spawn(self.wake.wait(), name="wait wake")
        try:
            await asyncio.wait({wake, lost}, timeout=self._every, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
        doubted = self.wake.is_set()
        self.wake.clear()
        return doubted

    async def _answers(self, api: ApiClient) -> bool:
        """Ask the API server; when it is silent look at the route, then ask once more. Raises what is wrong.

        False: it was silent twice, but bytes came meanwhile. Then the link is full, not dead.
        """
        began = time.monotonic()
        for last in (False, True):
            try:
                async with asyncio.timeout(self._limit):
                    await self.probe(api)
            except TimeoutError:
                error = _silent(self._limit)
                if self._heard < began:
                    if last:
                        raise error from None
                    self._board.move(SessionPhase.DEGRADED, error=error, hops=self._route.hop_states())
                    await self._route.verify()
                elif last:
                    self.suspect = None
                    self._board.move(SessionPhase.DEGRADED, error=error, hops=self._route.hop_states())
            else:
                return True
        return False


def _silent(limit: float) -> RouteError:
    return RouteError(
        "The API server stopped answering", f"no answer within {limit:g} s", "Jumpdeck tries again by itself.",
        code="JD-API-SILENT", layer="api", recovery=Recovery.TRANSIENT,
    )  # fmt: skip
