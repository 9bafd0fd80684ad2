"""The route drawn hop by hop: what each hop is, how it stands, since when, how far it is and what went through it."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive, var
from textual.widgets import Static

from app.rows import HopState, SessionPhase, SessionState, StepState
from widgets.glyphs import UNICODE, WORDS, Glyphs, phase_glyph, phase_look, step_glyph
from widgets.lines import up_time
from widgets.steps import error_lines

_LOOKS = {
    StepState.WAITING: "$foreground-muted",
    StepState.RUNNING: "$text-warning",
    StepState.DONE: "$text-success",
    StepState.FAILED: "$text-error",
}
_WORDS = {
    StepState.WAITING: "waits",
    StepState.RUNNING: "connecting",
    StepState.DONE: "up",
    StepState.FAILED: "lost",
}


def byte_count(count: int) -> str:
    """A number of bytes in three digits or so: `812 B`, `1.2 KiB`, `48 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"


class RouteMap(Static):
    """One session's way in, from this workstation to the cluster. Grows with what there is to say."""

    DEFAULT_CSS = "RouteMap { height: auto; color: $text; }"

    state: reactive[SessionState | None] = reactive(None, layout=True)
    now = reactive(0.0)
    glyphs: var[Glyphs] = var(UNICODE)

    def render(self) -> Content:
        """All of it."""
        if (state := self.state) is None:
            return Content.styled("This session is closed.", "$foreground-muted")
        bar = Content.styled("|" if self.glyphs.ascii_only else "│", "$foreground-muted")
        standing = Content.styled(
            f"{phase_glyph(self.glyphs, state.phase)} {WORDS[state.phase] or state.phase.value}",
            f"bold {phase_look(state.phase)}",
        )
        lines = [Content.assemble((state.profile, "bold"), "  ", standing), Content("")]
        lines.append(Content.assemble((f"{self.glyphs.done} ", "$text-success"), state.route[0]))
        for hop in (*state.hops, *_closed(state)):
            lines.append(bar)
            lines += self._hop(hop, bar)
        lines.append(bar)
        lines += self._cluster(state)
        if state.error is not None:
            lines += [Content(""), *error_lines(state.error)]
        return Content("\n").join(lines)

    def _hop(self, hop: HopState, bar: Content) -> list[Content]:
        word = _WORDS[hop.state]
        if hop.state is StepState.DONE and hop.since is not None:
            word = f"up {up_time(self.now - hop.since)}"
        elif hop.state is StepState.FAILED and hop.since is None:
            word = "not open"
        facts = [Content.styled(word, _LOOKS[hop.state])]
        if hop.round_trip is not None:
            facts.append(Content(f"{hop.round_trip * 1000:.0f} ms"))
        if hop.received or hop.sent:
            facts.append(Content(f"{byte_count(hop.received)} in, {byte_count(hop.sent)} out"))
        sign = Content.styled(f"{step_glyph(self.glyphs, hop.state)} ", _LOOKS[hop.state])
        lines = [Content.assemble(sign, (hop.label, "bold"), "  ", Content("  ").join(facts))]
        if hop.note:
            lines.append(Content.assemble(bar, "   ", (hop.note, "$foreground-muted")))
        if hop.banner:
            lines.append(Content.assemble(bar, "   ", ("from server:", "bold $foreground-muted")))
            lines += [Content.assemble(bar, "     ", line) for line in hop.banner.splitlines()]
        return lines

    def _cluster(self, state: SessionState) -> list[Content]:
        up = state.phase is SessionPhase.UP
        facts = []
        if up and state.up_since is not None:
            facts.append(Content.styled(f"up {up_time(self.now - state.up_since)}", "$text-success"))
        if up and state.latency is not None:
            facts.append(Content(f"{state.latency * 1000:.0f} ms for a small request, whole route"))
        if state.server_version:
            facts.append(Content.styled(state.server_version, "$foreground-muted"))
        sign = Content.styled(f"{phase_glyph(self.glyphs, state.phase)} ", phase_look(state.phase))
        return [Content.assemble(sign, (state.cluster or state.route[-1], "bold"), "  ", Content("  ").join(facts))]


def _closed(state: SessionState) -> list[HopState]:
    """The hops that do not stand, as the steps of the last try left them: one may be connecting or have failed."""
    found = {step.label: step.state for step in state.steps if step.state in (StepState.RUNNING, StepState.FAILED)}
    return [HopState(label, found.get(label, StepState.WAITING)) for label in state.route[1:-1][len(state.hops) :]]
