"""What all commands share: signals, the session they open, prompts, and how they speak on standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from app.errors import ExitCode, JumpdeckError, RouteError

if TYPE_CHECKING:
    import argparse
    import asyncio

    from app.asking import Asker
    from app.profiles.model import Profile
    from app.rows import SessionState
    from app.sessions.supervisor import Session

CONNECT_LIMIT = 30.0
"""Seconds within which a route must have come up, where --connect-timeout does not say otherwise."""
REFUSED_TRIES = 3
"""Refused connections after which a command whose route was never UP gives up."""
_REFUSED = ("JD-TCP-REFUSED", "JD-SSH-NO-SERVER", "JD-SSH-TARGET", "JD-ARC-START", "JD-ARC-PORT", "JD-ARC-KEY",
            "JD-ARC-ENDED", "JD-ARC-REFUSED", "JD-ARC-AGENT", "JD-ARC-RELAY", "JD-ARC-PROXY",
            "JD-ARC-AZ-ENDED", "JD-ARM-CLOSED", "JD-SIGN-IN-NO-SERVER")  # fmt: skip
"""What is said at once and again at every try: nobody listens, or the program of a connected cluster fails."""


def say(text: str) -> None:
    """A line on standard error."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def say_error(error: JumpdeckError) -> None:
    """What, why and what to do, a line each."""
    from app.program_log import log_error

    first, *rest = error.lines()
    say(f"jumpdeck: {first}")
    for line in rest:
        say(f"  {line}")
    log_error(error)


def say_crash(error: Exception) -> None:
    """A defect of ours: one line, no traceback, no values; the log file has the places."""
    from app.program_log import log_crash

    where = log_crash(error)
    say(f"jumpdeck: Jumpdeck failed: {type(error).__name__} [JD-INTERNAL]")
    say("  This is a defect of Jumpdeck, not of your cluster.")
    say(f"  Where it happened is in {where}." if where else "  Run it again with --verbose for the place.")


def stderr_is_tty() -> bool:
    """Whether progress may be shown."""
    return sys.stderr.isatty()


def run_async(main: Coroutine[Any, Any, int]) -> int:
    """Run a command's coroutine; SIGINT, SIGTERM and SIGHUP cancel it, so that everything closes in order.

    Returns its exit code, or 130 (SIGINT), 143 (SIGTERM, SIGHUP) when a signal ended it.
    """
    watched = _with_signals(main)
    try:
        import asyncio

        return asyncio.run(watched)
    finally:  # ctrl+c may come before the loop has taken them; nothing is left to close of one that ran
        watched.close()
        main.close()


async def _with_signals(main: Coroutine[Any, Any, int]) -> int:
    import asyncio

    from app.tasks import spawn

    task = spawn(main, name="command")
    got: list[int] = []

    def end(number: int) -> None:
        got.append(number)
        task.cancel()

    remove = _on_signals(end)
    try:
        return await task
    except asyncio.CancelledError:
        if not got:
            raise
        import signal

        return int(ExitCode.INTERRUPTED if got[0] == signal.SIGINT else ExitCode.TERMINATED)
    finally:
        remove()


def _on_signals(react: Callable[[int], object]) -> Callable[[], None]:
    """Call `react(number)` in the loop on the signals that end us; returns how to end that."""
    import asyncio
    import signal

    loop = asyncio.get_running_loop()
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if sys.platform == "win32":  # the proactor loop takes no handlers; plain ones hop into the loop
        old = {number: signal.signal(number, lambda n, _: loop.call_soon_threadsafe(react, n)) for number in numbers}

        def restore() -> None:
            for number, handler in old.items():
                signal.signal(number, handler)

        return restore
    for number in numbers:
        loop.add_signal_handler(number, react, number)

    def remove() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    return remove


def controlling_terminal() -> str | None:
    """The device that prompts go to, or None when this process has no terminal."""
    device = "CONIN$" if sys.platform == "win32" else "/dev/tty"
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError:
        return None
    return device


def asker_for(args: argparse.Namespace) -> Asker | None:
    """Who answers prompts: the controlling terminal, or nobody (`--no-input`, no terminal)."""
    if getattr(args, "no_input", False) or controlling_terminal() is None:
        return None
    from app.cli.prompts import TerminalAsker

    return TerminalAsker()


@asynccontextmanager
async def open_profile_session(
    name: str, args: argparse.Namespace, *, asker: Asker | None = None, lasting: bool = False
) -> AsyncIterator[Session]:
    """The session of a profile, UP. Raises what kept it from coming up (with its exit code); closes it at the end.

    `asker` stands in place of the terminal. `lasting`: the command goes on for ever; where somebody can be asked, a
    sign-in that ends later is waited for.
    """
    from app.profiles.store import load
    from app.sessions.route import RouteGround
    from app.sessions.supervisor import Sessions

    book = load()
    for line in getattr(book, "notices", ()):
        say(f"jumpdeck: {line}")
    asker = asker or asker_for(args)
    await _end_orphans(book.get(name))
    ground = RouteGround(asker, justification=getattr(args, "justification", ""))
    async with Sessions(book, asker=asker, ground=ground) as sessions:
        session = sessions.open(name)
        await wait_first_up(session, *_limits(session.profile, getattr(args, "connect_timeout", None)))
        for warning in session.state.warnings:
            say(f"jumpdeck: warning: {warning}")
        if not lasting or asker is None:
            yield session
            return
        from app.cli.prompts import TerminalAsker
        from app.cli.signed_in import kept_signed_in

        session.patient = True
        async with kept_signed_in(session, ground, asker if isinstance(asker, TerminalAsker) else None):
            yield session


