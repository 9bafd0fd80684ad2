"""The program that `jumpdeck exec` runs: started, awaited, and ended when we end.

A thread waits for it with `Popen.wait`. asyncio's own children are not used: before Python 3.12 sending them a signal
may take their exit status away from the thread that waits for it, and 255 would be reported.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

HANGUP_PATIENCE = 3.0
"""Seconds that a program has after its terminal went before it is asked to end, and as many again until it is ended."""
_PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the signal that a process gets when the thread that made it ends."""


def start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the program with our input and output; call it in the main thread. Raises OSError.

    On Linux it gets SIGHUP (SIGTERM under nohup) when we are killed; elsewhere it then goes on.
    """
    return subprocess.Popen(command, env=environment, preexec_fn=_end_with_us())  # noqa: S603 (what the user asked for)


def _end_with_us() -> Callable[[], None] | None:
    """What a new process does before it becomes the program; looked up here, as it runs between fork and exec."""
    if sys.platform != "linux":
        return None
    import ctypes
    import signal

    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup
    number = int(signal.SIGTERM if deaf else signal.SIGHUP)
    us, getppid, kill, getpid = os.getpid(), os.getppid, os.kill, os.getpid

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if getppid() != us:  # we ended before it was asked
            kill(getpid(), number)

    return ask


async def wait_end(process: subprocess.Popen[bytes]) -> int:
    """The program's return code (negative: the signal that ended it)."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def set_code(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    def wait() -> None:
        code = process.wait()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(set_code, code)

    threading.Thread(target=wait, name="child", daemon=True).start()
    return int(await ended)


def end_with_terminal(loop: asyncio.AbstractEventLoop, process: subprocess.Popen[bytes]) -> None:
    """A program that outlives its terminal is asked to end, then ended: what it was lent goes with us."""
    loop.call_later(HANGUP_PATIENCE, process.terminate)
    loop.call_later(2 * HANGUP_PATIENCE, process.kill)
