"""Facts that travel through the console, told in the past tense. Imperatives are methods."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from app.errors import JumpdeckError
from app.rows import PodRow, PodSnapshot, SessionState


@dataclass
class SessionChanged(Message):
    """A session is in another state."""

    state: SessionState

    def can_replace(self, message: Message) -> bool:
        """A newer state of the same session makes the older one old news."""
        return isinstance(message, SessionChanged) and message.state.profile == self.state.profile


@dataclass
class PodsArrived(Message):
    """A newer snapshot of a session's pods."""

    profile: str
    snapshot: PodSnapshot

    def can_replace(self, message: Message) -> bool:
        """Only the newest snapshot of a session matters."""
        return isinstance(message, PodsArrived) and message.profile == self.profile


@dataclass
class ScopeSettled(Message):
    """It is known which namespaces a session shows, and, when not those asked for, why."""

    profile: str
    namespaces: tuple[str, ...]
    """Empty: all."""
    reason: str = ""


@dataclass
class LogFailed(Message):
    """A log could not be read (any further)."""

    profile: str
    error: JumpdeckError


@dataclass
class DescriptionArrived(Message):
    """What `d` asked for."""

    profile: str
    pod: PodRow
    text: str


@dataclass
class WhoArrived(Message):
    """It is known whom a profile's cluster will see, or what somebody else needs there."""

    profile: str
    text: str
    """The whole page."""
    wanted: str
    """What to send to an administrator; empty when nothing can be said."""


@dataclass
class FailureMet(Message):
    """Something asked for did not work."""

    error: JumpdeckError
