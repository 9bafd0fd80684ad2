"""Secrets in memory: a type that never shows itself, and the one way to ask a person for one.

The store of the operating system comes with the SSH routes; until then a secret that was asked for lives as long as
the process does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from app.errors import Recovery, SignInError
from app.records import Record

if TYPE_CHECKING:
    import asyncio

    from app.asking import Asker

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
    """Secrets asked for in this process, by name; they end with it."""

    def __init__(self) -> None:
        self._known: dict[str, Secret] = {}

    def get(self, name: str) -> Secret | None:
        """What was kept under this name."""
        return self._known.get(name)

    def keep(self, name: str, secret: Secret) -> None:
        """Keep it until the process ends or `forget` is called."""
        self._known[name] = secret

    def forget(self, name: str) -> None:
        """Drop it, e.g. after the cluster refused it."""
        self._known.pop(name, None)


MEMORY = SecretMemory()
"""The memory of this process: a token is asked for once, however many sessions use it."""


class SecretItem(Record):
    """A secret that a profile needs, by a stable name; the name is no secret."""

    name: str
    """`password ops@jump01:22`, `passphrase /home/jo/.ssh/id_ed25519`, `token prod-weu`: kind and what it is for."""
    what: str
    """The question for it, in words: `Passphrase of /home/jo/.ssh/id_ed25519`; cleaned text."""


class SecretSource:
    """Where secrets come from, in this order: this process's memory, the store of the operating system, the person.

    Six routes that need the same secret at the same time ask once.
    """

    def __init__(self, asker: Asker | None, memory: SecretMemory | None = None) -> None:
        self._asker = asker
        self._memory = memory or MEMORY
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, item: SecretItem, *, asker: Asker | None = None) -> Secret:
        """The secret; `asker` wins over the source's own. Raises SignInError (JD-SECRET-NEEDED, layer secret)."""
        import asyncio

        async with self._locks.setdefault(item.name, asyncio.Lock()):
            if (known := self._memory.get(item.name)) is not None:
                return known
            who = asker or self._asker
            answer = await who.ask_secret(item.what) if who else None
            if answer is None or not answer.value:
                raise SignInError(
                    "A secret is needed", item.what, "Run the command in a terminal without --no-input; it asks.",
                    code="JD-SECRET-NEEDED", layer="secret", recovery=Recovery.NEEDS_PERSON,
                )  # fmt: skip
            secret = Secret(answer.value)
            self._memory.keep(item.name, secret)
            return secret

    def refused(self, item: SecretItem) -> None:
        """The far end did not take it: it is not used again in this process, and asked for at the next need."""
        self._memory.forget(item.name)
