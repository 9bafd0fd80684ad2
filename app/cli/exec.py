"""`jumpdeck exec PROFILE -- COMMAND…`: run kubectl, helm or k9s with a temporary kubeconfig that holds no secret."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from app.profiles.model import Profile

_FLAGS = ("--write", "--no-input")


def configure(parser: argparse.ArgumentParser) -> None:
    from app.cli.arguments import add_connection_flags

    parser.add_argument("--write", action="store_true", help="confirm that a program may change a production cluster")
    add_connection_flags(parser)
    parser.add_argument("profile", metavar="PROFILE")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="the program and its arguments")


def run(args: argparse.Namespace) -> int:
    """Run the program; its exit code is ours. Raises JumpdeckError before it starts, never after."""
    import asyncio

    from app.cli.lent_route import guard
    from app.errors import UsageError
    from app.profiles.store import load
    from app.sessions.invoke import by_invoke

    command = _own_flags(args)
    if not command:
        raise UsageError("No command to run", "nothing stands after the profile",
                         "For example: jumpdeck exec staging -- kubectl get pods", code="JD-USAGE-COMMAND")  # fmt: skip
    profile = load().get(args.profile)
    if by_invoke(profile):
        from app.cli import invoke_exec

        return invoke_exec.run(profile, command, args)
    program = _find(command[0])
    guard(profile, command[0], write=args.write, may_ask=not args.no_input)
    return asyncio.run(_run(profile, [program, *command[1:]], args))


def _own_flags(args: argparse.Namespace) -> list[str]:
    """Take our flags that were given between PROFILE and `--`; returns the program and its arguments."""
    command = list(args.command)
    while command:
        name, equals, value = command[0].partition("=")
        if command[0] in _FLAGS:
            setattr(args, command.pop(0)[2:].replace("-", "_"), True)
        elif name == "--connect-timeout" and (equals or len(command) > 1):
            args.connect_timeout = _seconds(value if equals else command.pop(1))
            del command[0]
        elif name == "--justification" and (equals or len(command) > 1):
            args.justification = value if equals else command.pop(1)
            del command[0]
        else:
            break
    return command[1:] if command[:1] == ["--"] else command


def _seconds(text: str) -> float:
    from app.cli.arguments import seconds
    from app.errors import UsageError
    from app.text import clean

    try:
        return seconds(text)
    except argparse.ArgumentTypeError as exc:
        raise UsageError("The command line is not understood", clean(f"--connect-timeout: {exc}"),
                         "See `jumpdeck exec --help`.", code="JD-USAGE-ARGUMENTS") from exc  # fmt: skip


def _find(name: str) -> str:
    import shutil

    from app.errors import JumpdeckError
    from app.text import clean

    found = shutil.which(name)
    if found is None:
        raise JumpdeckError(f"{clean(name)} is not there", "no such program on PATH", "Install it, or give its path.",
                            code="JD-EXEC-COMMAND")  # fmt: skip
    return found


async def _run(profile: Profile, command: list[str], args: argparse.Namespace) -> int:
    from app.tasks import spawn

    signals = _Signals()
    work = spawn(_lend_and_run(profile, command, args, signals), name="exec")
    restore = signals.install(work)
    try:
        return await work
    finally:
        restore()


async def _lend_and_run(profile: Profile, command: list[str], args: argparse.Namespace, signals: _Signals) -> int:
    import asyncio
    from contextlib import AsyncExitStack

    from app.cli.frame import asker_for, open_profile_session
    from app.cli.lent_route import LeavingAsker, lent_route, needs_listener, said_when_lost
    from app.routes.listener import listening_socket

    person = asker_for(args)
    asker = LeavingAsker(person) if person is not None else None
    try:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(
                open_profile_session(profile.name, args, asker=asker, lasting=True)
            )
            waits, session.patient = session.patient, False  # the program is told at once, and tries again by itself
            sock = await listening_socket() if needs_listener(profile) else None
            lent = await stack.enter_async_context(lent_route(session, sock))
            if asker is not None:
                asker.leave()
            await stack.enter_async_context(said_when_lost(session, waits=waits))
            return await _child(command, lent.kubeconfig, signals)
    except asyncio.CancelledError:
        if signals.got is None:
            raise
        return 128 + signals.got


async def _child(command: list[str], kubeconfig: Path, signals: _Signals) -> int:
    """The program with our input and output, until it ends."""
    import os

    from app.cli.child import start, wait_end
    from app.errors import JumpdeckError
    from app.text import prose

    try:
        process = start(command, {**os.environ, "KUBECONFIG": str(kubeconfig)})
    except OSError as exc:
        detail = prose(f"{command[0]}: {exc.strerror}")
        raise JumpdeckError("The program cannot be started", detail, "Is it a program for this computer?",
                            code="JD-EXEC-COMMAND") from exc  # fmt: skip
    signals.process = process
    code = await wait_end(process)
    return 128 - code if code < 0 else code


class _Signals:
    """Signals to us end the preparation, and are passed on to the program once it runs.

    What the terminal sends (interrupt, quit) reaches the program by itself: that is only survived here.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.got: int | None = None

    def install(self, work: asyncio.Task[int]) -> Callable[[], None]:
        """Begin to listen; returns how to end that."""
        import asyncio
        import signal
        import sys
        from functools import partial

        loop = asyncio.get_running_loop()
        if sys.platform == "win32":  # the console tells every program on it
            old = signal.signal(signal.SIGINT, lambda number, _: self._take(number, work, passing=False))

            def put_back() -> None:
                signal.signal(signal.SIGINT, old)

            return put_back
        numbers = [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: we and the program go on without a terminal
            numbers.append(signal.SIGHUP)
        by_terminal = (signal.SIGINT, signal.SIGQUIT) if sys.stdin is not None and sys.stdin.isatty() else ()
        for number in numbers:
            loop.add_signal_handler(number, partial(self._take, number, work, passing=number not in by_terminal))

        def restore() -> None:
            for number in numbers:
                loop.remove_signal_handler(number)

        return restore

    def _take(self, number: int, work: asyncio.Task[int], *, passing: bool) -> None:
        import signal

        if self.process is None:
            self.got = number
            work.get_loop().call_soon_threadsafe(work.cancel)
            return
        from app.cli.child import end_with_terminal

        if passing:
            self.process.send_signal(number)  # nothing is sent once its end was seen
        if number == getattr(signal, "SIGHUP", None):
            end_with_terminal(work.get_loop(), self.process)
