"""Other programs that we run, each in a process group of its own that ends with the children it left behind.

No shell, no terminal, nothing on standard input. On Windows the tree of processes stands for the group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.pids import is_taken
from app.records import Record, field
from app.tasks import spawn, to_its_end

KILL_LIMIT = 3.0
"""Seconds to wait for a killed program: the kernel takes it in milliseconds, unless a disk holds it."""


class Finished(Record):
    """A program that ran to its end."""

    code: int
    """Its exit code; negative: the signal that ended it."""
    output: bytes = field(repr=False)
    said: bytes = field(repr=False)
    """Its standard error."""


class TooLongError(Exception):
    """The program did not end in time; it was ended."""


class TooMuchError(Exception):
    """The program wrote more than it may; it was ended."""


async def start_group(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, output: int = asyncio.subprocess.PIPE,
    said: int = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:  # fmt: skip
    """Start a program in a group of its own, which the caller ends by `end_group`. Raises OSError and ValueError.

    Whoever is cancelled meanwhile is so once the program has been started and ended: asyncio leaves pipes open when it
    is cancelled while it connects them (CPython 3.11).
    """
    group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    making = asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=said, env=env, cwd=cwd, **group
    )
    starting = spawn(making, name=f"start {Path(argv[0]).name}")
    try:
        return await to_its_end(starting)
    except asyncio.CancelledError:
        if not starting.cancelled() and starting.exception() is None:
            await end_group(starting.result())
        raise


async def run_group(
    argv: Sequence[str], *, env: Mapping[str, str], limit: float, output_limit: int, cwd: Path | None = None
) -> Finished:
    """Run a program to its end, at most `limit` seconds, with at most `output_limit` bytes of each output.

    Nothing of its group is left, also when nobody waits any more. Raises OSError and ValueError when it cannot be
    started, TooLongError, TooMuchError.
    """
    process = await start_group(argv, env=env, cwd=cwd)
    assert process.stdout is not None and process.stderr is not None
    name = Path(argv[0]).name
    readers = [spawn(_read(pipe, output_limit), name=f"read {name}") for pipe in (process.stdout, process.stderr)]
    try:
        async with asyncio.timeout(limit):
            output, said = await asyncio.gather(*readers)
            code = await process.wait()
    except TimeoutError:
        raise TooLongError from None
    finally:
        for reader in readers:
            reader.cancel()
        await end_group(process)
    return Finished(code, output, said)


async def _read(pipe: asyncio.StreamReader, limit: int) -> bytes:
    data = bytearray()
    while piece := await pipe.read(limit):
        data += piece
        if len(data) > limit:
            raise TooMuchError
    return bytes(data)


async def end_group(process: asyncio.subprocess.Process, *, grace: float = 0.0) -> None:
    """End what is left of a program's group, also when the program itself has gone and left children behind.

    With `grace` it is asked first and has so many seconds. Whoever is cancelled meanwhile is so after the end: a
    process that nobody waits for would stay a zombie with open pipes.
    """
    ending = spawn(_end(process, grace), name=f"end process {process.pid}")
    try:
        await to_its_end(ending)
    except asyncio.CancelledError:
        if ending.cancelled():  # the loop itself ends, and nobody comes again: no time to ask, but for the whole group
            _signal_group(process, ask=False)
        raise


def how_ended(code: int) -> str:
    """`exit 7`, or `ended by SIGKILL`, for people."""
    if code >= 0:
        return f"exit {code}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"ended by signal {-code}"


async def _end(process: asyncio.subprocess.Process, grace: float) -> None:
    try:
        if grace > 0 and process.returncode is None:
            await _kill(process, ask=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
        await _kill(process, ask=False)
        _close_pipes(process)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), KILL_LIMIT)
    finally:
        transport = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()


def _close_pipes(process: asyncio.subprocess.Process) -> None:
    """asyncio's wait for a process ends with its pipes: nobody reads a full one any more, a grandchild may hold one."""
    transport = getattr(process, "_transport", None)
    for number in (1, 2):
        pipe = transport.get_pipe_transport(number) if transport is not None else None
        if pipe is not None:
            pipe.close()


async def _kill(process: asyncio.subprocess.Process, *, ask: bool) -> None:
    if sys.platform == "win32":
        if process.returncode is None and not ask:  # a program without a window cannot be asked there
            await asyncio.to_thread(_taskkill, process.pid)
        return
    _signal_group(process, ask=ask)


def _signal_group(process: asyncio.subprocess.Process, *, ask: bool) -> None:
    """Signal what is left of the group, and never a stranger's.

    A group's id stays taken while one of it lives. When the program has been waited for and a process has its number,
    the group was empty before, and the number has been given again.
    """
    if sys.platform == "win32" or (process.returncode is not None and is_taken(process.pid)):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM if ask else signal.SIGKILL)


def _taskkill(pid: int) -> None:
    program = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "taskkill.exe"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 (Windows' own program, by its path)
            [str(program), "/T", "/F", "/PID", str(pid)], stdin=subprocess.DEVNULL, capture_output=True,
            timeout=KILL_LIMIT, check=False,
        )  # fmt: skip
