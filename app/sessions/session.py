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
from functools import partial
from typing import TYPE_CHECKING

from app.dialer import worth_waiting
from app.errors import JumpdeckError, Recovery, RouteError
from app.identity.attending import attend
from app.program_log import log_crash, log_path
from app.rows import HopState, SessionPhase, SessionState
from app.sessions.asking import Attempt, Desk, SessionAsker
from app.sessions.invoke import InvokeLink, by_invoke
from app.sessions.liveness import PROBE_EVERY, PROBE_LIMIT, UP_PHASES, Liveness
from app.sessions.pacing import Pacing
from app.sessions.route import RouteGround, RouteKeeper
from app.sessions.states import STUCK, StateBoard, stuck_phase
from app.tasks import Backoff, TaskOwner, spawn

if TYPE_CHECKING:
    from app.asking import Asker
    from app.cluster.access import Access
    from app.cluster.api import ApiClient
    from app.cluster.invoke import InvokeReader
    from app.cluster.reader import ClusterReader
    from app.profiles.model import Profile

END_LIMIT = 2.0
"""Seconds for goodbyes after the tasks have ended, which take three at most: five in all, what a console window that
closes leaves (Windows)."""

RECHECK_EVERY = 3
"""Failed tries between two looks at what Azure says of the cluster: it may have been stopped meanwhile."""

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
        self._reader: ClusterReader | InvokeReader | None = None
        self._board = StateBoard(profile.name, tell)
        self._desk, self._ground = desk, ground
        self._asker = None if asker is None else SessionAsker(asker, desk)
        self._route = RouteKeeper(profile, ground, self._asker)
        self.invoke = InvokeLink(profile, ground, self._asker) if by_invoke(profile) else None
        """What stands in place of a route where there is no network path."""
        self.patient = False
        """Whether readers outlive a sign-in that ended: somebody sees to it that one is made. Before the first UP it
        is an error like any other."""
        self._liveness = Liveness(self._board, self._route, every=probe_every, limit=probe_limit)
        self._pacing = Pacing(backoff)
        self._owner = TaskOwner(f"session {profile.name}")
        self._connecting: asyncio.Task[str] | None = None
        self._notes: tuple[str, ...] = ()

    # -- what readers and screens call ---------------------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        """How it stands now."""
        return self._board.state

    @property
    def reader(self) -> ClusterReader | InvokeReader:
        """Reads pods, logs and events through this session. Raises RouteError until it has been UP once."""
        if self._reader is None:
            raise RouteError("The route is not open", "it has not been UP yet", code="JD-ROUTE-NOT-OPEN")
        return self._reader

    def hop_states(self) -> tuple[HopState, ...]:
        """How every hop stands this moment (bytes, round trip), for a screen that draws them at its own pace."""
        return self._route.hop_states() if self.invoke is None else self.invoke.hop_states()

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
            if state.phase in UP_PHASES and self._liveness.suspect is None:
                return
            if state.phase in STUCK and state.error is not None and not worth_waiting(self, state.error):
                raise state.error
            if state.phase in (P.CLOSING, P.CLOSED):
                raise state.error or RouteError(f"{self.profile.name} was closed", code="JD-SESSION-CLOSED")
            await self.changed()

    def report(self, error: JumpdeckError) -> None:
        """A stream failed: ask the API server at once whether the link is gone."""
        self._liveness.report(error)

    def alive(self) -> None:
        """Bytes came from the API server."""
        self._liveness.alive()

    def retry_now(self) -> None:
        """Try at once, whatever the wait; also starts again after a failure that needed a person."""
        self._liveness.wake.set()

    def verify_now(self) -> None:
        """The computer has slept or changes its network: look at once whether the link lives, and wait for nothing.

        A try under way begins anew: what it waits for went out by a way that may be no more.
        """
        if self.state.phase is P.CONNECTING and self._connecting is not None:
            self._connecting.cancel()
        elif self.state.phase not in STUCK:
            self._liveness.wake.set()

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
            if error.transient or _only_signs_in(error, self.api):
                await self._route.verify()
            else:
                await self._route.aclose()
        except JumpdeckError as lost:
            error = lost
        error = await self._route.blamed(error)
        error.hint = error.hint.replace("sign-in PROFILE", f"sign-in {self.profile.name}")  # ARM knows no profiles
        return error

    async def _settle(self, error: JumpdeckError) -> None:
        """After a failure: wait for the next try, or for a person."""
        wake = self._liveness.wake
        self._liveness.suspect = None
        wake.clear()
        if error.transient and self._pacing.hopeless(error.code):
            error.recovery = Recovery.PERMANENT
            await self._route.aclose()
        changes = {"error": error, "tries": self.state.tries + 1, "up_since": None, "hops": self.hop_states()}
        if error.transient:
            wait = self._pacing.next_wait(error.retry_after)
            self._board.move(P.RETRYING, retry_at=time.time() + wait, **changes)
            with suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), wait)
        else:
            self._board.move(stuck_phase(error), retry_at=None, **changes)
            await wake.wait()
            if not _only_signs_in(error, self.api):
                # What was wrong may have been put right: the next try reads the kubeconfig anew.
                api, self.api, self.access = self.api, None, None
                if api is not None:
                    await api.aclose()
        wake.clear()

    async def _connect_and_hold(self) -> None:
        self._pacing.begin()
        async with Attempt(self._desk, self._board) as attempt:
            version = await self._try(attempt)
        if self.api is not None:
            self.api.proven = True
        self._liveness.suspect = None
        self._pacing.up()
        hops = self.hop_states()
        self._board.move(P.UP, up_since=time.time(), error=None, retry_at=None, server_version=version, hops=hops)
        try:
            if self.invoke is not None:
                await self.invoke.hold(self._liveness.wake)
            elif self.api is not None:
                await self._liveness.hold(self.api, self._pacing.settled)
        finally:
            self._pacing.lost()

    async def _try(self, attempt: Attempt) -> str:
        """One try in a task of its own, which `verify_now` cancels."""
        if self._asker is not None:
            self._asker.attempt = attempt
        self._connecting = spawn(self._connect(attempt), name=f"connect {self.profile.name}")
        self._connecting.add_done_callback(_look_at)  # a try that fails as it is given up has nobody left to tell
        try:
            await asyncio.wait({self._connecting})
            if self._connecting.cancelled():
                raise RouteError(
                    "The network has changed", "it is tried anew", code="JD-ROUTE-ANEW", recovery=Recovery.TRANSIENT
                )
            return self._connecting.result()
        finally:
            connecting, self._connecting = self._connecting, None
            if self._asker is not None:
                self._asker.attempt = None
            if not connecting.done():
                connecting.cancel()
                await asyncio.wait({connecting})

    async def _connect(self, attempt: Attempt) -> str:
        """Go through the steps; each shows itself as it happens. Returns the API server's version."""
        self._board.move(P.CONNECTING, steps=(), error=None, retry_at=None, hops=self.hop_states())
        attend(self._asker)
        if self.invoke is None:
            return await self._connect_route(attempt)
        await self.invoke.connect(self._board, self._notes)
        self._reader = self.invoke.reader
        return ""

    async def _connect_route(self, attempt: Attempt) -> str:
        from app.cluster.access import resolve_access
        from app.cluster.api import ApiClient
        from app.cluster.reader import ClusterReader
        from app.routes.build import check_built

        board = self._board
        async with board.step("profile and credentials"):
            check_built(self.profile)  # before a person signs in for a way that leads nowhere
            if self.access is None:
                azure = partial(self._ground.azure, self.profile, self._asker)
                self.access = await resolve_access(
                    self.profile, asker=self._asker, secrets=self._ground.secrets, azure=azure
                )
            elif self.access.recheck is not None and self.state.tries % RECHECK_EVERY == RECHECK_EVERY - 1:
                await self.access.recheck()
            access = self.access
            hops = self._route.hops((access.host, access.port), board.step)
        board.publish(
            route=("workstation", *(hop.label for hop in hops), access.cluster_label),
            cluster=access.cluster_label,
            namespace=access.namespace,
            identity=access.identity_label,
            warnings=(*access.warnings, *self._notes),
        )
        await self._route.open(hops, attempt, board.step)
        if access.complete is not None:
            access = self.access = access.complete(self._route.far_end)
            board.publish(warnings=(*access.warnings, *self._notes))
        if self.api is None:
            self.api = ApiClient(access, self._route)
        async with board.step(f"API server {access.server_label}"):
            await access.credentials.headers()  # may ask a person, for which the probe's limit is too short
            version = await self._liveness.probe(self.api)
        if not isinstance(self._reader, ClusterReader):
            self._reader = ClusterReader(self.api, self, self.profile, access.namespace)
        self._reader.api, self._reader.namespace = self.api, access.namespace
        return version


def _look_at(task: asyncio.Task[str]) -> None:
    if not task.cancelled():
        task.exception()


def _only_signs_in(error: JumpdeckError, api: ApiClient | None) -> bool:
    """Whether a new sign-in is all that lacks: streams that are open go on meanwhile, and the client serves again.

    Where the sign-in is Entra's alone: any other credential may have changed with its kubeconfig.
    """
    if api is None or not api.proven or error.recovery is not Recovery.NEEDS_PERSON:
        return False
    return error.layer == "sign-in" and not getattr(api.access.credentials, "patient", True)


def _defect(defect: Exception) -> JumpdeckError:
    return JumpdeckError(
        f"Jumpdeck failed: {type(defect).__name__}",
        "this is a defect of Jumpdeck, not of your cluster",
        f"Where it happened is in {log_path()}.",
        code="JD-INTERNAL",
    )
