"""Small screens on top of the main one: an error, a choice. Questions to the person are in `screens.questions`."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from app.errors import JumpdeckError
from widgets.steps import error_lines

FRAME = """
    align: center middle;
    & > Vertical {
        width: 76; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
        border: round $accent; border-title-color: $text;
    }
    & Static { height: auto; }
    & .keys { color: $text-muted; margin-top: 1; }
"""
"""The look that all dialogs share, for a rule of their own."""


class ErrorScreen(ModalScreen[None]):
    """A failure with its reason, its next step and its code."""

    DEFAULT_CSS = "ErrorScreen {" + FRAME + "& > Vertical { border: round $error; } }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss(None)", "close", id="error.close", tooltip="Close this dialog.")
    ]

    def __init__(self, error: JumpdeckError) -> None:
        super().__init__()
        self.error = error

    def compose(self) -> ComposeResult:
        """Lay out."""
        with Vertical() as box:
            box.border_title = Content("Error")
            yield Static(Content("\n\n").join(error_lines(self.error)), markup=False)
            yield Static("esc close", markup=False, classes="keys")


class ChoiceScreen(ModalScreen[str | None]):
    """One of several: a container, a namespace."""

    DEFAULT_CSS = "ChoiceScreen {" + FRAME + "& OptionList { height: auto; max-height: 20; border: none; } }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "close", id="choice.close", tooltip="Choose nothing."),
        Binding("j", "down", "down", id="choice.down", tooltip="Next.", show=False),
        Binding("k", "up", "up", id="choice.up", tooltip="The one before.", show=False),
    ]

    def __init__(self, title: str, choices: list[tuple[str, str]], first: str = "") -> None:
        super().__init__()
        self._title = title
        self._choices = choices
        self._first = first

    def compose(self) -> ComposeResult:
        """Lay out: each choice with a word on it."""
        width = max((len(name) for name, _ in self._choices), default=0) + 2
        with Vertical() as box:
            box.border_title = Content(self._title)
            yield OptionList(
                *(
                    Option(Content.assemble(name.ljust(width), (what, "$foreground-muted")))
                    for name, what in self._choices
                ),
                markup=False,
            )
            yield Static("enter choose   esc close", markup=False, classes="keys")

    def on_mount(self) -> None:
        """Start on the likely one."""
        names = [name for name, _ in self._choices]
        options = self.query_one(OptionList)
        options.highlighted = names.index(self._first) if self._first in names else 0
        options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """It is chosen."""
        event.stop()
        self.dismiss(self._choices[event.option_index][0])

    def action_down(self) -> None:
        """Next."""
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        """The one before."""
        self.query_one(OptionList).action_cursor_up()
