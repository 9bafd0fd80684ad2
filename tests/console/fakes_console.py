"""Fakes at the seam of the services: sessions whose states, pods and logs a test writes as a script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from app.cluster.who import Seen
from app.errors import JumpdeckError, ProfileError, RouteError
from app.profiles.model import Profile, ServerCluster
from app.rows import (
    ContainerKind,
    ContainerRow,
    HopState,
    LogBatch,
    LogMark,
    LogSource,
    PodRow,
    PodSnapshot,
    SessionPhase,
    SessionState,
    Staleness,
)
from screens.app import ConsoleApp, Ground
from widgets.profile_list import ProfileEntry

NOW = 1_800_000_000.0
"""The frozen clock."""


def pod(name: str, *, namespace: str = "shop", uid: str = "", containers: tuple[str, ...] = ("app",), **more) -> PodRow:
    """A healthy pod unless told otherwise."""
    values = {"ready": 1, "total": 1, "status": "Running", "restarts": 0, "restarted_at": None, "created": NOW - 3600}
    values |= {"ip": "10.1.0.4", "node": "node-1", **more}
    rows = tuple(ContainerRow(item, ContainerKind.APP, f"containerd://{item}", "running") for item in containers)
    return PodRow(uid or f"uid-{namespace}-{name}", namespace, name, containers=rows, **values)


def snapshot(*pods: PodRow, staleness: Staleness = Staleness.LIVE, **more) -> PodSnapshot:
    """A snapshot of these pods."""
    return PodSnapshot({row.uid: row for row in pods}, staleness, more.pop("heard_at", NOW), **more)


def lines(*texts: str | bytes, source: LogSource | None = None, mark: LogMark | None = None) -> LogBatch:
    """A batch of stamped lines."""
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    body = b"".join(b"2026-01-02T12:00:01.123456789Z " + text + b"\n" for text in raw)
    return LogBatch(source or LogSource("shop", "web", "app"), body, len(raw), mark)


class FakeWatch:
    """A watch that publishes what the test hands over."""

    def __init__(self, reader: FakeReader, namespaces: tuple[str, ...]) -> None:
        self.reader, self.namespaces = reader, namespaces

    async def run(self, publish: Callable[[PodSnapshot], None]) -> None:
        self.reader.scopes.append(self.namespaces)
        publish(self.reader.snapshot)
        self.reader.publish = publish
        await self.reader.watch_ended.wait()


class FakeLog:
    """A log that delivers what the test puts in its queue, until a None."""

    def __init__(self, request: object) -> None:
        self.request = request
        self.batches: asyncio.Queue[LogBatch | JumpdeckError | None] = asyncio.Queue()
        self.cancelled = False

    async def run(self, deliver: Callable[[LogBatch], Awaitable[None]]) -> None:
        try:
            while (batch := await self.batches.get()) is not None:
                if isinstance(batch, JumpdeckError):
                    raise batch
                await deliver(batch)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class FakeReader:
    """Reads what the test wrote."""

    live = True

    def __init__(self) -> None:
        self.snapshot = snapshot()
        self.publish: Callable[[PodSnapshot], None] = lambda shown: setattr(self, "snapshot", shown)
        self.watch_ended = asyncio.Event()
        self.scopes: list[tuple[str, ...]] = []
        self.logs: list[FakeLog] = []
        self.all_allowed = True
        self.home_namespaces: tuple[str, ...] = ("shop",)
        self.description = "Name:  web\nStatus:  Running\n"
        self.describes = asyncio.Event()
        self.describes.set()

    def pods(self, scope) -> FakeWatch:
        return FakeWatch(self, scope.namespaces)

    def log(self, request, link=None) -> FakeLog:
        self.logs.append(FakeLog(request))
        return self.logs[-1]

    async def may_list_all_pods(self) -> bool:
        return self.all_allowed

    async def describe(self, row: PodRow) -> str:
        await self.describes.wait()
        return self.description


class FakeSession:
    """A session whose state the test sets."""

    def __init__(self, profile: Profile, tell: Callable[[SessionState], None]) -> None:
        self.profile = profile
        self.reader = FakeReader()
        self._tell = tell
        self.retried = 0
        self.hops: tuple[HopState, ...] = ()
        self.state = SessionState(profile.name, route=("workstation", "jump01 (SSH)", f"aks-{profile.name}"))

    def move(self, phase: SessionPhase, **changes) -> None:
        self.state = replace(self.state, phase=phase, since=NOW, **changes)
        self._tell(self.state)

    def up(self) -> None:
        self.move(
            SessionPhase.UP,
            up_since=NOW - 7980,
            latency=0.038,
            identity="ops@contoso.com",
            error=None,
            token_until=NOW + 2830,
        )

    def hop_states(self) -> tuple[HopState, ...]:
        return self.hops

    def retry_now(self) -> None:
        self.retried += 1


@dataclass
class FakeBook:
    """Profiles by name; `broken` have an error of their own."""

    profiles: dict[str, Profile]
    broken: dict[str, ProfileError] = field(default_factory=dict)

    def get(self, name: str) -> Profile:
        if name in self.broken:
            raise self.broken[name]
        if name not in self.profiles:
            raise ProfileError(f"No profile is called {name}", code="JD-PROFILE-UNKNOWN")
        return self.profiles[name]


class FakeSessions:
    """The supervisor without routes."""

    def __init__(self, book: FakeBook) -> None:
        self.book = book
        self.sessions: dict[str, FakeSession] = {}
        self.closed = False
        self.seen: Seen | JumpdeckError | None = None
        """What `who` finds, or raises."""
        self._listeners: list[Callable[[SessionState], None]] = []

    def open(self, name: str) -> FakeSession:
        if name not in self.sessions:
            self.sessions[name] = FakeSession(self.book.get(name), self._told)
        return self.sessions[name]

    def get(self, name: str) -> FakeSession | None:
        return self.sessions.get(name)

    async def who(self, name: str) -> Seen:
        if isinstance(self.seen, JumpdeckError):
            raise self.seen
        assert self.seen is not None
        return self.seen

    def adopt(self, book: FakeBook) -> None:
        self.book = book

    async def close(self, name: str) -> None:
        self.sessions.pop(name, None)

    def on_change(self, callback: Callable[[SessionState], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def _told(self, state: SessionState) -> None:
        for listener in self._listeners:
            listener(state)

    async def aclose(self) -> None:
        self.closed = True


def link_error() -> RouteError:
    """A lost link."""
    return RouteError("The API server does not answer", "reset by peer", "Check the VPN.", code="JD-API-LOST")


class Stage:
    """A console over fakes: `stage.app` to run, `stage.session(name)` to write the script."""

    def __init__(self, *names: str, first: str | None = None, production: tuple[str, ...] = (), **more) -> None:
        names = names or ("prod-weu", "staging")
        profiles = {
            name: Profile(name, ServerCluster("https://api"), tags=("production",) * (name in production))
            for name in names
        }
        self.book = FakeBook(profiles, more.pop("broken", {}))
        entries = tuple(ProfileEntry(name, production=name in production) for name in names)
        entries += tuple(ProfileEntry(name, broken=True) for name in self.book.broken)
        self.sessions = FakeSessions(self.book)
        self.now = NOW
        self.entries = entries
        self.app = ConsoleApp(
            lambda: Ground(self.entries, lambda asker: self.sessions, book=self.book),
            first=first,
            clock=lambda: self.now,
            load=lambda: None,
            **more,
        )

    def session(self, name: str) -> FakeSession:
        return self.sessions.sessions[name]

    def reader(self, name: str) -> FakeReader:
        return self.session(name).reader
