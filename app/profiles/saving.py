"""Changes the user's own profile file: comments and order stay, nothing that was stored is lost by bad input.

Every change is made on what the file holds at that moment, with the lock held, so two savers cannot undo each other.
The new text is read back and compared with what was meant before it replaces the old.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

from app.errors import ProfileError
from app.files import VERSIONS_KEPT, lock, read_private, shown, write_private
from app.profiles import entries
from app.profiles.assembly import Assembly
from app.profiles.commands import RESERVED
from app.profiles.problem import ProfileProblem, near_names
from app.profiles.rendering import Table, to_toml
from app.profiles.source import MAX_FILE_BYTES, SECTIONS, Source, parse_source
from app.text import clean

_NEW_FILE = b"version = 1\n"
_BOM = b"\xef\xbb\xbf"


def add_entries(path: Path, added: list[tuple[str, str, Table]], shared: list[Source] | None = None) -> None:
    """Adds entries (section, name, fields) at the end of the file, all or none.

    `shared` are the included files, whose named hops the new entries may use. Raises ProfileError: JD-PROFILE-EXISTS,
    JD-PROFILE-READ-ONLY, or what is wrong with an entry.
    """
    with lock(path):
        old = _current(path)
        tables = copy.deepcopy(old.tables)
        blocks: list[str] = []
        for section, name, fields in added:
            if section == "profile" and (wrong := entries.name_problem(name, RESERVED)):
                raise ProfileProblem(*wrong, code="JD-PROFILE-NAME", profile=name)
            inside = tables.setdefault(section, {})
            if not isinstance(inside, dict) or name in inside:
                raise ProfileError(
                    f"The {section} {clean(name)} exists already",
                    f"{shown(path)}: [{section}.{clean(name)}]",
                    "Choose another name, or change it: jumpdeck profiles edit",
                    code="JD-PROFILE-EXISTS",
                )
            inside[name] = copy.deepcopy(fields)
            blocks.append(to_toml(f"{section}.{name}", fields))
        text = old.data.rstrip()
        line_end = b"\r\n" if b"\r\n" in old.data else b"\n"
        data = text + b"\n\n" * bool(text) + "\n".join(blocks).encode()
        data = data.replace(b"\r\n", b"\n").replace(b"\n", line_end)
        touched = {name for section, name, _ in added if section == "profile"}
        _replace(path, old, data, tables, touched, shared or [])


def remove_profile(path: Path, name: str, shared: list[Source] | None = None) -> None:
    """Takes `[profile.NAME]` out of the file. Raises ProfileError (JD-PROFILE-UNKNOWN, JD-PROFILE-READ-ONLY)."""
    with lock(path):
        old = _current(path)
        profiles = old.tables.get("profile")
        if not isinstance(profiles, dict) or name not in profiles:
            guesses = near_names(name, profiles) if isinstance(profiles, dict) else []
            raise ProfileError(
                f"There is no profile {clean(name)} to remove",
                f"{shown(path)} has no [profile.{clean(name)}]",
                f"Did you mean {' or '.join(guesses)}?" if guesses else "See: jumpdeck profiles list",
                code="JD-PROFILE-UNKNOWN",
            )

        def take_out(tables: Table) -> None:
            inside = tables["profile"]
            assert isinstance(inside, dict)
            del inside[name]
            if not inside:
                del tables["profile"]

        tables = copy.deepcopy(old.tables)
        take_out(tables)
        _replace(path, old, _edited(old, take_out), tables, set(), shared or [])


def replace_text(path: Path, base: bytes, edited: bytes, shared: list[Source] | None = None) -> None:
    """Saves a text that a person edited, starting from `base`. What others saved meanwhile stays.

    Raises ProfileError when the text has a problem that `base` had not, or when both changed the same entry.
    """
    new = parse_source(path, edited)
    _refuse_newer(new)
    with lock(path):
        data = current_text(path)
        try:
            old = parse_source(path, data)
        except ProfileError:  # the edit repairs a file that nobody could read: there is nothing to merge with
            if data != base:
                raise
            old = Source(path)
        _refuse_newer(old)
        started = old if data == base else parse_source(path, base)
        _refuse_new_problems(started, new, set(), shared or [])
        if data != base:
            edited = _merged(path, started, old, new)
            _refuse_new_problems(old, parse_source(path, edited), set(), shared or [])
        write_private(path, edited, versions=VERSIONS_KEPT)


def current_text(path: Path) -> bytes:
    """The file's bytes, or those that a new file begins with. Raises ProfileError when it may not be changed."""
    try:
        data = read_private(path, limit=MAX_FILE_BYTES)
    except ProfileError as exc:
        if exc.code == "JD-PROFILE-MISSING":
            return _NEW_FILE
        raise
    return data


