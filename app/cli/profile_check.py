"""`jumpdeck profiles check`: every problem with its place and remedy, and the word on changed includes."""

from __future__ import annotations

import argparse
import sys

from app.cli.profiles import note, out
from app.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from app.errors import ProfileError
    from app.profiles.store import ProfileBook


def check(args: argparse.Namespace) -> int:
    """Prints each problem; exit 3 when there is one, else 0."""
    from app.profiles.store import load

    book = load()
    note(book)
    if book.changes and _review(book, args):
        book = load()
        note(book)
    problems = _problems(book, list(dict.fromkeys(args.names)))
    for problem in problems:
        out("\n  ".join(problem.lines()) + "\n")
    if problems:
        return int(ExitCode.PROFILE)
    count = len(args.names) or len(book.profiles)
    out(f"{count} profile{'s' * (count != 1)}: no problem found\n")
    return 0


def _problems(book: ProfileBook, names: list[str]) -> list[ProfileError]:
    """Raises ProfileError for a name that is not there."""
    from app.profiles.checking import missing_files

    found: list[ProfileError] = []
    for problem in book.problems:
        profile = getattr(problem, "profile", "")
        if not names or not profile or profile in names:
            found += [problem, *getattr(problem, "more", ())]
    for name in names or sorted(book.profiles):
        if book.problem(name) is None:
            found += missing_files(book.get(name))
    return found


def _review(book: ProfileBook, args: argparse.Namespace) -> bool:
    """Asks about each change of an included file; True when one was accepted."""
    from app.cli.frame import controlling_terminal
    from app.folders import state_dir
    from app.profiles.includes import INCLUDES_FOLDER, accept

    if args.no_input or controlling_terminal() is None:
        return False
    from app.cli.prompts import ask_line
    from app.profiles.rendering import profile_table, to_toml

    agreed = []
    for change in book.changes:
        out(f"An included file changed where {change.name} leads or whom it trusts.\n")
        if change.old is not None:
            out(f"accepted:\n{to_toml(f'profile.{change.name}', profile_table(change.old))}")
        out(f"new:\n{to_toml(f'profile.{change.name}', profile_table(change.new))}")
        sys.stdout.flush()  # the question goes to the terminal by another way
        if ask_line(f"Use the new {change.name}? [y/N] ").lower() in ("y", "yes"):
            agreed.append(change)
    if agreed:
        accept(agreed, state_dir() / INCLUDES_FOLDER)
    return bool(agreed)
