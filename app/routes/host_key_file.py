"""Our own known_hosts file: adding, replacing and removing keys, everything else in it kept as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.files import VERSIONS_KEPT, lock, write_private
from app.routes import known_hosts
from app.routes.known_hosts import KnownKey, Marker

_UNSAFE = frozenset("*?!,|@#[]\"'\\")
"""Characters that mean something in a hosts field, beside white space; a name with one of them is hashed."""


class HostKeyFile:
    """The file. Methods block; raise ProfileError when it cannot be read or saved."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes:
        """Its bytes; none when it does not exist."""
        return known_hosts.read_file(self.path, private=True)[0]

    def entries(self) -> list[KnownKey]:
        """All lines that hold a key."""
        return known_hosts.every_key(self.read(), self.path)

    def add(self, name: str, key: str, *, hashed: bool = False) -> None:
        """A line for `name` with `key` (`type base64`)."""
        self._save(lambda lines: _added(lines, name, key, hashed=hashed))

    def replace(self, name: str, key: str, *, hashed: bool = False) -> list[KnownKey]:
        """Remove the host keys of `name`, add this one; returns what was removed."""
        gone: list[KnownKey] = []

        def change(lines: list[bytes]) -> list[bytes]:
            gone.extend(entry for entry in self._entries_of(lines) if _is_host_key_of(entry, name))
            return _added(_without(lines, {entry.line: name for entry in gone}), name, key, hashed=hashed)

        self._save(change)
        return gone

    def remove(self, fits: Callable[[KnownKey], str | None]) -> list[KnownKey]:
        """Remove lines: `fits` says for each which name goes (empty: the line), or None. Returns what was removed."""
        gone: list[KnownKey] = []

        def change(lines: list[bytes]) -> list[bytes]:
            chosen = {entry.line: name for entry in self._entries_of(lines) if (name := fits(entry)) is not None}
            gone.extend(entry for entry in self._entries_of(lines) if entry.line in chosen)
            return _without(lines, chosen)

        if self.path.exists():
            self._save(change)
        return gone

    def _entries_of(self, lines: list[bytes]) -> list[KnownKey]:
        return known_hosts.every_key(b"\n".join(lines), self.path)

    def _save(self, change: Callable[[list[bytes]], list[bytes]]) -> None:
        with lock(self.path):
            before = self.read()
            after = b"\n".join(change(before.split(b"\n")))
            if after != before:
                write_private(self.path, after, versions=VERSIONS_KEPT)


def _is_host_key_of(entry: KnownKey, name: str) -> bool:
    """Whether the line names this host in so many words; one that only a wildcard brings here is the person's."""
    if entry.marker is not Marker.HOST:
        return False
    if entry.hashed:
        return known_hosts.speaks_of(entry.hosts, name)
    return name.lower() in entry.hosts.lower().split(",")


def _added(lines: list[bytes], name: str, key: str, *, hashed: bool) -> list[bytes]:
    bare = name[1:].replace("]:", "", 1) if name.startswith("[") else name
    hidden = hashed or not name.isascii() or any(letter in _UNSAFE or letter.isspace() for letter in bare)
    line = f"{known_hosts.hash_name(name) if hidden else name} {key}".encode()
    kept = lines[:-1] if lines and not lines[-1].strip() else lines
    return [*kept, line, b""]


def _without(lines: list[bytes], chosen: dict[int, str]) -> list[bytes]:
    """The lines but for the chosen ones (numbers from 1); of a line with several names only the given name goes."""
    kept = []
    for number, line in enumerate(lines, 1):
        name = chosen.get(number)
        if name is None:
            kept.append(line)
        elif name and (shorter := _without_name(line, name)) is not None:
            kept.append(shorter)
    return kept


def _without_name(line: bytes, name: str) -> bytes | None:
    """The line without one of its names; None when no other is left."""
    start = len(line) - len(line.lstrip(b" \t"))
    hosts = line[start:].split(None, 1)[0]
    left = [each for each in hosts.split(b",") if each.lower() != name.lower().encode("utf-8", "replace")]
    if hosts[:1] == b"|" or not any(not each.startswith(b"!") for each in left):
        return None
    return line[:start] + b",".join(left) + line[start + len(hosts) :]
