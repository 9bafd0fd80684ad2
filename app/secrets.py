"""Secrets in memory: a type that never shows itself, and the one way to ask a person for one.

The store of the operating system comes with the SSH routes; until then a secret that was asked for lives as long as
the process does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from app.trust import TrustedCommand

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


class Asker(Protocol):
    """Asks the person at the terminal. Code that gets None in its place must fail with what to run first."""

    async def ask_secret(self, what: str) -> str | None:
        """Ask for `what` without echo; None when the person gives up."""
        ...

    async def ask_trust(self, command: TrustedCommand) -> bool:
        """Show the command as it will run (argv, program, hash) and ask whether it may."""
        ...


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
