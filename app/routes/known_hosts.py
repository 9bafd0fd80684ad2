"""Files that say which SSH server has which key: `known_hosts`, as sshd(8), SSH_KNOWN_HOSTS FILE FORMAT, has it.

A line is `[marker] hosts type base64 [comment]`. Lookups give what OpenSSH gives on the same file: names are matched
without case, `*` and `?` are wildcards, `!` negates, `|1|salt|hash` is HMAC-SHA1 of the name. Nothing here raises on
what stands in a file: a line that cannot be read is skipped and noted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from enum import Enum
from pathlib import Path

from app.errors import ProfileError
from app.files import read_private, shown
from app.records import Record
from app.text import clean

MAX_BYTES = 64 << 20
"""Bytes of one file; half a million hashed entries. Beyond it a revocation might be missed, so it is an error."""
MAX_NOTES = 5
"""Notes about skipped lines of one file; more of the same help nobody."""
_MAX_PATTERN = 1023
"""Characters of one host pattern; OpenSSH gives up on the whole list at a longer one (match.c)."""
_HASH_BYTES = 20
_INNER = bytes(value ^ 0x36 for value in range(256))
_OUTER = bytes(value ^ 0x5C for value in range(256))
_KINDS = {
    "ssh-ed25519": "ED25519", "ssh-rsa": "RSA", "ssh-dss": "DSA", "sk-ssh-ed25519@openssh.com": "ED25519-SK",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA-SK", "ecdsa-sha2-nistp256": "ECDSA 256",
    "ecdsa-sha2-nistp384": "ECDSA 384", "ecdsa-sha2-nistp521": "ECDSA 521",
}  # fmt: skip


class Marker(Enum):
    """What a line says of its key."""

    HOST = ""
    """The key is the host's."""
    AUTHORITY = "@cert-authority"
    """The key signs certificates of such hosts."""
    REVOKED = "@revoked"
    """The key must not be used by such hosts, nor sign for them."""