def _current(path: Path) -> Source:
    source = parse_source(path, current_text(path))
    _refuse_newer(source)
    return source


def _refuse_newer(source: Source) -> None:
    if source.newer:
        raise ProfileError(
            "The profile file is read-only here",
            f"{shown(source.path)} has format {source.version}, which is newer than this Jumpdeck",
            "Update Jumpdeck, or change the file with the Jumpdeck that wrote it.",
            code="JD-PROFILE-READ-ONLY",
        )


def _edited(source: Source, change: Callable[[Table], None]) -> bytes:
    """The text after a change of its tables, comments and order kept (tomlkit)."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    has_bom = source.data.startswith(_BOM)
    try:
        document = tomlkit.parse(source.data.decode("utf-8-sig"))
        change(document)
        text = tomlkit.dumps(document)
    except (TOMLKitError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise _cannot(source.path) from exc
    return _BOM * has_bom + text.encode()


def _replace(path: Path, old: Source, data: bytes, meant: Table, touched: set[str], shared: list[Source]) -> None:
    try:
        new = parse_source(path, data)
    except ProfileError as exc:
        raise _cannot(path) from exc
    if new.tables != meant:
        raise _cannot(path)
    _refuse_new_problems(old, new, touched, shared)
    if len(data) > MAX_FILE_BYTES:
        raise ProfileError(
            "The profile file would become too large",
            f"{shown(path)}: {len(data)} bytes; {MAX_FILE_BYTES} is the most",
            "Move entries to a file that is included.",
            code="JD-PROFILE-TOO-LARGE",
        )
    write_private(path, data, versions=VERSIONS_KEPT)


def _refuse_new_problems(old: Source, new: Source, touched: set[str], shared: list[Source]) -> None:
    """Raises the first problem that the old text had not; old ones do not stand in the way of other entries."""
    known = {_facts(problem) for problem in Assembly(old, shared).problems}
    for problem in Assembly(new, shared).problems:
        name = getattr(problem, "profile", "")
        if name in touched and isinstance(problem, ProfileProblem):  # it is not in the file: a line would mislead
            raise ProfileProblem(problem.why, problem.hint, code=problem.code, profile=name, field=problem.field)
        if _facts(problem) not in known:
            raise problem


def _facts(problem: ProfileError) -> tuple[object, ...]:
    if isinstance(problem, ProfileProblem):
        return (problem.code, problem.table, problem.profile, problem.field, problem.why)
    return (problem.code, problem.title, problem.detail)


def _merged(path: Path, base: Source, theirs: Source, mine: Source) -> bytes:
    """My changes of whole entries laid over the file as others saved it."""
    changes: list[tuple[tuple[str, ...], object]] = []
    before, now, there = _flat(base.tables), _flat(mine.tables), _flat(theirs.tables)
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            if there.get(key) not in (before.get(key), now.get(key)):
                raise ProfileError(
                    "Somebody else changed the same entry meanwhile",
                    f"{shown(path)}: [{clean('.'.join(key))}]",
                    "Compare your text with the file, then edit again.",
                    code="JD-PROFILE-CONFLICT",
                )
            changes.append((key, now.get(key)))

    def apply(tables: Table) -> None:
        for key, value in changes:
            holder: Table = tables
            for part in key[:-1]:
                inner = holder.setdefault(part, {})
                assert isinstance(inner, dict)
                holder = inner
            if value is None:
                holder.pop(key[-1], None)
            else:
                holder[key[-1]] = value

    meant = copy.deepcopy(theirs.tables)
    apply(meant)
    data = _edited(theirs, apply)
    try:
        if parse_source(path, data).tables == meant:
            return data
    except ProfileError as exc:
        raise _cannot(path) from exc
    raise _cannot(path)


def _flat(tables: Table) -> dict[tuple[str, ...], object]:
    """Entries by (section, name), and what stands at the top by (key,)."""
    found: dict[tuple[str, ...], object] = {}
    for key, value in tables.items():
        if key in SECTIONS and isinstance(value, dict):
            found.update({(key, name): entry for name, entry in value.items()})
        else:
            found[(key,)] = value
    return found


def _cannot(path: Path) -> ProfileError:
    return ProfileError(
        f"Cannot change {shown(path)} without touching the rest of it",
        "the file is written in an unusual way; it is untouched",
        "Make the change by hand: jumpdeck profiles edit",
        code="JD-PROFILE-SAVE",
    )
