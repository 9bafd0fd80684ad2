"""Between the console and its sessions: owns the tasks that read, and tells what they brought as facts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING

from msgspec.structs import replace
from textual.message import Message

from app.errors import JumpdeckError, Recovery, RefusedError
from app.messages import (
    DescriptionArrived,
    FailureMet,
    LogFailed,
    PodsArrived,
    ScopeSettled,
    SessionChanged,
    WhoArrived,
)
from app.rows import LogBatch, LogMark, LogSource, MarkKind, PodRow, PodSnapshot, SessionPhase, SessionState, Staleness
from app.tasks import TaskOwner
from widgets.log_ring import LogRing

if TYPE_CHECKING:
    from app.cluster.invoke import InvokeReader
    from app.cluster.reader import ClusterReader
    from app.sessions.supervisor import Session, Sessions

FIRST_LINES = 1_000
"""Lines of a log that are asked for at first: several screens, and still one answer."""
_SERVICES = (
    "app.sessions.supervisor",
    "app.cluster.access",
    "app.cluster.api",
    "app.cluster.streams",
    "app.cluster.reader",
    "app.cluster.pods",
    "app.cluster.log_follow",
    "app.routes.build",
    "screens.commands",
    "screens.dialogs",
    "screens.questions",
    "screens.route",
    "screens.texts",
    "widgets.session_view",
)


def load_services() -> None:
    """Import what sessions need. Takes a third of a second, so it runs in a thread once the screen stands."""
    for name in _SERVICES:
        import_module(name)


Confirm = Callable[[str], Awaitable[bool]]
"""Asks the person whether a profile's cluster, named, may be read at the price of a pod for each look."""


class Feed:
    """The readers of one session: one watch of its pods and one log, both of which end with it."""

    def __init__(self, session: Session, tell: Callable[[Message], object], confirm: Confirm | None = None) -> None:
        self.session = session
        self.name = session.profile.name
        self._tell = tell
        self._confirm = confirm
        self._pods = TaskOwner(f"pods {self.name}")
        self._log = TaskOwner(f"log {self.name}")
        self._asides = TaskOwner(f"asides {self.name}")
        self._asked: tuple[str, ...] = ()
        self._namespaces: tuple[str, ...] = ()
        self._watching = False
        self._last = PodSnapshot()

    def state_changed(self, state: SessionState) -> None:
        """Begin to watch when the session is UP and nothing watches."""
        if state.phase is SessionPhase.UP and not self._watching:
            self._watching = True
            self._pods.spawn(self._watch(), name="watch")

    async def show(self, namespaces: tuple[str, ...]) -> None:
        """Watch other namespaces; none means all."""
        self._asked = namespaces
        await self._pods.aclose()
        self._last = PodSnapshot()
        self._tell(PodsArrived(self.name, self._last))
        self._watching = False
        self.state_changed(self.session.state)

    async def _watch(self) -> None:
        try:
            reader = self.session.reader
            if not reader.live:
                reader.told = self._waiting
                await self._agreed()
            namespaces, reason = await self._scope(reader)
            await self._run_watch(reader, namespaces, reason)
            if _may_not_list(self._last.error) and not namespaces:
                await self._run_watch(reader, reader.home_namespaces, _forbidden(reader))
        except JumpdeckError as error:
            self._published(PodSnapshot(self._last.rows, Staleness.STALE, self._last.heard_at, error))
        finally:
            self._watching = False

    async def _agreed(self) -> None:
        """Once per session the person is asked before the first look. Raises JumpdeckError when it is not meant."""
        if self._confirm is not None and not await self._confirm(self.name):
            raise JumpdeckError(
                "Not fetched", "command invoke makes a pod in the cluster for each look", "r asks again.",
                code="JD-INVOKE-NOT-MEANT", recovery=Recovery.NEEDS_PERSON,
            )  # fmt: skip
        self._confirm = None

    @property
    def live(self) -> bool:
        """Whether what it shows goes on by itself; else it is as it was when fetched."""
        return self.session.reader.live

    def _waiting(self, text: str) -> None:
        """Command invoke waits for its pod: show for how long."""
        self._tell(ScopeSettled(self.name, self._namespaces, text))

    async def refresh(self) -> bool:
        """Fetch anew what is only fetched when asked; False where the session's readers go on by themselves."""
        reader = self.session.reader if self.session.state.phase is SessionPhase.UP else None
        if reader is None or reader.live:
            return False
        if self._watching:
            reader.refresh()
        else:
            self.state_changed(self.session.state)
        return True

    async def _run_watch(self, reader: ClusterReader | InvokeReader, namespaces: tuple[str, ...], reason: str) -> None:
        from app.cluster.pods import PodScope

        self._namespaces = namespaces
        self._tell(ScopeSettled(self.name, namespaces, reason))
        await reader.pods(PodScope(namespaces)).run(self._published)

    async def _scope(self, reader: ClusterReader | InvokeReader) -> tuple[tuple[str, ...], str]:
        """What was asked for, or, where "all" is forbidden, the namespaces at home and a word on that."""
        if self._asked:
            return self._asked, ""
        try:
            allowed = await reader.may_list_all_pods()
        except JumpdeckError:  # the review itself may be closed to us; the list will tell
            allowed = True
        return ((), "") if allowed else (reader.home_namespaces, _forbidden(reader))

    def _published(self, snapshot: PodSnapshot) -> None:
        self._last = snapshot
        self._tell(PodsArrived(self.name, snapshot))

    async def follow(self, pod: PodRow, container: str, *, previous: bool) -> LogRing:
        """Read a container's log into a new ring, in place of the one before."""
        await self.stop_log()
        ring = LogRing()
        self._log.spawn(self._read_log(ring, pod, container, previous=previous), name=f"{pod.name}/{container}")
        return ring

    async def stop_log(self) -> None:
        """Read no log."""
        await self._log.aclose()

    async def _read_log(self, ring: LogRing, pod: PodRow, container: str, *, previous: bool) -> None:
        from app.cluster.log_follow import LogRequest
        from app.sessions.link import PatientLink

        async def deliver(batch: LogBatch) -> None:
            ring.append(batch)

        known = (each.container_id for each in pod.containers if each.name == container)
        request = LogRequest(
            pod.namespace,
            pod.name,
            container,
            pod_uid=pod.uid,
            instance=next(known, ""),
            follow=not previous,
            previous=previous,
            tail=None if previous else FIRST_LINES,
        )
        source = LogSource(pod.namespace, pod.name, container, pod.uid)
        try:
            reader = self.session.reader
            log = reader.log(request, PatientLink(self.session)) if reader.live else reader.log(request)
            await log.run(deliver)
        except JumpdeckError as error:
            ring.append(LogBatch(source, mark=LogMark(MarkKind.NOTE, " ".join(error.lines()), time.time())))
            self._tell(LogFailed(self.name, error))
        ring.ended = True

    def describe(self, pod: PodRow) -> asyncio.Task[None]:
        """Ask for a description; it arrives as a fact. Cancel the task, which this feed ends, when it is not wanted."""
        return self._asides.spawn(self._describe(pod), name=f"describe {pod.name}")

    async def _describe(self, pod: PodRow) -> None:
        try:
            text = await self.session.reader.describe(pod)
        except JumpdeckError as error:
            self._tell(FailureMet(error))
        else:
            self._tell(DescriptionArrived(self.name, pod, text))

    async def aclose(self) -> None:
        """End all readers."""
        for owner in (self._pods, self._log, self._asides):
            await owner.aclose()


