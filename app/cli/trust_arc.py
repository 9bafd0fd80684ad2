"""The vendor's proxy program of an Arc profile, for `jumpdeck trust`: what would run, fetched if need be."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from app.cli.frame import asker_for, run_async, say, say_error
from app.errors import ExitCode, RouteError, SignInError

if TYPE_CHECKING:
    from app.arc.program import Program
    from app.asking import Asker
    from app.profiles.model import Profile

_FROM = {
    "arc-proxy": "the profile's arc-proxy",
    "own": "downloaded by Jumpdeck",
    "az": "az has downloaded it; it goes when az takes a newer one",
}


def trust_arc(profile: Profile, args: argparse.Namespace) -> int:
    """Show the program, or offer its download; offer to end what earlier runs left. Raises JumpdeckError."""
    return run_async(_settle(profile, args))


async def _settle(profile: Profile, args: argparse.Namespace) -> int:
    import asyncio

    from app.arc.program import find_program

    asker = asker_for(args)
    program = await asyncio.to_thread(find_program, profile.arc_proxy)
    if program is None:
        program = await _fetched(profile, asker)
    if program is None:
        say("jumpdeck: not downloaded; nothing has changed.")
        return int(ExitCode.ROUTE)
    await _show(program, args)
    return await _orphans(asker)


async def _fetched(profile: Profile, asker: Asker | None) -> Program | None:
    """The program, fetched with the person's consent. Raises RouteError when nobody can be asked, or it cannot."""
    from urllib.parse import urlsplit

    from app.arc.consent import fetch_agreed
    from app.arc.download import REGISTRY
    from app.arc.program import no_program
    from app.identity.clouds import profile_endpoints
    from app.outbound import choose_proxy

    if asker is None:
        raise no_program(profile.name)
    proxy = choose_proxy(urlsplit(REGISTRY).hostname or "", profile.proxy)
    return await fetch_agreed(asker, proxy=proxy, ca_file=profile_endpoints(profile).ca_file)


async def _show(program: Program, args: argparse.Namespace) -> None:
    import asyncio

    from app.files import shown
    from app.text import clean
    from app.trust import hash_program

    try:
        digest = await asyncio.to_thread(hash_program, program.path)
    except OSError as error:
        raise RouteError("The Arc proxy program cannot be read", f"{shown(program.path)}: {error.strerror}",
                         "Correct its permissions.", code="JD-ARC-PROGRAM", layer="arc") from error  # fmt: skip
    facts = [
        ("program", shown(program.path)),
        ("version", clean(program.version) or "not in its name"),
        ("SHA-256", digest),
        ("from", _FROM.get(program.source, clean(program.source))),
        ("note", program.note),
    ]
    print("The program that carries the connection; it is run where it lies:")  # noqa: T201
    for name, value in facts:
        if value:
            print(f"  {name:<8} {value}")  # noqa: T201
    if args.fingerprint and digest not in {_digits(named) for named in args.fingerprint}:
        raise SignInError("The program has another digest", f"it is {digest}",
                          "Compare the program with the one that was meant.", code="JD-TRUST-MISMATCH",
                          layer="trust")  # fmt: skip


def _digits(fingerprint: str) -> str:
    return fingerprint.lower().removeprefix("sha256:")


async def _orphans(asker: object) -> int:
    import asyncio

    from app.arc.consent import end_orphans, orphan_question
    from app.arc.run_records import find_orphans
    from app.asking import Consents

    orphans = await asyncio.to_thread(find_orphans)
    if not orphans:
        return 0
    for orphan in orphans:
        print(f"Still serving, from an earlier run: {orphan}")  # noqa: T201
    if not isinstance(asker, Consents):
        say("jumpdeck: nobody can be asked; the next command that opens an Arc profile ends them")
        return 0
    if not await asker.ask_consent(orphan_question(orphans)):
        say("jumpdeck: not ended; they go on serving.")
        return 0
    failed = await end_orphans(orphans)
    for error in failed:
        say_error(error)
    print(f"Ended: {len(orphans) - len(failed)}")  # noqa: T201
    return int(failed[0].exit_code) if failed else 0
