"""Whose program listens on a port that a program of ours was to have: nothing is sent to another one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from app.arc.ports import HOST
from app.arc.processes import group_of, image_of, marked
from app.arc.program import LAYER
from app.errors import Recovery, RouteError
from app.socket_owner import PeerOwner, Verdict, owner_of_listener
from app.text import clean


async def check_listener(port: int, pid: int, whose: str, *, run: str = "", image: str = "") -> PeerOwner:
    """Look whether process `pid`, or one of its group, listens. Raises RouteError (JD-ARC-PORT) for another's program.

    `run` is a run whose processes count wherever they are (Linux); `image` the beginning of a file name that counts on
    Windows, where groups are not told. GONE when nobody listens, UNCHECKED where the system does not tell.
    """
    found = await asyncio.to_thread(_owner, port, pid, run)
    if found.verdict is not Verdict.FOREIGN or (image and sys.platform == "win32" and _runs(found.who, image)):
        return found
    raise RouteError(
        f"Another program listens on port {port} of {whose}", f"{HOST}:{port}: {clean(found.who or 'another process')}",
        "Nothing was sent to it. New ports are taken at the next try; if it lasts, look what that process is.",
        code="JD-ARC-PORT", layer=LAYER, recovery=Recovery.TRANSIENT,
    )  # fmt: skip


def _owner(port: int, pid: int, run: str) -> PeerOwner:
    found = owner_of_listener(port, (pid,))
    if found.verdict is Verdict.FOREIGN:  # it may have handed the socket to a child
        found = owner_of_listener(port, group_of(pid))
    if found.verdict is Verdict.FOREIGN and run:  # which may have left the group
        found = owner_of_listener(port, [process.pid for process in marked().get(run, ())])
    return found


def _runs(who: str, image: str) -> bool:
    """Whether `process 312` runs a file whose name begins so."""
    _, _, pid = who.partition("process ")
    number = pid.split()[0] if pid else ""
    return number.isdigit() and Path(image_of(int(number))).name.lower().startswith(image.lower())
