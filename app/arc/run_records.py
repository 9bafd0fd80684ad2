"""What runs for us, written down, so that a later start finds what outlived a console that was killed.

Every run has a folder `run/arc-…` of its own (0700) in the state folder: the program's configuration and `run.json`,
both 0600. The record names the program's process and ours by number and start time. On Linux the program also carries
the run's random name in its environment, which finds it when the record came too late, and its children with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
import time
from pathlib import Path

from app.arc.processes import (
    Known,
    end,
    image_of,
    known,
    lives,
    marked,
    may_live,
    place,
    program_name,
    session_of,
    wait_gone,
)
from app.arc.program import LAYER
from app.errors import JumpdeckError, ProfileError
from app.files import private_dir, read_private, shown, write_private
from app.folders import state_dir
from app.process_group import KILL_LIMIT
from app.records import Record
from app.tasks import spawn, to_its_end
from app.text import clean

GRACE = 4.0
"""Seconds that a program has to end by itself once it was asked to."""
_RECORD = "run.json"
_RECORD_LIMIT = 16 << 10
_PREFIX = "arc-"
_PROGRAM = "arcProxy"
"""How the name of the vendor's program begins."""
_COMM = 15
"""Bytes of a program's name that the kernel keeps (proc(5), comm)."""
_UNTOLD_LIMIT = 3600.0
"""Seconds after which a folder without a record is nobody's: it is written within milliseconds."""


class RunFolder:
    """The folder of one run. All methods block for a moment."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Its random name: the value of `processes.MARK` in the program's environment."""
        return self.path.name

    @classmethod
    def make(cls, program: Path, label: str = "", *, state: Path | None = None) -> RunFolder:
        """A new one, with a record that `program` is about to run for `label` (a profile). Raises ProfileError."""
        parent = private_dir(_runs(state))
        folder = cls(parent / f"{_PREFIX}{secrets.token_hex(12)}")
        try:
            os.mkdir(folder.path, 0o700)
            folder._write(program, label, None)
        except OSError as error:
            folder.remove()
            raise ProfileError(
                f"Cannot make the folder {shown(folder.path)}", clean(error.strerror or str(error)),
                "Free space, or correct the folder's permissions.", code="JD-PROFILE-FOLDER",
            ) from error  # fmt: skip
        except BaseException:
            folder.remove()
            raise
        return folder

    @classmethod
    async def make_aside(cls, program: Path, label: str = "", *, state: Path | None = None) -> RunFolder:
        """As `make`, in a thread. Whoever is cancelled meanwhile is so once it has been removed again."""
        making = spawn(asyncio.to_thread(cls.make, program, label, state=state), name="make a run folder")
        try:
            return await to_its_end(making)
        except asyncio.CancelledError:
            if not making.cancelled() and making.exception() is None:
                making.result().remove()
            raise

    def record(self, pid: int, program: Path, label: str = "") -> None:
        """Write down the process that was started. Raises ProfileError."""
        self._write(program, label, known(pid))

    def _write(self, program: Path, label: str, process: Known | None) -> None:
        me = known(os.getpid())
        told = {
            "version": 1, "place": place(), "program": str(program), "label": label,
            "owner": [os.getpid(), me.started if me else ""],
            "process": [process.pid, process.started] if process else None,
        }  # fmt: skip
        write_private(self.path / _RECORD, json.dumps(told).encode())

    def remove(self) -> None:
        """Remove it with all that is in it; what cannot be removed stays for the next start."""
        shutil.rmtree(self.path, ignore_errors=True)


class Orphan(Record):
    """A program of an earlier run whose owner has gone: it still serves with live credentials."""

    folder: Path
    program: Path
    label: str
    """The profile that it was started for."""
    processes: tuple[Known, ...]
    """The program first."""
    root: int = 0
    """The number of the process that leads, or led, their session."""

    @property
    def pid(self) -> int:
        """The program's number."""
        return self.processes[0].pid

    def __str__(self) -> str:
        profile = f" of {clean(self.label)}" if self.label else ""
        return f"{clean(self.program.name)}{profile} (process {self.pid})"


