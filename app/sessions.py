"""The supervisor: one session per open profile, its state machine, its retries, and who is told of them.

UP means that the API server answered `/version` through the whole chain. Readers (watches, log follows) hold their
cursor while a session is not UP and resume when it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from app.errors import JumpdeckError, Recovery, RouteError
from app.program_log import log_crash, log_path
from app.rows import SessionPhase, SessionState, Step, StepState
from app.tasks import Backoff, TaskOwner

if TYPE_CHECKING:
    from app.asking import Asker
    from app.cluster.access import Access
    from app.cluster.api import ApiClient
    from app.cluster.reader import ClusterReader
    from app.dialer import Dialer, Hop, ProtocolFactory
    from app.profiles.model import Profile
    from app.profiles.store import ProfileBook

PROBE_EVERY = 15.0
"""Seconds without a sign of life after which the API server is asked; also how often the latency is measured."""
PROBE_LIMIT = 5.0
"""Seconds that a probe may take. One that misses makes the session DEGRADED, a second in a row RETRYING."""
SETTLED = 60.0
"""Seconds UP after which earlier failures no longer lengthen the next wait."""
MAX_CONNECTS = 4
"""Connects at the same moment: a Bastion that restarts must not meet a herd."""

_log = logging.getLogger(__name__)
P = SessionPhase
_STUCK = {P.NEEDS_TRUST, P.NEEDS_SECRET, P.NEEDS_SIGN_IN, P.FAILED}
_MOVES: dict[SessionPhase, set[SessionPhase]] = {
    P.IDLE: {P.CONNECTING, P.CLOSING},
    P.CONNECTING: {P.UP, P.RETRYING, P.CLOSING} | _STUCK,
    P.UP: {P.DEGRADED, P.RETRYING, P.CLOSING} | _STUCK,
    P.DEGRADED: {P.UP, P.RETRYING, P.CLOSING} | _STUCK,
    P.RETRYING: {P.CONNECTING, P.CLOSING},
    P.NEEDS_TRUST: {P.CONNECTING, P.CLOSING},
    P.NEEDS_SECRET: {P.CONNECTING, P.CLOSING},
    P.NEEDS_SIGN_IN: {P.CONNECTING, P.CLOSING},
    P.FAILED: {P.CONNECTING, P.CLOSING},
    P.CLOSING: {P.CLOSED},
    P.CLOSED: set(),
}
_PERSON_BY_LAYER = {"trust": P.NEEDS_TRUST, "hop": P.NEEDS_TRUST, "token": P.NEEDS_SECRET, "sign-in": P.NEEDS_SIGN_IN}


class _CurrentDialer:
    """Dials through whatever carries the session now, so that readers keep one API client across reconnects."""

    def __init__(self) -> None:
        self.target: Dialer | None = None

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        if self.target is None:
            raise RouteError(
                "The route is not open",
                "it is being opened again",
                code="JD-ROUTE-NOT-OPEN",
                recovery=Recovery.TRANSIENT,
            )
        return await self.target.dial(host, port, factory)

    async def wait_lost(self) -> JumpdeckError:
        if self.target is None:
            return RouteError("The route is not open", code="JD-ROUTE-NOT-OPEN", recovery=Recovery.TRANSIENT)
        return await self.target.wait_lost()


class Session:
    """One open profile: the route, the API client on it, and the task that keeps them up.

    Made by `Sessions.open`. It is the `Link` of its readers.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        asker: Asker | None,
        connects: asyncio.Semaphore,
        tell: Callable[[SessionState], None],
        backoff: Backoff | None = None,
    ) -> None:
        self.profile = profile
        self.state = SessionState(profile=profile.name, since=time.time())
        self.api: ApiClient | None = None
        self.access: Access | None = None
        self._reader: ClusterReader | None = None
        self._asker = asker
        self._connects = connects
        self._tell = tell
        self._backoff = backoff or Backoff()
        self._dialer = _CurrentDialer()
        self._owner = TaskOwner(f"session {profile.name}")
        self._changed: asyncio.Future[SessionState] | None = None
        self._suspect: JumpdeckError | None = None
        self._wake = asyncio.Event()
        self._heard = time.monotonic()

    # -- what readers and screens call ---------------------------------------------------------------------------------

    @property
    def reader(self) -> ClusterReader:
        """Reads pods, logs and events through this session. Raises RouteError until it has been UP once."""
        if self._reader is None:
            raise RouteError("The route is not open", "it has not been UP yet", code="JD-ROUTE-NOT-OPEN")
        return self._reader

    def start(self) -> None:
        """Begin to connect, in a task of this session's own."""
        self._owner.spawn(self._run(), name="supervise")

    async def changed(self) -> SessionState:
        """Wait for the next change of state and return it."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._changed)

    async def wait_up(self) -> None:
        """Return when the session is UP and nothing is suspected. Raises its error when it cannot go on by itself."""
        while True:
            phase = self.state.phase
            if phase in (P.UP, P.DEGRADED) and self._suspect is None:
                return
            if phase in _STUCK | {P.CLOSING, P.CLOSED}:
                raise self.state.error or _closed(self.profile.name)
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

    async def aclose(self) -> None:
        """End the session and everything that it opened."""
        if self.state.phase is P.CLOSED:
            return
        if self.state.phase is not P.CLOSING:
            self._move(P.CLOSING, error=None)
        await self._owner.aclose()
        if self.api is not None:
            with suppress(JumpdeckError):
                await self.api.aclose()
        self._move(P.CLOSED)

    # -- the state machine ---------------------------------------------------------------------------------------------

    def _move(self, phase: SessionPhase, **changes: object) -> None:
        """The one place where the phase changes."""
        if phase is not self.state.phase:
            if phase not in _MOVES[self.state.phase]:
                raise RuntimeError(f"illegal move {self.state.phase.name} to {phase.name}")
            _log.debug("%s: %s -> %s %s", self.profile.name, self.state.phase.value, phase.value, changes.get("error"))
            changes["since"] = time.time()
        self._publish(replace(self.state, phase=phase, **changes))

    def _publish(self, state: SessionState) -> None:
        self.state = state
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(state)
        self._tell(state)

    async def _run(self) -> None:
        while True:
            try:
                await self._connect_and_hold()
            except JumpdeckError as error:
                await self._settle(error)
            except Exception as defect:
                log_crash(defect)
                await self._settle(
                    JumpdeckError(
                        f"Jumpdeck failed: {type(defect).__name__}",
                        "this is a defect of Jumpdeck, not of your cluster",
                        f"Where it happened is in {log_path()}.",
                        code="JD-INTERNAL",
                    )
                )

    async def _settle(self, error: JumpdeckError) -> None:
        """After a failure: wait for the next try, or for a person."""
        self._suspect = None
        self._wake.clear()
        tries = self.state.tries + 1
        if error.transient:
            wait = self._backoff.next(error.retry_after)
            self._move(P.RETRYING, error=error, tries=tries, retry_at=time.time() + wait, up_since=None)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)
        else:
            phase = P.FAILED
            if error.recovery is Recovery.NEEDS_PERSON:
                phase = _PERSON_BY_LAYER.get(error.layer, P.NEEDS_SIGN_IN)
            self._move(phase, error=error, tries=tries, retry_at=None, up_since=None)
            await self._wake.wait()
            await self._forget_access()
        self._wake.clear()

    async def _forget_access(self) -> None:
        """Read the kubeconfig anew at the next try: what was wrong may have been put right. Its readers have ended."""
        api, self.api, self.access, self._reader = self.api, None, None, None
        if api is not None:
            await api.aclose()

    async def _connect_and_hold(self) -> None:
        async with AsyncExitStack() as stack:
            try:
                async with self._connects:
                    version = await self._connect(stack)
                now = time.time()
                self._suspect = None
                assert self.api is not None
                self.api.proven = True
                self._move(
                    P.UP, up_since=now, error=None, retry_at=None, steps=self.state.steps, server_version=version
                )
                await self._hold()
            finally:
                self._dialer.target = None

    async def _connect(self, stack: AsyncExitStack) -> str:
        """Go through the steps; each shows itself as it happens. Returns the API server's version."""
        from app.cluster.access import resolve_access
        from app.cluster.api import ApiClient
        from app.cluster.reader import ClusterReader
        from app.routes.build import build_hops
        from app.routes.direct import DirectDialer

        self._move(P.CONNECTING, steps=(), error=None, retry_at=None)
        hops: tuple[Hop, ...] = ()
        async with _StepRecord(self, "profile and credentials"):
            hops = build_hops(self.profile)
            if self.access is None:
                self.access = await resolve_access(self.profile, asker=self._asker)
            access = self.access
        route = ("workstation", *(hop.label for hop in hops), access.cluster_label)
        self._publish(
            replace(
                self.state,
                route=route,
                cluster=access.cluster_label,
                namespace=access.namespace,
                identity=access.identity_label,
                warnings=access.warnings,
            )
        )
        far_end: Dialer = DirectDialer(target=(access.host, access.port))
        for hop in hops:
            async with _StepRecord(self, hop.label):
                far_end = await stack.enter_async_context(hop.open(far_end))
        self._dialer.target = far_end
        if self.api is None:
            self.api = ApiClient(access, self._dialer)
        async with _StepRecord(self, f"API server {access.server_label}"):
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
                self.alive()
                return ""
            raise
        self.alive()
        self._publish(replace(self.state, latency=probe.seconds))
        return probe.version

    async def _hold(self) -> None:
        """Stay UP until the link is lost; raises the reason."""
        lost = self._owner.spawn(self._dialer.wait_lost(), name="wait lost")
        try:
            while True:
                await self._pause(lost)
                if lost.done():
                    raise lost.result()
                await self._check()
        finally:
            lost.cancel()

    async def _pause(self, lost: asyncio.Task[JumpdeckError]) -> None:
        """Wait until a reader suspects something, the carrier is lost, or it is time to measure."""
        wake = self._owner.spawn(self._wake.wait(), name="wait wake")
        try:
            await asyncio.wait({wake, lost}, timeout=PROBE_EVERY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
        self._wake.clear()

    async def _check(self) -> None:
        for last in (False, True):
            try:
                async with asyncio.timeout(PROBE_LIMIT):
                    await self._probe()
            except TimeoutError:
                error: JumpdeckError = RouteError(
                    "The API server stopped answering",
                    f"no answer within {PROBE_LIMIT:.0f} s",
                    "Jumpdeck tries again by itself.",
                    code="JD-API-SILENT",
                    layer="api",
                    recovery=Recovery.TRANSIENT,
                )
            except JumpdeckError as failure:
                error = failure
            else:
                self._suspect = None
                settled = self.state.up_since is not None and time.time() - self.state.up_since > SETTLED
                if settled:
                    self._backoff.reset()
                self._move(P.UP, error=None, tries=0 if settled else self.state.tries)
                return
            if last or error.code != "JD-API-SILENT":
                raise error
            self._move(P.DEGRADED, error=error)


class _StepRecord:
    """Shows one step of connecting with its time; a failure stays on the step that failed."""

    def __init__(self, session: Session, label: str) -> None:
        self._session, self._label = session, label
        self._began = 0.0

    async def __aenter__(self) -> None:
        self._began = time.monotonic()
        self._show(Step(self._label, StepState.RUNNING), new=True)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        seconds = time.monotonic() - self._began
        _log.debug("%s: %s: %s in %.3f s", self._session.profile.name, self._label, error or "done", seconds)
        if error is None:
            self._show(Step(self._label, StepState.DONE, seconds))
        else:
            self._show(Step(self._label, StepState.FAILED, seconds, getattr(error, "title", "")))

    def _show(self, step: Step, *, new: bool = False) -> None:
        state = self._session.state
        steps = state.steps if new else state.steps[:-1]
        self._session._publish(replace(state, steps=(*steps, step)))


def _closed(name: str) -> JumpdeckError:
    return RouteError(f"{name} was closed", code="JD-SESSION-CLOSED")


class Sessions:
    """Owns every open session of this process; quitting awaits `aclose`."""

    def __init__(self, book: ProfileBook, *, asker: Asker | None = None) -> None:
        self.book = book
        self.asker = asker
        self._sessions: dict[str, Session] = {}
        self._listeners: list[Callable[[SessionState], None]] = []
        self._connects = asyncio.Semaphore(MAX_CONNECTS)

    def open(self, name: str) -> Session:
        """The session of a profile, started when it is not open yet. Raises ProfileError."""
        if (session := self._sessions.get(name)) is not None:
            return session
        session = Session(self.book.get(name), asker=self.asker, connects=self._connects, tell=self._told)
        self._sessions[name] = session
        session.start()
        return session

    def get(self, name: str) -> Session | None:
        """The open session of a profile, or None."""
        return self._sessions.get(name)

    @property
    def open_names(self) -> tuple[str, ...]:
        """Names of the open profiles in the order in which they were opened."""
        return tuple(self._sessions)

    async def close(self, name: str) -> None:
        """End one session. Unknown names are no error."""
        if (session := self._sessions.get(name)) is not None:
            await session.aclose()
            self._sessions.pop(name, None)

    def on_change(self, callback: Callable[[SessionState], None]) -> Callable[[], None]:
        """Call `callback` in the loop at every change of any session; returns how to end that."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def _told(self, state: SessionState) -> None:
        for listener in tuple(self._listeners):
            listener(state)

    async def aclose(self) -> None:
        """End all sessions, side by side."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        await asyncio.gather(*(session.aclose() for session in sessions))

    async def __aenter__(self) -> Sessions:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

