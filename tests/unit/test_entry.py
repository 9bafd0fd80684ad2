"""The first and the last moments of a process: ctrl+c while it loads, and standard streams that somebody closed."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.frame import run_async

INTERRUPTED = """
import sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
from app.__main__ import main

sys.argv = ["jumpdeck", "profiles", "list"]
main()
"""
CLOSED = """
import os, sys

os.close({number})
setattr(sys, {stream!r}, None)
from app.__main__ import main

sys.argv = ["jumpdeck", *{words!r}]
main()
"""


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "JUMPDECK_CONFIG_DIR": str(folder)},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["app.cli.main", "app.errors", "app.cli.profiles", "app.profiles.store"])
def test_ctrl_c_while_a_command_loads_leaves_no_traceback(name: str, tmp_path: Path) -> None:
    done = run(INTERRUPTED.format(name=name), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


async def test_a_command_that_the_loop_never_took_is_closed() -> None:
    async def command() -> int:
        return 0

    unstarted = command()
    with pytest.raises(RuntimeError, match="running event loop"):
        run_async(unstarted)
    assert inspect.getcoroutinestate(unstarted) == inspect.CORO_CLOSED


@pytest.mark.parametrize(
    ("number", "words", "code"),
    [(0, ["profiles", "list"], 0), (1, ["--help"], 0), (1, ["profiles", "export"], 0), (2, ["pods", "nosuch"], 3)],
)
def test_a_closed_stream_leads_nowhere(number: int, words: list[str], code: int, tmp_path: Path) -> None:
    stream = ("stdin", "stdout", "stderr")[number]
    done = run(CLOSED.format(number=number, stream=stream, words=words), tmp_path)
    assert done.returncode == code
    assert "JD-INTERNAL" not in done.stderr and "Traceback" not in done.stderr
