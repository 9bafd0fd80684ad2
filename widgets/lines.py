"""The two lines that are always there: the way to the cluster on top, who we are and what keys do below."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive, var
from textual.widget import Widget

from app.rows import SessionPhase, SessionState
from widgets.glyphs import UNICODE, Glyphs, phase_look, state_word

MIN_WARNING = 16
"""Characters that a lasting warning keeps even where keys would fill the line."""
TOKEN_LOOKS = {"token <1m": "$text-warning", "token ended": "bold $text-warning"}
"""A token that nothing renewed in time stands out."""


def up_time(seconds: float) -> str:
    """The two largest units of a length of time: `45s`, `12m30s`, `2h13m`, `3d4h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    for size, name, part, part_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{name}{whole % size // part}{part_name}"
    return ""


def token_time(seconds: float) -> str:
    """What is left of a token, no finer than matters: `token 47m`, `token 5h`, `token <1m`, `token ended`."""
    if seconds <= 0:
        return "token ended"
    if seconds < 60:
        return "token <1m"
    size, name = next(((size, name) for size, name in ((86_400, "d"), (3_600, "h")) if seconds >= 2 * size), (60, "m"))
    return f"token {int(seconds // size)}{name}"


class TopLine(Widget):
    """Profile, namespace, route with its hops, state, latency. Never covered, never shortened at its ends."""

    DEFAULT_CSS = """
    TopLine { height: 1; background: $panel; color: $text; padding: 0 1; }
    """
    state: reactive[SessionState | None] = reactive(None)
    namespaces: reactive[str] = reactive("")
    now = reactive(0.0)
    glyphs: var[Glyphs] = var(UNICODE)

    def render(self) -> Content:
        """The line, fitted to the width there is: the middle of the route gives way first."""
        rule = self.glyphs.rule
        if self.state is None:
            return Content.assemble(("Jumpdeck", "bold"), (f" {rule} no profile is open", "$foreground-muted"))
        state = self.state
        left = Content.assemble(
            ("Jumpdeck", "bold"),
            (f" {rule} ", "$foreground-muted"),
            (state.profile, "bold $text-accent"),
            (f" {self.glyphs.into} ", "$foreground-muted"),
            (self.namespaces or "all namespaces", ""),
            "  ",
        )
        right = Content.assemble("  ", (self.standing(state), f"bold {phase_look(state.phase)}"), self._latency(state))
        room = self.size.width - left.cell_length - right.cell_length
        route = self._route(state, room)
        fill = max(0, room - len(route))
        ruled = f"{rule * (fill - 1)} " if fill > 1 else " " * fill
        return Content.assemble(left, (ruled, "$foreground-disabled"), (route, "$foreground-muted"), right)

    def _route(self, state: SessionState, room: int) -> str:
        arrow = f" {self.glyphs.arrow} "
        whole = arrow.join(state.route)
        if len(whole) <= room:
            return whole
        hops = state.route[1:-1]
        for shown in range(len(hops), -1, -1):
            text = arrow.join((self.glyphs.ellipsis, *hops[len(hops) - shown :], state.route[-1]))
            if len(text) <= room:
                return text
        return state.route[-1][: max(0, room)]

    def standing(self, state: SessionState) -> str:
        """The state in words, with the time that matters in it."""
        if state.phase is SessionPhase.UP and state.up_since is not None:
            return f"UP {up_time(self.now - state.up_since)}"
        if state.phase is SessionPhase.RETRYING and state.retry_at is not None:
            return f"LINK LOST, retry {max(0, round(state.retry_at - self.now))}s"
        return state_word(state).upper() or "not open"

    def _latency(self, state: SessionState) -> Content:
        if state.latency is None or state.phase is not SessionPhase.UP:
            return Content("")
        return Content.styled(f"  {state.latency * 1000:.0f} ms", "$foreground-muted")


class BottomLine(Widget):
    """Read-only or write, identity, the token's life, and the keys that matter now; for a moment, what was done."""

    DEFAULT_CSS = """
    BottomLine { height: 1; background: $panel; color: $text; padding: 0 1; }
    """
    FLASH = 5.0
    """Seconds that a short word stays."""

    state: reactive[SessionState | None] = reactive(None)
    hints: reactive[tuple[tuple[str, str], ...]] = reactive(())
    """Key and what it does."""
    now: reactive[float] = reactive(0.0, repaint=False)
    token: reactive[str] = reactive("")
    """What is left of the token: words that change once a minute, so that the line is not drawn every second."""
    said: reactive[str] = reactive("")
    glyphs: var[Glyphs] = var(UNICODE)

    def watch_now(self) -> None:
        """Time goes by."""
        self._look_at_token()

    def watch_state(self) -> None:
        """Another session, or news of it."""
        self._look_at_token()

    def _look_at_token(self) -> None:
        until = self.state.token_until if self.state is not None else None
        self.token = "" if until is None else token_time(until - self.now)

    def flash(self, text: str) -> None:
        """Say something for a moment; cleaned text."""
        self.said = text
        self.set_timer(self.FLASH, lambda: self._unsay(text))

    def _unsay(self, text: str) -> None:
        if self.said == text:
            self.said = ""

    def render(self) -> Content:
        """The line."""
        rule = f" {self.glyphs.rule} "
        left = Content.assemble(("READ-ONLY", "bold $text-success"))
        if self.state is not None and self.state.identity:
            left = Content.assemble(left, (rule, "$foreground-disabled"), self.state.identity[:40])
        if self.token:
            left = Content.assemble(left, (rule, "$foreground-disabled"), (self.token, TOKEN_LOOKS.get(self.token, "")))
        warning = "; ".join(self.state.warnings) if self.state else ""
        if warning and not self.said:
            wanted = sum(len(key) + len(what) + 3 for key, what in self.hints)
            room = max(MIN_WARNING, self.size.width - left.cell_length - wanted - 6)
            cut = warning if len(warning) <= room else warning[: room - 1] + self.glyphs.ellipsis
            left = Content.assemble(left, (rule, "$foreground-disabled"), (cut, "bold $text-warning"))
        left = Content.assemble(left, (rule, "$foreground-disabled"))
        if self.said:
            return Content.assemble(left, (self.said, "bold"))
        room = self.size.width - left.cell_length
        for key, what in self.hints:
            if (room := room - len(key) - len(what) - 3) < -2:
                break
            left = Content.assemble(left, (key, "bold $text-accent"), (f" {what}  ", "$foreground-muted"))
        return left


class Banner(Widget):
    """Over the pods: what is not as it should be, a line each for what, why and what to do; absent when all is well."""

    DEFAULT_CSS = """
    Banner {
        height: auto; max-height: 9; padding: 0 1; background: $warning-muted; color: $text-warning; display: none;
        &.-shown { display: block; }
        &.-error { background: $error-muted; color: $text-error; }
    }
    """
    text: reactive[str] = reactive("", layout=True)

    def watch_text(self, text: str) -> None:
        """Come and go with the text."""
        self.set_class(bool(text), "-shown")

    def render(self) -> Content:
        """The lines, the first one bold."""
        first, break_, rest = self.text.partition("\n")
        return Content.assemble((first, "bold"), break_, rest)
