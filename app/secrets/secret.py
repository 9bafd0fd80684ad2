"""Secrets: a type that never shows itself, the names under which they are kept, and the one way to get one.

A secret comes from this process's memory, from the operating system's store (`app.secrets.store`), or from the person,
in this order. Nothing is ever written to a file in the clear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from app.errors import JumpdeckError, Recovery, SignInError
from app.records import Record

if TYPE_CHECKING:
    from pathlib import Path

    from app.asking import Asker
    from app.secrets.store import SecretStore

_MASK = "***"


class Secret:
    """A string that shows itself only when asked by name: repr, str and format are `***`; it cannot be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return _MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return _MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        import hmac  # loads all of OpenSSL's digests

        return hmac.compare_digest(self._value.encode("utf-8", "replace"), other._value.encode("utf-8", "replace"))

    __hash__ = None  # type: ignore[assignment]  # a hash would let its value be guessed and compared

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled")


class SecretMemory:
    """Secrets of this process, by name; they end with it. It also knows which ones a far end has refused."""

    def __init__(self) -> None:
        self._known: dict[str, Secret] = {}
        self._doubted: dict[str, Secret] = {}
        self._refused: dict[str, list[Secret]] = {}

    def get(self, name: str) -> Secret | None:
        """What was kept under this name."""
        return self._known.get(name)

    def keep(self, name: str, secret: Secret) -> None:
        """Keep it until the process ends or `forget` is called."""
        self._known[name] = secret

    def forget(self, name: str) -> None:
        """Drop it."""
        self._known.pop(name, None)

    def refuse(self, name: str) -> None:
        """Drop it, and remember that it was refused, so that the same one never comes out of a store again."""
        secret = self._known.pop(name, None)
        if secret is not None and not self.was_refused(name, secret):
            self._refused[name] = [*self._refused.get(name, ())[-_REFUSALS_KEPT:], secret]

    def doubt(self, name: str) -> bool:
        """A far end broke off before it said whether this one is right; whether it did so the time before as well."""
        secret = self._known.get(name)
        again = secret is not None and self._doubted.get(name) == secret
        if secret is not None:
            self._doubted[name] = secret
        return again

    def accept(self, name: str) -> None:
        """A far end has taken it: earlier doubts are forgotten."""
        self._doubted.pop(name, None)

    def any_refused(self, name: str) -> bool:
        """Whether one of this name was refused, so that who is asked again knows why."""
        return bool(self._refused.get(name))

    def was_refused(self, name: str, secret: Secret) -> bool:
        """Whether a far end has refused this very secret in this process."""
        return secret in self._refused.get(name, ())


_REFUSALS_KEPT = 8
"""Refused secrets remembered for a name: a store holds one, the rest are those it held before."""
MEMORY = SecretMemory()
"""The memory of this process: a token is asked for once, however many sessions use it."""


class SecretItem(Record):
    """A secret that a profile needs, by a stable name; the name is no secret."""

    name: str
    """Kind and what it is for: `password ops@jump01:22`, `passphrase /home/jo/.ssh/id_ed25519`, `token prod-weu`,
    `client-secret CLIENT_ID`, `client-certificate CLIENT_ID`.
    """
    what: str
    """The question for it, in words: `Passphrase of /home/jo/.ssh/id_ed25519`; cleaned text."""


def password_name(user: str, host: str, port: int = 22) -> str:
    """The name of an SSH server's password; `host` as the profile names it, or the alias under which it is trusted."""
    return f"password {user}@[{host}]:{port}" if ":" in host else f"password {user}@{host}:{port}"


def passphrase_name(path: Path) -> str:
    """The name of a key file's passphrase; the path is made absolute, links are not followed."""
    import os

    return f"passphrase {os.path.abspath(path.expanduser())}"


def token_name(profile: str) -> str:
    """The name of a cluster's bearer token."""
    return f"token {profile}"


def client_secret_name(client_id: str) -> str:
    """The name of a service principal's secret."""
    return f"client-secret {client_id.lower()}"


def client_certificate_name(client_id: str) -> str:
    """The name of a service principal's certificate with its key (PEM, or PKCS #12 in base64)."""
    return f"client-certificate {client_id.lower()}"


class _Turn:
    """Whose turn it is to find one secret. While a person is asked for it, those who wait stand aside."""

    def __init__(self) -> None:
        import asyncio

        self._event = asyncio.Event
        self._news = asyncio.Event()
        self._busy = self._posed = False

    def change(self, *, busy: bool, posed: bool) -> None:
        """Whether it is somebody's turn, and whether a person is being asked in it."""
        self._busy, self._posed = busy, posed
        self._news.set()
        self._news = self._event()

    async def take(self, who: object) -> None:
        """Wait for the turn; `who` asks if need be."""
        from app.asking import StandsAside

        while self._busy:
            if self._posed and isinstance(who, StandsAside):
                async with who.aside():
                    while self._busy:
                        await self._news.wait()
            else:
                await self._news.wait()
        self._busy = True


