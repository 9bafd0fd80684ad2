"""Runs the real command line in processes of its own, with or without a terminal."""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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


class Command:
    """One command line that runs on; what it writes is kept. Make it with `async with command(…)`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out, self.err = "", ""
        self._news = asyncio.Event()
        assert process.stdout is not None and process.stderr is not None
        loop = asyncio.get_running_loop()
        self._readers = [
            loop.create_task(self._read(process.stdout, "out")),
            loop.create_task(self._read(process.stderr, "err")),
        ]

    async def _read(self, stream: asyncio.StreamReader, name: str) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()  # a pipe may cut a character in two
        while data := await stream.read(1 << 16):
            setattr(self, name, getattr(self, name) + decoder.decode(data))
            self._news.set()
        self._news.set()

    async def until(self, seen: Callable[[Command], bool]) -> None:
        """Wait until what was written satisfies `seen`."""
        try:
            async with asyncio.timeout(RUN_LIMIT):
                while not seen(self):
                    assert not all(reader.done() for reader in self._readers), "it has ended"
                    self._news.clear()
                    await self._news.wait()
        except (TimeoutError, AssertionError) as exc:
            raise AssertionError(f"not seen: out {self.out!r} err {self.err!r}") from exc

    def type(self, text: str) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())

    async def ended(self) -> int:
        """Its exit code (negative: the signal that ended it), once all that it wrote is here."""
        async with asyncio.timeout(RUN_LIMIT):
            code = await self.process.wait()
            await asyncio.gather(*self._readers)
        assert "Traceback" not in self.err, self.err
        return code


@asynccontextmanager
async def command(*words: str, **environment: str) -> AsyncIterator[Command]:
    """A running command line without a terminal; it and what it started (its process group) end with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jumpdeck", *words, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment}, start_new_session=True,
    )  # fmt: skip
    running = Command(process)
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await asyncio.gather(*running._readers)


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
