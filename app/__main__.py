"""The composition root: hands the command line to `app.cli.main`."""

from __future__ import annotations

import gc
import sys

GARBAGE = 50_000
"""Objects made before unreachable ones are looked for: what a command loads stays, and looking at it again and again
is a tenth of its start. Bounded: it delays the collector by some ten MB."""


def main() -> None:
    """Run the command line of this process and exit with its code."""
    gc.set_threshold(GARBAGE, 20, 50)
    from app.cli.main import run

    code = run(sys.argv[1:])
    gc.freeze()  # the interpreter's last collections find nothing to look through
    sys.exit(code)


if __name__ == "__main__":
    main()
