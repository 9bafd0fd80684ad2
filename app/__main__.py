"""The composition root: hands the command line to `app.cli.main`."""

from __future__ import annotations

import gc
import sys
from io import TextIOWrapper

GARBAGE = 50_000
"""Objects made before unreachable ones are looked for: what a command loads stays, and looking at it again and again
is a tenth of its start. Bounded: it delays the collector by some ten MB."""
INTERRUPTED = 130
"""The exit code after ctrl+c, as `app.errors.ExitCode` has it; that is not loaded yet when it is needed here."""


def main() -> None:
    """Run the command line of this process and exit with its code."""
    gc.set_threshold(GARBAGE, 20, 50)
    try:
        _open_closed_streams()
        _choose_encoding()
        from app.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while the first files were loaded
        code = INTERRUPTED
    gc.freeze()  # the interpreter's last collections find nothing to look through
    sys.exit(code)


def _open_closed_streams() -> None:
    """Let a standard stream that was closed (`>&-`, a service, pythonw) lead nowhere.

    Without that the first file or socket opened takes its number, and a program of ours would write its words there.
    """
    if sys.stdin and sys.stdout and sys.stderr:
        return
    import os

    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115 it stays open
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 it stays open
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 it stays open


def _choose_encoding() -> None:
    """Write UTF-8 into pipes and files, as kubectl does, and what a terminal's own encoding cannot say as an escape.

    A pipe of Windows has a code page, which ends a command at the first name it has no letter for; and a profile file
    and JSON are UTF-8 or nothing.
    """
    out = sys.stdout
    if isinstance(out, TextIOWrapper):
        out.reconfigure(encoding=None if out.isatty() else "utf-8", errors="backslashreplace")


if __name__ == "__main__":
    main()