async def _end_orphans(profile: Profile) -> None:
    """Before the program of a connected cluster is started, those that outlived an earlier run of ours are ended."""
    import asyncio

    from app.profiles.model import ArcCluster

    if not isinstance(profile.cluster, ArcCluster):
        return
    from app.arc.consent import end_orphans
    from app.arc.run_records import find_orphans

    found = await asyncio.to_thread(find_orphans)
    if not found:
        return
    for error in await end_orphans(found):
        say_error(error)
    what = "a program" if len(found) == 1 else f"{len(found)} programs"
    say(f"jumpdeck: {what} of an earlier run still served and was ended: {', '.join(map(str, found))}")


def _limits(profile: Profile, asked: float | None) -> tuple[float, Mapping[str, float]]:
    """Seconds to open a route, and how many more its slow steps have, by label. What was asked for holds."""
    from app.profiles.model import ArcCluster

    if asked is not None:
        return asked, {}
    if isinstance(profile.cluster, ArcCluster):
        from app.arc.steps import PATIENCE

        return CONNECT_LIMIT, PATIENCE
    if not any(getattr(hop, "jit", None) for hop in profile.via):
        return CONNECT_LIMIT, {}
    from app.routes.jit import OPEN_LIMIT

    return CONNECT_LIMIT + OPEN_LIMIT, {}


async def wait_first_up(session: Session, limit: float, patience: Mapping[str, float] | None = None) -> None:
    """Wait until a session has come up, at most `limit` seconds, in which the time to answer questions does not count.

    Neither does that of the steps in `patience` (by label), up to the seconds there. Raises what kept it from coming
    up.
    """
    import asyncio

    from app.rows import SessionPhase
    from app.sessions.states import STUCK, is_asking

    progress = _Progress() if stderr_is_tty() else None
    last: JumpdeckError | None = None
    left = dict(patience or {})
    try:
        async with asyncio.timeout(limit) as clock:
            while (state := session.state).phase is not SessionPhase.UP:
                if is_asking(state):
                    if progress:
                        progress.clear()
                    await _stop_clock(clock, session, is_asking)
                    continue
                last = state.error or last
                if last and (state.phase in STUCK or (last.code in _REFUSED and state.tries >= REFUSED_TRIES)):
                    raise last
                if progress:
                    progress.show(state)
                if (step := _running(state)) and left.get(step, 0.0) > 0.0:
                    left[step] -= await _stop_clock(clock, session, lambda new: _running(new) == step, left[step])
                    continue
                await session.changed()
    except TimeoutError:
        if last is not None:
            raise last from None
        step = session.state.steps[-1].label if session.state.steps else "none"
        way = session.state.route
        passed = f", on the way {' ▸ '.join(way)}" if len(way) > 2 else ""
        raise RouteError(
            f"{session.profile.name} did not come up",
            f"no answer within {limit:g} s; last step: {step}{passed}",
            "Check the network, or wait longer with --connect-timeout.",
            code="JD-ROUTE-TIMEOUT",
        ) from None
    finally:
        if progress:
            progress.clear()


def _running(state: SessionState) -> str:
    """The innermost step that runs; empty when none does."""
    from app.rows import StepState

    return next((step.label for step in reversed(state.steps) if step.state is StepState.RUNNING), "")


async def _stop_clock(
    clock: asyncio.Timeout, session: Session, rests: Callable[[SessionState], bool], most: float | None = None
) -> float:
    """A time limit rests while the session is so, at most for `most` seconds; returns how long it did."""
    import asyncio

    loop = asyncio.get_running_loop()
    began, end = loop.time(), clock.when()
    left = None if end is None else end - began
    clock.reschedule(None if most is None else began + most + (left or 0.0))
    while rests(session.state):
        await session.changed()
    clock.reschedule(None if left is None else loop.time() + left)
    return loop.time() - began


class WaitingLine:
    """One line of a terminal's standard error that is written over."""

    def __init__(self) -> None:
        self._shown = False

    def __call__(self, text: str) -> None:
        """Show it, cleaned text; nothing is waited for any more when it is empty."""
        if not text:
            self.clear()
            return
        self._shown = True
        sys.stderr.write(f"\r\x1b[K{text} …")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class _Progress:
    """Says on a terminal which step is running; nothing for what is quick."""

    PATIENCE = 0.7
    """Seconds before anything is shown, so that the usual case stays silent."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._line = WaitingLine()

    def show(self, state: SessionState) -> None:
        if time.monotonic() - self._began < self.PATIENCE or not state.steps:
            return
        what = f"{state.profile}: {state.steps[-1].label}"
        if state.error:
            what += f": {state.error.title}"
        self._line(what)

    def clear(self) -> None:
        self._line.clear()
