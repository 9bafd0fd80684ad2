"""P-8, the start-up part: commands without a route against bare Python, the console's first frame against Textual's."""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from bench.harness import ROOT, home, wall
from bench.rows import Row, at_most, missing

RUNS = 11
FRAME_RUNS = 7
FRAME_LIMIT = 20.0
"""Seconds that a first frame may take."""

TRIVIAL = "from textual.app import App\nfrom textual.widgets import Static\n" \
    "class A(App):\n    def compose(self):\n        yield Static('hello')\nA().run()\n"  # fmt: skip
"""The smallest Textual app that shows something."""


def run() -> list[Row]:
    """A row per command, and one for the first frame."""
    python = sys.executable
    with home(1) as env:
        bare = wall([python, "-c", "pass"], env, RUNS)
        rows = [
            at_most("P-8", f"`jumpdeck {' '.join(words)}` against `python -c pass`",
                    wall([python, "-m", "jumpdeck", *words], env, RUNS) / bare, target)
            for words, target in ((["--help"], 3), (["profiles", "list"], 6), (["completion", "bash"], 6))
        ]  # fmt: skip
        what = "first frame of the console against a trivial Textual app"
        if sys.platform == "win32":
            return [*rows, missing("P-8", what, "pty")]
        trivial = first_frame([python, "-c", TRIVIAL], env)
        console = first_frame([python, "-m", "jumpdeck"], env)
        return [*rows, at_most("P-8", what, console / trivial, 1.3)]


def first_frame(command: Sequence[str], env: dict[str, str]) -> float:
    """Median seconds from the start to the first painted text on a terminal of 120 by 40."""
    return statistics.median(_frame_once(command, env) for _ in range(FRAME_RUNS))


def _frame_once(command: Sequence[str], env: dict[str, str]) -> float:
    import pty
    import termios

    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (40, 120))
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, env={**env, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        stdin=child, stdout=child, stderr=child, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(child)
        seen = b""
        try:
            # A frame is painted when the alternate screen is on and at least a screen's worth of cells came.
            while not (b"\x1b[?1049h" in seen and len(seen.partition(b"\x1b[?1049h")[2]) > 2_000):
                ready, _, _ = select.select([parent], [], [], FRAME_LIMIT)
                if not ready:
                    raise RuntimeError("no frame was painted")
                try:
                    seen += os.read(parent, 65_536)
                except OSError as error:
                    raise RuntimeError(f"it ended: {seen[-200:]!r}") from error
            return time.perf_counter() - started
        finally:
            process.kill()
            os.close(parent)
