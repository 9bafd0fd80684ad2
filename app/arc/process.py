"""One arcProxy program that runs for one session: its ports, its folder, what it says, its end.

It never outlives us where the system helps: Linux signals it when our thread ends (PR_SET_PDEATHSIG), Windows ends it
with our handle of its job. Elsewhere, and when it ignores the signal, the next start finds it (`run_records`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.arc.last_lines import LastLines
from app.arc.listeners import check_listener
from app.arc.ports import PortPair
from app.arc.processes import MARK
from app.arc.program import LAYER, Program
from app.arc.run_records import GRACE, RunFolder
from app.arc.windows_job import Job, job_of
from app.errors import JumpdeckError, Recovery, RouteError
from app.files import shown, write_private
from app.process_group import end_group, how_ended, start_group
from app.socket_owner import PeerOwner
from app.tasks import spawn
from app.text import clean, prose

START_LIMIT = 15.0
"""Seconds until both ports listen; a virus scanner that sees the program for the first time takes some of them."""
TRIES = 2
"""Starts, each with new ports: between our letting go of a port and the program's taking it, anybody may have it."""
LINES_KEPT = 200
_LOOK_AGAIN = 0.05
"""Seconds between two looks whether the program listens: nobody signals that."""

_TIED = """
import ctypes, os, sys
_, owner, number, *argv = sys.argv
ctypes.CDLL(None, use_errno=True).prctl(1, int(number), 0, 0, 0)
if os.getppid() != int(owner):
    sys.exit(1)
try:
    os.execv(argv[0], argv)
except OSError as error:
    sys.exit(f"{argv[0]}: {error.strerror}")
"""
"""What becomes the program on Linux: a signal when the thread ends that started it (PR_SET_PDEATHSIG is 1), which
survives execve(2). As a program of its own, since code between fork and exec is not safe beside threads."""
_log = logging.getLogger(__name__)


