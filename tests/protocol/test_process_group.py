"""Programs in a group of their own: their end, whoever waits for it."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import cast

import pytest

from app.arc.processes import known, wait_gone
from app.process_group import TooLongError, TooMuchError, end_group, run_group, start_group
from tests.leftovers import lasting
from tests.peers import require_linux

LIMIT = 20.0
ENV = {"PATH": os.environ["PATH"]}


async def run(script: str, *, limit: float = LIMIT, output_limit: int = 1000) -> tuple[int, bytes, bytes]:
    ended = await run_group(["/bin/sh", "-c", script], env=ENV, limit=limit, output_limit=output_limit)
    return ended.code, ended.output, ended.said


async def test_what_a_program_says_and_how_it_ended() -> None:
    assert await run("echo here; echo there >&2; exit 3") == (3, b"here\n", b"there\n")
    with pytest.raises(TooMuchError):
        await run("head -c 2000 /dev/zero; sleep 600")
    with pytest.raises(TooLongError):
        await run("sleep 600", limit=0.2)
    with pytest.raises(FileNotFoundError):
        await run_group(["/nowhere/az"], env=ENV, limit=LIMIT, output_limit=10)


async def test_whoever_gives_up_twice_leaves_nothing_behind(tmp_path: Path) -> None:
    for number in range(5):
        os.mkfifo(begun := tmp_path / f"begun-{number}")
        call = asyncio.ensure_future(run(f'echo $$ > "{begun}"; sleep 600'))
        await asyncio.to_thread(begun.read_text)
        call.cancel()
        for _ in range(number):  # the second comes at any point of the end
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call}, timeout=LIMIT)
        assert call.cancelled()
    gc.collect()  # a transport that was left open warns here, and warnings are errors


async def test_whoever_gives_up_before_it_runs_leaves_nothing_behind() -> None:
    for number in range(3):  # while it is being started
        starting = asyncio.ensure_future(start_group(["/bin/sleep", "600"], env={"GIVEN_UP": str(os.getpid())}))
        for _ in range(number):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait({starting}, timeout=LIMIT)
        assert starting.cancelled() and lasting(f"GIVEN_UP={os.getpid()}") == []


async def test_a_program_that_is_asked_has_time_to_say_goodbye(tmp_path: Path) -> None:
    script = f'trap \'echo bye > "{tmp_path}/bye"; exit 0\' TERM; echo ready; while :; do sleep 0.05; done'
    process = await start_group(["/bin/sh", "-c", script], env=ENV)
    assert process.stdout is not None and await process.stdout.readline() == b"ready\n"
    await end_group(process, grace=LIMIT)
    assert (tmp_path / "bye").read_text() == "bye\n" and process.returncode == 0


async def test_a_deaf_program_is_ended_all_the_same() -> None:
    process = await start_group(["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], env=ENV)
    assert process.stdout is not None and await process.stdout.readline() == b"ready\n"
    await end_group(process, grace=0.3)
    assert process.returncode == -9


async def test_a_loop_that_ends_meanwhile_kills_the_whole_group() -> None:
    require_linux("looks at processes in /proc")
    process = await start_group(["/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait; wait"], env=ENV)
    assert process.stdout is not None
    child = known(int(await process.stdout.readline()))
    assert child is not None
    ending = asyncio.ensure_future(end_group(process, grace=LIMIT))
    before = asyncio.all_tasks() - {ending}
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before:  # as `asyncio.run` does it at its end
        task.cancel()
    await asyncio.wait({ending}, timeout=LIMIT)
    assert ending.cancelled() and await asyncio.to_thread(wait_gone, child, LIMIT)
    await process.wait()


async def test_a_group_that_has_the_number_of_one_that_is_gone_is_left_alone() -> None:
    stranger = await start_group(["/bin/sleep", "600"], env=ENV)
    await end_group(cast("asyncio.subprocess.Process", Gone(stranger.pid)), grace=LIMIT)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stranger.wait(), 0.2)
    await end_group(stranger)


class Gone:
    """A process that has been waited for, whose number the system has given again."""

    returncode = 0

    def __init__(self, pid: int) -> None:
        self.pid = pid

    async def wait(self) -> int:
        return self.returncode
