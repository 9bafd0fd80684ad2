"""Private keys in files: OpenSSH's format, PEM and PKCS#8; read and decrypted away from the loop.

Everything here blocks: call it in a thread. A key that needs a passphrase is read with its public half only, so that a
server can be asked first whether it would take the key at all.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
import stat
import sys
from importlib.util import find_spec
from pathlib import Path

import asyncssh

from app.errors import ProfileError, Recovery, SignInError
from app.routes.ssh_wire import WireError, WireReader, algorithm_of, fingerprint_of, kind_of
from app.secrets.secret import Secret
from app.text import clean, prose

MAX_KEY_FILE = 64 * 1024
"""Bytes of a key file; an RSA key of 16,384 bits is 13 KiB."""
DEFAULT_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")
"""Files in ~/.ssh that are tried when a profile names nothing, in this order."""
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_OPENSSH = re.compile(rb"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END OPENSSH PRIVATE KEY-----", re.DOTALL)
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----")
_PUBLIC = re.compile(rb"\s*(ssh-|ecdsa-|sk-|---- BEGIN SSH2 PUBLIC)")
_OPEN_TO_OTHERS = 0o077


class WrongPassphrase(Exception):
    """The passphrase does not open the key. Says nothing more: what was tried is a secret."""


class KeyProblem(Exception):
    """Why a file is no usable key: `why`, and `hint`, what to do."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


class KeyFile:
    """A private key as it lies in its file, or the public half alone. Never shows what it holds."""

    def __init__(self, path: Path, data: Secret | None, public: bytes | None, *, encrypted: bool) -> None:
        self.path = path
        self.public = public
        """The public key (RFC 4253 §6.6); None for an encrypted PEM file with no `.pub` beside it."""
        self.encrypted = encrypted
        self._data = data
        self._open: asyncssh.SSHKey | None = None

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"

    @classmethod
    def in_memory(cls, name: str, key: asyncssh.SSHKey) -> KeyFile:
        """A key that lies in no file; `name` stands in the path's place."""
        made = cls(Path(name), None, key.public_data, encrypted=False)
        made._open = key
        return made

    @property
    def name(self) -> str:
        """The path, cleaned."""
        return clean(str(self.path))

    @property
    def private(self) -> bool:
        """Whether the private half is here; False for a `.pub` file, whose key an agent must hold."""
        return self._data is not None

    @property
    def usable(self) -> bool:
        """Whether it can sign with no passphrase: it has none, or was unlocked."""
        return self._open is not None

    @property
    def label(self) -> str:
        """Type and fingerprint: `ED25519 SHA256:…`; the path when the public half is not known."""
        return f"{kind_of(algorithm_of(self.public))} {fingerprint_of(self.public)}" if self.public else self.name

    def unlock(self, passphrase: Secret | None) -> None:
        """Decode, and decrypt, the key. Raises WrongPassphrase, and KeyProblem when it cannot be used at all."""
        if self._open is not None:
            return
        assert self._data is not None
        try:
            key = asyncssh.import_private_key(
                self._data.reveal().encode("latin-1"), passphrase.reveal() if passphrase else None
            )
        except asyncssh.KeyEncryptionError as error:
            if "requires bcrypt" in str(error):
                raise KeyProblem("it is encrypted, and the bcrypt package is missing", _REINSTALL) from None
            if "Unknown" in str(error):
                raise KeyProblem(prose(str(error), 200), "Write it anew: ssh-keygen -p -f FILE.") from None
            raise WrongPassphrase from None
        except asyncssh.KeyImportError as error:
            if self.encrypted:  # a wrong passphrase of a PEM file gives rubbish that is no key
                raise WrongPassphrase from None
            raise KeyProblem(prose(str(error), 200), "Check the file: ssh-keygen -y -f FILE.") from None
        if self.public is not None and self.public != key.public_data:
            raise KeyProblem("the .pub file beside it is of another key", "Make it anew: ssh-keygen -y -f FILE.")
        self.public = key.public_data
        self._open = key

    def sign(self, data: bytes, algorithm: bytes) -> bytes:
        """A signature (RFC 4252 §7) by `algorithm`, e.g. `rsa-sha2-512`. Raises ValueError, e.g. for a security key."""
        assert self._open is not None
        return self._open.sign(data, algorithm)

    def forget(self) -> None:
        """Drop the private half."""
        self._data = self._open = None


_REINSTALL = "Install Jumpdeck again; its own packages are incomplete."


def load(path: Path) -> KeyFile:
    """Read a key file. Blocks. Raises KeyProblem, and OSError when it cannot be read."""
    path = Path(os.path.abspath(path.expanduser()))
    data = _read(path)
    if data.startswith(b"PuTTY-User-Key-File-"):
        raise KeyProblem(
            "it is a PuTTY key (.ppk), which OpenSSH does not read",
            f"Convert it: puttygen {clean(str(path))} -O private-openssh -o {clean(str(path.with_suffix('')))}",
        )
    if b"BEGIN SSH2 ENCRYPTED PRIVATE KEY" in data:
        raise KeyProblem("it is a key of ssh.com's programs", "Convert it with puttygen or the program that made it.")
    if _PUBLIC.match(data):
        return KeyFile(path, None, _public_line(data), encrypted=False)
    if not _PEM.search(data):
        raise KeyProblem("it is not a private key", "Name the file that ssh-keygen wrote, without .pub.")
    _check_mode(path)
    public, encrypted = _halves(path, data)
    found = KeyFile(path, Secret(data.decode("latin-1")), public, encrypted=encrypted)
    _check_kind(found)
    if not found.encrypted:
        found.unlock(None)
    return found


