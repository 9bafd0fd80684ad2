"""Runs `tests.session_client` in a process of its own and reads what it tells."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.tasks import spawn

LIMIT = 30.0
"""Seconds after which a wait for something that it tells counts as failed."""
END_LIMIT = 20.0
"""Seconds in which it must have closed everything and ended; a fraction of one unless the machine is busy."""


class Client:
    """A client process: what it told so far, and waits for more. `async with Client(...) as client`."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], *, prefix: Sequence[str] = ()) -> None:
        self._command = [*prefix, sys.executable, "-m", "tests.session_client", *words]
        self._environment = {**os.environ, **environment}
        self.told: list[dict[str, Any]] = []
        self.errors = b""
        self._news = asyncio.Event()

    async def __aenter__(self) -> Client:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=self._environment, start_new_session=True
        )
        self._readers = [spawn(self._read(), name="client's output"), spawn(self._read_errors(), name="its errors")]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        await asyncio.gather(*self._readers)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.told.append(json.loads(line))
            self._news.set()
        self._news.set()

    async def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = await self.process.stderr.read()

    def phases(self, profile: str) -> list[str]:
        """The phases of a profile so far."""
        return [each["phase"] for each in self.told if each.get("profile") == profile and "phase" in each]

    def lines(self, pod: str) -> list[str]:
        """The log lines of a pod so far."""
        return [each["line"] for each in self.told if each.get("pod") == pod]

    async def until(self, wanted: Callable[[Client], bool], limit: float = LIMIT) -> None:
        """Wait until what it told is so."""
        try:
            async with asyncio.timeout(limit):
                while not wanted(self):
                    assert self.process.returncode is None, self.errors.decode()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"told {self.told[-20:]}") from None

    async def until_up(self, profile: str, limit: float = LIMIT) -> None:
        """Wait until a profile's session is UP."""
        await self.until(lambda client: client.phases(profile)[-1:] == ["up"], limit)

    async def end(self) -> None:
        """Have it close everything, within the limit of a clean end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(END_LIMIT):
            await self.process.wait()
        await asyncio.gather(*self._readers)
        assert self.process.returncode == 0, self.errors.decode()
        assert self.errors == b"", self.errors.decode()