def find_orphans(*, state: Path | None = None) -> tuple[Orphan, ...]:
    """Programs of ours whose owner has ended. Blocks for some milliseconds.

    Folders of runs whose owner and program have both ended are removed. Nothing is taken for ours by its name alone: it
    must have the recorded number and start time, or the run's random name in its environment.
    """
    try:
        folders = sorted(path for path in _runs(state).iterdir() if path.name.startswith(_PREFIX))
    except OSError:
        return ()
    if not folders:
        return ()
    here, by_mark, found = place(), marked(), []
    for path in folders:
        run = _read(path)
        if run is None:
            if path.name not in by_mark and _abandoned(path):
                RunFolder(path).remove()
            continue
        if run.place != here or may_live(run.owner):
            continue
        first = run.process
        carrying = by_mark.get(path.name, [])
        root = _root(first, carrying)
        living = [first] if first is not None and lives(first) and _is_program(first, run.program) else []
        living += [process for process in carrying if process not in living and _belongs(process, root, run.program)]
        if living:
            found.append(Orphan(path, run.program, run.label, tuple(living), root))
        else:
            _remove(path)
    return tuple(found)


async def end_orphan(orphan: Orphan, *, grace: float = GRACE) -> None:
    """End it: asked first, after `grace` seconds killed; then its folder is removed.

    Raises JumpdeckError (JD-ARC-ORPHAN) when it outlives that too.
    """
    await asyncio.to_thread(_end, orphan, grace)


def _end(orphan: Orphan, grace: float) -> None:
    asked = [process for process in orphan.processes if end(process, ask=True)]
    for process in asked:
        if not wait_gone(process, grace):
            end(process, ask=False)
    # A child that was born meanwhile carries the mark, too.
    for process in marked().get(orphan.folder.name, ()):
        if _belongs(process, orphan.root, orphan.program):
            end(process, ask=False)
    if left := [process.pid for process in asked if not wait_gone(process, KILL_LIMIT)]:
        raise JumpdeckError(
            "A program of an earlier run does not end", f"{orphan}: process {', '.join(map(str, left))}",
            "End it by hand, or restart the computer.", code="JD-ARC-ORPHAN", layer=LAYER,
        )  # fmt: skip
    _remove(orphan.folder)


def _remove(folder: Path) -> None:
    """Remove the folder of a run that has ended, once what it borrowed has come back."""
    from app.arc.az_shared import put_back_kept

    put_back_kept(folder)
    RunFolder(folder).remove()


def _root(first: Known | None, carrying: list[Known]) -> int:
    """The number of the process that leads a run's session; the oldest that carries its mark when none is recorded."""
    if first is not None:
        return first.pid
    return min(carrying, key=lambda process: (len(process.started), process.started)).pid if carrying else 0


def _belongs(process: Known, root: int, program: Path) -> bool:
    """Whether a process that carries a run's mark is the run's own, and no browser that az has opened for a person.

    What is opened for a person gets a session of its own. A program that left the session is known by its name.
    """
    name = program_name(process.pid)
    return session_of(process.pid) == root or name.startswith(_PROGRAM) or name == program.name[:_COMM]


def _is_program(process: Known, program: Path) -> bool:
    """Whether a process runs the recorded file, where the system names that one and not a script's interpreter."""
    image = image_of(process.pid) if sys.platform == "win32" else ""
    return not image or Path(image).name.casefold() == program.name.casefold()


def _runs(state: Path | None) -> Path:
    return (state or state_dir()) / "run"


class _Run(Record):
    """A record as it was read."""

    place: str
    program: Path
    label: str
    owner: Known
    process: Known | None


def _read(path: Path) -> _Run | None:
    """The record of a run folder; None when there is none that can be understood."""
    with contextlib.suppress(JumpdeckError, ValueError, TypeError, KeyError, RecursionError):
        told = json.loads(read_private(path / _RECORD, limit=_RECORD_LIMIT, what="run record"))
        process = told["process"]
        return _Run(str(told["place"]), Path(told["program"]), str(told["label"]), _known(told["owner"]),
                    None if process is None else _known(process))  # fmt: skip
    return None


def _known(told: list[object]) -> Known:
    pid, started = map(str, told)
    return Known(int(pid), started)


def _abandoned(path: Path) -> bool:
    """Whether a folder without a readable record has lain long enough that nobody is about to write one."""
    try:
        return time.time() - path.stat().st_mtime > _UNTOLD_LIMIT
    except OSError:
        return False
