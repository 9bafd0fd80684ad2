"""`jumpdeck demo`: the console over the lab, or the same tour as text where there is no terminal."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import JumpdeckError

if TYPE_CHECKING:
    from app.rows import PodRow
    from app.sessions.supervisor import Session

LAB_END_LIMIT = 5.0
"""Seconds that the lab gets to put its folder away before it is killed."""
TOUR_LINES = 10
"""Log lines of each profile in the text tour."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--ascii", action="store_true", help="draw with plain characters only")


def run(args: argparse.Namespace) -> int:
    """Start a lab of our own and show it."""
    on_screen = sys.stdin.isatty() and sys.stdout.isatty()
    with _running_lab(import_console=on_screen) as folder:
        os.environ["JUMPDECK_CONFIG_DIR"] = str(folder)
        os.environ["JUMPDECK_STATE_DIR"] = str(folder / "state")
        if on_screen:
            from app.console import run_console

            return run_console("lab-direct", ascii=args.ascii, demo=True)
        from app.cli.frame import run_async

        return run_async(_tour())


@contextmanager
def _running_lab(*, import_console: bool) -> Iterator[Path]:
    """A lab in a process of its own, so that it cannot hold up the screen.

    It ends when its standard input closes, so it cannot outlive us, even when we are killed.
    """
    command = [sys.executable, "-m", "jumpdeck", "lab", "--until-stdin-closes"]
    lab = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603
    assert lab.stdin is not None
    assert lab.stdout is not None
    try:
        if import_console:  # while the lab starts on the other core
            import app.console  # noqa: F401
        words = dict(word.partition("=")[::2] for word in lab.stdout.readline().decode().split())
        if "JUMPDECK_CONFIG_DIR" not in words:
            said = lab.communicate(timeout=LAB_END_LIMIT)[1].decode("utf-8", "replace")
            raise JumpdeckError("The lab did not start", said.strip()[-500:], code="JD-LAB-START")
        yield Path(words["JUMPDECK_CONFIG_DIR"])
    finally:
        lab.stdin.close()
        try:
            lab.wait(LAB_END_LIMIT)
        except subprocess.TimeoutExpired:
            lab.kill()
            lab.wait()
        lab.stdout.close()
        if lab.stderr:
            lab.stderr.close()


async def _tour() -> int:
    from app.profiles.store import load
    from app.sessions.supervisor import Sessions

    book = load()
    async with Sessions(book) as sessions:
        opening = [(name, sessions.open(name)) for name in book.profiles]  # all at once; shown one after the other
        for name, session in opening:
            await _visit(session, name)
    return 0


async def _visit(session: Session, name: str) -> None:
    """Wait for one profile's session, print its pods and ten lines of a log."""
    import asyncio
    import time

    from app.cli.frame import wait_first_up
    from app.cli.pods import Columns, RowLines

    await wait_first_up(session, 30.0)
    state = session.state
    version = f"  Kubernetes {state.server_version}" if state.server_version else ""
    _print(f"── {name}: {' ─▸ '.join(state.route)}  UP{version}")
    async with asyncio.timeout(30.0):
        pods = await _pods(session)
    rows = RowLines(wide=False, namespaced=True)
    _print(Columns(rows.headers).text(rows.lines(pods, time.time())).rstrip("\n"))
    _print(f"── logs of default/clock-0, the last {TOUR_LINES} lines")
    async with asyncio.timeout(30.0):
        await _print_log(session)
    _print("")


async def _pods(session: Session) -> Sequence[PodRow]:
    """The pods of all namespaces; by command invoke where there is no API server to ask."""
    from app.cluster.invoke import InvokeReader
    from app.cluster.pods import PodScope, list_pods

    if isinstance(session.reader, InvokeReader):
        return await session.reader.list_pods(PodScope())
    assert session.api is not None
    return (await list_pods(session.api, PodScope())).rows


async def _print_log(session: Session) -> None:
    from app.cluster.log_follow import LogRequest
    from app.rows import LogBatch
    from app.text import clean_line

    async def deliver(batch: LogBatch) -> None:
        for line in batch.text.splitlines():
            _print(clean_line(line.split(b" ", 1)[-1] if batch.stamped else line))

    request = LogRequest("default", "clock-0", "clock", follow=False, tail=TOUR_LINES)
    await session.reader.log(request).run(deliver)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
