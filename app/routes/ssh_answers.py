"""Passwords and the questions of servers (keyboard-interactive): who answers, how often, what is not sent again."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from app.asking import Prompt, StandsAside
from app.errors import Recovery, SignInError
from app.secrets.secret import Secret, SecretItem, password_name
from app.text import MAX_PROSE, clean, clean_block, prose

if TYPE_CHECKING:
    from app.asking import Asker, DeviceCode, HostKeyQuestion, SecretAnswer
    from app.routes.context import RouteContext
    from app.trust import TrustedCommand

T = TypeVar("T")

ANSWER_LIMIT = 300.0
"""Seconds that a question waits for a person; after that it counts as given up."""
TRIES_WITH_PERSON = 2
"""Passwords (or conversations) sent in one login when somebody can be asked: servers count failures and lock out."""
TRIES_ALONE = 1
MAX_PROMPTS = 16
"""Fields of one question; RFC 4256 sets no limit, a server asks for two or three."""
MAX_QUESTIONS = 20
"""Questions in one login: a server could ask for ever."""
MAX_PROMPT = 200
"""Characters of one field's text, and of a question's name."""
_PASSWORD_PROMPT = re.compile(r"(\([^()]{1,100}\)\s*)?(\S{1,100}'s\s+)?password(\s+for\s+\S{1,100})?\s*:?\s*", re.I)
"""What PAM and sshd ask for the account's own password: `Password:`, `(ops@jump01) Password:`; not a new or a
one-time one."""
PASSWORD, INTERACTIVE = "password", "keyboard-interactive"


class Waiting:
    """How long people (and agents, which may be asking one) were waited for."""

    def __init__(self) -> None:
        self._open, self._since, self._before = 0, 0.0, 0.0

    @property
    def now(self) -> bool:
        """Whether somebody is being waited for."""
        return self._open > 0

    @property
    def seconds(self) -> float:
        """In all, up to now."""
        return self._before + (time.monotonic() - self._since if self._open else 0.0)

    async def on(self, answer: Awaitable[T]) -> T:
        """Wait for it, and count the time."""
        if not self._open:
            self._since = time.monotonic()
        self._open += 1
        try:
            return await answer
        finally:
            self._open -= 1
            if not self._open:
                self._before += time.monotonic() - self._since


class Posed:
    """Asks through another asker, and knows whether a question was posed that nobody has answered yet."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.open = False

    async def _pose(self, answer: Awaitable[T]) -> T:
        self.open = True  # stays so when the question is withdrawn
        given = await answer
        self.open = False
        return given

    def aside(self) -> AbstractAsyncContextManager[None]:
        return self._asker.aside() if isinstance(self._asker, StandsAside) else nullcontext()

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        return await self._pose(self._asker.ask_secret(what, may_keep=may_keep))

    async def ask_trust(self, command: TrustedCommand) -> bool:
        return await self._pose(self._asker.ask_trust(command))

    async def ask_host_key(self, question: HostKeyQuestion) -> bool:
        return await self._pose(self._asker.ask_host_key(question))

    async def ask_prompts(
        self, server: str, title: str, instructions: str, prompts: tuple[Prompt, ...]
    ) -> tuple[str, ...] | None:
        return await self._pose(self._asker.ask_prompts(server, title, instructions, prompts))

    async def show_device_code(self, code: DeviceCode) -> None:
        await self._pose(self._asker.show_device_code(code))

    def tell(self, server: str, text: str) -> None:
        self._asker.tell(server, text)


