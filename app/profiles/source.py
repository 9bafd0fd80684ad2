"""One profile file as read: its bytes, its tables, and where in it something stands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from app.files import read_private
from app.profiles.problem import ProfileProblem
from app.text import clean

FORMAT_VERSION = 1
"""The format that this program writes; a higher one is only read."""
MAX_FILE_BYTES = 1 << 20
"""A thousand profiles have about a third of this."""
SECTIONS = ("hop", "sign-in", "cloud", "profile")
"""Tables that hold named entries."""
_WINDOWS_PATH = r'"(?:[A-Za-z]:|\\)\\[^"]*'
_TOML_PLACE = r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$"


class Source:
    """A file of profiles. `shared` files come in by `include` and are never written."""

    def __init__(
        self, path: Path, data: bytes = b"", shared: bool = False, *, tables: dict[str, object] | None = None
    ) -> None:
        self.path = path
        self.data = data
        self.shared = shared
        self.nested = False
        """Included by an included file, not by the user's own."""
        self.tables = tables if tables is not None else {}
        self.version = FORMAT_VERSION
        self._lines: list[str] | None = None

    @property
    def newer(self) -> bool:
        """Whether the file has a format that this program may not write."""
        return self.version > FORMAT_VERSION

    def resolve(self, text: str) -> Path:
        """A path that stands in this file: `~` is the home folder, relative ones start at the file's folder."""
        try:
            path = Path(text).expanduser()
        except RuntimeError:  # no such user
            path = Path(text)
        return path if path.is_absolute() else self.path.parent / path

    def line_of(self, table: str, name: str = "") -> int | None:
        """The line (from 1) of a field of `table`, else of the table's heading, else None. A search, not a parse."""
        if self._lines is None:
            self._lines = self.data.decode("utf-8", "replace").splitlines()
        heading = _dotted(table)
        key = re.split(r"[.\[]", name, maxsplit=1)[0]
        inside, found = table == "", None
        for number, line in enumerate(self._lines, 1):
            if match := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
                title = match.group(1)
                inside = bool(re.fullmatch(heading, title)) if table else False
                if inside:
                    found = number
                    if not key:
                        return number
                elif key and re.fullmatch(heading + r"\s*\.\s*" + _quotable(key), title):
                    return number
            elif inside and key and re.match(rf"\s*{_quotable(key)}\s*[.=]", line):
                return number
        return found


def read_source(path: Path, *, shared: bool = False) -> Source:
    """Reads and parses a profile file. Raises ProfileError; syntax errors carry line and column (JD-PROFILE-SYNTAX)."""
    what = "included profile file" if shared else "profile file"
    return parse_source(path, read_private(path, limit=MAX_FILE_BYTES, what=what, shared=shared), shared=shared)


def parse_source(path: Path, data: bytes, *, shared: bool = False) -> Source:
    """The same for bytes that are already read."""
    source = Source(path, data, shared)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ProfileProblem(
            f"byte {exc.start + 1} is not UTF-8",
            "Save the file as UTF-8.",
            code="JD-PROFILE-SYNTAX",
            file=path,
            line=data.count(b"\n", 0, exc.start) + 1,
        ) from exc
    try:
        source.tables = tomllib.loads(text)
    except RecursionError as exc:
        raise ProfileProblem("it is nested too deeply", code="JD-PROFILE-SYNTAX", file=path) from exc
    except ValueError as exc:
        raise _syntax(path, text, str(exc)) from exc
    version = source.tables.get("version", FORMAT_VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ProfileProblem(
            "version is not a whole number from 1 up", "Write version = 1.", code="JD-PROFILE-VERSION", file=path
        )
    source.version = version
    return source


def _syntax(path: Path, text: str, message: str) -> ProfileProblem:
    match = re.search(_TOML_PLACE, message)
    why = clean(message[: match.start()] if match else message)
    line: int | None = None
    hint = "Correct the TOML at this place."
    if match:
        lines = text.splitlines() or [""]
        line = int(match.group(1)) if match.group(1) else len(lines)
        why += f" (column {match.group(2)})" if match.group(2) else " (at the end of the file)"
        if line <= len(lines) and re.search(_WINDOWS_PATH, lines[line - 1]):
            hint = "Put a Windows path in single quotes ('C:\\Users\\jo'), or write / for \\."
    return ProfileProblem(why, hint, code="JD-PROFILE-SYNTAX", file=path, line=line)


def _quotable(key: str) -> str:
    return rf"[\"']?{re.escape(key)}[\"']?"


def _dotted(table: str) -> str:
    return r"\s*\.\s*".join(_quotable(part) for part in table.split("."))
