"""Team files that come in by `include`: read-only here, and a change of where a profile leads is asked for again.

The copy of each file that was accepted stays in the state folder. A change that leaves destination, trust and sign-in
of every profile alone is taken over; where one of them changed, the accepted copy serves until the user agrees.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from app.errors import ProfileError
from app.files import lock, read_private, shown, write_private
from app.profiles.model import Profile
from app.profiles.problem import ProfileProblem
from app.profiles.source import MAX_FILE_BYTES, Source, parse_source, read_source
from app.records import Record

INCLUDES_FOLDER = "includes"
"""In the state folder: accepted copies of included files."""
MAX_INCLUDES = 32
"""Files of one book, nested ones counted."""


class Change(Record):
    """A profile whose destination, trust or sign-in an included file changed. `old` None: it was removed before."""

    name: str
    old: Profile | None
    new: Profile

    def fields(self) -> list[str]:
        """The fields that differ."""
        if self.old is None:
            return list(_WATCHED)
        return [name for name in _WATCHED if getattr(self.old, name) != getattr(self.new, name)]


_WATCHED = (
    "cluster",
    "via",
    "sign_in",
    "cloud",
    "host_keys",
    "proxy",
    "ca_file",
    "arc_proxy",
    "allow_write",
    "production",
)
"""Destination, trust and sign-in; the tag production sets the host-key policy."""


def fingerprint(profile: Profile) -> str:
    """A hash of what is asked for again when it changes."""
    return hashlib.sha256(repr([getattr(profile, name) for name in _WATCHED]).encode()).hexdigest()


class Included:
    """The included files of one profile file, as they are now and as they were accepted."""

    def __init__(self, own: Source, folder: Path) -> None:
        self.current: list[Source] = []
        self.problems: list[ProfileError] = []
        self.notices: list[str] = []
        self.unsafe: list[tuple[ProfileProblem, Source]] = []
        """Files that somebody else may change, each with its accepted copy: that copy only tells whom it concerns."""
        self._folder = folder
        self._copies: dict[Path, bytes] = {}
        self._seen: set[Path] = {own.path}
        self._agreed, self._removed = _recall(folder)
        self._gather(own, (own.path,))

    @property
    def changed(self) -> bool:
        """Whether a file differs from its accepted copy."""
        return any(self._copies.get(source.path, source.data) != source.data for source in self.current)

    @property
    def fresh(self) -> bool:
        """Whether a file has no accepted copy yet."""
        return any(source.path not in self._copies for source in self.current)

    def accepted(self) -> list[Source]:
        """The files as accepted. One that the user's own file names for the first time counts as accepted."""
        found: list[Source] = []
        for source in self.current:
            copy = self._copies.get(source.path)
            if copy is not None:
                with contextlib.suppress(ProfileError):
                    old = parse_source(source.path, copy, shared=True)
                    old.nested = source.nested
                    found.append(old)
            elif not source.nested:
                found.append(source)
        return found

    def pending(self, old: dict[str, Profile], new: dict[str, Profile]) -> list[Change]:
        """The changes that the user has not agreed to."""
        found: list[Change] = []
        for name, profile in new.items():
            now = fingerprint(profile)
            before = old.get(name)
            known = fingerprint(before) if before else self._removed.get(name, now)
            if now != known and self._agreed.get(name) != now:
                found.append(Change(name, before, profile))
        return found

    def accept_all(self, old: dict[str, Profile], new: dict[str, Profile]) -> None:
        """Makes the present files the accepted ones. A state folder that cannot be written only costs a notice."""
        try:
            with lock(self._folder / "index.json"):
                for source in self.current:
                    if self._copies.get(source.path) != source.data:
                        write_private(_copy_path(self._folder, source.path), source.data)
                gone = {name: fingerprint(profile) for name, profile in old.items() if name not in new}
                removed = {name: value for name, value in {**self._removed, **gone}.items() if name not in new}
                if (removed, {}) != (self._removed, self._agreed):
                    _remember(self._folder, {}, removed)
        except ProfileError as exc:
            self.notices.append(f"The accepted copy of the included files could not be kept: {exc.detail or exc.title}")

    def _gather(self, source: Source, chain: tuple[Path, ...]) -> None:
        listed = source.tables.get("include", [])
        if not isinstance(listed, list) or not all(isinstance(item, str) and item for item in listed):
            self._problem(source, "a list of paths in quotes is expected", 'Write include = ["~/team/profiles.toml"].')
            return
        for item in listed:
            path = _plain(source.resolve(str(item)))
            if path in chain:
                self._problem(source, f"{shown(path)} includes itself", "Remove one of the two includes.")
            elif len(self._seen) > MAX_INCLUDES:
                self._problem(source, f"more than {MAX_INCLUDES} files are included", "Join some of them.")
                return
            elif path not in self._seen:
                self._seen.add(path)
                self._include(source, path, chain)

    def _include(self, source: Source, path: Path, chain: tuple[Path, ...]) -> None:
        copy = self._copy(path)
        try:
            found = read_source(path, shared=True)
        except ProfileError as exc:
            problem = exc if isinstance(exc, ProfileProblem) else _at_include(exc, source)
            self.problems.append(problem)
            accepted = self._parsed_copy(path, copy)
            if accepted is None:
                return
            if exc.code == "JD-PROFILE-PERMISSION":
                self.unsafe.append((problem, accepted))
                return
            self.notices.append(f"{shown(path)} cannot be read now ({_reason(exc)}): its accepted copy is used")
            found = accepted
        found.nested = source.shared
        self._gather(found, (*chain, path))
        self.current.append(found)  # behind what it includes: the including file wins

    def _problem(self, source: Source, why: str, hint: str) -> None:
        line = source.line_of("", "include")
        self.problems.append(
            ProfileProblem(why, hint, code="JD-PROFILE-INCLUDE", file=source.path, field="include", line=line)
        )

    @staticmethod
    def _parsed_copy(path: Path, copy: bytes | None) -> Source | None:
        if copy is not None:
            with contextlib.suppress(ProfileError):
                return parse_source(path, copy, shared=True)
        return None

    def _copy(self, path: Path) -> bytes | None:
        with contextlib.suppress(ProfileError):
            data = read_private(_copy_path(self._folder, path), limit=MAX_FILE_BYTES, what="accepted copy")
            self._copies[path] = data
            return data
        return None


