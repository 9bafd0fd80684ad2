"""What `exec` and `connect` share: whether another program may be let in, and the way in that it is lent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from app.cli.frame import controlling_terminal, say
from app.dialer import ends_sign_in
from app.errors import JumpdeckError, Recovery, RouteError, UsageError
from app.records import Record
from app.tasks import TaskOwner
from app.text import clean

if TYPE_CHECKING:
    import socket

    from app.asking import Asker, DeviceCode, HostKeyQuestion, Prompt, SecretAnswer
    from app.cluster.access import Access
    from app.dialer import ProtocolFactory
    from app.profiles.model import Profile
    from app.routes.listener import Listener
    from app.sessions.session import Session
    from app.socket_owner import PeerOwner
    from app.trust import TrustedCommand

T = TypeVar("T")

QUIET = 10.0
"""Seconds in which the same complaint of a listener is counted and not said again: a peer may knock without end."""


def guard(profile: Profile, program: str, *, write: bool, may_ask: bool, policy: Path | None = None) -> None:
    """Say that the other program is not held to reading; on production ask for the profile's name or --write.

    What is let in is put on record. Raises UsageError (JD-EXEC-PRODUCTION), and ProfileError where the machine's policy
    (`policy`: another file, for tests) forbids it.
    """
    from app.policy import require
    from app.sessions.invoke import by_invoke

    require("programs", profile.name, policy)
    if needs_listener(profile) and not by_invoke(profile):
        require("listener", profile.name, policy)
    if not profile.allow_write:
        say(f"jumpdeck: {clean(program)} is not held to reading: it may change what this identity may change.")
    if profile.production and not write and not (may_ask and _named_at_terminal(profile, program)):
        raise UsageError(
            f"{profile.name} is tagged production", f"{clean(program)} could change it",
            "Add --write if that is meant.", code="JD-EXEC-PRODUCTION",
        )  # fmt: skip
    from app.audit import record

    record("program.lent", profile=profile.name, program=clean(program), production=int(profile.production))


def _named_at_terminal(profile: Profile, program: str) -> bool:
    if controlling_terminal() is None:
        return False
    from app.cli.prompts import ask_line

    return ask_line(f"{profile.name} is tagged production. Type its name to run {clean(program)}: ") == profile.name


def needs_listener(profile: Profile) -> bool:
    """Whether another program cannot reach the cluster by itself: some hop carries the streams."""
    from app.profiles.model import ArcCluster, NetworkHop

    return isinstance(profile.cluster, ArcCluster) or not all(isinstance(hop, NetworkHop) for hop in profile.via)


class Lent(Record):
    """What another program is given: the kubeconfig to use, and the port behind it (None: it dials by itself)."""

    kubeconfig: Path
    port: int | None


@asynccontextmanager
async def lent_route(session: Session, sock: socket.socket | None) -> AsyncIterator[Lent]:
    """A kubeconfig for the session's cluster, and on `sock` (which it closes in the end) a listener through its route.

    Without `sock` the other program dials by itself. Raises JumpdeckError (JD-EXEC-FOLDER).
    """
    from app.cluster.lending import lent_kubeconfig

    access = session.access
    assert access is not None, "the session is UP"
    profile = session.profile
    namespace = profile.namespaces[0] if profile.namespaces else access.namespace
    async with AsyncExitStack() as stack:
        port = None
        if sock is not None:
            port = (await stack.enter_async_context(_listening(session, sock))).port
        kubeconfig = await stack.enter_async_context(
            lent_kubeconfig(lambda: session.access or access, profile.name, namespace, port=port)
        )
        if access.complete is not None:
            owner = await stack.enter_async_context(TaskOwner("lent kubeconfig"))
            owner.spawn(_keep_current(session, access, kubeconfig), name="keep current")
        yield Lent(kubeconfig, port)


async def _keep_current(session: Session, lent: Access, kubeconfig: Path) -> None:
    """Write the kubeconfig anew when what serves it has another certificate: a local proxy that was started again."""
    from app.cluster.lending import rewrite

    while True:
        await session.changed()
        access = session.access
        if access is not None and access.ca not in (None, lent.ca):
            lent = access
            rewrite(kubeconfig, access)


@asynccontextmanager
async def _listening(session: Session, sock: socket.socket) -> AsyncIterator[Listener]:
    from app.routes.listener import Listener

    async def dial(factory: ProtocolFactory) -> asyncio.Transport:
        if session.api is None:
            raise RouteError("The route is not open", code="JD-ROUTE-NOT-OPEN", recovery=Recovery.TRANSIENT)
        return await session.api.dial(factory)

    complaints = _Complaints()
    listener = Listener(dial, link=session, on_refused=complaints.refused, on_failed=complaints.failed)
    await listener.start(sock)
    try:
        yield listener
    finally:
        await listener.aclose()


class _Complaints:
    """Says what a listener turned away, without letting a peer that knocks all the time fill the terminal."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def refused(self, owner: PeerOwner) -> None:
        who = f"of another user ({owner.who})" if owner.who else "whose user cannot be found"
        self._say(f"a connection {who} was closed unanswered: the port serves your own programs only.")

    def failed(self, error: JumpdeckError) -> None:
        from app.program_log import log_error

        log_error(error)
        why = f": {error.detail}" if error.detail else ""
        self._say(f"a connection of another program got no stream: {error.title}{why} [{error.code}]")

    def _say(self, text: str) -> None:
        now = time.monotonic()
        if now - self._said.get(text, -QUIET) < QUIET:
            self._unsaid[text] = self._unsaid.get(text, 0) + 1
            return
        if len(self._said) > 100:  # other words each time: forget the oldest
            self._said.pop(next(iter(self._said)))
        self._said[text] = now
        more = self._unsaid.pop(text, 0)
        say(f"jumpdeck: {text}" + (f" ({more} more since)" if more else ""))


