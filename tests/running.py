"""Runs the real command line in processes of its own, with or without a terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

RUN_LIMIT = 60.0
"""Seconds that a command of a test may take on a busy machine."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


async def jumpdeck(*words: str, stdin: bytes | None = None, **environment: str) -> Done:
    """Run one command line to its end, without a terminal."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jumpdeck", *words,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment}, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(RUN_LIMIT):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Done(process.returncode or 0, out.decode(), err.decode())


def processes_with(variable: str) -> list[int]:
    """Ids of processes whose environment holds `variable` (`NAME=value`): children of a test, however deep."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
