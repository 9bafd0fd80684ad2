"""`jumpdeck whoami PROFILE`: whom the cluster will see, read from the credential itself, and what to ask for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.profiles.model import Profile


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Say whom the cluster will see, and what to ask an administrator for so that it may work there. Read from the "
        "credential itself: no route is opened and nothing is applied."
    )
    parser.add_argument("profile", metavar="PROFILE")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default: table")
    parser.add_argument(
        "--for", metavar="KIND:NAME", dest="subject",
        help="what to ask for on behalf of another: person:UPN, person:OBJECT-ID, group:OBJECT-ID, "
        "application:OBJECT-ID or service-account:[NAMESPACE/]NAME; needs no sign-in",
    )  # fmt: skip
    parser.add_argument("--no-input", action="store_true", help="never ask; fail with what to run first")


def run(args: argparse.Namespace) -> int:
    """Show it. Raises JumpdeckError."""
    from app.cli.frame import run_async
    from app.profiles.store import load

    profile = load().get(args.profile)
    if args.subject is not None:
        return _for_another(profile, args)
    return run_async(_for_us(profile, args))


def _for_another(profile: Profile, args: argparse.Namespace) -> int:
    from app.cluster.who_page import another, for_another, subject_fields

    if args.output == "json":
        _print_json(subject_fields(profile, *another(profile, args.subject)))
    else:
        _print(for_another(profile, args.subject)[0])
    return 0


async def _for_us(profile: Profile, args: argparse.Namespace) -> int:
    from app.cli.frame import asker_for
    from app.cluster.who import who_is
    from app.cluster.who_page import fields, for_us
    from app.sessions.route import RouteGround

    asker = asker_for(args)
    ground = RouteGround(asker)
    try:
        seen = await who_is(profile, asker=asker, secrets=ground.secrets, azure=lambda: ground.azure(profile, asker))
    finally:
        await ground.aclose()
    if args.output == "json":
        _print_json(fields(profile, seen))
    else:
        _print(for_us(profile, seen)[0])
    return 0


def _print(text: str) -> None:
    import sys

    sys.stdout.write(text + "\n")


def _print_json(document: dict[str, object]) -> None:
    import json

    from app.text import clean_block

    _print(clean_block(json.dumps(document, indent=2, ensure_ascii=False)))
