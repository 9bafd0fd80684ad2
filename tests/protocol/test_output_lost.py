"""Output that nobody takes: a reader that has gone ends a command quietly, a full disk with what the system said."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.lab.practice import Lab

COMMANDS = [("pods", "lab-direct"), ("pods", "lab-direct", "-w"), ("logs", "lab-direct", "web"),
            ("logs", "lab-direct", "web", "--no-follow")]  # fmt: skip


@pytest_asyncio.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as opened:
        spec = {"metadata": {"namespace": "default", "name": "web-1"}, "spec": {"containers": [{"name": "app"}]}}
        opened.cluster.add_pod(spec)
        opened.cluster.start_container("default", "web-1", "app")
        opened.cluster.write_log("default", "web-1", "app", b"a line\n" * 5000)
        yield opened


async def run(lab: Lab, words: tuple[str, ...], output: int) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jumpdeck", *words, stdin=asyncio.subprocess.DEVNULL, stdout=output,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, "JUMPDECK_CONFIG_DIR": str(lab.config_dir)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
async def test_a_reader_that_has_gone(lab: Lab, words: tuple[str, ...]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        code, said = await run(lab, words, theirs)
    finally:
        os.close(theirs)
    assert code == 0
    assert "jumpdeck:" not in said and "Traceback" not in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [*COMMANDS, ("--help",), ("pods", "--help")], ids=" ".join)
async def test_a_full_disk(lab: Lab, words: tuple[str, ...]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        code, said = await run(lab, words, full)
    finally:
        os.close(full)
    assert code == 1
    assert "No space left on device" in said and "JD-LOCAL-OUTPUT" in said and "Traceback" not in said
