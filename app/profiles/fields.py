"""Reads one table of a profile file strictly: typed fields, unknown ones refused, all complaints collected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from app.profiles import patterns
from app.profiles.problem import ProfileProblem, near
from app.profiles.source import Source
from app.text import clean

MAX_TEXT = 512
"""Characters of a one-line text; ARM ids have at most 400."""
MAX_NOTES = 4_096
MAX_ITEMS = 64
"""Entries of a list field."""
PATH_REMEDY = "Put a Windows path in single quotes ('C:\\Users\\jo'), or write / for \\."
_REMOVE = "Remove it from the file (and change it, if others could read it)"


class Complaints:
    """What is wrong with one entry `table` (as in `profile.prod-weu`), in the order found."""

    def __init__(self, table: str, profile: str) -> None:
        self.table = table
        self.profile = profile
        self.found: list[ProfileProblem] = []
        self.ignored: list[tuple[Source, str]] = []
        """Fields of a newer format, which this version does not know."""

    def add(self, source: Source, field: str, why: str, hint: str = "", *, code: str = "JD-PROFILE-FIELD") -> None:
        """One more complaint about `field`, which stands in `source`."""
        self.found.append(
            ProfileProblem(
                why,
                hint,
                code=code,
                file=source.path,
                table=self.table,
                profile=self.profile,
                field=field,
                line=source.line_of(self.table, field),
            )
        )

    def check(self) -> None:
        """Raises the first complaint, which carries the others as `more`."""
        if self.found:
            first = self.found[0]
            first.more = tuple(self.found[1:])
            raise first


class Fields:
    """The fields of a table; `where` is its path inside the entry ("" or, for example, `via[1]`).

    `sources` says from which file each field came when entries of several files are merged.
    """

    def __init__(
        self,
        values: Mapping[str, object],
        complaints: Complaints,
        source: Source,
        *,
        where: str = "",
        sources: Mapping[str, Source] | None = None,
    ) -> None:
        self.values = values
        self.complaints = complaints
        self._source = source
        self._sources = sources or {}
        self._where = where
        self._asked: set[str] = set()

    def source(self, name: str) -> Source:
        """The file that the field came from."""
        return self._sources.get(name, self._source)

    def complain(self, name: str, why: str, hint: str = "", *, code: str = "JD-PROFILE-FIELD") -> None:
        """Records what is wrong with a field."""
        field = f"{self._where}.{name}" if self._where and name else (self._where or name)
        self.complaints.add(self.source(name), field, why, hint, code=code)

    def take(self, name: str) -> object:
        """The raw value or None; the field counts as known from now on."""
        self._asked.add(name)
        return self.values.get(name)

    def text(self, name: str, *, limit: int = MAX_TEXT, check: Callable[[str], str | None] | None = None) -> str | None:
        """A non-empty text that passes `check`."""
        value = self.take(name)
        if value is None:
            return None
        return self._text(name, value, limit, check)

    def _text(self, name: str, value: object, limit: int, check: Callable[[str], str | None] | None) -> str | None:
        if not isinstance(value, str):
            self.complain(name, f"a text in quotes is expected, not {kind(value)}")
        elif not value.strip():
            self.complain(name, "it is empty", "Give it a value, or leave it out.")
        elif len(value) > limit:
            self.complain(name, f"it has more than {limit} characters")
        elif patterns.holds_secret(value):
            self.complain(name, "it holds a secret", self._secret_remedy(name), code="JD-PROFILE-SECRET")
        elif check is not None and (wrong := check(value)):
            self.complain(name, wrong)
        else:
            return clean(value) if limit == MAX_TEXT else value
        return None

    def texts(
        self, name: str, *, check: Callable[[str], str | None] | None = None, one: bool = False
    ) -> tuple[str, ...]:
        """A list of texts; with `one`, a single text may stand for a list of one."""
        value = self.take(name)
        if value is None:
            return ()
        if one and isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            hint = f'Write {name} = ["…"].' if isinstance(value, str) else ""
            self.complain(name, f"a list of texts is expected, not {kind(value)}", hint)
            return ()
        if not value or len(value) > MAX_ITEMS:
            self.complain(name, "the list is empty" if not value else f"the list has more than {MAX_ITEMS} entries")
            return ()
        found = [
            self._text(f"{name}[{at}]" if len(value) > 1 else name, item, MAX_TEXT, check)
            for at, item in enumerate(value)
        ]
        return tuple(item for item in found if item is not None)

    def arm_id(self, name: str, types: tuple[str, ...]) -> str | None:
        """An Azure resource id of one of `types`."""
        found = self.arm_ids(name, types, one=True)
        return found[0] if found else None

    def arm_ids(
        self, name: str, types: tuple[str, ...], *, one: bool = False, addresses: bool = False
    ) -> tuple[str, ...]:
        """One Azure resource id, or (without `one`) a list of them; with `addresses` IPv4 addresses in their place."""
        if one and isinstance(self.values.get(name), list):
            self.take(name)
            self.complain(name, "one id is expected, not a list")
            return ()
        good: list[str] = []
        for value in self.texts(name, one=True):
            if addresses and patterns.is_ipv4(value):
                good.append(value)
            elif wrong := patterns.arm_id(value, types):
                self.complain(name, wrong, patterns.arm_remedy(value))
            else:
                good.append(value)
        return tuple(good)

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """One of `choices`."""
        value = self.text(name)
        if value is None or value in choices:
            return value
        self.complain(name, f"{value!r} is not known", one_of(value, choices))
        return None

    def flag(self, name: str) -> bool | None:
        """true or false."""
        value = self.take(name)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str) and patterns.looks_secret(name):
            remedy = self._secret_remedy(name)
            self.complain(name, "it holds a secret; only true is allowed here", remedy, code="JD-PROFILE-SECRET")
        else:
            self.complain(name, f"true or false (without quotes) is expected, not {kind(value)}")
        return None

    def number(self, name: str, low: float, high: float, *, whole: bool = False) -> float | None:
        """A number from `low` to `high`."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            self.complain(name, f"a {'whole ' if whole else ''}number is expected, not {kind(value)}")
        elif not low <= value <= high:
            self.complain(name, f"it must be between {low:g} and {high:g}")
        else:
            return value
        return None

    def path(self, name: str) -> Path | None:
        """A path; `~` is the home folder, a relative one starts at the folder of the file that it stands in."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, str) and any(ord(letter) < 32 for letter in value):
            self.complain(name, "the path holds a control character", PATH_REMEDY)
            return None
        text = self._text(name, value, MAX_NOTES, None)
        return None if text is None else self.source(name).resolve(text)

    def table(self, name: str) -> Fields | None:
        """A table inside this one."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.complain(name, f"a table {{ … }} is expected, not {kind(value)}")
            return None
        return self.inner(name, value)

    def inner(self, name: str, value: Mapping[str, object]) -> Fields:
        """The fields of `value`, which stands at `name` of this table."""
        where = f"{self._where}.{name}" if self._where else name
        return Fields(value, self.complaints, self.source(name.split("[")[0]), where=where)

    def finish(self, also_known: Iterable[str] = ()) -> None:
        """Complains about fields that nobody asked for; in a file of a newer format they are only noted."""
        known = self._asked.union(also_known)
        for name in self.values:
            if name in known:
                continue
            if patterns.looks_secret(name):
                remedy = self._secret_remedy(name)
                self.complain(name, "a secret has no place in this file", remedy, code="JD-PROFILE-SECRET")
                continue
            if self.source(name).newer:
                where = ".".join(part for part in (self.complaints.table, self._where, name) if part)
                self.complaints.ignored.append((self.source(name), clean(where)))
                continue
            self.complain(
                name, "there is no such field here", one_of(name, tuple(sorted(known))), code="JD-PROFILE-UNKNOWN-FIELD"
            )

    def _secret_remedy(self, name: str) -> str:
        """What to do about a secret in field `name`: take it out, and the command that stores it right."""
        lower = name.lower()
        ssh, key, user = self.values.get("ssh"), self.values.get("key"), self.values.get("user")
        server = ssh[0] if isinstance(ssh, list) and ssh else ssh
        if self.complaints.table.startswith("sign-in.") or self._where == "sign-in":
            if self.values.get("kind") != "service-principal":
                return f"{_REMOVE}; this kind of sign-in needs none."
            client = self.values.get("client-id")
            named = client if isinstance(client, str) and re.fullmatch(patterns.GUID, client) else "CLIENT_ID"
            then = f"jumpdeck secrets set client-{'certificate' if 'cert' in lower else 'secret'} {named}"
        elif "private" in lower or "key-data" in lower:
            then = "leave the key in its file and name that."
        elif "phrase" in lower:
            known = isinstance(key, str) and not patterns.holds_secret(key)
            then = f"jumpdeck secrets set passphrase {clean(str(key)) if known else 'KEYFILE'}"
        elif isinstance(server, str) or "pass" in lower or "pwd" in lower:
            place = server if isinstance(server, str) and patterns.ssh_server(server) is None else "HOST"
            named = user if isinstance(user, str) and re.fullmatch(patterns.NAME, user) else "USER"
            then = f"jumpdeck secrets set password {place if '@' in place else f'{named}@{place}'}"
        else:
            then = f"jumpdeck secrets set token {clean(self.complaints.profile or 'PROFILE')}"
        return f"{_REMOVE}, then: {then}"


def one_of(word: str, known: tuple[str, ...]) -> str:
    """The remedy for a word that is not known: the nearest known one, or all of them."""
    if guess := near(word, known):
        return f"Did you mean {guess}?"
    return f"Known: {', '.join(known)}."


def kind(value: object) -> str:
    """What a TOML value is, in words; never the value itself, which may be a secret."""
    names: tuple[tuple[type, str], ...] = (
        (bool, "true or false"), (str, "a text"), (int, "a number"), (float, "a number"), (dict, "a table"),
        (list, "a list"),
    )  # fmt: skip
    return next((name for each, name in names if isinstance(value, each)), "a date or time")