class SecretSource:
    """Where secrets come from, in this order: this process's memory, the store of the operating system, the person.

    Six routes that need the same secret at the same time ask once. A secret goes into the store only when the person
    says so; a lab's store (practice) never asks anybody.
    """

    def __init__(
        self, asker: Asker | None, memory: SecretMemory | None = None, store: SecretStore | None = None
    ) -> None:
        self._asker = asker
        self._memory = memory or MEMORY
        self._given = store
        self._turns: dict[str, _Turn] = {}
        self._kept: set[str] = set()
        """Names put into the store here, on a person's word, before any far end had taken the secret."""
        self._said = False

    @property
    def _store(self) -> SecretStore:
        if self._given is None:
            from app.secrets.store import own_store

            self._given = own_store()
        return self._given

    async def get(self, item: SecretItem, *, asker: Asker | None = None) -> Secret:
        """The secret; `asker` wins over the source's own. Raises SignInError (JD-SECRET-NEEDED, layer secret)."""
        turn = self._turns.setdefault(item.name, _Turn())
        await turn.take(asker or self._asker)
        try:
            if (known := self._memory.get(item.name)) is not None:
                return known
            secret, why = await self._stored(item)
            if secret is None:
                secret = await self._ask(item, asker or self._asker, why)
            self._memory.keep(item.name, secret)
            return secret
        finally:
            turn.change(busy=False, posed=False)

    async def known(self, item: SecretItem) -> Secret | None:
        """The secret if it is in memory or in the store; nobody is asked."""
        if (secret := self._memory.get(item.name)) is None:
            secret, _ = await self._stored(item)
            if secret is not None:
                self._memory.keep(item.name, secret)
        return secret

    async def _stored(self, item: SecretItem) -> tuple[Secret | None, str]:
        """What the store has, unless it was refused before; else why there is none."""
        try:
            secret = await self._store.get(item.name)
        except JumpdeckError as error:
            return None, str(error)
        if secret is None or not secret:
            return None, ""
        if self._store.asks and self._memory.was_refused(item.name, secret):
            return None, "the stored one was refused"  # a lab's is right, and it locks nobody out: its fault has passed
        return secret, ""

    async def _ask(self, item: SecretItem, who: Asker | None, why: str) -> Secret:
        if not self._store.asks:
            raise _needed(item, why or "the lab has none", "Start the lab again: jumpdeck lab")
        if who is None:
            hint = _unasked(item, storable=(await self._store.status()).usable)
            raise _needed(item, why or "nobody can be asked", hint)
        may_keep = await self._may_keep(who)
        if why:
            self._note(who, f"{item.what}: {why}")
        self._turns[item.name].change(busy=True, posed=True)
        again = " (the last one was refused)" if self._memory.any_refused(item.name) else ""
        answer = await who.ask_secret(item.what + again, may_keep=may_keep)
        if answer is None or not answer.value:
            raise _needed(item, "none was given", "Try again, and type it.")
        secret = Secret(answer.value)
        if answer.keep and may_keep:
            await self._keep(item, secret, who)
        return secret

    async def _may_keep(self, who: Asker) -> bool:
        status = await self._store.status()
        if not status.usable and not self._said:
            self._said = True
            self._note(who, f"secrets are kept in memory only: no usable secret store here ({status.why})")
        return status.usable

    async def _keep(self, item: SecretItem, secret: Secret, who: Asker) -> None:
        try:
            await self._store.set(item.name, secret)
        except JumpdeckError as error:
            self._note(who, f"{item.what}: kept in memory only: {error}")
        else:
            self._kept.add(item.name)

    def refused(self, item: SecretItem) -> None:
        """The far end did not take it: it is never sent again in this process, and asked for at the next need.

        One that was typed and kept just now leaves the store again, so that no later start sends it.
        """
        self._memory.refuse(item.name)
        if item.name in self._kept:
            self._kept.discard(item.name)
            self._store.drop(item.name)

    def doubted(self, item: SecretItem) -> bool:
        """The far end broke off just after it was sent, as some do in place of a refusal.

        True when that happened twice in a row: then it counts as refused, for the far end may count failures.
        """
        return self._memory.doubt(item.name)

    def accepted(self, item: SecretItem) -> None:
        """The far end has taken it."""
        self._memory.accept(item.name)

    def _note(self, who: Asker, text: str) -> None:
        """Tell the person something that is no question; askers without a place for it stay silent."""
        from app.asking import Notes

        candidates: tuple[object, ...] = (who, self._asker)  # the session's own asker has no place for it
        for asker in candidates:
            if isinstance(asker, Notes):
                asker.note(text)
                return


def _needed(item: SecretItem, why: str, hint: str) -> SignInError:
    return SignInError(
        "A secret is needed", f"{item.what}: {why}", hint,
        code="JD-SECRET-NEEDED", layer="secret", recovery=Recovery.NEEDS_PERSON,
    )  # fmt: skip


def _unasked(item: SecretItem, *, storable: bool) -> str:
    """What to do where nobody can be asked."""
    import shlex

    kind, _, what = item.name.partition(" ")
    ask = "Run it in a terminal without --no-input (it asks)"
    if storable:
        return f"{ask}, or store it first: jumpdeck secrets set {kind} {shlex.quote(what)}"
    agent = "" if kind not in ("password", "passphrase") else ", so use an SSH agent where nobody can be asked"
    return f"{ask}; no usable secret store here (see: jumpdeck secrets list){agent}"
