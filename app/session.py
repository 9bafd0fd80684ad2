"""One open profile: the task that connects it, holds it UP, finds out that it is lost, and brings it back.

UP means that the API server answered `/version` through the whole chain. Readers (watches, log follows) hold their
cursor while a session is not UP and resume when it is. The route is kept when only the API server fails: a hiccup of
it costs no second login at the jump box.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from app.errors import JumpdeckError, Recovery, RouteError
from app.program_log import log_crash, log_path
from app.rows import HopState, SessionPhase, SessionState
from app.session_asking import Attempt, Desk, SessionAsker
from app.session_route import RouteGround, RouteKeeper
from app.session_states import STUCK, StateBoard, stuck_phase
from app.tasks import Backoff, TaskOwner

if TYPE_CHECKING:
    from app.asking import Asker
    from app.cluster.access import Access
    from app.cluster.api import ApiClient
    from app.cluster.reader import ClusterReader
    from app.dialer import Dialer
    from app.profiles.model import Profile

PROBE_EVERY = 15.0
"""Seconds without a sign of life after which the API server is asked; also how often the latency is measured."""
PROBE_LIMIT = 5.0
"""Seconds that a probe may take. One that misses makes the session DEGRADED, a second in a row RETRYING."""
SETTLED = 60.0
"""Seconds UP after which earlier failures no longer lengthen the next wait."""
RETURN_PERIOD = 120.0
"""Seconds after the loss of a session in which it is tried again quickly: restarts and changes of network take less."""
RETURN_CAP = 3.0
"""Seconds: the longest wait in that period. A server that is back must be found within 5 s, of which a login through
several hops may take two. Full jitter stays (1.6 s on average), and a try that itself took long shortens the wait."""
PATIENT_CAP = 30.0
"""Seconds: the longest wait after that period, and for what has never been UP."""
LEAST_CAP = 1.0
"""Seconds of jitter that remain however long the try took: sessions that fail together do not come back together."""
END_LIMIT = 2.0
"""Seconds for goodbyes after the tasks have ended, which take three at most: five in all, what a console window that
closes leaves (Windows)."""

P = SessionPhase


class Session:
    """One open profile: the route, the API client on it, and the task that keeps them up.

    Made by `Sessions.open`. It is the `Link` of its readers.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        desk: Desk,
        ground: RouteGround,
        tell: Callable[[SessionState], None],
        asker: Asker | None = None,
        backoff: Backoff | None = None,
        probe_every: float = PROBE_EVERY,
        probe_limit: float = PROBE_LIMIT,
    ) -> None:
        self.profile = profile
        self.api: ApiClient | None = None
        self.access: Access | None = None
        self._reader: ClusterReader | None = None
        self._board = StateBoard(profile.name, tell)
        self._desk, self._ground = desk, ground
        self._asker = None if asker is None else SessionAsker(asker, desk)
        self._route = RouteKeeper(profile, ground, self._asker)
        self._backoff = backoff or Backoff()
        self._probe_every, self._probe_limit = probe_every, probe_limit
        self._owner = TaskOwner(f"session {profile.name}")
        self._notes: tuple[str, ...] = ()
        self._suspect: JumpdeckError | None = None
        self._wake = asyncio.Event()
        self._heard = self._began = time.monotonic()
        self._lost_at: float | None = None

    # -- what readers and screens call ---------------------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        """How it stands now."""
        return self._board.state

    @property
    def dialer(self) -> Dialer:
        """Dials through the route of the moment; fails (transient) while there is none. The same object for life."""
        return self._route

    @property
    def reader(self) -> ClusterReader:
        """Reads pods, logs and events through this session. Raises RouteError until it has been UP once."""
        if self._reader is None:
            raise RouteError("The route is not open", "it has not been UP yet", code="JD-ROUTE-NOT-OPEN")
        return self._reader

    def hop_states(self) -> tuple[HopState, ...]:
        """How every hop stands this moment (bytes, round trip), for a screen that draws them at its own pace."""
        return self._route.hop_states()

    def start(self) -> None:
        """Begin to connect, in a task of this session's own."""
        self._owner.spawn(self._run(), name="supervise")

    async def changed(self) -> SessionState:
        """Wait for the next change of state and return it."""
        return await self._board.changed()

    async def wait_up(self) -> None:
        """Return when the session is UP and nothing is suspected. Raises its error when it cannot go on by itself."""
        while True:
            state = self.state
            if state.phase in (P.UP, P.DEGRADED) and self._suspect is None:
                return
            if state.phase in STUCK and state.error is not None:
                raise state.error
            if state.phase in (P.CLOSING, P.CLOSED):
                raise state.error or RouteError(f"{self.profile.name} was closed", code="JD-SESSION-CLOSED")
            await self.changed()

    def report(self, error: JumpdeckError) -> None:
        """A stream failed: ask the API server at once whether the link is gone."""
        if self.state.phase in (P.UP, P.DEGRADED) and error.transient:
            self._suspect = error
            self._wake.set()

    def alive(self) -> None:
        """Bytes came from the API server."""
        self._heard = time.monotonic()

    def retry_now(self) -> None:
        """Try at once, whatever the wait; also starts again after a failure that needed a person."""
        self._wake.set()

    def verify_now(self) -> None:
        """The computer has slept or changes its network: look at once whether the link lives; wait for no next try."""
        if self.state.phase not in STUCK:
            self._wake.set()

    def note(self, warning: str) -> None:
        """Show a lasting warning with this session."""
        if warning not in self._notes:
            self._notes = (*self._notes, warning)
            self._board.publish(warnings=(*self.state.warnings, warning))

    async def aclose(self) -> None:
        """End the session and everything that it opened, within 5 s. Connections that others share stay."""
        if self.state.phase is P.CLOSED:
            return
        if self.state.phase is not P.CLOSING:
            self._board.move(P.CLOSING, error=None)
        await self._owner.aclose()
        ends = {self._owner.spawn(self._route.aclose(), name="close route")}
        if self.api is not None:
            ends.add(self._owner.spawn(self.api.aclose(), name="close API client"))
        await asyncio.wait(ends, timeout=END_LIMIT)
        self._board.move(P.CLOSED, hops=())

    # -- the state machine ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await self._connect_and_hold()
            except JumpdeckError as error:
                await self._settle(await self._judge(error))
            except Exception as defect:
                log_crash(defect)
                await self._settle(_defect(defect))

    async def _judge(self, error: JumpdeckError) -> JumpdeckError:
        """After a failure: keep the route when all its connections answer; the error of one that does not says more."""
        try:
            if error.transient:
                await self._route.verify()
            else:
                await self._route.aclose()
        except JumpdeckError as lost:
            return lost
        return error

    async def _settle(self, error: JumpdeckError) -> None:
        """After a failure: wait for the next try, or for a person."""
        self._suspect = None
        self._wake.clear()
        changes = {"error": error, "tries": self.state.tries + 1, "up_since": None, "hops": self.hop_states()}
        if error.transient:
            wait = self._next_wait(error.retry_after)
            self._board.move(P.RETRYING, retry_at=time.time() + wait, **changes)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)
        else:
            self._board.move(stuck_phase(error), retry_at=None, **changes)
            await self._wake.wait()
            await self._forget_access()
        self._wake.clear()

    def _next_wait(self, retry_after: float | None) -> float:
        """Seconds from now, jittered under a cap that is low while a lost session may come back any moment."""
        now = time.monotonic()
        returning = self._lost_at is not None and now - self._lost_at < RETURN_PERIOD
        cap = RETURN_CAP if returning else PATIENT_CAP
        self._backoff.cap = max(LEAST_CAP, cap - (now - self._began))
        return self._backoff.next(retry_after)

    async def _forget_access(self) -> None:
        """Read the kubeconfig anew at the next try: what was wrong may have been put right. Its readers have ended."""
        api, self.api, self.access, self._reader = self.api, None, None, None
        if api is not None:
            await api.aclose()

    async def _connect_and_hold(self) -> None:
        self._began = time.monotonic()
        async with Attempt(self._desk, self._board) as attempt:
            if self._asker is not None:
                self._asker.attempt = attempt
            try:
                version = await self._connect(attempt)
            finally:
                if self._asker is not None:
                    self._asker.attempt = None
        self._suspect = None
        assert self.api is not None
        self.api.proven = True
        self._board.move(
            P.UP, up_since=time.time(), error=None, retry_at=None, server_version=version, hops=self.hop_states()
        )
        try:
            await self._hold()
        finally:
            self._forgive()
            self._began = time.monotonic()
            self._lost_at = self._lost_at or self._began

    async def _connect(self, attempt: Attempt) -> str:
        """Go through the steps; each shows itself as it happens. Returns the API server's version."""
        from app.cluster.access import resolve_access
        from app.cluster.api import ApiClient
        from app.cluster.reader import ClusterReader

        board = self._board
        board.move(P.CONNECTING, steps=(), error=None, retry_at=None, hops=self.hop_states())
        async with board.step("profile and credentials"):
            if self.access is None:
                self.access = await resolve_access(self.profile, asker=self._asker, secrets=self._ground.secrets)
            access = self.access
            hops = self._route.hops((access.host, access.port))
        board.publish(
            route=("workstation", *(hop.label for hop in hops), access.cluster_label),
            cluster=access.cluster_label,
            namespace=access.namespace,
            identity=access.identity_label,
            warnings=(*access.warnings, *self._notes),
        )
        await self._route.open(hops, attempt, board.step)
        if self.api is None:
            self.api = ApiClient(access, self._route)
        async with board.step(f"API server {access.server_label}"):
            await access.credentials.headers()  # may ask a person, for which the probe's limit is too short
            version = await self._probe()
        if self._reader is None:
            self._reader = ClusterReader(self.api, self, self.profile, access.namespace)
        return version

    async def _probe(self) -> str:
        """One small request through everything; keeps the latency."""
        assert self.api is not None
        try:
            probe = await self.api.probe()
        except JumpdeckError as error:
            if error.code == "JD-API-FORBIDDEN":  # it answered, and knows us: /version may be closed to us
                return ""
            raise
        self._board.publish(latency=probe.seconds, hops=self.hop_states())
        return probe.version

    async def _hold(self) -> None:
        """Stay UP until the link is lost; raises the reason."""
        lost = self._owner.spawn(self._route.wait_lost(), name="wait lost")
        try:
            while True:
                doubted = await self._pause(lost)
                if lost.done():
                    await self._route.aclose()
                    raise lost.result()
                if doubted:  # a frozen hop shows itself in 3 s, the API server's silence takes 10
                    await self._route.verify()
                await self._check()
        finally:
            lost.cancel()

    async def _pause(self, lost: asyncio.Task[JumpdeckError]) -> bool:
        """Wait until something is suspected (True), the carrier is lost, or it is time to measure."""
        wake = self._owner.spawn(self._wake.wait(), name="wait wake")
        try:
            await asyncio.wait({wake, lost}, timeout=self._probe_every, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
        doubted = self._wake.is_set()
        self._wake.clear()
        return doubted

    async def _check(self) -> None:
        """Ask the API server; when it is silent look at the route first, then ask once more. Raises what is wrong."""
        began = time.monotonic()
        for last in (False, True):
            try:
                async with asyncio.timeout(self._probe_limit):
                    await self._probe()
            except TimeoutError:
                error = _silent(self._probe_limit)
                if last and self._heard < began:
                    raise error from None
                self._board.move(P.DEGRADED, error=error, hops=self.hop_states())
                if self._heard >= began:  # full, not dead: what was asked for crowds out the question
                    self._suspect = None
                    return
                await self._route.verify()
            else:
                break
        self._suspect = None
        tries = 0 if self._forgive() else self.state.tries
        self._board.move(P.UP, error=None, tries=tries, hops=self.hop_states())

    def _forgive(self) -> bool:
        """Forget earlier failures when the session has been UP long enough."""
        settled = self.state.up_since is not None and time.time() - self.state.up_since > SETTLED
        if settled:
            self._backoff.reset()
            self._lost_at = None
        return settled


def _silent(limit: float) -> RouteError:
    return RouteError(
        "The API server stopped answering", f"no answer within {limit:.0f} s", "Jumpdeck tries again by itself.",
        code="JD-API-SILENT", layer="api", recovery=Recovery.TRANSIENT,
    )  # fmt: skip


def _defect(defect: Exception) -> JumpdeckError:
    return JumpdeckError(
        f"Jumpdeck failed: {type(defect).__name__}",
        "this is a defect of Jumpdeck, not of your cluster",
        f"Where it happened is in {log_path()}.",
        code="JD-INTERNAL",
    )
