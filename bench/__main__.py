"""`python -m bench` prints one row per goal; the environment variable BENCH=P-2 runs one. It always ends with 0."""

from __future__ import annotations

import importlib
import os
import sys

GOALS = ("P-1", "P-2", "P-3", "P-4", "P-8", "P-9", "P-10", "P-11", "P-12", "P-13", "P-14", "P-15")


def main() -> None:
    wanted = os.environ.get("BENCH", "").upper()
    for goal in GOALS:
        if wanted not in ("", goal):
            continue
        name = f"bench.{goal.lower().replace('-', '')}"
        try:
            rows = importlib.import_module(name).run()
        except Exception as error:  # a benchmark that breaks is a line of the report, never the end of it
            sys.stdout.write(f"{goal:<5} could not be measured: {type(error).__name__}: {error}\n")
            continue
        for row in rows:
            sys.stdout.write(row.line() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
