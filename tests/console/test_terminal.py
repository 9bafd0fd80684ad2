"""What reaches a real terminal: bytes, exit codes, and what is left behind."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 40.0
"""Seconds after which a console that has not ended is a failure."""
ALLOWED = re.compile(
    rb"\x1b\[[0-9;:]*[mHABCDJKG]"  # colours, moves, clearing: what drawing needs
    rb"|\x1b\[\?(?:1049|25|1000|1002|1003|1004|1006|1015|1016|2004|2026|2048|7)[hl]"  # modes of the screen and mouse
    rb"|\x1b\[\?(?:2026|2048)\$p"  # asks for the synchronised-output and in-band-resize modes
    rb"|\x1b\[[<>=][0-9;]*u"  # kitty keyboard protocol
)


class Terminal:
    """A child on a pseudo-terminal, and every byte that it wrote."""

    def __init__(self, mode: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
        self.before = termios.tcgetattr(slave)
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT),
                       "PYTHONIOENCODING": "utf-8", "TEXTUAL_ANIMATIONS": "none"}  # fmt: skip
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.console.hostile_app", mode],
            stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=environment, start_new_session=True,
        )  # fmt: skip
        self.slave = slave
        self.written = b""

    def read_until(self, wanted: bytes | None) -> bool:
        """Read until these bytes came (None: until the child has ended)."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.master], [], [], 0.1)
            if ready:
                self.written += os.read(self.master, 65536)
            elif wanted is None and self.child.poll() is not None:
                return True
            if wanted is not None and wanted in self.written:
                return True
        return False

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminal(request):
    opened = Terminal(request.param)
    yield opened
    if opened.child.poll() is None or opened.master >= 0:
        opened.close()


def harmful(written: bytes) -> list[bytes]:
    """Sequences and controls that are not on the list of what drawing needs."""
    rest = ALLOWED.sub(b"", written)
    found = re.findall(rb"\x1b.{0,24}", rest, re.DOTALL)
    text = rest.decode("utf-8", "replace")
    return found + [
        char.encode()
        for char in re.findall(
            "[\x00-\x07\x0b-\x0c\x0e-\x1a\x1c-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff]", text
        )
    ]


@pytest.mark.parametrize("terminal", ["leave"], indirect=True)
def test_only_drawing_reaches_the_terminal_whatever_a_cluster_says(terminal):
    assert terminal.read_until(None), terminal.written[-2000:]
    assert b"PLAYED" in terminal.written, terminal.written[-3000:]
    assert terminal.child.returncode == 0
    assert set(harmful(terminal.written)) == set()
    assert b"\x1b[?1049l" in terminal.written
    assert termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("terminal", ["stay"], indirect=True)
def test_a_signal_restores_the_terminal_and_tells_its_code(terminal, number):
    assert terminal.read_until(b"PLAYED"), terminal.written[-3000:]
    terminal.child.send_signal(number)
    assert terminal.read_until(None)
    assert terminal.child.returncode == (130 if number == signal.SIGINT else 143)
    assert terminal.written.count(b"\x1b[?1049l") == 1
    assert termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.parametrize("terminal", ["stay"], indirect=True)
def test_a_closed_terminal_ends_the_console(terminal):
    assert terminal.read_until(b"PLAYED"), terminal.written[-3000:]
    os.close(terminal.slave)
    os.close(terminal.master)
    terminal.master = -1
    assert terminal.child.wait(LIMIT) == 143


@pytest.mark.parametrize("terminal", ["crash"], indirect=True)
def test_a_crash_shows_no_local_variable_and_exits_with_1(terminal, tmp_path):
    assert terminal.read_until(None)
    assert terminal.child.returncode == 1
    assert b"JD-CONSOLE-CRASH" in terminal.written
    assert b"ValueError: it broke" in terminal.written
    log = (Path(os.environ["JUMPDECK_STATE_DIR"]) / "jumpdeck.log").read_text()
    assert "explode" in log
    for text in (terminal.written.decode("utf-8", "replace"), log):
        assert "hunter2" not in text
