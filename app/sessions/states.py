"""The states of a session: which moves are legal, what a failure leads to, and the board on which they stand."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec.structs import replace

from app import audit
from app.errors import JumpdeckError, Recovery
from app.rows import SessionPhase, SessionState, Step, StepState

_log = logging.getLogger(__name__)
P = SessionPhase

STUCK = frozenset({P.NEEDS_TRUST, P.NEEDS_SECRET, P.NEEDS_SIGN_IN, P.FAILED})
"""Phases that a session leaves only when somebody acts. Without an error in the state a person is being asked."""

_MOVES: dict[SessionPhase, frozenset[SessionPhase]] = {
    P.IDLE: frozenset({P.CONNECTING, P.CLOSING}),
    P.CONNECTING: frozenset({P.UP, P.RETRYING, P.CLOSING}) | STUCK,
    P.UP: frozenset({P.DEGRADED, P.RETRYING, P.CLOSING}) | STUCK,
    P.DEGRADED: frozenset({P.UP, P.RETRYING, P.CLOSING}) | STUCK,
    P.RETRYING: frozenset({P.CONNECTING, P.CLOSING}),
    P.NEEDS_TRUST: frozenset({P.CONNECTING, P.CLOSING}),
    P.NEEDS_SECRET: frozenset({P.CONNECTING, P.CLOSING}),
    P.NEEDS_SIGN_IN: frozenset({P.CONNECTING, P.CLOSING}),
    P.FAILED: frozenset({P.CONNECTING, P.CLOSING}),
    P.CLOSING: frozenset({P.CLOSED}),
    P.CLOSED: frozenset(),
}

_PERSON_BY_LAYER = {
    "trust": P.NEEDS_TRUST,
    "host-key": P.NEEDS_TRUST,
    "hop": P.NEEDS_TRUST,
    "arc": P.NEEDS_TRUST,
    "token": P.NEEDS_SECRET,
    "secret": P.NEEDS_SECRET,
    "sign-in": P.NEEDS_SIGN_IN,
}


def stuck_phase(error: JumpdeckError) -> SessionPhase:
    """Where a session stands after a failure that trying again does not mend."""
    if error.recovery is Recovery.NEEDS_PERSON:
        return _PERSON_BY_LAYER.get(error.layer, P.NEEDS_SIGN_IN)
    return P.FAILED


def is_asking(state: SessionState) -> bool:
    """Whether the session waits for the answer of a person who is being asked right now."""
    return state.phase in STUCK and state.error is None


class StateBoard:
    """The state of one session: the one place where it changes, and who is told."""

    def __init__(self, profile: str, tell: Callable[[SessionState], None]) -> None:
        self.state = SessionState(profile=profile, since=time.time())
        self._tell = tell
        self._changed: asyncio.Future[SessionState] | None = None

    def move(self, phase: SessionPhase, **changes: object) -> None:
        """Change the phase and other fields. An illegal move is a defect: RuntimeError."""
        if phase is not self.state.phase:
            if phase not in _MOVES[self.state.phase]:
                raise RuntimeError(f"illegal move {self.state.phase.name} to {phase.name}")
            _log.debug("%s: %s -> %s %s", self.state.profile, self.state.phase.value, phase.value, changes.get("error"))
            changes["since"] = time.time()
            self._record(phase, changes.get("error"), changes.get("tries", self.state.tries))
        self.publish(phase=phase, **changes)

    def _record(self, phase: SessionPhase, error: object, tries: object) -> None:
        """Put a move on record: why, and when it is UP who has come where on which way (S-29)."""
        state = self.state
        facts: dict[str, str | int] = {"profile": state.profile, "was": state.phase.value, "now": phase.value}
        if isinstance(tries, int):
            facts["tries"] = tries
        if isinstance(error, JumpdeckError):
            facts |= {"reason": error.code, "why": error.title}
        elif phase is P.UP:
            facts |= {"cluster": state.cluster, "identity": state.identity, "route": " > ".join(state.route)}
        audit.record_soon("session.state", **facts)

    def publish(self, **changes: object) -> None:
        """Change fields other than the phase."""
        self.state = replace(self.state, **changes)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(self.state)
        self._tell(self.state)

    async def changed(self) -> SessionState:
        """Wait for the next change and return the state."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._changed)

    @asynccontextmanager
    async def step(self, label: str) -> AsyncIterator[None]:
        """Shows one step of connecting with its time; a failure stays on the step that failed.

        A step that has steps of its own stands before them and ends after them.
        """
        began, at = time.monotonic(), len(self.state.steps)
        self.publish(steps=(*self.state.steps, Step(label, StepState.RUNNING)))
        try:
            yield
        except BaseException as error:
            seconds = time.monotonic() - began
            self._end_step(at, Step(label, StepState.FAILED, seconds, getattr(error, "title", "")), error)
            raise
        self._end_step(at, Step(label, StepState.DONE, time.monotonic() - began))

    def _end_step(self, at: int, step: Step, error: BaseException | None = None) -> None:
        _log.debug("%s: %s: %s in %.3f s", self.state.profile, step.label, error or "done", step.seconds)
        steps = self.state.steps
        self.publish(steps=(*steps[:at], step, *steps[at + 1 :]))
