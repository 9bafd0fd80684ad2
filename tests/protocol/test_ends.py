"""Every way to end: the terminal is as before, and no child, no folder and no listener is left (R-15)."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.lab.practice import Lab
from tests.leftovers import Temp, listening
from tests.peers import require_linux
from tests.terminal import Terminal

require_linux("needs /proc and pseudo-terminals")

TIMES = 50 if os.environ.get("SOAK") else 1
LEAVE_ALTERNATE = b"\x1b[?1049l"


@pytest.fixture
def temp() -> Iterator[Temp]:
    """Short, as a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="jd-") as folder:
        yield Temp(Path(folder))


@pytest_asyncio.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as opened:
        spec = {"metadata": {"namespace": "default", "name": "web-1"}, "spec": {"containers": [{"name": "app"}]}}
        opened.cluster.add_pod(spec)
        opened.cluster.start_container("default", "web-1", "app")
        opened.cluster.write_log("default", "web-1", "app", b"the first line\n")
        yield opened


@pytest.mark.parametrize(
    ("how", "code"), [("TERM", 143), ("HUP", 143), ("INT", 130), ("ctrl-c", 0), ("hang-up", None)]
)
async def test_the_demo_ends_clean(temp: Temp, how: str, code: int | None) -> None:
    for _ in range(TIMES):
        terminal = Terminal("demo", **temp.environment)
        try:
            await terminal.until(lambda written: b"clock-0" in written)
            assert terminal.modes() != terminal.modes_before  # raw while the console runs
            if how == "ctrl-c":
                terminal.type(b"\x03")
                await terminal.until(lambda written: b"again" in written)
                terminal.type(b"\x03\x03")  # twice: the words may have come later than the time that the first counts
            elif how == "hang-up":
                terminal.hang_up()
            else:
                terminal.process.send_signal(getattr(signal, f"SIG{how}"))
            ended = await terminal.ended()
            if code is not None:
                assert ended == code
                await terminal.until(lambda written: LEAVE_ALTERNATE in written)
                assert terminal.modes() == terminal.modes_before
            await temp.all_gone()
            assert temp.left() == []
        finally:
            terminal.close()


@pytest.mark.parametrize("words", [("logs", "lab-direct", "web"), ("pods", "lab-direct", "-w")], ids=" ".join)
@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("HUP", 143), ("INT", 130)])
async def test_a_follow_ends_clean(lab: Lab, temp: Temp, words: tuple[str, ...], name: str, code: int) -> None:
    terminal = Terminal(*words, **temp.environment, JUMPDECK_CONFIG_DIR=str(lab.config_dir))
    try:
        expected = b"the first line" if words[0] == "logs" else b"web-1"
        await terminal.until(lambda written: expected in written)
        terminal.process.send_signal(getattr(signal, f"SIG{name}"))
        assert await terminal.ended() == code
        assert b"Traceback" not in terminal.written
        assert terminal.modes() == terminal.modes_before
        await temp.all_gone()
        assert temp.left() == []
    finally:
        terminal.close()


async def test_exec_ends_its_child_and_removes_the_kubeconfig(lab: Lab, temp: Temp) -> None:
    script = "cat $KUBECONFIG | head -1; echo started; sleep 300"
    terminal = Terminal(
        "exec", "lab-direct", "--", "sh", "-c", script,
        **temp.environment, JUMPDECK_CONFIG_DIR=str(lab.config_dir),
    )  # fmt: skip
    try:
        await terminal.until(lambda written: b"started" in written)
        terminal.process.send_signal(signal.SIGTERM)
        assert await terminal.ended() == 143
        await temp.all_gone()
        assert temp.left() == []
    finally:
        terminal.close()


async def test_the_process_listens_nowhere(temp: Temp) -> None:
    terminal = Terminal("demo", **temp.environment)
    try:
        await terminal.until(lambda written: b"clock-0" in written)
        assert listening(terminal.process.pid) == set()
    finally:
        terminal.process.send_signal(signal.SIGTERM)
        await terminal.ended()
        await temp.all_gone()
        terminal.close()