class KnownKey(Record):
    """One line of a file."""

    path: Path
    line: int
    """From 1."""
    marker: Marker
    hosts: str
    """The field as it stands in the file; not cleaned."""
    key_type: str
    """`ssh-ed25519`."""
    blob: bytes
    """The key in the form of RFC 4253 §6.6."""

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` as OpenSSH prints it."""
        return fingerprint(self.blob)

    @property
    def kind(self) -> str:
        """`ED25519`, `RSA 3072`."""
        return key_kind(self.blob)

    @property
    def where(self) -> str:
        """`~/.ssh/known_hosts:12`, harmless text."""
        return f"{shown(self.path)}:{self.line}"

    @property
    def hashed(self) -> bool:
        """Whether the name is hidden in a hash."""
        return self.hosts.startswith("|")


class Lookup(Record):
    """What the files say of one server."""

    own_name: tuple[KnownKey, ...] = ()
    """Under the name itself: `[host]:port`, or the host where the port is 22."""
    plain_name: tuple[KnownKey, ...] = ()
    """Under the host without its port, where the port is not 22."""
    notes: tuple[str, ...] = ()
    """Lines and files that were skipped; harmless text."""
    hashed: bool = False
    """Whether names in these files are hashed."""


def host_name(host: str, port: int) -> str:
    """How known_hosts files name a server: the host, in brackets with its port when that is not 22."""
    host = host.lower()
    return host if port == 22 else f"[{host}]:{port}"


def fingerprint(blob: bytes) -> str:
    """`SHA256:` and base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def key_kind(blob: bytes) -> str:
    """What people call a key: `ED25519`, `RSA 3072`. Harmless text whatever the bytes are."""
    parts = _wire_strings(blob)
    if not parts:
        return "unreadable"
    name = parts[0].decode("ascii", "replace")
    if name == "ssh-rsa" and len(parts) == 3:
        return f"RSA {int.from_bytes(parts[2], 'big').bit_length()}"
    return _KINDS.get(name, clean(name[:64]))


def hash_name(name: str, salt: bytes | None = None) -> str:
    """`|1|salt|hash` of a name (hostfile.c)."""
    salt = salt or os.urandom(_HASH_BYTES)
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def read_file(path: Path, *, private: bool = False) -> tuple[bytes, str]:
    """The bytes of a file and a note when it cannot be read; a missing one is empty and needs no note.

    OpenSSH skips what it cannot open as well. `private`: our own file, which only the user may change. Raises
    ProfileError (JD-SSH-KNOWN-HOSTS for a file beyond `MAX_BYTES`, else as `read_private`).
    """
    if private:
        try:
            return read_private(path, limit=MAX_BYTES, what="known_hosts file"), ""
        except ProfileError as exc:
            if exc.code == "JD-PROFILE-MISSING":
                return b"", ""
            raise
    try:
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(path, flags)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return b"", f"{shown(path)} is not a regular file and was not read"
        with open(handle, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b"", ""
    except OSError as exc:
        return b"", f"{shown(path)} could not be read: {clean(exc.strerror or str(exc))}"
    if len(data) > MAX_BYTES:
        raise ProfileError(
            "A known_hosts file is too large", f"{shown(path)}: more than {MAX_BYTES >> 20} MiB",
            "Shorten it: lines beyond that would not be seen, and one of them may revoke a key.",
            code="JD-SSH-KNOWN-HOSTS",
        )  # fmt: skip
    return data, ""


def look_up(data: bytes, path: Path, name: str, plain: str | None = None) -> Lookup:
    """The lines of a file that speak of `name`, and those that speak of `plain` (the host without its port)."""
    found: dict[str, list[KnownKey]] = {}
    names = [(each, each.encode("utf-8", "replace")) for each in (name, plain) if each is not None]
    notes: list[str] = []
    first, last = names[0][1].lower(), names[-1][1].lower()
    lines = _lines(data)
    hashed = any(line[:3] == b"|1|" for line in lines)
    for number, lowered in enumerate(_lines(data.lower()), 1):
        if last not in lowered and first not in lowered and not _may_speak_of_any(lowered):
            continue  # where nearly every line of a large file ends
        marker, hosts, key = _fields(lines[number - 1])
        if not hosts:
            continue
        if marker is None:
            _note(notes, path, number, "an unknown marker")
            continue
        fitting = [each for each, raw in names if _speaks_of(hosts, raw)]
        if not fitting:
            continue
        parsed = _key(key)
        if parsed is None:
            _note(notes, path, number, "no key that can be read")
            continue
        entry = KnownKey(path, number, marker, hosts.decode("utf-8", "replace"), *parsed)
        for each in fitting:
            found.setdefault(each, []).append(entry)
    plain_name = found.get(plain, []) if plain is not None else []
    return Lookup(tuple(found.get(name, [])), tuple(plain_name), tuple(notes), hashed)


def every_key(data: bytes, path: Path) -> list[KnownKey]:
    """All lines that can be read, in order."""
    found = []
    for number, line in enumerate(_lines(data), 1):
        marker, hosts, key = _fields(line)
        parsed = _key(key) if hosts and marker is not None else None
        if marker is not None and parsed is not None:
            found.append(KnownKey(path, number, marker, hosts.decode("utf-8", "replace"), *parsed))
    return found


def speaks_of(hosts: str, name: str) -> bool:
    """Whether a hosts field covers a name."""
    return _speaks_of(hosts.encode("utf-8", "surrogateescape"), name.encode("utf-8", "replace"))


def _lines(data: bytes) -> list[bytes]:
    return data.replace(b"\t", b" ").split(b"\n")


def _fields(line: bytes) -> tuple[Marker | None, bytes, bytes]:
    """Marker (None: not one that we know), hosts and the rest; no hosts for comments and empty lines."""
    if b"\0" in line:  # where OpenSSH's line ends
        line = line[: line.index(b"\0")]
    line = line.strip(b" \r")
    if not line or line[:1] == b"#":
        return Marker.HOST, b"", b""
    marker: Marker | None = Marker.HOST
    if line[:1] == b"@":
        word, _, line = line.partition(b" ")
        line = line.lstrip(b" ")
        marker = {b"@cert-authority": Marker.AUTHORITY, b"@revoked": Marker.REVOKED}.get(word)
        if line[:1] == b"@" or not line:  # one marker a line
            return None, word, b""
    hosts, _, key = line.partition(b" ")
    return marker, hosts, key


def _may_speak_of_any(line: bytes) -> bool:
    """Whether a line may matter for a name that does not stand in it: by a hash, a marker or a wildcard."""
    return line[:1] in (b"|", b"@", b" ") or b"*" in line or b"?" in line


def _note(notes: list[str], path: Path, number: int, what: str) -> None:
    if len(notes) < MAX_NOTES:
        notes.append(f"{shown(path)}:{number} was skipped: it has {what}")


def _speaks_of(hosts: bytes, name: bytes) -> bool:
    if hosts[:1] == b"|":
        return _hash_fits(hosts, name)
    hosts, name = hosts.lower(), name.lower()
    if b"*" not in hosts and b"?" not in hosts and b"!" not in hosts and len(hosts) <= _MAX_PATTERN:
        return name == hosts or (b"," in hosts and name in hosts.split(b","))
    got = False
    for pattern in hosts.split(b","):
        negated = pattern[:1] == b"!"
        if len(pattern) - negated > _MAX_PATTERN - 1:
            return False
        if _wild_fits(pattern[negated:], name):
            if negated:
                return False
            got = True
    return got


def _hash_fits(hosts: bytes, name: bytes) -> bool:
    """`|1|salt|hash`, one name a line."""
    try:
        nothing, magic, salt, digest = hosts.split(b"|")
        key = binascii.a2b_base64(salt, strict_mode=True)
        if nothing or magic != b"1" or len(key) != _HASH_BYTES:
            return False
        return _hmac_sha1(key, name) == binascii.a2b_base64(digest, strict_mode=True)
    except ValueError:
        return False


def _hmac_sha1(key: bytes, text: bytes) -> bytes:
    """RFC 2104 for keys of up to 64 bytes; a third of the time of `hmac.digest`, for files of many thousand lines."""
    key = key.ljust(64, b"\0")
    inner = hashlib.sha1(key.translate(_INNER) + text, usedforsecurity=False).digest()
    return hashlib.sha1(key.translate(_OUTER) + inner, usedforsecurity=False).digest()


def _wild_fits(pattern: bytes, name: bytes) -> bool:
    """`*` is any run, `?` any one byte. Goes back only to the last `*`: no pattern takes more than n times m steps."""
    at = star = mark = 0
    i = 0
    have_star = False
    while i < len(name):
        if at < len(pattern) and pattern[at : at + 1] == b"*":
            have_star, star, mark = True, at, i
            at += 1
        elif at < len(pattern) and pattern[at : at + 1] in (b"?", name[i : i + 1]):
            at += 1
            i += 1
        elif have_star:
            mark += 1
            at, i = star + 1, mark
        else:
            return False
    return not pattern[at:].strip(b"*")


def _key(text: bytes) -> tuple[str, bytes] | None:
    """Type and blob of `type base64 [comment]`, or None."""
    fields = text.split(None, 2)
    if len(fields) < 2:
        return None
    name = fields[0].decode("ascii", "replace")
    if name not in _KINDS:
        return None
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except (ValueError, binascii.Error):
        return None
    parts = _wire_strings(blob)
    if parts is None or len(parts) < 2 or parts[0] != fields[0]:
        return None
    if name == "ssh-ed25519" and (len(parts) != 2 or len(parts[1]) != 32):
        return None
    return name, blob


def _wire_strings(blob: bytes) -> list[bytes] | None:
    """The strings of an SSH wire form (RFC 4251 §5), or None when it is none."""
    parts = []
    at = 0
    while at < len(blob):
        size = int.from_bytes(blob[at : at + 4], "big")
        if at + 4 + size > len(blob):
            return None
        parts.append(blob[at + 4 : at + 4 + size])
        at += 4 + size
    return parts
