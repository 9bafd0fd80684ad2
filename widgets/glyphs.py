"""The signs and words for the states of a session, with a set for terminals that have only ASCII."""

from __future__ import annotations

from dataclasses import dataclass

from app.rows import SessionPhase, SessionState, StepState


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set of signs."""

    up: str
    busy: str
    idle: str
    failed: str
    arrow: str
    into: str
    done: str
    rule: str
    ellipsis: str
    ascii_only: bool


UNICODE = Glyphs("●", "◐", "○", "✗", "─▸", "▸", "✓", "─", "…", False)
ASCII = Glyphs("*", "o", ".", "x", "->", ">", "+", "-", "~", True)

P = SessionPhase

WORDS: dict[SessionPhase, str] = {
    P.IDLE: "",
    P.CONNECTING: "connecting",
    P.UP: "UP",
    P.DEGRADED: "slow",
    P.RETRYING: "retry",
    P.NEEDS_TRUST: "TRUST",
    P.NEEDS_SECRET: "SECRET",
    P.NEEDS_SIGN_IN: "SIGN IN",
    P.FAILED: "FAILED",
    P.CLOSING: "closing",
    P.CLOSED: "",
}
_LOOKS: dict[SessionPhase, str] = {
    P.UP: "$text-success",
    P.CONNECTING: "$text-warning",
    P.DEGRADED: "$text-warning",
    P.RETRYING: "$text-warning",
    P.NEEDS_TRUST: "$text-error",
    P.NEEDS_SECRET: "$text-error",
    P.NEEDS_SIGN_IN: "$text-error",
    P.FAILED: "$text-error",
}


def phase_glyph(glyphs: Glyphs, phase: SessionPhase) -> str:
    """The sign of a phase: open, on its way, shut, or in trouble."""
    if phase is P.UP:
        return glyphs.up
    if phase in (P.CONNECTING, P.DEGRADED, P.RETRYING, P.CLOSING):
        return glyphs.busy
    return glyphs.idle if phase in (P.IDLE, P.CLOSED) else glyphs.failed


def state_word(state: SessionState | None) -> str:
    """The word for a session's state in a list: short, and the one thing that a person must know."""
    if state is None:
        return ""
    if state.phase is P.NEEDS_TRUST and state.error is not None and state.error.layer == "host-key":
        return "HOST KEY"
    return WORDS[state.phase]


def phase_look(phase: SessionPhase) -> str:
    """The style (theme variables) of a phase's sign and word."""
    return _LOOKS.get(phase, "$foreground-muted")


def step_glyph(glyphs: Glyphs, state: StepState) -> str:
    """The sign of one step of connecting."""
    return {
        StepState.WAITING: glyphs.idle,
        StepState.RUNNING: glyphs.busy,
        StepState.DONE: glyphs.done,
        StepState.FAILED: glyphs.failed,
    }[state]
