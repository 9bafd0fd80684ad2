"""The first and the last moments of a process: ctrl+c while it loads, and standard streams that somebody closed."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.frame import run_async
from app.console import _draws_unicode

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


def run(script: str, folder: Path, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "JUMPDECK_CONFIG_DIR": str(folder), "PYTHONIOENCODING": encoding},
        capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL, check=False,
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


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_pipe_takes_utf_8_whatever_the_code_page(encoding: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "profiles.toml").write_text(
        "[profile.a]\ntitle = 'Zürich 中'\ncluster = { server = 'https://x' }\n", encoding="utf-8"
    )
    script = "import sys\nfrom app.__main__ import main\nsys.argv = ['jumpdeck', 'profiles', 'export']\nmain()"
    done = run(script, tmp_path, encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'title = "Zürich 中"' in done.stdout


@pytest.mark.parametrize(
    ("locale", "signs"),
    [
        ({"LC_ALL": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),  # as Python makes it of LANG=C
        ({"LANG": "POSIX"}, False),
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, True),
        ({"LANG": "C.UTF-8"}, True),
        ({}, True),
    ],
)
def test_the_console_draws_plainly_in_a_locale_without_utf_8(
    locale: dict[str, str], signs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    assert _draws_unicode() is signs
