"""Full-screen text: a description with search, and the help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from app.rows import LogBatch, LogSource
from screens.commands import COMMANDS
from widgets.log_pane import LogPane
from widgets.log_ring import LogRing
from widgets.prompt import Prompt


class TextScreen(ModalScreen[None]):
    """Lines to read: scrolled and searched as a log is."""

    DEFAULT_CSS = """
    TextScreen { background: $surface; & Vertical { height: 1fr; } & LogPane { height: 1fr; } }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "back", id="text.back", tooltip="Clear the search, then go back."),
        Binding("slash", "search", "search", key_display="/", id="text.search", tooltip="Search the text."),
    ]

    def __init__(self, heading: str, text: str) -> None:
        super().__init__()
        self._heading = heading
        lines = text.rstrip("\n") + "\n"
        self._ring = LogRing()
        batch = LogBatch(LogSource("", "", ""), lines.encode("utf-8", "replace"), lines.count("\n"), stamped=False)
        self._ring.append(batch)

    def compose(self) -> ComposeResult:
        """Lay out."""
        with Vertical():
            yield ReadingPane(follow=False)
        yield Prompt()

    def on_mount(self) -> None:
        """Show the text from its start."""
        pane = self.query_one(ReadingPane)
        pane.heading = self._heading
        pane.ring = self._ring
        pane.focus()

    def action_search(self) -> None:
        """Type what to look for."""
        self.query_one(Prompt).ask("search", "/", self.query_one(ReadingPane).search)

    def on_prompt_submitted(self, event: Prompt.Submitted) -> None:
        """Look for it."""
        pane = self.query_one(ReadingPane)
        pane.search = event.text
        pane.focus()
        pane.action_next(1)

    def on_prompt_cancelled(self) -> None:
        """Back to the text."""
        self.query_one(ReadingPane).focus()

    def action_back(self) -> None:
        """Clear the search, then leave."""
        pane = self.query_one(ReadingPane)
        if pane.search:
            pane.search = ""
        else:
            self.dismiss(None)


class ReadingPane(LogPane):
    """A log pane for text that does not grow."""

    WORD = "DESCRIBE"

    def status(self) -> str:
        """The search, and how to leave."""
        return f"/{self.search}  n next  N before  esc clear" if self.search else "/ search  esc back"


class HelpScreen(ModalScreen[None]):
    """Keys and commands, read from the bindings themselves."""

    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        & > VerticalScroll {
            width: 92; max-width: 98%; height: 94%; padding: 0 2; background: $surface; border: round $accent;
        }
        & Static { height: auto; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "dismiss(None)", "close", id="help.close", tooltip="Close the help.")
    ]

    def __init__(self, groups: Iterable[tuple[str, Iterable[Binding]]]) -> None:
        super().__init__()
        self._groups = [(name, list(bindings)) for name, bindings in groups]

    def compose(self) -> ComposeResult:
        """Lay out."""
        with VerticalScroll() as box:
            box.border_title = Content("Jumpdeck help")
            yield Static(self.text(), markup=False)

    def text(self) -> Content:
        """All keys by where they work, then the commands."""
        lines: list[Content] = []
        for name, bindings in self._groups:
            lines.append(Content.styled(f"\n{name}", "bold $text-accent"))
            for key, tip in _folded(bindings):
                lines.append(Content.assemble((f"  {key:<17} ", "bold"), tip))
        lines.append(Content.styled("\nCommands (:)", "bold $text-accent"))
        for command in COMMANDS:
            names = " ".join(filter(None, (command.name, command.argument)))
            also = f" ({', '.join(command.aliases)})" if command.aliases else ""
            lines.append(Content.assemble((f"  :{names:<16} ", "bold"), command.help, (also, "$foreground-muted")))
        lines.append(Content.styled("\nFilter: text or regex, !text inverse, -l app=web labels", "$foreground-muted"))
        return Content("\n").join(lines)


_SHOWN = {"slash": "/", "colon": ":", "question_mark": "?", "escape": "esc", "pagedown": "pgdn", "pageup": "pgup"}


def _folded(bindings: Iterable[Binding]) -> list[tuple[str, str]]:
    """Keys with one line each: those of one action together, those without a word left out."""
    keys: dict[str, list[str]] = {}
    for binding in bindings:
        if binding.tooltip:
            names = [_SHOWN.get(key, key) for key in binding.key.split(",")]
            keys.setdefault(binding.tooltip, []).extend(
                f"shift+{name.lower()}" if len(name) == 1 and name.isupper() else name for name in names
            )
    return [(" ".join(names) if len(names) < 5 else f"{names[0]} … {names[-1]}", tip) for tip, names in keys.items()]
