"""Whether somebody attends to what runs now, so that a sign-in may ask.

An identity is shared by all sessions, and ARM and hops ask it for tokens deep inside. A session that connects says here
who answers for it; what runs later in other tasks (probes, watches, refreshes) has nobody and fails instead of asking.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.asking import Asker

_attending: ContextVar[Asker | None] = ContextVar("attending", default=None)


def attend(asker: Asker | None) -> None:
    """From now on in this task, and in those that it starts, sign-ins may ask through `asker` (None: nobody)."""
    _attending.set(asker)


def attending() -> Asker | None:
    """Who can be asked here and now."""
    return _attending.get()
