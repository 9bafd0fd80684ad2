"""`jumpdeck trust PROFILE`: SSH servers on the way, the command or program that would run; `trust list`, `remove`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.profiles.model import Profile
    from app.trust import TrustedCommand


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="PROFILE|list|remove", help="look at the way into a profile; list or remove what is trusted"
    )
    parser.add_argument("which", metavar="HOST|FINGERPRINT", nargs="?", help="for remove: the server, or a fingerprint")
    parser.add_argument(
        "--fingerprint", metavar="F", action="append", default=[],
        help="trust without asking what has this fingerprint, and nothing else; may be given several times",
    )  # fmt: skip
    parser.add_argument("--replace", action="store_true", help="take the new key of a server that was made anew")
    parser.add_argument("--no-input", action="store_true", help="never ask; fail with what to run first")


def run(args: argparse.Namespace) -> int:
    """Show and trust, list or forget. Raises JumpdeckError."""
    from app.errors import UsageError

    if args.what == "list":
        return _list()
    if args.what == "remove":
        if not args.which:
            raise UsageError("Which one?", "remove wants a server or a fingerprint",
                             "jumpdeck trust remove HOST|FINGERPRINT (see: jumpdeck trust list)",
                             code="JD-USAGE-FINGERPRINT")  # fmt: skip
        return _remove(args.which)
    if args.which:
        raise UsageError("Too many words", args.which, "jumpdeck trust PROFILE", code="JD-USAGE-ARGUMENTS")
    return _trust(args)


def _list() -> int:
    import time

    from app.cli.frame import say
    from app.cli.trust_hosts import host_lines
    from app.text import clean
    from app.trust import CommandTrust

    hosts, commands = host_lines(), CommandTrust().entries()
    if not hosts and not commands:
        say("jumpdeck: no server and no command has been trusted here yet")
    for line in hosts:
        print(line)  # noqa: T201
    for entry in commands:
        when = time.strftime("%Y-%m-%d", time.localtime(entry.trusted_at))
        print(f"{entry.fingerprint}  {when}  {clean(entry.profile)}  {clean(' '.join(entry.argv))}")  # noqa: T201
    return 0


def _remove(which: str) -> int:
    from app.cli.trust_hosts import other_ports, remove_host
    from app.errors import NotFoundError
    from app.text import clean
    from app.trust import CommandTrust

    if remove_host(which):
        return 0
    if not CommandTrust().remove(which):
        near = " or ".join(other_ports(which))
        raise NotFoundError("No such server or command is trusted", clean(which),
                            f"Did you mean {near}?" if near else "See: jumpdeck trust list",
                            code="JD-TRUST-UNKNOWN", layer="local")  # fmt: skip
    from app import audit

    audit.record("command.removed", fingerprint=which)
    return 0


def _trust(args: argparse.Namespace) -> int:
    """Servers first, then the command; of an Arc cluster the program that carries the connection."""
    from app.profiles.model import ArcCluster, SshHop
    from app.profiles.store import load

    profile = load().get(args.what)
    if isinstance(profile.cluster, ArcCluster):
        from app.cli.trust_arc import trust_arc

        return trust_arc(profile, args)
    command = _command(profile)
    hosts = any(isinstance(hop, SshHop) for hop in profile.via)
    if not hosts and command is None:
        print(f"Nothing to trust: the way into {args.what} has no SSH server and runs no command.")  # noqa: T201
        return 0
    if hosts:
        from app.cli.trust_hosts import trust_hosts

        args.host_fingerprints = [named for named in args.fingerprint if not _is_of_command(named)]
        args.fingerprint = [named for named in args.fingerprint if _is_of_command(named)]
        if code := trust_hosts(profile, args):
            return code
    return _trust_command(command, args) if command is not None else 0


def _is_of_command(fingerprint: str) -> bool:
    """Fingerprints of commands have 64 hexadecimal digits, those of keys 43 letters of base64."""
    digits = fingerprint.lower().removeprefix("sha256:")
    return len(digits) == 64 and not digits.strip("0123456789abcdef")


def _trust_command(command: TrustedCommand, args: argparse.Namespace) -> int:
    from app.errors import ExitCode
    from app.trust import CommandTrust

    print(command.describe())  # noqa: T201
    trust = CommandTrust()
    if trust.trusts(command):
        print("It is trusted already.")  # noqa: T201
        return 0
    if not _agreed(command, args):
        return int(ExitCode.SIGN_IN)
    trust.add(command)
    _record("command.trusted", command)
    print("Trusted. A change of any of these asks again.")  # noqa: T201
    return 0


def _record(event: str, command: TrustedCommand) -> None:
    from app import audit

    audit.record(event, profile=command.profile, program=command.argv[0], fingerprint=command.fingerprint)


def _command(profile: Profile) -> TrustedCommand | None:
    from app.cluster.access import read_chosen
    from app.cluster.exec_plugin import describe_command
    from app.profiles.model import KubeconfigCluster

    if not isinstance(profile.cluster, KubeconfigCluster):
        return None
    user = read_chosen(profile.cluster).user
    return describe_command(profile.name, user.exec) if user.exec else None


def _agreed(command: TrustedCommand, args: argparse.Namespace) -> bool:
    from app.cli.frame import controlling_terminal, say
    from app.errors import SignInError

    if args.fingerprint:
        if command.fingerprint.lower() in (named.lower() for named in args.fingerprint):
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
