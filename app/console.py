"""The composition root of the console: profiles and sessions are put together with the screens here.

Nothing of textual is loaded with this module: the environment is cleared of what would redirect it first (S-26).
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import UsageError
from app.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.profiles.store import ProfileBook
    from app.sessions.supervisor import Sessions
    from screens.app import ConsoleApp
    from widgets.profile_list import ProfileEntry

_REDIRECTING = (
    "TEXTUAL",
    "TEXTUAL_DRIVER",
    "TEXTUAL_LOG",
    "TEXTUAL_DEVTOOLS_HOST",
    "TEXTUAL_DEVTOOLS_PORT",
    "TEXTUAL_PRESS",
    "TEXTUAL_SCREENSHOT",
    "TEXTUAL_SCREENSHOT_LOCATION",
    "TEXTUAL_SCREENSHOT_FILENAME",
    "TEXTUAL_FILTERS",
    "TEXTUAL_DEBUG",
    "TEXTUAL_SHOW_RETURN",
)
"""Variables by which the framework loads other drivers, opens sockets, presses keys or writes files."""


def run_console(
    profile: str | None,
    *,
    config_dir: Path | None = None,
    ascii: bool = False,  # noqa: A002 (named as the flag)
    demo: bool = False,
) -> int:
    """Run the console until it is left; returns the exit code.

    With `profile` it is opened at once, and with `demo` the first one. Raises ProfileError when the profile file or
    that profile cannot be used, and UsageError without a terminal.
    """
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        raise UsageError(
            "The console needs a terminal",
            "standard input or output is not one",
            "Use `jumpdeck pods PROFILE` or `jumpdeck logs PROFILE QUERY` in pipes.",
            code="JD-CONSOLE-NO-TERMINAL",
        )
    book = None
    if profile is not None or demo:
        book = _load(config_dir)
        if profile is not None:
            book.get(profile)
        else:
            profile = next(iter(book.profiles), None)
    first = [book] if book is not None else []

    def load_book() -> ProfileBook:
        return first.pop() if first else _load(config_dir)

    app = build_app(load_book, profile, ascii_only=ascii or not _draws_unicode())
    app.run()
    return app.return_code or 0


def _load(config_dir: Path | None) -> ProfileBook:
    from app.profiles.store import load

    return load(config_dir)


def build_app(load_book: Callable[[], ProfileBook], first: str | None, *, ascii_only: bool) -> ConsoleApp:
    """The console over these profiles; they are read, and sessions made, once the first frame stands."""
    gc.disable()  # until all is loaded: everything made on the way to the first frame stays anyway
    for name in _REDIRECTING:
        os.environ.pop(name, None)
    from screens.app import ConsoleApp, Ground
    from screens.asking import ConsoleAsker

    def survey() -> Ground:
        book = load_book()

        def make_sessions(asker: ConsoleAsker) -> Sessions:
            from app.sessions.supervisor import Sessions

            return Sessions(book, asker=asker)

        whole = (problem for problem in book.problems if not getattr(problem, "profile", ""))
        return Ground(profile_entries(book), make_sessions, next(whole, None), book)

    return ConsoleApp(survey, first=first, ascii_only=ascii_only)


def profile_entries(book: ProfileBook) -> tuple[ProfileEntry, ...]:
    """All profiles in the order of the file, the unusable ones last."""
    from widgets.profile_list import ProfileEntry

    good = [ProfileEntry(p.name, clean(p.title), p.production) for p in book.profiles.values()]
    names = {entry.name for entry in good}
    bad = {clean(name): ProfileEntry(clean(name), broken=True) for name in _broken(book) if name not in names}
    return (*good, *bad.values())


def _broken(book: ProfileBook) -> list[str]:
    return [name for problem in book.problems if (name := getattr(problem, "profile", None))]


def _draws_unicode() -> bool:
    """Whether the terminal takes the signs, as far as its encoding tells."""
    if _locale() in ("C", "POSIX"):
        return False
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16", "cp65001")


def _locale() -> str:
    """The locale of letters as it was set: Python writes UTF-8 in C too, and may say so in LC_CTYPE (PEP 538)."""
    letters = os.environ.get("LC_CTYPE", "")
    coerced = letters in ("C.UTF-8", "C.utf8", "UTF-8")
    return os.environ.get("LC_ALL") or (not coerced and letters) or os.environ.get("LANG", "")
