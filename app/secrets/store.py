"""The operating system's secret store behind an allow-list of keyring backends (S-07, S-07b).

The backends that may hold a secret are named here and loaded by us: what `PYTHON_KEYRING_BACKEND`, `keyringrc.cfg` or
an installed package offers is code that nobody checked, and is never loaded. Which names are stored where stands in
`secrets.json` of the state folder; it holds no values. A name that is not there costs no look into the store, so that
nobody who stored nothing is asked to unlock anything.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from app.errors import JumpdeckError, NotFoundError, SignInError
from app.records import Record
from app.secrets.secret import Secret
from app.tasks import in_own_thread
from app.text import prose

if TYPE_CHECKING:
    from app.secrets.names import StoredNames

T = TypeVar("T")

PROBE_LIMIT = 5.0
"""Seconds that a store may take to write, read and delete a random value: a Secret Service can wait for a person."""
CALL_LIMIT = 30.0
"""Seconds for one secret: the system may ask the person to unlock the store."""
MAX_SECRET = 16 * 1024
"""Characters of a secret: tokens have up to about 4,000."""
USER = "jumpdeck"
"""The account under which entries stand; the service name is what tells them apart."""


class StoreStatus(Record):
    """Whether secrets can be kept here."""

    label: str
    """The store's name for people; "" when there is none."""
    usable: bool
    why: str = ""
    """When not usable: the reason, cleaned."""


class StoredName(Record):
    """A stored secret, without its value."""

    name: str
    place: str
    """Where it is kept, for people."""


class SecretStore(Protocol):
    """Keeps secrets by name. Everything that blocks runs off the loop and has a limit."""

    asks: bool
    """Whether a secret that is not here may be asked of the person."""

    async def status(self) -> StoreStatus:
        """Whether secrets can be kept; found out once per process."""
        ...

    async def get(self, name: str) -> Secret | None:
        """The secret, or None when there is none. Raises SignInError when the store fails."""
        ...

    async def set(self, name: str, secret: Secret) -> str:
        """Keep it, in place of an older one; returns where. Raises SignInError (nothing kept)."""
        ...

    async def remove(self, name: str) -> None:
        """Raises NotFoundError (JD-SECRET-UNKNOWN), or SignInError when the store fails."""
        ...

    async def names(self) -> list[StoredName]:
        """What is stored, in order of names."""
        ...

    def drop(self, name: str) -> None:
        """Never give it out again, and remove it in the background as far as that goes. Does not wait, never raises."""
        ...


class Backend(Record):
    """A keyring backend that may hold secrets."""

    path: str
    """Module and class."""
    label: str
    system: str
    """The `sys.platform` that it is for."""
    limit: int | None = None
    """UTF-16 units that fit; None: no limit that matters."""


WINDOWS_BLOB = 1280
"""UTF-16 units of a credential on Windows: CRED_MAX_CREDENTIAL_BLOB_SIZE is 2,560 bytes; more fails with error 1783."""
BACKENDS = (
    Backend("keyring.backends.Windows.WinVaultKeyring", "Windows Credential Manager", "win32", WINDOWS_BLOB),
    Backend("keyring.backends.macOS.Keyring", "macOS Keychain", "darwin"),
    Backend("keyring.backends.SecretService.Keyring", "Secret Service", "linux"),
    Backend("keyring.backends.kwallet.DBusKeyring", "KWallet", "linux"),
)
"""The allow-list. Where two are usable, the one that keyring prefers (priority) is taken, as its chainer does."""
CHAINER = "keyring.backends.chainer.ChainerBackend"
FILE_PLACE = "dpapi"
FILE_LABEL = "a file that Windows protects for you (DPAPI)"


class FileVault(Protocol):
    """Keeps secrets that are too long for the store, in files that only this user's session can decrypt."""

    def get(self, name: str) -> str | None: ...
    def set(self, name: str, value: str) -> None: ...
    def remove(self, name: str) -> None: ...