class ArcProcess:
    """A running program. Make one with `ArcProcess.start`, end it with `aclose`."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process, folder: RunFolder, http: int,
                 https: int, job: Job | None) -> None:  # fmt: skip
        self.program = program
        self.http_port = http
        """Control calls, plain HTTP."""
        self.https_port = https
        """Identity calls and the Kubernetes API, TLS."""
        self._process, self._folder, self._job = process, folder, job
        name = f"{program.path.name} {process.pid}"
        self._said = LastLines(process.stdout, LINES_KEPT, name, lambda line: _log.debug("%s: %s", name, line))
        self._closing = False

    @classmethod
    async def start(
        cls, program: Program, config: Mapping[str, Any], env: Mapping[str, str], *, label: str = "",
        state: Path | None = None, limit: float = START_LIMIT, tries: int = TRIES, debug: bool | None = None,
        tie: bool = True,
    ) -> ArcProcess:  # fmt: skip
        """Start it and wait until both its ports listen and are its own.

        `config` is the configuration (§2.3 of the vendor's contract) without `server`; `env` its whole environment
        (`child_environment`). `label` names the profile in the run's record. `limit` is seconds for one start; after a
        start that failed there are new ports, up to `tries`; one that only stays silent has had its time. `debug` (its
        `-d`) follows our own log's level when None. Untied, it is left to the next start when we are killed.

        Raises RouteError: JD-ARC-START (it ended, or cannot be run), JD-ARC-NO-ANSWER (it does not listen),
        JD-ARC-PORT (another program has the port); ProfileError for the state folder.
        """
        debug = _log.isEnabledFor(logging.DEBUG) if debug is None else debug
        for left in range(tries - 1, -1, -1):
            made = await cls._spawn(program, config, env, label, state, debug, tie)
            try:
                await made._listening(limit)
            except RouteError as error:
                await made.aclose()
                if not left or error.code == "JD-ARC-NO-ANSWER":
                    raise
                _log.info("%s; it is started again with other ports", error)
            except BaseException:
                await made.aclose()
                raise
            else:
                return made
        raise AssertionError("no try at all")

    @classmethod
    async def _spawn(
        cls, program: Program, config: Mapping[str, Any], env: Mapping[str, str], label: str, state: Path | None,
        debug: bool, tie: bool,
    ) -> ArcProcess:  # fmt: skip
        folder = await RunFolder.make_aside(program.path, label, state=state)
        process = None
        try:
            with PortPair() as ports:
                file = folder.path / "config.yml"
                await asyncio.to_thread(_write_config, file, config, ports.http, ports.https)
            argv = [str(program.path), "-c", str(file), *(["-d"] if debug else [])]
            process = await start_group(
                _tied(argv) if tie else argv, env={**env, MARK: folder.name}, cwd=folder.path,
                said=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            job = job_of(process.pid) if tie else None
            folder.record(process.pid, program.path, label)  # at once: whoever kills us now leaves a trace
        except BaseException as error:
            if process is not None:
                await end_group(process)
            folder.remove()
            if isinstance(error, OSError | ValueError):
                raise _cannot_run(program, error) from error
            raise
        return cls(program, process, folder, ports.http, ports.https, job)

    @property
    def pid(self) -> int:
        """The program's process."""
        return self._process.pid

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self._folder.path

    @property
    def lives(self) -> bool:
        """Whether it runs, as far as we have been told."""
        return self._process.returncode is None

    @property
    def last_lines(self) -> tuple[str, ...]:
        """What it said last, without credentials; the newest at the end."""
        return self._said.all

    async def wait_end(self) -> JumpdeckError:
        """Wait until the program ends by itself (or by a stranger's hand), and say how."""
        code = await self._process.wait()
        await self._said.read_up()
        return RouteError(
            f"The local Arc proxy has ended ({how_ended(code)})", self._last_words(),
            "It is started again. If it lasts, --verbose has the log say more.", code="JD-ARC-ENDED", layer=LAYER,
            recovery=Recovery.TRANSIENT,
        )  # fmt: skip

    async def check_owner(self, port: int) -> PeerOwner:
        """Whose program listens on a port of ours. Raises RouteError (JD-ARC-PORT) when it is another's.

        GONE when nobody listens, UNCHECKED where the system does not tell.
        """
        return await check_listener(port, self.pid, "the local Arc proxy")

    async def aclose(self, *, grace: float = GRACE) -> None:
        """End the program and its group: asked first, killed after `grace` seconds; remove its folder.

        Whoever is cancelled meanwhile is so after the end.
        """
        if self._closing:
            return
        self._closing = True
        try:
            await end_group(self._process, grace=grace)
        finally:
            self._said.close()
            if self._job is not None:
                self._job.close()
            self._folder.remove()

    async def _listening(self, limit: float) -> None:
        """Wait until both ports listen and belong to it."""
        ended = spawn(self._process.wait(), name=f"wait for {self.program.path.name} {self.pid}")
        try:
            async with asyncio.timeout(limit):
                waiting = {self.http_port, self.https_port}
                while waiting:
                    for port in tuple(waiting):
                        if (await self.check_owner(port)).served:
                            waiting.discard(port)
                    if ended.done():
                        await self._said.read_up()
                        raise self._did_not_start(ended.result())
                    if waiting:
                        await asyncio.wait({ended}, timeout=_LOOK_AGAIN)
        except TimeoutError:
            raise RouteError(
                "The local Arc proxy does not answer", f"{shown(self.program.path)}: nothing listens after {limit:g} s"
                f"{self._last_words('; last line: ')}",
                "A virus scanner may hold it back. Try again, or start it by hand to see what it says.",
                code="JD-ARC-NO-ANSWER", layer=LAYER, recovery=Recovery.TRANSIENT,
            ) from None  # fmt: skip
        finally:
            ended.cancel()

    def _did_not_start(self, code: int) -> RouteError:
        return RouteError(
            f"The local Arc proxy could not start ({how_ended(code)})",
            f"{shown(self.program.path)}{self._last_words('; last line: ')}",
            "If the program is damaged or of another computer's kind, remove it and have it downloaded again.",
            code="JD-ARC-START", layer=LAYER, recovery=Recovery.TRANSIENT,
        )  # fmt: skip

    def _last_words(self, before: str = "last line: ") -> str:
        return f"{before}{prose(self._said.last, 300)}" if self._said.last else ""


def _tied(argv: list[str]) -> list[str]:
    if sys.platform != "linux" or not sys.executable:
        return argv
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), str(int(signal.SIGTERM)), *argv]


def _write_config(file: Path, config: Mapping[str, Any], http: int, https: int) -> None:
    import yaml

    told = {"server": {"httpPort": http, "httpsPort": https}, **config}
    write_private(file, yaml.safe_dump(told, sort_keys=False).encode())


def _cannot_run(program: Program, error: Exception) -> RouteError:
    why = clean(getattr(error, "strerror", None) or str(error))
    return RouteError(
        "The local Arc proxy cannot be run", f"{shown(program.path)}: {why}",
        "Check that it is of this computer's kind, and that running it is allowed here.", code="JD-ARC-START",
        layer=LAYER,
    )  # fmt: skip
