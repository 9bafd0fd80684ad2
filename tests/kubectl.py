"""The real kubectl against a lab, as a test's peer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.lab.practice import Lab

LIMIT = 40.0
"""Seconds for one run on a busy machine."""
TRIES = 3


@dataclass(frozen=True)
class Ran:
    """How a run ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode()


class Kubectl:
    """Runs kubectl against a lab; `environment` chooses, say, how it streams."""

    def __init__(self, lab: Lab, program: str, home: Path, **environment: str) -> None:
        self.program = program
        own = {"KUBECONFIG": str(lab.kubeconfig), "HOME": str(home), "TZ": "UTC"}
        self.environment = {**os.environ, **own, **environment}

    @asynccontextmanager
    async def started(self, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A run that goes on; ended at the end of the block."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self.program, *words, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe, limit=2**20
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait_for(process.communicate(), LIMIT)

    async def run(self, *words: str, stdin: bytes = b"") -> Ran:
        """A run to its end; again when kubectl read an answer before it had made the stream for it.

        That is a race of kubectl over WebSockets (kubernetes/kubernetes#131189), lost on a busy machine.
        """
        for _ in range(TRIES):
            async with self.started(*words) as process:
                out, err = await asyncio.wait_for(process.communicate(stdin), LIMIT)
            if b"Unknown stream id" not in err:
                break
        assert process.returncode is not None
        return Ran(process.returncode, out, err.decode())

    async def said(self, *words: str) -> str:
        """All that a run wrote."""
        ran = await self.run(*words)
        return ran.text + ran.err
