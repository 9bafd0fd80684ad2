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

SETTLE = 0.3
"""Seconds for which a question takes no yes: the enter that opened the profile must not answer it too."""
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


class LookScreen(ModalScreen[bool]):
    """Asks once per session whether a cluster may be read by command invoke, which costs a pod for each look."""

    DEFAULT_CSS = "LookScreen {" + FRAME + "& > Vertical { border: round $warning; } }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "look", "fetch", id="look.yes", tooltip="Fetch now, and whenever it is asked for."),
        Binding("escape,q", "dismiss(False)", "not now", id="look.no", tooltip="Fetch nothing."),
    ]

    def __init__(self, profile: str) -> None:
        super().__init__()
        self._profile = profile
        self._settled = False

    def compose(self) -> ComposeResult:
        """Lay out."""
        with Vertical() as box:
            box.border_title = Content(f"{self._profile}: command invoke")
            yield Static(
                "Each look makes a pod in the cluster (namespace aks-command) and takes some seconds to a minute. "
                "Nothing is fetched by itself: pods when this session opens and at each r, a log at each l.",
                markup=False,
            )
            yield Static("enter fetch   esc not now", markup=False, classes="keys")

    def on_mount(self) -> None:
        """Take no yes yet."""
        self.set_timer(SETTLE, self._settle)

    def _settle(self) -> None:
        self._settled = True

    def action_look(self) -> None:
        """Yes, unless the key was meant for what was there before."""
        if self._settled:
            self.dismiss(True)


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
