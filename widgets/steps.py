"""Connecting, shown as it happens: each step with its time; a failure stays on the step that failed."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive, var
from textual.widget import Widget

from app.errors import JumpdeckError
from app.rows import SessionPhase, SessionState, StepState
from widgets.glyphs import UNICODE, Glyphs, step_glyph

_LOOKS = {
    StepState.WAITING: "$foreground-muted",
    StepState.RUNNING: "$text-warning",
    StepState.DONE: "$text-success",
    StepState.FAILED: "$text-error",
}


class Steps(Widget, can_focus=True):
    """The steps of a session that is not UP, and what to do when it failed."""

    DEFAULT_CSS = """
    Steps { height: 1fr; padding: 1 2; background: $surface; color: $text; overflow-y: auto; }
    """
    state: reactive[SessionState | None] = reactive(None)
    advice = reactive("")
    """What to do while there is no session to show; words of our own."""
    now = reactive(0.0)
    glyphs: var[Glyphs] = var(UNICODE)

    def render(self) -> Content:
        """All of it."""
        if (state := self.state) is None:
            return Content.styled(self.advice, "$foreground-muted")
        lines = [Content.styled(self._headline(state), "bold"), Content("")]
        width = max((len(step.label) for step in state.steps), default=0) + 2
        for step in state.steps:
            time = ("" if step.seconds is None else f"{step.seconds:6.2f} s", "$foreground-muted")
            sign = (f"{step_glyph(self.glyphs, step.state)} ", _LOOKS[step.state])
            lines.append(Content.assemble(sign, step.label.ljust(width), time, "  ", step.detail))
        if state.error is not None:
            lines += [Content(""), *error_lines(state.error)]
        lines += [Content(""), Content.styled(self._keys(state), "$foreground-muted")]
        return Content("\n").join(lines)

    def _headline(self, state: SessionState) -> str:
        if state.phase is SessionPhase.RETRYING and state.retry_at is not None:
            wait = max(0, round(state.retry_at - self.now))
            return f"{state.profile}: try {state.tries} failed, next in {wait} s"
        words = {
            SessionPhase.IDLE: "not open",
            SessionPhase.CONNECTING: "connecting",
            SessionPhase.NEEDS_TRUST: "waits for your decision on a key or a command",
            SessionPhase.NEEDS_SECRET: "waits for a secret",
            SessionPhase.NEEDS_SIGN_IN: "waits for a sign-in",
            SessionPhase.FAILED: "could not get in",
            SessionPhase.CLOSED: "closed",
        }
        return f"{state.profile}: {words.get(state.phase, 'open, waiting for its pods')}"

    def _keys(self, state: SessionState) -> str:
        if state.phase in (SessionPhase.CONNECTING, SessionPhase.UP, SessionPhase.DEGRADED):
            return "i the route    esc back to the profiles"
        return "r try again now    esc back to the profiles"


def error_lines(error: JumpdeckError) -> list[Content]:
    """Title with code, detail and next step of a failure; all of it text, none of it markup."""
    lines = [Content.assemble((error.title, "bold $text-error"), "  ", (f"[{error.code}]", "$foreground-muted"))]
    if error.detail:
        lines.append(Content(error.detail))
    if error.hint:
        lines.append(Content.assemble(("Next: ", "bold $text-accent"), error.hint))
    return lines
