"""Moving about the main screen: from pane to pane, with the hints of the pane that has the focus, and the help."""

from __future__ import annotations

from textual.binding import Binding
from textual.css.query import NoMatches
from textual.events import DescendantFocus
from textual.widget import Widget

from screens.deck import DeckScreen
from widgets.lines import BottomLine
from widgets.profile_list import ProfileList
from widgets.steps import Steps

_LIST_HINTS = (("enter", "open"), (":", "command"), ("?", "help"), ("q", "quit"))
_POD_HINTS = (("/", "filter"), ("l", "logs"), ("d", "describe"), (":", "command"), ("?", "help"), ("0", "all"))
_LOG_HINTS = (("/", "search"), ("f", "follow"), ("t", "times"), ("F", "full"), ("esc", "close"), ("?", "help"))
_STEP_HINTS = (("r", "retry"), ("esc", "profiles"), (":", "command"), ("?", "help"))
_HINTS = {"ProfileList": _LIST_HINTS, "PodTable": _POD_HINTS, "LogPane": _LOG_HINTS, "Steps": _STEP_HINTS}
"""By the name of the widget: what shows sessions is loaded after the first frame."""


class RoamingScreen(DeckScreen):
    """Knows which pane comes after which, and makes room for the list of profiles on narrow screens."""

    def focus_profiles(self) -> None:
        """To the list of profiles."""
        self.add_class("-choosing")
        self.query_one(ProfileList).focus()

    def action_pane(self, step: int) -> None:
        """To the next pane that is shown."""
        view = self.active_view
        panes: list[Widget] = [self.query_one(ProfileList)]
        if view is not None:
            panes += [pane for pane in (view.query_one(Steps), view.table, view.log_pane) if pane.display]
        at = next((index for index, pane in enumerate(panes) if pane.has_focus), 0)
        target = panes[(at + step) % len(panes)]
        if isinstance(target, ProfileList):
            self.focus_profiles()
        else:
            target.focus()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Hints of the pane that has the focus; on a narrow screen the list of profiles makes room."""
        widget = event.widget
        if not isinstance(widget, ProfileList) and self.active:
            self.remove_class("-choosing")
        try:
            self.query_one(BottomLine).hints = _HINTS.get(type(widget).__name__, _POD_HINTS)
        except NoMatches:  # the screen is still being laid out
            return

    def action_help(self) -> None:
        """Keys and commands."""
        from screens.texts import HelpScreen
        from widgets.log_pane import LogPane
        from widgets.pod_table import PodTable
        from widgets.session_view import SessionView

        everywhere = [*self.app.BINDINGS, *self.BINDINGS]
        shown = [("Everywhere", [binding for binding in everywhere if isinstance(binding, Binding)])]
        for title, widget in (
            ("Profiles", ProfileList),
            ("Session", SessionView),
            ("Pods", PodTable),
            ("Log", LogPane),
        ):
            shown.append((title, [binding for binding in widget.BINDINGS if isinstance(binding, Binding)]))
        self.app.push_screen(HelpScreen(shown))