def _read(path: Path) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a FIFO must not block
    number = os.open(path, flags)
    with open(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise KeyProblem("it is not a file", "Name the key file itself.")
        data = file.read(MAX_KEY_FILE + 1)
    if len(data) > MAX_KEY_FILE:
        raise KeyProblem(f"it is larger than {MAX_KEY_FILE // 1024} KiB", "Name the key file itself.")
    return data


def _check_mode(path: Path) -> None:
    """Like ssh: a private key of one's own that others can read is not used. Windows has no such bits."""
    if sys.platform != "win32":
        found = path.stat()
        if found.st_uid == os.getuid() and found.st_mode & _OPEN_TO_OTHERS:
            raise KeyProblem(
                f"permissions {stat.S_IMODE(found.st_mode):04o} are too open; others must not read a private key",
                f"Run: chmod 600 {clean(str(path))}",
            )


def _halves(path: Path, data: bytes) -> tuple[bytes | None, bool]:
    """The public key when it can be known without a passphrase, and whether one is needed."""
    if match := _OPENSSH.search(data):
        try:
            reader = WireReader(binascii.a2b_base64(match.group(1)))
            if reader.take(len(_OPENSSH_MAGIC)) != _OPENSSH_MAGIC:
                raise WireError("wrong start")
            cipher, _kdf, _kdf_options, count = reader.string(), reader.string(), reader.string(), reader.number()
            if count != 1:
                raise WireError("more than one key")
            return reader.string(), cipher != b"none"
        except (WireError, binascii.Error):
            raise KeyProblem("it is damaged", "Take it from your backup, or make a new one: ssh-keygen.") from None
    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in data or b"Proc-Type: 4,ENCRYPTED" in data
    if not encrypted:
        return None, False
    try:
        return _public_line(_read(path.with_name(path.name + ".pub"))), True
    except (OSError, KeyProblem):
        return None, True


def _public_line(data: bytes) -> bytes:
    words = data.split(None, 2)
    try:
        blob = base64.b64decode(words[1], validate=True)
        if algorithm_of(blob).encode() == words[0] and not words[0].endswith(b"-cert-v01@openssh.com"):
            return blob
    except (IndexError, binascii.Error, WireError):
        pass
    raise KeyProblem("it is not a private key", "Name the file that ssh-keygen wrote, without .pub.")


def _check_kind(found: KeyFile) -> None:
    algorithm = algorithm_of(found.public) if found.public else ""
    if algorithm.startswith("sk-") and find_spec("fido2") is None:
        raise KeyProblem(
            f"it is a key on a security key ({kind_of(algorithm)}), which needs the fido2 package; it is not installed",
            "Add it to an agent (ssh-add FILE) and set agent = true, or run: pip install fido2",
        )
    if algorithm == "ssh-dss":
        raise KeyProblem("it is a DSA key, which servers refuse", "Make a new one: ssh-keygen -t ed25519.")


def load_named(path: Path) -> KeyFile:
    """The key that a profile names. Blocks. Raises ProfileError (JD-SSH-KEY) with the reason."""
    try:
        return load(path)
    except FileNotFoundError:
        why, hint = "there is no such file", "Correct `key` in the profile, or make a key: ssh-keygen -t ed25519."
    except OSError as error:
        why, hint = error.strerror or type(error).__name__, "Make it readable for you, and only for you."
    except KeyProblem as error:
        why, hint = error.why, error.hint
    except WrongPassphrase:
        why, hint = "it is damaged", "Take it from your backup, or make a new one: ssh-keygen."
    raise problem(path, why, hint) from None


def problem(path: Path, why: str, hint: str) -> ProfileError:
    """The error for a key file that cannot be used."""
    return ProfileError("The SSH key cannot be used", f"{clean(str(path))}: {why}", hint, code="JD-SSH-KEY")


def passphrase_refused(key: KeyFile) -> SignInError:
    """The error for a passphrase that does not open the key."""
    return SignInError(
        "Wrong passphrase", f"It does not open {key.name}",
        f"Try again and type it; to replace a stored one: jumpdeck secrets set passphrase {shlex.quote(key.name)}",
        code="JD-SSH-PASSPHRASE", layer="secret", recovery=Recovery.NEEDS_PERSON,
    )  # fmt: skip


def load_defaults(folder: Path | None = None) -> tuple[list[KeyFile], list[str]]:
    """The default keys that exist and can be used, and notes on those that exist and cannot. Blocks."""
    folder = folder or Path("~").expanduser() / ".ssh"
    found, notes = [], []
    for name in DEFAULT_NAMES:
        try:
            key = load(folder / name)
        except FileNotFoundError:
            continue
        except (OSError, WrongPassphrase) as error:
            notes.append(f"{clean(str(folder / name))} was left out: {clean(str(error)) or 'it is damaged'}")
            continue
        except KeyProblem as error:
            notes.append(f"{clean(str(folder / name))} was left out: {error.why}")
            continue
        if key.private and key.public is not None:
            found.append(key)
        else:
            notes.append(f"{key.name} was left out: its public half is not known; write {clean(name)}.pub beside it")
    return found, notes
