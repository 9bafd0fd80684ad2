"""`jumpdeck trust PROFILE`: look at the command that a kubeconfig wants to run, and let it; `trust list`, `remove`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.trust import TrustedCommand


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="PROFILE|list|remove")
    parser.add_argument("which", metavar="FINGERPRINT", nargs="?", help="for remove: the fingerprint, or its beginning")
    parser.add_argument("--fingerprint", metavar="F", help="trust without asking if the fingerprint is this")
    parser.add_argument("--no-input", action="store_true", help="never ask; fail with what to run first")


def run(args: argparse.Namespace) -> int:
    """Show and trust, list or forget. Raises JumpdeckError."""
    from app.errors import UsageError

    if args.what == "list":
        return _list()
    if args.what == "remove":
        if not args.which:
            raise UsageError("Which command?", "", "jumpdeck trust remove FINGERPRINT (see: jumpdeck trust list)",
                             code="JD-USAGE-FINGERPRINT")  # fmt: skip
        return _remove(args.which)
    if args.which:
        raise UsageError("Too many words", args.which, "jumpdeck trust PROFILE", code="JD-USAGE-ARGUMENTS")
    return _trust(args)


def _list() -> int:
    import time

    from app.text import clean
    from app.trust import CommandTrust

    for entry in CommandTrust().entries():
        when = time.strftime("%Y-%m-%d", time.localtime(entry.trusted_at))
        print(f"{entry.fingerprint}  {when}  {clean(entry.profile)}  {clean(' '.join(entry.argv))}")  # noqa: T201
    return 0


def _remove(fingerprint: str) -> int:
    from app.errors import NotFoundError
    from app.text import clean
    from app.trust import CommandTrust

    if not CommandTrust().remove(fingerprint):
        raise NotFoundError("No such command is trusted", clean(fingerprint), "See: jumpdeck trust list",
                            code="JD-TRUST-UNKNOWN", layer="local")  # fmt: skip
    return 0


def _trust(args: argparse.Namespace) -> int:
    from app.errors import ExitCode
    from app.trust import CommandTrust

    command = _command(args.what)
    if command is None:
        print(f"Nothing to trust: the way into {args.what} runs no command.")  # noqa: T201
        return 0
    print(command.describe())  # noqa: T201
    trust = CommandTrust()
    if trust.trusts(command):
        print("It is trusted already.")  # noqa: T201
        return 0
    if not _agreed(command, args):
        return int(ExitCode.SIGN_IN)
    trust.add(command)
    print("Trusted. A change of any of these asks again.")  # noqa: T201
    return 0


def _command(name: str) -> TrustedCommand | None:
    from app.cluster.access import read_chosen
    from app.cluster.exec_plugin import describe_command
    from app.profiles.model import KubeconfigCluster
    from app.profiles.store import load

    profile = load().get(name)
    if not isinstance(profile.cluster, KubeconfigCluster):
        return None
    user = read_chosen(profile.cluster).user
    return describe_command(profile.name, user.exec) if user.exec else None


def _agreed(command: TrustedCommand, args: argparse.Namespace) -> bool:
    from app.cli.frame import controlling_terminal, say
    from app.errors import SignInError

    if args.fingerprint:
        if args.fingerprint.lower() == command.fingerprint.lower():
            return True
        raise SignInError(
            "The command has another fingerprint", f"it is {command.fingerprint}",
            "Look at the command above before trusting it.", code="JD-TRUST-MISMATCH", layer="trust",
        )  # fmt: skip
    if args.no_input or controlling_terminal() is None:
        raise SignInError("Nobody can be asked", "there is no terminal, or --no-input was given",
                          f"jumpdeck trust {command.profile} --fingerprint {command.fingerprint}",
                          code="JD-TRUST-COMMAND", layer="trust")  # fmt: skip
    from app.cli.prompts import ask_line

    if ask_line("Type `trust` to let it run: ") == "trust":
        return True
    say("jumpdeck: not trusted; nothing has changed.")
    return False
