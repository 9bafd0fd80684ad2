"""Waits for the states of a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.rows import SessionPhase, SessionState
from app.sessions.session import Session

LIMIT = 40.0
"""Seconds after which a wait counts as failed; a busy build machine takes a few for a login, ten for a program."""


async def reach(session: Session, wanted: Callable[[SessionState], bool], limit: float = LIMIT) -> SessionState:
    """Wait for a state of a session; what it is instead stands in the failure."""
    try:
        async with asyncio.timeout(limit):
            while not wanted(session.state):
                await session.changed()
    except TimeoutError:
        raise AssertionError(f"still {session.state}") from None
    return session.state


def is_up(state: SessionState) -> bool:
    return state.phase is SessionPhase.UP


def is_lost(state: SessionState) -> bool:
    return state.phase in (SessionPhase.RETRYING, SessionPhase.CONNECTING)
