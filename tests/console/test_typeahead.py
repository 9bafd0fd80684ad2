"""Keys that come all at once do what they do one by one."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from screens.typeahead import OrderedKeysApp
from tests.console.conftest import LIMIT, settle, until


class Table(Static, can_focus=True):
    """Counts letters that were meant for a prompt."""

    strays = 0

    def on_key(self, event: events.Key) -> None:
        if event.character and event.character.isalpha():
            self.strays += 1


class Typing(OrderedKeysApp):
    """`/` opens a prompt; enter closes it and goes back to the table."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("slash", "find", "find")]

    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[str] = []

    def compose(self) -> ComposeResult:
        yield Table("table")
        field = Input()
        field.display = False
        yield field

    def on_mount(self) -> None:
        self.query_one(Table).focus()

    def action_find(self) -> None:
        field = self.query_one(Input)
        field.value = ""
        field.display = True
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.submitted.append(event.value)
        self.query_one(Input).display = False
        self.query_one(Table).focus()


def press(app: Typing, keys: str) -> None:
    """Put keys into the application's queue in one go, as a driver does with one read."""
    for key in keys:
        name = {"/": "slash", "\r": "enter"}.get(key, key)
        app.post_message(events.Key(name, None if key == "\r" else key))


async def test_typed_ahead_text_reaches_the_prompt() -> None:
    app = Typing()
    async with app.run_test() as pilot:
        press(app, "/web\r/shop\r/x\rab")
        await until(pilot, lambda: len(app.submitted) == 3 and not app._held)
        await settle(pilot)
        assert app.submitted == ["web", "shop", "x"]
        assert app.query_one(Table).strays == 2


async def test_the_way_out_does_not_wait() -> None:
    app = Typing()
    async with app.run_test():
        app._released_at = float("inf")  # a key that never comes to its end
        press(app, "/")
        app.post_message(events.Key("ctrl+q", None))
        assert app._task is not None
        done, _ = await asyncio.wait({app._task}, timeout=LIMIT)
        assert done and app._exit
