"""The data types of SSH (RFC 4251 §5) as far as keys, certificates and agents need them: reading and writing bytes."""

from __future__ import annotations

import base64
import hashlib

_NAMES = {
    "ssh-ed25519": "ED25519", "ssh-ed448": "ED448", "ssh-rsa": "RSA", "ssh-dss": "DSA",
    "sk-ssh-ed25519@openssh.com": "ED25519-SK", "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA-SK",
}  # fmt: skip


class WireError(ValueError):
    """The bytes end early or say something that cannot be."""


class WireReader:
    """Reads values off the front of a byte string."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Raises WireError when there are fewer."""
        end = self._at + count
        if end > len(self._data):
            raise WireError("it ends early")
        part, self._at = self._data[self._at : end], end
        return part

    def number(self, size: int = 4) -> int:
        """An unsigned number of `size` bytes: 1, 4 (uint32) or 8 (uint64)."""
        return int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        """A string: its length as uint32, then its bytes."""
        return self.take(self.number())

    def strings(self) -> list[bytes]:
        """All strings up to the end."""
        found = []
        while self:
            found.append(self.string())
        return found

    def __bool__(self) -> bool:
        return self._at < len(self._data)


def put_string(value: bytes) -> bytes:
    """A string with its length before it."""
    return len(value).to_bytes(4, "big") + value


def algorithm_of(blob: bytes) -> str:
    """The algorithm that a public key or certificate names at its front. Raises WireError."""
    return WireReader(blob).string().decode("ascii", "replace")


def fingerprint_of(blob: bytes) -> str:
    """`SHA256:…` of a public key, as OpenSSH prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def kind_of(algorithm: str) -> str:
    """How people call a key's algorithm: `ED25519`, `RSA`, `ECDSA`."""
    plain = algorithm.replace("-cert-v01@openssh.com", "@openssh.com" if algorithm.startswith("sk-") else "")
    if plain.startswith("ecdsa-sha2-"):
        return "ECDSA"
    return _NAMES.get(plain, plain[:40])
