"""The list of profiles with the state of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive, var
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from app.rows import SessionPhase, SessionState
from widgets.glyphs import UNICODE, Glyphs, phase_glyph, phase_look, state_word

MAX_NAME = 24
"""Characters of a profile's name that are shown."""


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """A profile as the list needs it; cleaned text."""

    name: str
    title: str = ""
    production: bool = False
    broken: bool = False
    """Its part of the profile file cannot be used."""


class ProfileList(OptionList):
    """Profiles in the order of the file; enter opens one."""

    DEFAULT_CSS = """
    ProfileList {
        border: none; padding: 0; background: $surface; scrollbar-size-vertical: 1;
        border-right: solid $panel-lighten-2; border-title-color: $text-muted; height: 1fr;
        &:focus { border: none; border-right: solid $accent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "down", id="profiles.down", tooltip="Next profile.", show=False),
        Binding("k", "cursor_up", "up", id="profiles.up", tooltip="Profile before.", show=False),
        Binding("g", "first", "first", id="profiles.first", tooltip="First profile.", show=False),
        Binding("G", "last", "last", id="profiles.last", tooltip="Last profile.", show=False),
        Binding("enter", "select", "open", id="profiles.open", tooltip="Open the profile, or go to it."),
    ]

    @dataclass
    class ProfileChosen(Message):
        """A profile is to be shown, and opened when it is not open yet."""

        name: str

    entries: reactive[tuple[ProfileEntry, ...]] = reactive(())
    states: reactive[dict[str, SessionState]] = reactive(dict)
    active: reactive[str] = reactive("")
    now = reactive(0.0)
    glyphs: var[Glyphs] = var(UNICODE)

    def watch_entries(self) -> None:
        """Show another set of profiles, or other signs."""
        self.clear_options()
        self.add_options(Option(self._prompt(entry), id=entry.name) for entry in self.entries)

    watch_glyphs = watch_entries

    def watch_states(self, old: dict[str, SessionState], new: dict[str, SessionState]) -> None:
        """Say how sessions stand."""
        self._update({name for name in old.keys() | new.keys() if old.get(name) != new.get(name)})

    def watch_active(self, old: str, new: str) -> None:
        """Mark the session that is shown."""
        self._update({old, new})

    def watch_now(self) -> None:
        """Count down to the next tries."""
        self._update({name for name, state in self.states.items() if state.phase is SessionPhase.RETRYING})

    def _update(self, names: set[str]) -> None:
        for entry in self.entries:
            if entry.name in names and self.option_count:
                self.replace_option_prompt(entry.name, self._prompt(entry))

    def _prompt(self, entry: ProfileEntry) -> Content:
        state = self.states.get(entry.name)
        phase = state.phase if state else SessionPhase.IDLE
        word, look = state_word(state), phase_look(phase)
        sign = phase_glyph(self.glyphs, phase)
        if entry.broken:
            word, look, sign = "INVALID", "$text-error", self.glyphs.failed
        if state is not None and phase is SessionPhase.RETRYING and state.retry_at is not None:
            word = f"retry {max(0, round(state.retry_at - self.now))}s"
        name = entry.name[:MAX_NAME]
        name_look = "bold" if entry.name == self.active else ""
        if entry.production:
            name_look += " $text-error"
        return Content.assemble((f"{sign} ", look), (name.ljust(14), name_look.strip()), " ", (word, look))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Tell which profile was chosen."""
        event.stop()
        if event.option_id is not None:
            self.post_message(self.ProfileChosen(event.option_id))
