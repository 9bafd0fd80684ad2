"""What a program may leave behind, and a look for it: processes, temporary files, listening ports (Linux)."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path

from tests.running import processes_with

LIMIT = 40.0
"""Seconds until every process has ended; the slowest is given four by us before it is killed."""


class Temp:
    """A folder for temporary files and a mark in the environment, both of one test alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"JUMPDECK_TEST_MARK={folder.name}"

    @property
    def environment(self) -> dict[str, str]:
        name, value = self.mark.split("=")
        return {"TMPDIR": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder), name: value}

    async def all_gone(self) -> None:
        """Wait for the end of every process that inherited our mark."""
        async with asyncio.timeout(LIMIT):
            for pid in processes_with(self.mark):
                await asyncio.to_thread(_wait_for_end, pid)

    def left(self) -> list[str]:
        return [str(path) for path in self.folder.rglob("*") if not path.is_dir()]


def lasting(variable: str) -> list[int]:
    """Processes with this in their environment (`NAME=value`) that go on; who has been killed has time to be gone."""
    for pid in processes_with(variable):
        _wait_for_end(pid)
    return processes_with(variable)


def listening(pid: int) -> set[str]:
    """Local addresses, as /proc writes them, at which the process listens for TCP connections."""
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(os.readlink(descriptor))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, address, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in held:
                found.add(address)
    return found


def _wait_for_end(pid: int) -> None:
    """Return when a process that need not be our child has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([handle], [], [], LIMIT)
    finally:
        os.close(handle)
