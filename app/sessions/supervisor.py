"""The supervisor: every open session of this process, what they share, and who is told of them."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from app.errors import ProfileError
from app.rows import SessionState
from app.sessions.alarms import Alarms
from app.sessions.asking import Desk, SessionAsker
from app.sessions.route import RouteGround
from app.sessions.session import Session
from app.tasks import TaskOwner

if TYPE_CHECKING:
    from app.asking import Asker
    from app.cluster.who import Seen
    from app.profiles.store import ProfileBook

__all__ = ["Session", "Sessions"]

_DRIFT = "The profile was edited or removed; this session runs as it was opened. Close and open it to take the change."


class Sessions:
    """Owns every open session of this process; quitting awaits `aclose`."""

    def __init__(self, book: ProfileBook, *, asker: Asker | None = None, ground: RouteGround | None = None) -> None:
        self.book = book
        self.asker = asker
        self._sessions: dict[str, Session] = {}
        self._listeners: list[Callable[[SessionState], None]] = []
        self._desk = Desk()
        self._ground = ground or RouteGround(asker)
        self._alarms: TaskOwner | None = None

    def open(self, name: str) -> Session:
        """The session of a profile, started when it is not open yet. Raises ProfileError."""
        if (session := self._sessions.get(name)) is not None:
            return session
        profile = self.book.get(name)
        session = Session(profile, desk=self._desk, ground=self._ground, tell=self._told, asker=self.asker)
        self._sessions[name] = session
        session.start()
        self._watch()
        return session

    def get(self, name: str) -> Session | None:
        """The open session of a profile, or None."""
        return self._sessions.get(name)

    @property
    def open_names(self) -> tuple[str, ...]:
        """Names of the open profiles in the order in which they were opened."""
        return tuple(self._sessions)

    async def who(self, name: str) -> Seen:
        """Whom the cluster of a profile will see; no route is opened. Raises JumpdeckError."""
        from app.cluster.who import who_is

        profile, ground = self.book.get(name), self._ground
        asker = None if self.asker is None else SessionAsker(self.asker, self._desk)
        return await who_is(
            profile, asker=asker, secrets=ground.secrets, azure=lambda: ground.azure(profile, asker)
        )  # fmt: skip

    def adopt(self, book: ProfileBook) -> None:
        """Open from this book from now on. Sessions whose profile is another there run on, with a warning."""
        self.book = book
        for name, session in self._sessions.items():
            try:
                same = book.get(name) == session.profile
            except ProfileError:
                same = False
            if not same:
                session.note(_DRIFT)

    async def close(self, name: str) -> None:
        """End one session; connections that others use stay. Unknown names are no error."""
        if (session := self._sessions.get(name)) is not None:
            await session.aclose()
            self._sessions.pop(name, None)
        await self._unwatch()

    def on_change(self, callback: Callable[[SessionState], None]) -> Callable[[], None]:
        """Call `callback` in the loop at every change of any session; returns how to end that."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def _told(self, state: SessionState) -> None:
        for listener in tuple(self._listeners):
            listener(state)

    # -- sleep and changes of network ----------------------------------------------------------------------------------

    def verify_all(self, why: str = "") -> None:
        """Have every session look at once whether its link lives; what waits for its next try tries now."""
        for session in self._sessions.values():
            session.verify_now()

    def _watch(self) -> None:
        if self._alarms is None:
            self._alarms = TaskOwner("alarms")
            self._alarms.spawn(Alarms(self.verify_all, ranges=lambda: tuple(self._ranges())).run(), name="tick")

    async def _unwatch(self) -> None:
        if not self._sessions and self._alarms is not None:
            alarms, self._alarms = self._alarms, None
            await alarms.aclose()

    def _ranges(self) -> Iterator[str]:
        """An address in each network that an open profile must be on: a VPN often changes no default route."""
        for session in self._sessions.values():
            for hop in session.profile.via:
                if (expect := getattr(hop, "expect", None)) is not None:
                    network = ipaddress.ip_network(expect, strict=False)
                    yield str(network[1] if network.num_addresses > 1 else network[0])

    async def aclose(self) -> None:
        """End all sessions, side by side."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        await asyncio.gather(*(session.aclose() for session in sessions), self._unwatch())
        await self._ground.aclose()

    async def __aenter__(self) -> Sessions:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
