"""Stand-ins for keyring backends, loaded by class path like the real ones."""

from __future__ import annotations

import threading
from typing import ClassVar

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


class MemoryVault:
    """Holds entries as a store does: (service, user) to value."""

    priority = 5
    entries: ClassVar[dict[tuple[str, str], str]] = {}

    def set_password(self, service: str, user: str, value: str) -> None:
        self.entries[service, user] = value

    def get_password(self, service: str, user: str) -> str | None:
        return self.entries.get((service, user))

    def delete_password(self, service: str, user: str) -> None:
        if self.entries.pop((service, user), None) is None:
            raise PasswordDeleteError("no such entry")


class SmallVault(MemoryVault):
    """Refuses more than 2,560 bytes of UTF-16, as Windows does; remembers how long entries are kept."""

    entries: ClassVar[dict[tuple[str, str], str]] = {}
    persist = "enterprise"
    seen: ClassVar[list[str]] = []

    def set_password(self, service: str, user: str, value: str) -> None:
        if len(value.encode("utf-16-le")) > 2560:
            raise OSError(1783, "The stub received bad data")
        self.seen.append(self.persist)
        super().set_password(service, user, value)


class LesserVault(MemoryVault):
    """Works too, but is not preferred."""

    priority = 1
    entries: ClassVar[dict[tuple[str, str], str]] = {}


class NullVault(MemoryVault):
    """Takes everything and returns nothing."""

    def get_password(self, service: str, user: str) -> str | None:
        return None


class StickyVault(MemoryVault):
    """Does not delete."""

    entries: ClassVar[dict[tuple[str, str], str]] = {}

    def delete_password(self, service: str, user: str) -> None:
        return


class AbsentVault(MemoryVault):
    """Is not available on this machine."""

    @property
    def priority(self) -> int:  # type: ignore[override]
        raise RuntimeError("no daemon")

    def __init__(self) -> None:
        raise RuntimeError("no \x1b[31mdaemon")


class HangingVault(MemoryVault):
    """Waits for somebody who never comes."""

    def set_password(self, service: str, user: str, value: str) -> None:
        threading.Event().wait()

    def get_password(self, service: str, user: str) -> str | None:
        threading.Event().wait()
        return None


class OpenVault(KeyringBackend):
    """Built on keyring's own base class, which sets attributes from the environment."""

    priority = 5.0  # type: ignore[assignment]
    appid = "ours"
    keychain = "from the environment"

    def get_password(self, service: str, username: str) -> str | None:
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        return None
