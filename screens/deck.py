"""The main screen's layout and the state that flows down it: the list of profiles and a view for each session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.reactive import reactive, var
from textual.screen import Screen
from textual.widgets import ContentSwitcher

from app.rows import SessionPhase, SessionState
from widgets.glyphs import UNICODE, Glyphs
from widgets.lines import BottomLine, TopLine
from widgets.profile_list import ProfileEntry, ProfileList
from widgets.prompt import Prompt
from widgets.steps import Steps

if TYPE_CHECKING:
    from app.messages import (
        DescriptionArrived,
        FailureMet,
        LogFailed,
        PodsArrived,
        ScopeSettled,
        SessionChanged,
        WhoArrived,
    )
    from widgets.session_view import SessionView

TICK = 1.0
"""Seconds between two looks at the clock: ages and countdowns are told in seconds."""
MAX_RECENT = 9
"""Namespaces remembered for the keys 1 to 9."""

ADVICE = "enter opens a profile"
NO_PROFILES = """There are no profiles yet.

jumpdeck profiles import   makes them from your kubeconfig
jumpdeck demo              shows everything on a practice ground, with no cluster"""


class DeckScreen(Screen[None]):
    """Holds one view per session and hands it what its session told; views keep their look while hidden."""

    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (100, "-roomy")]  # noqa: RUF012

    states: reactive[dict[str, SessionState]] = reactive(dict)
    active: reactive[str] = reactive("")
    active_state: reactive[SessionState | None] = reactive(None)
    scope_text: reactive[str] = reactive("")
    now = reactive(0.0)
    entries: reactive[tuple[ProfileEntry, ...]] = reactive(())
    surveyed: reactive[bool] = reactive(False)
    """Whether the profile file has been read."""
    glyphs: var[Glyphs] = var(UNICODE)

    def __init__(self, clock: Callable[[], float], glyphs: Glyphs) -> None:
        super().__init__()
        self._clock = clock
        self.views: dict[str, SessionView] = {}
        """A view for each profile that was opened, by name."""
        self.set_reactive(DeckScreen.glyphs, glyphs)
        self.set_reactive(DeckScreen.now, clock())

    def compose(self) -> ComposeResult:
        """Lay out as the drawing in the product's description."""
        deck = DeckScreen
        yield TopLine().data_bind(deck.now, deck.glyphs, state=deck.active_state, namespaces=deck.scope_text)
        with Horizontal(id="body"):
            yield ProfileList(markup=False).data_bind(deck.entries, deck.states, deck.active, deck.now, deck.glyphs)
            with ContentSwitcher(initial="welcome"):
                yield Steps(id="welcome").data_bind(deck.glyphs)
        yield Prompt()
        yield BottomLine().data_bind(deck.now, deck.glyphs, state=deck.active_state)

    def on_mount(self) -> None:
        """Start the clock."""
        self.set_interval(TICK, self._tick)
        self.query_one(ProfileList).focus()

    def _tick(self) -> None:
        self.now = self._clock()

    def watch_surveyed(self, surveyed: bool) -> None:
        """Say what can be done next."""
        if surveyed:
            self.query_one("#welcome", Steps).advice = ADVICE if self.entries else NO_PROFILES

    def watch_now(self, now: float) -> None:
        """Tell the views the time."""
        for view in self.views.values():
            view.now = now

    # -- views ---------------------------------------------------------------------------------------------------------

    def view(self, name: str) -> SessionView | None:
        """The view of a session."""
        return self.views.get(name)

    @property
    def active_view(self) -> SessionView | None:
        """The view that is shown."""
        return self.view(self.active)

    async def show(self, name: str) -> SessionView:
        """Bring a session's view to the front; it is made when it is not there yet."""
        switcher = self.query_one(ContentSwitcher)
        if (view := self.view(name)) is None:
            from widgets.session_view import SessionView

            view = self.views[name] = SessionView(name)
            view.glyphs, view.now = self.glyphs, self.now
            view.state = self.states.get(name)
            await switcher.add_content(view)
        switcher.current = view.id
        self.active = name
        self._settle()
        entry = next((entry for entry in self.entries if entry.name == name), None)
        self.set_class(entry is not None and entry.production, "-production")
        return view

    async def drop(self, name: str) -> None:
        """Take a closed session's view away."""
        if (view := self.views.pop(name, None)) is not None:
            if self.active == name:
                self.query_one(ContentSwitcher).current = "welcome"
                self.active = ""
                self.query_one(ProfileList).focus()
            await view.remove()
        self.states = {key: state for key, state in self.states.items() if key != name}
        self.remove_class("-production")
        self._settle()

    def _settle(self) -> None:
        self.active_state = self.states.get(self.active)
        view = self.active_view
        self.scope_text = ", ".join(view.scope) if view else ""

    def flash(self, text: str) -> None:
        """Say something for a moment in the bottom line; cleaned text."""
        self.query_one(BottomLine).flash(text)

    # -- what sessions told --------------------------------------------------------------------------------------------

    def on_session_changed(self, event: SessionChanged) -> None:
        """A session is in another state."""
        state = event.state
        if state.phase is SessionPhase.CLOSED:
            return
        self.states = {**self.states, state.profile: state}
        if (view := self.view(state.profile)) is not None:
            view.state = state
        self._settle()

    def on_pods_arrived(self, event: PodsArrived) -> None:
        """A session's pods have changed."""
        if (view := self.view(event.profile)) is not None:
            view.snapshot = event.snapshot

    def on_scope_settled(self, event: ScopeSettled) -> None:
        """It is known which namespaces a session shows."""
        if (view := self.view(event.profile)) is not None:
            view.scope, view.scope_reason = event.namespaces, event.reason
            names = [*event.namespaces, *(name for name in view.recent if name not in event.namespaces)]
            view.recent = names[:MAX_RECENT]
            self._settle()

    def on_log_failed(self, event: LogFailed) -> None:
        """A log ended with a failure; it also stands in the log itself."""
        self.flash(f"{event.error.title} [{event.error.code}]")

    def on_description_arrived(self, event: DescriptionArrived) -> None:
        """Show a description."""
        from screens.texts import TextScreen

        self.app.push_screen(TextScreen(f"{event.pod.namespace}/{event.pod.name}", event.text))

    def on_who_arrived(self, event: WhoArrived) -> None:
        """Show whom the cluster will see."""
        from screens.who import WhoScreen

        self.app.push_screen(WhoScreen(event.profile, event.text, event.wanted))

    def on_failure_met(self, event: FailureMet) -> None:
        """Show what did not work."""
        from screens.dialogs import ErrorScreen

        self.app.push_screen(ErrorScreen(event.error))