class OsStore:
    """The store of this user on this machine."""

    asks = True

    def __init__(
        self,
        backends: Sequence[Backend] = BACKENDS,
        *,
        system: str = sys.platform,
        files: FileVault | None = None,
        probe_limit: float = PROBE_LIMIT,
        call_limit: float = CALL_LIMIT,
    ) -> None:
        self._backends = [backend for backend in backends if backend.system == system]
        self._files = files if files is not None else _dpapi()
        self._probe_limit, self._call_limit = probe_limit, call_limit
        self._status: tuple[StoreStatus, Backend | None] | None = None
        self._probing: asyncio.Lock | None = None

    async def status(self) -> StoreStatus:
        return (await self._usable())[0]

    async def _usable(self) -> tuple[StoreStatus, Backend | None]:
        if self._probing is None:
            self._probing = asyncio.Lock()
        async with self._probing:
            if self._status is None:
                try:
                    async with asyncio.timeout(self._probe_limit):
                        self._status = await in_own_thread(self._choose, name="secret store probe")
                except TimeoutError:
                    why = f"it did not answer within {self._probe_limit:g} s; does it wait to be unlocked?"
                    self._status = StoreStatus("", False, why), None
            return self._status

    def _choose(self) -> tuple[StoreStatus, Backend | None]:
        """The first backend, by keyring's own priority, that takes, returns and deletes a random value."""
        reasons: list[str] = []
        if why := _configured_away([backend.path for backend in self._backends]):
            return StoreStatus("", False, why), None
        found: list[tuple[float, Backend]] = []
        for backend in self._backends:
            try:
                found.append((load_backend(backend).priority, backend))
            except Exception as error:
                reasons.append(f"{backend.label}: {prose(str(error), 200) or type(error).__name__}")
        for _, backend in sorted(found, key=_by_priority, reverse=True):
            if wrong := _probe(backend):
                reasons.append(f"{backend.label}: {wrong}")
            else:
                return StoreStatus(backend.label, True), backend
        return StoreStatus("", False, "; ".join(reasons) or f"none is known for {sys.platform}"), None

    async def get(self, name: str) -> Secret | None:
        return await self._call(lambda: self._get(name), "read")

    def _get(self, name: str) -> Secret | None:
        place = _index().place(name)
        if place is None:
            return None
        if place == FILE_PLACE and self._files is not None:
            value = self._files.get(name)
        else:
            value = self._open(place).get_password(_service(name), USER)
        return Secret(value) if value else None

    async def set(self, name: str, secret: Secret) -> str:
        check_storable(secret)
        status, backend = await self._usable()
        if backend is None:
            raise no_store(status)
        value = secret.reveal()
        short = backend.limit is None or _units(value) <= backend.limit
        if not short and self._files is None:
            raise SignInError(
                "The secret is too long for the store",
                f"{status.label} takes {backend.limit} characters, this one has {_units(value)}",
                "Keep it where it is, and type it when it is asked for.",
                code="JD-SECRET-LENGTH", layer="secret",
            )  # fmt: skip
        await self._call(lambda: self._set(name, value, backend if short else None), "write")
        return status.label if short else FILE_LABEL

    def _set(self, name: str, value: str, backend: Backend | None) -> None:
        before = _index().place(name)
        if backend is not None:
            load_backend(backend).set_password(_service(name), USER, value)
        else:
            assert self._files is not None
            self._files.set(name, value)
        place = backend.path if backend else FILE_PLACE
        if before not in (None, place):
            self._delete(name, before)
        _index().add(name, place)

    async def remove(self, name: str) -> None:
        def work() -> bool:
            place = _index().place(name)
            if place is not None:
                self._delete(name, place)
                _index().drop(name)
            return place is not None

        if not await self._call(work, "remove"):
            raise NotFoundError("No such secret is stored", prose(name), "See: jumpdeck secrets list",
                                code="JD-SECRET-UNKNOWN", layer="secret")  # fmt: skip

    def _delete(self, name: str, place: str | None) -> None:
        if place == FILE_PLACE:
            if self._files is not None:
                self._files.remove(name)
            return
        from keyring.errors import PasswordDeleteError

        vault = self._open(place or "")
        try:
            vault.delete_password(_service(name), USER)
        except PasswordDeleteError:
            if vault.get_password(_service(name), USER) is not None:  # else it had gone already
                raise

    async def names(self) -> list[StoredName]:
        labels = {FILE_PLACE: FILE_LABEL, **{backend.path: backend.label for backend in self._backends}}
        stored = await asyncio.to_thread(lambda: _index().all())
        return [StoredName(name, labels.get(place, prose(place, 80))) for name, place in sorted(stored.items())]

    def drop(self, name: str) -> None:
        import threading

        def work() -> None:
            place = _index().place(name)
            _index().drop(name)  # first: what the index does not name is never read again
            if place is not None:
                self._delete(name, place)

        def quietly() -> None:
            try:
                work()
            except Exception as error:
                import logging

                logging.getLogger(__name__).warning("a refused secret was not removed: %s", type(error).__name__)

        threading.Thread(target=quietly, name="drop secret", daemon=True).start()

    def _open(self, path: str) -> Any:
        """The backend that holds an entry. Raises SignInError when it is not one of ours."""
        if why := _configured_away([backend.path for backend in self._backends]):
            raise no_store(StoreStatus("", False, why))
        for backend in self._backends:
            if backend.path == path:
                return load_backend(backend)
        raise no_store(StoreStatus("", False, f"{prose(path, 80)} is not a store that Jumpdeck uses here"))

    async def _call(self, work: Callable[[], T], what: str) -> T:
        """Work of the store with a limit; its failures become ours. The one seam to keyring and its libraries."""
        try:
            async with asyncio.timeout(self._call_limit):
                return await in_own_thread(work, name=f"secret store {what}")
        except JumpdeckError:
            raise
        except TimeoutError as error:
            why = f"it did not answer within {self._call_limit:g} s; does it wait to be unlocked?"
            raise _failed(what, why) from error
        except Exception as error:
            raise _failed(what, prose(str(error), 200) or type(error).__name__) from error


_FAILURES = {"read": "cannot be read", "write": "did not take the secret", "remove": "did not remove the secret"}


