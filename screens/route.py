"""The route of the session that is shown, hop by hop, live while it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from app.rows import SessionState
from screens.dialogs import FRAME
from widgets.glyphs import Glyphs
from widgets.route_map import RouteMap

TICK = 1.0
"""Seconds between two looks at bytes and times: they are told in seconds."""


class RouteScreen(ModalScreen[None]):
    """Shows what `look` tells of a session each second, as long as it is open."""

    DEFAULT_CSS = "RouteScreen {" + FRAME + "& > Vertical { width: 100; } & VerticalScroll { height: auto; } }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,i", "dismiss(None)", "close", id="route.close", tooltip="Close the route.")
    ]

    def __init__(self, look: Callable[[], SessionState | None], clock: Callable[[], float], glyphs: Glyphs) -> None:
        super().__init__()
        self._look = look
        self._clock = clock
        self._glyphs = glyphs

    def compose(self) -> ComposeResult:
        """Lay out."""
        with Vertical() as box:
            box.border_title = Content("Route")
            with VerticalScroll():
                yield RouteMap(markup=False)
            yield Static("esc close", markup=False, classes="keys")

    def on_mount(self) -> None:
        """Look now, and again each second."""
        self.query_one(RouteMap).glyphs = self._glyphs
        self.refresh_route()
        self.set_interval(TICK, self.refresh_route)

    def refresh_route(self) -> None:
        """Draw how the route stands now."""
        shown = self.query_one(RouteMap)
        shown.now = self._clock()
        shown.state = self._look()
