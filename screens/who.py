"""Whom a profile's cluster will see, and what to ask an administrator for: to read, and to copy."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from app.text import clean_block, clean_line
from screens.dialogs import FRAME

_KEYS = "c copy what to ask for   a copy all   esc close"


class WhoScreen(ModalScreen[None]):
    """A page of facts and requests. Copying asks the terminal to take it (OSC 52); it holds no secret."""

    DEFAULT_CSS = "WhoScreen {" + FRAME + "& > Vertical { width: 108; } & VerticalScroll { height: auto; } }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "close", id="who.close", tooltip="Close this page."),
        Binding("c,y", "copy(False)", "copy", id="who.copy", tooltip="Copy what to ask for."),
        Binding("a", "copy(True)", "copy all", id="who.copy-all", tooltip="Copy the whole page."),
    ]

    def __init__(self, profile: str, text: str, wanted: str) -> None:
        super().__init__()
        self._profile = profile
        self._text = clean_block(text)
        self._wanted = clean_block(wanted)

    def compose(self) -> ComposeResult:
        """Lay out; long lines are folded on the screen only."""
        with Vertical() as box:
            box.border_title = Content(f"Who: {clean_line(self._profile)}")
            with VerticalScroll():
                yield Static(Content(self._text), markup=False, classes="page")
            yield Static(_KEYS if self._wanted else _KEYS.partition("   ")[2], markup=False, classes="keys")

    def on_mount(self) -> None:
        """Scroll by the arrow keys."""
        self.query_one(VerticalScroll).focus()

    def action_copy(self, everything: bool) -> None:
        """Hand it to the terminal, and say so: no terminal answers whether it took it."""
        text = self._text if everything or not self._wanted else self._wanted
        self.app.copy_to_clipboard(text)
        lines = text.count("\n") + 1
        said = f"{lines} lines handed to the terminal's clipboard (not every terminal takes them)   esc close"
        self.query_one(".keys", Static).update(Content(said))
