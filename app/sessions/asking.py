"""Asks a person on behalf of a session: one question at a time, with a limit, and with the session standing aside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from app.rows import SessionPhase
from app.sessions.states import StateBoard, is_asking

if TYPE_CHECKING:
    from app.asking import Asker, ConsentQuestion, DeviceCode, HostKeyQuestion, Prompt, SecretAnswer
    from app.trust import TrustedCommand

T = TypeVar("T")

MAX_CONNECTS = 4
"""Connects at the same moment: a Bastion that restarts must not meet a herd."""

ANSWER_LIMIT = 300.0
"""Seconds for an answer. Who does not answer is away, and a server does not keep a login open much longer."""

Place = tuple[Hashable, ...]


class Desk:
    """Where the sessions of one process take their turn to connect and to ask."""

    def __init__(self, *, answer_limit: float = ANSWER_LIMIT) -> None:
        self.connects = asyncio.Semaphore(MAX_CONNECTS)
        self.attempts: set[Attempt] = set()
        self.questions: dict[Place, SessionPhase] = {}
        """Shared hops whose opening waits for a person, and the phase in which those who wait for it stand."""
        self.asking = asyncio.Lock()
        self.answer_limit = answer_limit


class Attempt:
    """One try of a session to come up: holds a connect slot until it is done, or until a person must be asked.

    A slot is not taken again after an answer: the others may all hold one and wait for what this attempt opens.
    """

    def __init__(self, desk: Desk, board: StateBoard) -> None:
        self._desk, self._board = desk, board
        self._holds = False
        self.began = asyncio.get_running_loop().time()
        """When it began, in the loop's time, before the wait for a slot."""
        self.place: Place = ()
        """The keys of the hops up to the one that is being opened: who is at the same place waits for the same."""

    async def __aenter__(self) -> Attempt:
        await self._desk.connects.acquire()
        self._holds = True
        self._desk.attempts.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._desk.attempts.discard(self)
        self._give_slot_back()
        self.go_on()

    def arrive(self, place: Place) -> None:
        """The hop with these keys (its own last) is opened now; joins a question that is asked for it."""
        self.place = place
        if (phase := self._desk.questions.get(place)) is not None:
            self.stand(phase)

    def stand(self, phase: SessionPhase) -> None:
        """A person is being asked for what this attempt waits for."""
        self._give_slot_back()
        if self._board.state.phase is SessionPhase.CONNECTING:
            self._board.move(phase)

    def go_on(self) -> None:
        """The question is answered, or nobody waits for the answer any more."""
        if is_asking(self._board.state):
            self._board.move(SessionPhase.CONNECTING)

    def _give_slot_back(self) -> None:
        if self._holds:
            self._holds = False
            self._desk.connects.release()

    @asynccontextmanager
    async def aside(self, phase: SessionPhase) -> AsyncIterator[None]:
        """While a person is asked: this attempt and all that wait for the same hop stand in `phase`."""
        place = self.place
        group = [each for each in self._desk.attempts if each is self or (place and each.place == place)]
        for each in group:
            each.stand(phase)
        if place:
            self._desk.questions[place] = phase
        try:
            yield
        finally:
            self._desk.questions.pop(place, None)
            for each in [each for each in self._desk.attempts if each is self or (place and each.place == place)]:
                each.go_on()


class SessionAsker:
    """The Asker that a session hands to its hops and credentials: asks through `asker`, one question at a time.

    An answer that does not come within the desk's limit counts as given up.
    """

    def __init__(self, asker: Asker, desk: Desk) -> None:
        self._asker, self._desk = asker, desk
        self.attempt: Attempt | None = None
        """The session's present try to come up, if there is one; a question outside of it changes no phase."""

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Stand in NEEDS_SECRET while another session is asked for what this one needs too."""
        if self.attempt is None:
            yield
            return
        async with self.attempt.aside(SessionPhase.NEEDS_SECRET):
            yield

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        """Ask in NEEDS_SECRET."""
        return await self._ask(SessionPhase.NEEDS_SECRET, lambda: self._asker.ask_secret(what, may_keep=may_keep), None)

    async def ask_trust(self, command: TrustedCommand) -> bool:
        """Ask in NEEDS_TRUST."""
        return await self._ask(SessionPhase.NEEDS_TRUST, lambda: self._asker.ask_trust(command), False)

    async def ask_host_key(self, question: HostKeyQuestion) -> bool:
        """Ask in NEEDS_TRUST."""
        return await self._ask(SessionPhase.NEEDS_TRUST, lambda: self._asker.ask_host_key(question), False)

    async def ask_prompts(
        self, server: str, title: str, instructions: str, prompts: tuple[Prompt, ...]
    ) -> tuple[str, ...] | None:
        """Ask in NEEDS_SECRET."""
        return await self._ask(
            SessionPhase.NEEDS_SECRET, lambda: self._asker.ask_prompts(server, title, instructions, prompts), None
        )

    async def ask_consent(self, question: ConsentQuestion) -> bool:
        """Ask in NEEDS_TRUST. Where the asker has no such question, nobody has agreed."""
        from app.asking import Consents

        who: object = self._asker
        if not isinstance(who, Consents):
            return False
        return await self._ask(SessionPhase.NEEDS_TRUST, lambda: who.ask_consent(question), False)

    async def show_device_code(self, code: DeviceCode) -> None:
        """Show it in NEEDS_SIGN_IN. Sessions that wait for the same sign-in stand there too, and one of them shows it.

        The code has a life of its own, so the desk's limit does not count.
        """
        if self.attempt is None:
            return await self._show(code)
        async with self.attempt.aside(SessionPhase.NEEDS_SIGN_IN):
            return await self._show(code)

    async def _show(self, code: DeviceCode) -> None:
        async with self._desk.asking:
            await self._asker.show_device_code(code)

    def tell(self, server: str, text: str) -> None:
        """Pass a server's words on."""
        self._asker.tell(server, text)

    async def _ask(self, phase: SessionPhase, ask: Callable[[], Awaitable[T]], given_up: T) -> T:
        if self.attempt is None:
            return await self._wait(ask, given_up)
        async with self.attempt.aside(phase):
            return await self._wait(ask, given_up)

    async def _wait(self, ask: Callable[[], Awaitable[T]], given_up: T) -> T:
        async with self._desk.asking:
            try:
                return await asyncio.wait_for(ask(), self._desk.answer_limit)
            except TimeoutError:
                return given_up