def _at_include(error: ProfileError, source: Source) -> ProfileProblem:
    """The error of an included file, with the place where `source` includes it."""
    why = f"{error.title[0].lower()}{error.title[1:]}: {error.detail}"
    line = source.line_of("", "include")
    return ProfileProblem(why, error.hint, code=error.code, file=source.path, field="include", line=line)


def _reason(error: ProfileError) -> str:
    if isinstance(error, ProfileProblem):
        return f"line {error.line}: {error.why}" if error.line else error.why
    return f"{error.title[0].lower()}{error.title[1:]}"


def _recall(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What was agreed to, and what removed profiles were, each as name and fingerprint."""
    try:
        found = json.loads(read_private(folder / "index.json", what="record of accepted files"))
        return _texts(found["agreed"]), _texts(found["removed"])
    except (ProfileError, ValueError, KeyError, TypeError, RecursionError):
        return {}, {}  # asked for again at worst


def accept(changes: list[Change], folder: Path) -> None:
    """The user agrees to these changes. Raises ProfileError when it cannot be kept."""
    index = folder / "index.json"
    with lock(index):
        agreed, removed = _recall(folder)
        agreed.update({change.name: fingerprint(change.new) for change in changes})
        _remember(folder, agreed, removed)


def _remember(folder: Path, agreed: dict[str, str], removed: dict[str, str]) -> None:
    data = json.dumps({"agreed": agreed, "removed": removed}, indent=1, sort_keys=True)
    write_private(folder / "index.json", data.encode())


def _texts(found: object) -> dict[str, str]:
    items = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}


def _copy_path(folder: Path, path: Path) -> Path:
    return folder / f"{hashlib.sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.toml"


def _plain(path: Path) -> Path:
    """The path without `..`, links kept: one file has one name in messages and records."""
    import os

    return Path(os.path.abspath(path))
