"""The argument parser of every command: errors are ours, abbreviations are off."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from app.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Asks the terminal for its width without shutil, whose compressors argparse would load for every argument."""

    def __init__(self, prog: str, **options: Any) -> None:
        options.setdefault("width", _columns() - 2)
        super().__init__(prog, **options)


def _columns() -> int:
    import os
    import sys

    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        pass
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (AttributeError, ValueError, OSError):
        return 80


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser whose usage errors are `UsageError` (exit 2) and whose flags may not be shortened."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", _HelpFormatter)
        super().__init__(**options)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print it; argparse would swallow what a write raises. Raises OSError."""
        import sys

        (file or sys.stdout).write(self.format_help())
        if file is None:
            sys.stdout.flush()

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        from app.text import clean

        raise UsageError(
            "The command line is not understood",
            clean(message),
            f"See `{self.prog} --help`.",
            code="JD-USAGE-ARGUMENTS",
        )


def add_connection_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that opens a route."""
    parser.add_argument(
        "--connect-timeout", type=seconds, metavar="TIME",
        help="give up when the route has not been UP within this time (default 30s)",
    )  # fmt: skip
    parser.add_argument("--no-input", action="store_true", help="never ask; fail with what to do first")
    parser.add_argument("--justification", default="", metavar="TEXT", help="why, for hops with just-in-time access")


def seconds(text: str) -> float:
    """A time such as `90`, `30s`, `5m` or `1h30m` in seconds. Raises ArgumentTypeError."""
    import re

    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"`{text}` is not a time such as 30s, 5m or 1h30m")
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    return sum(float(number) * units[unit] for number, unit in parts)
