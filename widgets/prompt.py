"""The line in which a filter, a search or a command is typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

MAX_TYPED = 512
"""Characters of a filter, search or command."""


class Prompt(Horizontal):
    """Hidden until `ask`; enter submits, escape gives up. What is typed is told as it is typed."""

    DEFAULT_CSS = """
    Prompt {
        height: 1; display: none; background: $panel;
        &.-open { display: block; }
        & Static { width: auto; color: $text-accent; text-style: bold; padding: 0 1; }
        & Input, & Input:focus { width: 1fr; border: none; height: 1; padding: 0; background: $panel; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", id="prompt.cancel", tooltip="Leave what was typed.", show=False)
    ]

    @dataclass
    class Typed(Message):
        """The text has changed."""

        kind: str
        text: str

    @dataclass
    class Submitted(Message):
        """The text was meant."""

        kind: str
        text: str

    @dataclass
    class Cancelled(Message):
        """The text was not meant."""

        kind: str

    kind = ""
    """What is asked for: `filter`, `search` or `command`."""

    def compose(self) -> ComposeResult:
        """Lay out."""
        yield Static(markup=False)
        yield Input(max_length=MAX_TYPED, select_on_focus=False)

    @property
    def is_open(self) -> bool:
        """Whether something is being typed."""
        return self.has_class("-open")

    def ask(self, kind: str, label: str, text: str = "") -> None:
        """Open for one kind of text."""
        self.kind = kind
        self.query_one(Static).update(Content(label))
        field = self.query_one(Input)
        with self.prevent(Input.Changed):
            field.value = text
        field.cursor_position = len(text)
        self.add_class("-open")
        field.focus()

    def shut(self) -> None:
        """Hide."""
        self.remove_class("-open")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Tell while it is typed."""
        event.stop()
        if self.is_open:
            self.post_message(self.Typed(self.kind, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Tell what was meant."""
        event.stop()
        self.shut()
        self.post_message(self.Submitted(self.kind, event.value))

    def action_cancel(self) -> None:
        """Tell that nothing was meant."""
        self.shut()
        self.post_message(self.Cancelled(self.kind))