class Answers:
    """The person's side of one login: password, prompts, and when to stop."""

    def __init__(
        self, context: RouteContext, user: str, host: str, port: int, before: str, *, wanted: bool, alias: str = ""
    ) -> None:
        self._context = context
        self._asker = Posed(context.asker) if context.asker is not None else None
        self._server = clean(f"{user}@{host}:{port}") + (f" ({clean(before)})" if before else "")
        name = password_name(user, alias) if alias else password_name(user, host, port)
        whose = f"{self._server}, {clean(alias.rpartition('/')[2])}" if alias else self._server
        self._item = SecretItem(name, f"Password of {whose}")
        self._wanted = wanted
        """Whether the profile says that there is a password."""
        self.waiting = Waiting()
        self.failure: SignInError | None = None
        """What a person must do: a secret that nobody gave."""
        self.stopped = False
        """A person gave up: nothing more is tried."""
        self.sent: dict[str, Secret | None] = {}
        """Methods whose answer was sent and not refused so far, with the password that was sent, if it was that."""
        self.tries = 0
        self._questions = 0
        self._conversing = False
        self._refused: list[Secret] = []
        self.notes: list[str] = []

    @property
    def _may_try(self) -> bool:
        limit = TRIES_WITH_PERSON if self._asker else TRIES_ALONE
        return not self.stopped and self.tries < limit

    async def secret(self, item: SecretItem) -> Secret | None:
        """A secret from memory, store or person; None, with `failure` set, when there is none."""
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                return await self.waiting.on(self._context.secrets.get(item, asker=self._asker))
        except TimeoutError:
            self.failure = self._unanswered(f"{item.what}: no answer within {ANSWER_LIMIT:g} s")
        except SignInError as error:
            self.failure = error
        self.stopped = self._asker is not None
        return None

    def settle(self, method: str) -> None:
        """The server asks for `method` once more: what was sent by it was refused."""
        if method in self.sent:
            self._refuse(self.sent.pop(method))

    def refuse_all(self) -> None:
        """The login failed: nothing that was sent is sent again."""
        for method in list(self.sent):
            self.settle(method)

    def taken(self) -> None:
        """The server let us in."""
        self.failure = None
        if any(self.sent.values()):
            self._context.secrets.accepted(self._item)

    def broken_off(self) -> bool:
        """The connection ended before the server said yes or no: whether what was sent now counts as refused.

        Some servers end the connection in place of a refusal. Once may be chance; who sends the same password for ever
        locks the account.
        """
        doubtful = any(self.sent.values()) and self._context.secrets.doubted(self._item)
        if doubtful:
            self.refuse_all()
        return doubtful

    def unheard(self) -> SignInError | None:
        """What to say when the connection ended while a question waited: asked again and again it would never stop."""
        if self._asker is None or not self._asker.open:
            return None
        return SignInError(
            "The login ended before there was an answer", f"{self._server} did not wait for it",
            "Try again, and answer sooner.",
            code="JD-SECRET-NEEDED", layer="secret", recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip

    def _refuse(self, secret: Secret | None) -> None:
        if secret is not None and not self._was_refused(secret):
            self._refused.append(secret)
            self._context.secrets.refused(self._item)

    def _was_refused(self, secret: Secret) -> bool:
        return any(secret == other for other in self._refused)

    async def password(self) -> str | None:
        """For the password method: what to send, or None to send nothing (more)."""
        self.settle(PASSWORD)
        return await self._next_password(PASSWORD)

    async def _next_password(self, method: str) -> str | None:
        for other, sent in list(self.sent.items()):
            if sent is not None:  # by the other method: the same is not sent again, whatever became of it
                self.settle(other)
        if not self._may_try:
            return None
        secret = await self.secret(self._item)
        if secret is None:
            return None
        if self._was_refused(secret):
            self.notes.append("the password that was refused was given again, and not sent")
            return None
        self.tries += 1
        self.sent[method] = secret
        return secret.reveal()

    async def start(self) -> bool:
        """Whether to let the server ask its questions (again)."""
        self.settle(INTERACTIVE)
        self._conversing = False
        if not self._may_try:
            return False
        if self._asker is None and not self._wanted:
            return await self.secret(self._item) is not None
        return True

    async def answer(self, name: str, instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str] | None:
        """Answers to one question (RFC 4256 §3.2), or None to give the method up."""
        self._questions += 1
        if self.stopped or self._questions > MAX_QUESTIONS or len(prompts) > MAX_PROMPTS:
            self.notes.append("the server asked too much")
            return None
        if not prompts:
            self.tell("\n".join(part for part in (name, instructions) if part.strip()))
            return []
        if len(prompts) == 1 and not prompts[0][1] and _PASSWORD_PROMPT.fullmatch(prompts[0][0].strip()):
            known = self.sent.get(INTERACTIVE)
            if known is None and (password := await self._next_password(INTERACTIVE)) is not None:
                self._conversing = True
                return [password]
            if known is None:
                return None
        return await self._ask(name, instructions, prompts)

    async def _ask(self, name: str, instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str] | None:
        fields = tuple(Prompt(prose(text, MAX_PROMPT), echo=echo) for text, echo in prompts)
        if (asker := self._asker) is None:
            words = ", ".join(repr(field.text) for field in fields)
            self.failure = self._unanswered(f"{self._server} asks for {prose(words, MAX_PROSE)}: nobody can be asked")
            return None
        if not self._conversing:
            if not self._may_try:
                return None
            self.tries += 1
            self._conversing = True
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                given = await self.waiting.on(
                    asker.ask_prompts(self._server, prose(name, MAX_PROMPT), bounded(instructions), fields)
                )
        except TimeoutError:
            given = None
        if given is None or len(given) != len(fields):
            self.failure = self._unanswered(f"The questions of {self._server} were not answered")
            self.stopped = True
            return None
        self.sent.setdefault(INTERACTIVE, None)
        return list(given)

    def tell(self, text: str) -> None:
        """Show a text of the server, labelled as its words; nobody there, nothing shown."""
        if text.strip() and self._asker is not None:
            self._asker.tell(self._server, bounded(text))

    def _unanswered(self, detail: str) -> SignInError:
        return SignInError(
            "The SSH server asks for something that only a person can answer", detail,
            "Try again, and answer." if self._asker else "Run it in a terminal without --no-input; it asks.",
            code="JD-SECRET-NEEDED", layer="secret", recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip


def bounded(text: str) -> str:
    """A server's text of several lines, harmless and at most MAX_PROSE characters (S-18)."""
    text = clean_block(text[: MAX_PROSE * 2]).strip()
    return text if len(text) <= MAX_PROSE else text[: MAX_PROSE - 1] + "…"
