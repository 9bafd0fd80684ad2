"""One session: its steps while it is not there yet, then its pods, and below them a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import reactive, var

from app.ages import human_duration
from app.errors import JumpdeckError
from app.rows import PodRow, PodSnapshot, SessionPhase, SessionState, Staleness
from widgets.glyphs import UNICODE, Glyphs
from widgets.lines import Banner
from widgets.log_pane import LogPane
from widgets.log_ring import LogRing
from widgets.pod_table import PodTable
from widgets.steps import Steps


def _key(keys: str, action: str, what: str, name: str, tip: str, *, show: bool = True) -> Binding:
    return Binding(keys, action, what, id=f"session.{name}", tooltip=tip, show=show)


FETCHED = "command invoke"
"""The hop whose readers fetch when asked and never by themselves, as the route line names it."""
_HOLDING = (SessionPhase.UP, SessionPhase.DEGRADED)
_STUCK = (SessionPhase.FAILED, SessionPhase.NEEDS_TRUST, SessionPhase.NEEDS_SECRET, SessionPhase.NEEDS_SIGN_IN)
_CUT_OFF = {SessionPhase.NEEDS_SIGN_IN: "waits for a sign-in"}
"""What a log waits for where its link need not be lost: streams that are open outlive the sign-in."""


class SessionView(Vertical):
    """Receives the state and the snapshots of one session and hands them to its parts; keeps its look when hidden."""

    DEFAULT_CSS = """
    SessionView {
        & Steps { display: block; }
        & PodTable { display: none; height: 1fr; }
        & LogPane { display: none; height: 2fr; }
        &.-pods Steps { display: none; }
        &.-pods PodTable { display: block; }
        &.-pods.-logs LogPane { display: block; }
        &.-pods.-logs.-log-full PodTable { display: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("l,enter", "logs", "logs", "logs", "Follow the log of the pod under the cursor."),
        _key("p", "logs(True)", "previous", "previous", "The log of the container's instance before this one."),
        _key("d", "describe", "describe", "describe", "All there is to know about the pod, and its events."),
        _key("0", "namespace(0)", "all namespaces", "all", "Show the pods of all namespaces.", show=False),
        *(
            _key(str(number), f"namespace({number})", "", f"namespace-{number}", "", show=False)
            for number in range(1, 10)
        ),
        _key("r,ctrl+r", "retry", "retry", "retry", "Try to connect at once; with command invoke, fetch again.",
             show=False),
        _key("F", "full", "full height", "full", "Give the log the whole height, or share it again.", show=False),
    ]

    @dataclass
    class LogWanted(Message):
        """The log of a pod is to be shown; which container is still open."""

        profile: str
        pod: PodRow
        previous: bool

    @dataclass
    class DescriptionWanted(Message):
        """A pod is to be described."""

        profile: str
        pod: PodRow

    @dataclass
    class NamespaceWanted(Message):
        """The pods of one namespace, or (empty) of all are to be shown."""

        profile: str
        wanted: str

    @dataclass
    class RetryWanted(Message):
        """The session is to try again at once."""

        profile: str

    state: reactive[SessionState | None] = reactive(None)
    snapshot: reactive[PodSnapshot] = reactive(PodSnapshot())
    now = reactive(0.0)
    scope: reactive[tuple[str, ...]] = reactive(())
    """Namespaces shown; empty: all."""
    scope_reason: reactive[str] = reactive("")
    log_ring: reactive[LogRing | None] = reactive(None)
    log_heading: reactive[str] = reactive("")
    glyphs: var[Glyphs] = var(UNICODE)

    def __init__(self, profile: str) -> None:
        super().__init__(id=f"session-{profile}")
        self.profile = profile
        self.recent: list[str] = []
        """Namespaces that keys 1 to 9 go to."""
        self._cause: JumpdeckError | None = None
        """Why the link was lost, also while a try to bring it back is under way."""

    def compose(self) -> ComposeResult:
        """Lay out."""
        yield Banner()
        yield Steps().data_bind(SessionView.state, SessionView.now, SessionView.glyphs)
        yield PodTable().data_bind(SessionView.snapshot, SessionView.now, SessionView.glyphs)
        log = LogPane()
        yield log.data_bind(SessionView.glyphs, ring=SessionView.log_ring, heading=SessionView.log_heading)

    @property
    def table(self) -> PodTable:
        """The pods."""
        return self.query_one(PodTable)

    @property
    def log_pane(self) -> LogPane:
        """The log."""
        return self.query_one(LogPane)

    def watch_state(self, state: SessionState | None) -> None:
        """Show steps or pods, and say what is wrong."""
        if state is not None and (state.error is not None or state.phase in _HOLDING):
            self._cause = state.error
        self._settle()

    def watch_snapshot(self) -> None:
        """Show steps or pods, and say what is wrong."""
        self._settle()

    watch_now = watch_scope_reason = watch_snapshot

    def watch_log_ring(self, ring: LogRing | None) -> None:
        """The log pane is there as long as there is a log."""
        self.set_class(ring is not None, "-logs")

    def _settle(self) -> None:
        if not self.is_mounted:
            return
        seen = bool(self.snapshot.rows) or self.snapshot.staleness in (Staleness.LIVE, Staleness.SNAPSHOT)
        up = self.state is not None and self.state.phase in _HOLDING
        self.log_pane.cut_off = "" if self.state is None or up else _CUT_OFF.get(self.state.phase, "link lost")
        showing = seen or (up and self.snapshot.error is None)
        if showing and not self.has_class("-pods"):
            focused = self.query_one(Steps).has_focus
            self.add_class("-pods")
            if focused:
                self.table.focus()
        elif not showing and self.has_class("-pods"):
            focused = self.table.has_focus
            self.remove_class("-pods")
            if focused:
                self.query_one(Steps).focus()
        banner = self.query_one(Banner)
        banner.text = self.banner()
        error = self._failure() or self.snapshot.error
        banner.set_class(error is not None and not error.transient, "-error")

    def banner(self) -> str:
        """What is not as it should be, in one line or a few; empty when all is well."""
        state, snapshot = self.state, self.snapshot
        if state is not None and state.phase is SessionPhase.CLOSED:
            return "This session is closed; rows are as last seen."
        if (fetched := self._fetched()) is not None:
            return fetched
        age = f"pods as of {human_duration(max(0.0, self.now - snapshot.heard_at))} ago"
        if (failure := self._failure()) is not None and snapshot.rows:
            what, *why = failure.lines()
            return "\n".join((what, *why, f"r: try again  {age}"))
        if snapshot.staleness is Staleness.STALE or (state and state.phase is SessionPhase.RETRYING and snapshot.rows):
            words = ["Link lost"]
            if state is not None and state.phase is SessionPhase.RETRYING and state.retry_at is not None:
                words.append(f"next try in {max(0, round(state.retry_at - self.now))} s (r: now)")
            elif state is not None and state.phase is SessionPhase.CONNECTING:
                words.append("connecting again")
            cause = self._cause or snapshot.error
            return "  ".join((*words, age)) + ("" if cause is None else f"\n{cause}")
        if snapshot.error is not None:
            return f"{snapshot.error.title} [{snapshot.error.code}]  {snapshot.error.hint}"
        if state is not None and state.phase is SessionPhase.DEGRADED:
            return "The API server is slow to answer; pods may be behind."
        return self.scope_reason

    def _failure(self) -> JumpdeckError | None:
        """What the session does not get over by itself."""
        return self.state.error if self.state is not None and self.state.phase in _STUCK else None

    def _fetched(self) -> str | None:
        """The banner of pods that are fetched when asked; None for those that come by themselves."""
        state, snapshot = self.state, self.snapshot
        if state is None or state.phase is not SessionPhase.UP or FETCHED not in state.route:
            return None
        if self.scope_reason:
            return self.scope_reason
        words = [f"pods as of {human_duration(max(0.0, self.now - snapshot.heard_at))} ago"] * bool(snapshot.heard_at)
        if snapshot.error is not None:
            return "  ".join([*words, f"{snapshot.error.title} [{snapshot.error.code}]", snapshot.error.hint])
        return f"A snapshot: {words[0]}  (r: fetch again)" if words else "Nothing is fetched yet (r: fetch)"

    def on_pod_table_pod_clicked(self, event: PodTable.PodClicked) -> None:
        """A double click opens the log."""
        event.stop()
        self.post_message(self.LogWanted(self.profile, event.pod, False))

    def action_logs(self, previous: bool = False) -> None:
        """The log of the pod under the cursor."""
        if (pod := self.table.pod) is not None:
            self.post_message(self.LogWanted(self.profile, pod, previous))

    def action_describe(self) -> None:
        """Describe the pod under the cursor."""
        if (pod := self.table.pod) is not None:
            self.post_message(self.DescriptionWanted(self.profile, pod))

    def action_namespace(self, number: int) -> None:
        """All namespaces, or one of those shown lately."""
        if number <= len(self.recent):
            self.post_message(self.NamespaceWanted(self.profile, self.recent[number - 1] if number else ""))

    def action_retry(self) -> None:
        """Try again at once."""
        self.post_message(self.RetryWanted(self.profile))

    def action_full(self) -> None:
        """The log alone, or pods and log."""
        self.toggle_class("-log-full")
        if self.has_class("-log-full") and self.has_class("-logs"):
            self.log_pane.focus()
