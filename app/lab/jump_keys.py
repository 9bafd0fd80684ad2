"""Keys, passphrase and password of the lab's SSH servers, made anew for every run.

Made with `cryptography`, so that a lab whose jump box nobody visits never loads an SSH library.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from app.lab.config_folder import INNER_NAME, SSH_USER, LabFolder, write_private

PASSPHRASE_ROUNDS = 4
"""Rounds of bcrypt on the client's key: its passphrase is 128 random bits, which no stretching makes safer."""


def _openssh(key: Ed25519PrivateKey, encryption: KeySerializationEncryption) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption).decode()


@dataclass(frozen=True, slots=True)
class HostKey:
    """A server's ed25519 key."""

    private: str = field(repr=False)
    """OpenSSH's format, without a passphrase; it stays in the memory of the lab."""
    public: str
    """`ssh-ed25519 AAAA…`"""

    @property
    def fingerprint(self) -> str:
        """`SHA256:` and base64 without padding, as OpenSSH prints it."""
        digest = hashlib.sha256(base64.b64decode(self.public.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def make_host_key() -> HostKey:
    """A new key for a server."""
    key = Ed25519PrivateKey.generate()
    return HostKey(_openssh(key, NoEncryption()), _public(key))


@dataclass(frozen=True, slots=True)
class Login:
    """How the lab's user gets in: a key with a passphrase at the jump box, a password at the inner one."""

    key_file: Path
    public: str
    passphrase: str = field(repr=False)
    password: str = field(repr=False)

    def secret(self, name: str) -> str | None:
        """The secret of this name (`passphrase PATH`, `password USER@HOST:PORT`), or None."""
        kind, _, rest = name.partition(" ")
        if kind == "passphrase" and os.path.realpath(rest) == os.path.realpath(self.key_file):
            return self.passphrase
        return self.password if name == f"password {SSH_USER}@{INNER_NAME}:22" else None


def make_login(folder: LabFolder) -> Login:
    """Write the client's key, encrypted, into the lab's folder. Raises OSError."""
    key = Ed25519PrivateKey.generate()
    passphrase, password = secrets.token_hex(16), secrets.token_hex(16)
    builder = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(PASSPHRASE_ROUNDS)
    write_private(folder.jump_key, _openssh(key, builder.build(passphrase.encode())))
    return Login(folder.jump_key, _public(key), passphrase, password)
