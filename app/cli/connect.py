"""`jumpdeck connect PROFILE`: hold a route open for other programs, with a kubeconfig that holds no secret."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.cli.lent_route import Lent
    from app.profiles.model import Profile
    from app.rows import SessionState
    from app.sessions.session import Session


def configure(parser: argparse.ArgumentParser) -> None:
    from app.cli.arguments import add_connection_flags

    parser.add_argument("--port", type=_port, default=0, metavar="N", help="listen on this port (default: a free one)")
    parser.add_argument("--write", action="store_true", help="confirm that programs may change a production cluster")
    add_connection_flags(parser)
    parser.add_argument("profile", metavar="PROFILE")


def _port(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"`{text}` is not a port: 1 to 65535, or 0 for a free one")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Hold the route until interrupted. Raises JumpdeckError when it does not come up, or is lost for good."""
    from app.cli.frame import run_async
    from app.cli.lent_route import guard
    from app.profiles.store import load

    profile = load().get(args.profile)
    _check_path(profile)
    guard(profile, "a program with this kubeconfig", write=args.write, may_ask=not args.no_input)
    return run_async(_hold(profile, args))


def _check_path(profile: Profile) -> None:
    from app.errors import UsageError
    from app.sessions.invoke import by_invoke

    if by_invoke(profile):
        raise UsageError(
            f"{profile.name} has nothing to connect to", "command invoke has no network path that a program could use",
            f"Run single commands: jumpdeck exec {profile.name} -- kubectl …", code="JD-INVOKE-NO-STREAM",
        )  # fmt: skip


async def _hold(profile: Profile, args: argparse.Namespace) -> int:
    from contextlib import AsyncExitStack

    from app.cli.frame import open_profile_session, say
    from app.cli.lent_route import lent_route, needs_listener
    from app.routes.listener import listening_socket

    async with AsyncExitStack() as stack:
        sock = None
        if needs_listener(profile):
            # Before the route: a taken port is said at once, and nobody signs in for nothing.
            sock = stack.enter_context(await listening_socket(args.port))
        elif args.port:
            say("jumpdeck: --port is not used: the route has no hop that carries streams.")
        session = await stack.enter_async_context(open_profile_session(profile.name, args, lasting=True))
        lent = await stack.enter_async_context(lent_route(session, sock))
        _show(session, lent)
        waits, session.patient = session.patient, False  # the other program is told at once, and tries again by itself
        return await _stay(session, waits=waits)


def _show(session: Session, lent: Lent) -> None:
    """The line to run, alone on standard output; what it is, on standard error."""
    import sys

    from app.cli.frame import say

    name = session.profile.name
    if lent.port is None:
        say(f"jumpdeck: {name} is UP; its cluster is reached directly, so the kubeconfig names the server and no port "
            "is opened.")  # fmt: skip
    else:
        say(f"jumpdeck: {name} is UP; 127.0.0.1:{lent.port} leads to its cluster, for programs of this user only.")
        if sys.platform not in ("linux", "win32"):
            say("jumpdeck: this system does not tell whose program connects: other users of this computer can reach "
                "the cluster's port too, without your credential.")  # fmt: skip
    say("jumpdeck: open until interrupted (ctrl+c). In the shell of the other program:")
    sys.stdout.write(shell_line(str(lent.kubeconfig), windows=sys.platform == "win32") + "\n")
    sys.stdout.flush()


def shell_line(path: str, *, windows: bool) -> str:
    """What sets KUBECONFIG: in PowerShell, or in a POSIX shell (fish takes it too)."""
    import shlex

    if windows:
        return "$env:KUBECONFIG = '" + path.replace("'", "''") + "'"
    return f"export KUBECONFIG={shlex.quote(path)}"


async def _stay(session: Session, *, waits: bool) -> int:
    """Say what happens to the session until it is lost for good, and then raise why.

    `waits`: a sign-in that ended is seen to, so it is no loss.
    """
    from app.dialer import ends_sign_in
    from app.sessions.states import STUCK

    teller = _Teller()
    while True:
        state = session.state
        if state.phase in STUCK and state.error is not None and not (waits and ends_sign_in(state.error)):
            raise state.error
        teller.tell(state)
        await session.changed()


class _Teller:
    """Says on standard error that a session was lost, why it does not come back, and that it is back."""

    def __init__(self) -> None:
        self._lost_at: float | None = None
        self._said = ""

    def tell(self, state: SessionState) -> None:
        import time

        from app.cli.frame import say
        from app.rows import SessionPhase

        at = time.strftime("%H:%M:%S")
        if state.phase is SessionPhase.UP:
            if self._lost_at is not None:
                say(f"jumpdeck: {at} {state.profile} is back after {time.monotonic() - self._lost_at:.0f} s")
            self._lost_at, self._said = None, ""
        elif state.phase is SessionPhase.RETRYING and state.error is not None:
            what = "is lost" if self._lost_at is None else "is not back yet"
            if self._lost_at is None:
                self._lost_at = time.monotonic()
            if state.error.code != self._said:
                self._said = state.error.code
                say(f"jumpdeck: {at} {state.profile} {what}: {state.error} [{state.error.code}]; it is tried again")