def _may_not_list(error: Exception | None) -> bool:
    """Whether the cluster knows us and forbids the list; a token that it does not accept says nothing about lists."""
    return isinstance(error, RefusedError) and error.layer == "rbac"


def _forbidden(reader: ClusterReader | InvokeReader) -> str:
    return f"Pods of all namespaces may not be listed here; shown: {', '.join(reader.home_namespaces)}"


class Bridge:
    """Opens and closes sessions for the console and keeps a feed for each. `aclose` ends everything."""

    def __init__(
        self, sessions: Sessions, tell: Callable[[Message], object], confirm: Confirm | None = None
    ) -> None:
        self.sessions = sessions
        self._tell, self._confirm = tell, confirm
        self._feeds: dict[str, Feed] = {}
        self._asides = TaskOwner("asides")
        self._page: asyncio.Task[None] | None = None
        """Fetches the page that was asked for last; it opens over whatever is shown, so there is one at a time."""
        self._unsubscribe = sessions.on_change(self._changed)

    @property
    def open_names(self) -> tuple[str, ...]:
        """Open profiles in the order in which they were opened."""
        return tuple(self._feeds)

    def feed(self, name: str) -> Feed | None:
        """The readers of an open session."""
        return self._feeds.get(name)

    def open(self, name: str) -> None:
        """Open a profile. Raises ProfileError."""
        if name not in self._feeds:
            session = self.sessions.open(name)
            session.patient = True  # pods stay, greyed, and go on where they were once somebody has signed in
            self._feeds[name] = Feed(session, self._tell, self._confirm)
            self._changed(session.state)

    def route(self, name: str) -> SessionState | None:
        """How a session stands at this moment, its hops with the bytes that have gone through them."""
        session = self.sessions.get(name)
        return None if session is None else replace(session.state, hops=session.hop_states())

    def describe(self, name: str, pod: PodRow) -> bool:
        """Ask for a description of a pod; whether the profile is open."""
        feed = self._feeds.get(name)
        if feed is None:
            return False
        self.forget_page()
        self._page = feed.describe(pod)
        return True

    def forget_page(self) -> bool:
        """Whatever page is being fetched is not wanted any more; whether there was one."""
        page, self._page = self._page, None
        return page is not None and page.cancel()

    def who(self, name: str, subject: str = "") -> None:
        """Ask whom a profile's cluster will see, or what a `subject` (`KIND:NAME`) needs there; told as a fact."""
        self.forget_page()
        self._page = self._asides.spawn(self._who(name, subject), name=f"who {name}")

    async def _who(self, name: str, subject: str) -> None:
        from app.cluster.who_page import for_another, for_us

        try:
            profile = self.sessions.book.get(name)
            text, wanted = for_another(profile, subject) if subject else for_us(profile, await self.sessions.who(name))
        except JumpdeckError as error:
            self._tell(FailureMet(error))
        else:
            self._tell(WhoArrived(name, text, wanted))

    async def retry(self, name: str) -> None:
        """Let a session try again at once, or fetch anew what it only fetches when asked."""
        if (feed := self._feeds.get(name)) is not None and await feed.refresh():
            return
        if (session := self.sessions.get(name)) is not None:
            session.retry_now()

    async def close(self, name: str) -> None:
        """Close one session."""
        if (feed := self._feeds.pop(name, None)) is not None:
            await feed.aclose()
        await self.sessions.close(name)

    def _changed(self, state: SessionState) -> None:
        if (feed := self._feeds.get(state.profile)) is not None:
            feed.state_changed(state)
        self._tell(SessionChanged(state))

    async def aclose(self) -> None:
        """Close all sessions, readers first."""
        await self._asides.aclose()
        for feed in tuple(self._feeds.values()):
            await feed.aclose()
        self._feeds.clear()
        await self.sessions.aclose()
        self._unsubscribe()