class LeavingAsker:
    """Asks through another asker until `leave` is called: from then on the terminal belongs to another program.

    Later questions count as given up.
    """

    def __init__(self, asker: Asker) -> None:
        self._asker: Asker | None = asker

    def leave(self) -> None:
        """Ask nothing more."""
        self._asker = None

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        return await self._asker.ask_secret(what, may_keep=may_keep) if self._asker else None

    async def ask_trust(self, command: TrustedCommand) -> bool:
        return await self._asker.ask_trust(command) if self._asker else False

    async def ask_host_key(self, question: HostKeyQuestion) -> bool:
        return await self._asker.ask_host_key(question) if self._asker else False

    async def ask_prompts(
        self, server: str, title: str, instructions: str, prompts: tuple[Prompt, ...]
    ) -> tuple[str, ...] | None:
        return await self._asker.ask_prompts(server, title, instructions, prompts) if self._asker else None

    async def show_device_code(self, code: DeviceCode) -> None:
        if self._asker is not None:
            await self._asker.show_device_code(code)

    def tell(self, server: str, text: str) -> None:
        if self._asker is not None:
            self._asker.tell(server, text)

    def note(self, text: str) -> None:
        from app.asking import Notes

        asker: object = self._asker
        if isinstance(asker, Notes):
            asker.note(text)


async def lost_for_good(session: Session) -> JumpdeckError:
    """Return why, once the session cannot come back by itself."""
    from app.sessions.states import STUCK

    while True:
        state = session.state
        if state.phase in STUCK and state.error is not None:
            return state.error
        await session.changed()


@asynccontextmanager
async def said_when_lost(session: Session, *, waits: bool = False) -> AsyncIterator[None]:
    """While inside: say once, on standard error, that the session cannot come back by itself.

    `waits`: of a sign-in that ended somebody else speaks, and sees to it.
    """
    from app.tasks import spawn

    async def watch() -> None:
        while ends_sign_in(error := await lost_for_good(session)) and waits:
            await session.changed()
        say(f"jumpdeck: {session.profile.name} is lost and does not come back by itself: {error} [{error.code}]")
        if error.hint:
            say(f"  {error.hint}")

    task = spawn(watch(), name="lost for good")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
