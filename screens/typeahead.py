"""Keys take effect in the order in which they were pressed, however fast they come.

The framework forwards each key to the widget that has the focus at that moment, while the key before it may still be
on its way to opening a prompt: typed ahead, `/web` would press `w`, `e` and `b` in the table. Here the next key waits
until the one before it, and what it set off, has gone through every queue from the focused widget to the application.
"""

from __future__ import annotations

import time
from collections import deque

from textual.app import App
from textual.events import Event, Key, Paste
from textual.message_pump import MessagePump

ROUNDS = 4
"""Times that a mark follows a key through the queues: key, its widget's message, the prompt's message, the focus."""

MAX_HELD = 4096
"""Keys that may wait; more is no typing, and what comes beyond is dropped."""

HOLD_LIMIT = 0.5
"""Seconds after which a key no longer waits for the one before it, so that nothing can lock the keyboard."""

_AT_ONCE = frozenset({"ctrl+c", "ctrl+q"})
"""Keys that never wait: the ways out."""


class OrderedKeysApp(App[None]):
    """An application that handles one key press after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._held: deque[Key | Paste] = deque(maxlen=MAX_HELD)
        self._released_at: float | None = None

    async def on_event(self, event: Event) -> None:
        """Hold keys and pastes that come while one is under way; everything else goes its way."""
        if not _typed(event):
            await super().on_event(event)
            return
        assert isinstance(event, Key | Paste)
        self._held.append(event)
        if self._released_at is None or time.monotonic() - self._released_at > HOLD_LIMIT:
            await self._release()

    async def _release(self) -> None:
        """Let the oldest key go, and send a mark behind it."""
        self._released_at = None
        if self._held:
            self._released_at = time.monotonic()
            start = self._target
            await super().on_event(self._held.popleft())
            self._send_mark(start, ROUNDS, self._released_at)

    @property
    def _target(self) -> MessagePump:
        return self.focused or (self.screen if self.screen_stack else self)

    def _send_mark(self, start: MessagePump, rounds: int, key: float) -> None:
        """Send a mark through each queue from `start` up to the application."""

        def passed(node: MessagePump) -> None:
            parent = node._parent
            if parent is None or parent is self or not parent.call_later(passed, parent):
                self.call_later(self._mark_arrived, rounds, key)

        if not start.call_later(passed, start):
            self.call_later(self._mark_arrived, rounds, key)

    async def _mark_arrived(self, rounds: int, key: float) -> None:
        if key != self._released_at:
            return  # a later key no longer waited for this one
        if rounds > 1:
            self._send_mark(self._target, rounds - 1, key)
        else:
            await self._release()


def _typed(event: Event) -> bool:
    """Whether it is a key or paste that has just come in and has to wait its turn."""
    if not isinstance(event, Key | Paste) or event.is_forwarded:
        return False
    return not (isinstance(event, Key) and event.key in _AT_ONCE)