def _failed(what: str, why: str) -> SignInError:
    return SignInError(f"The secret store {_FAILURES[what]}", why, "See: jumpdeck secrets list",
                       code="JD-SECRET-STORE", layer="secret")  # fmt: skip


def no_store(status: StoreStatus) -> SignInError:
    """The failure to keep a secret where no store is usable."""
    return SignInError(
        "No usable secret store here", f"{status.why}; nothing was kept",
        "Use an SSH agent or a certificate, or type the secret when it is asked for: it stays in memory.",
        code="JD-SECRET-NO-STORE", layer="secret",
    )  # fmt: skip


def check_storable(secret: Secret) -> None:
    """Raises SignInError for what no store may hold: private keys, and what is far too long or not one line of text."""
    value = secret.reveal()
    why = hint = ""
    if "PRIVATE KEY-----" in value or value.startswith("PuTTY-User-Key-File"):
        why, hint = "it is a private key", "Leave the key in its file or in an agent; store its passphrase."
    elif len(value) > MAX_SECRET:
        why, hint = f"it has more than {MAX_SECRET} characters", "Is it the right text?"
    elif any(letter in value for letter in "\0\r\n"):
        why, hint = "it has several lines", "Give the secret alone, in one line."
    if why:
        raise SignInError("This is not kept as a secret", why, hint, code="JD-SECRET-FORM", layer="secret")


def own_store() -> SecretStore:
    """The store for this process: the running lab's where JUMPDECK_CONFIG_DIR is a lab's, else the system's."""
    from app.secrets.lab import LabStore, lab_channel

    channel = lab_channel()
    return LabStore(channel) if channel else _OS


def load_backend(backend: Backend) -> Any:
    """An instance of exactly this class. Raises what the library says when it cannot be used here. Blocks.

    keyring's own loading is not used: it follows the environment and a configuration file to any code. Its base class
    sets attributes from `KEYRING_PROPERTY_…`; they are taken off again.
    """
    import importlib
    import os

    module_name, _, class_name = backend.path.rpartition(".")
    vault_class = getattr(importlib.import_module(module_name), class_name)
    _ = vault_class.priority  # raises RuntimeError when this machine lacks it
    vault = vault_class()
    for name in os.environ:
        head, mark, attribute = name.partition("KEYRING_PROPERTY_")
        if mark and not head:
            vars(vault).pop(attribute.lower(), None)
    if hasattr(vault_class, "persist"):
        vault.persist = "local machine"  # its default roams with the user to other machines
    if hasattr(vault_class, "keychain"):
        vault.keychain = None  # else from KEYCHAIN_PATH
    return vault


def _probe(backend: Backend) -> str:
    """What is wrong with a backend: it must return what was written, and forget what was deleted. Blocks."""
    import secrets

    service, value = _service(f"probe {secrets.token_hex(8)}"), secrets.token_urlsafe(24)
    try:
        vault = load_backend(backend)
        vault.set_password(service, USER, value)
        kept = vault.get_password(service, USER) == value
        vault.delete_password(service, USER)
        left = vault.get_password(service, USER) is not None
    except Exception as error:
        return prose(str(error), 200) or type(error).__name__
    if not kept:
        return "it does not return what was written"
    return "it does not forget what was deleted" if left else ""


def _configured_away(allowed: Sequence[str]) -> str:
    """Why keyring's own settings leave no store: they name one that may not hold secrets. Nothing of it is loaded."""
    import os

    named, where = os.environ.get("PYTHON_KEYRING_BACKEND", ""), "PYTHON_KEYRING_BACKEND"
    if not named:
        named, where = _configured_backend(), "keyringrc.cfg"
    if not named or named in allowed or named in (CHAINER, *(backend.path for backend in BACKENDS)):
        return ""
    return f"{where} names {prose(named, 100)}, which is not a safe store"


def _configured_backend() -> str:
    """The backend that keyring's configuration file names, read as data; "" without one."""
    import configparser
    import os

    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or os.environ.get("PROGRAMDATA") or ".") / "Python Keyring"
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "python_keyring"
    settings = configparser.RawConfigParser()
    try:
        settings.read(folder / "keyringrc.cfg", encoding="utf-8")
        return settings.get("backend", "default-keyring", fallback="").strip()
    except (configparser.Error, OSError, ValueError):
        return ""


def _service(name: str) -> str:
    """The entry's service: one for each secret, since Windows moves entries whose service is the same."""
    return f"jumpdeck: {name}"


def _units(value: str) -> int:
    return len(value.encode("utf-16-le", "surrogatepass")) // 2


def _by_priority(found: tuple[float, Backend]) -> float:
    return found[0]


def _index() -> StoredNames:
    from app.folders import state_dir
    from app.secrets.names import StoredNames

    return StoredNames(state_dir() / "secrets.json")


def _dpapi() -> FileVault | None:
    if sys.platform == "win32":
        from app.secrets.dpapi import DpapiFiles

        return DpapiFiles()
    else:
        return None


_OS = OsStore()
