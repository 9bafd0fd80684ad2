"""What is asked of a person before a program is fetched or ended, and put on record afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from app import audit
from app.arc.download import REGISTRY, Progress, download
from app.arc.program import NEWEST, Program, own_cache, this_platform
from app.arc.run_records import Orphan, end_orphan
from app.asking import ConsentQuestion, Consents
from app.errors import JumpdeckError
from app.files import shown
from app.text import clean
from app.trust import hash_program


def download_question(*, registry: str = REGISTRY, version: str = NEWEST) -> ConsentQuestion:
    """The question before the download. Raises RouteError (JD-ARC-PLATFORM) where there is no such program."""
    host = registry.partition("://")[2]
    return ConsentQuestion(
        "The Arc proxy program is not on this computer",
        (
            f"Microsoft's program arcProxy {version} carries connections to Arc clusters. It would be fetched",
            f"from  {clean(host)}/{this_platform().repository}",
            f"to    {shown(own_cache())}",
            "and run only when its SHA-256 digest is the registry's. Microsoft's licence lies beside it.",
            "Without it az connectedk8s proxy is used where it is installed: az downloads the same program by itself",
            "when it lacks it.",
        ),
        "download it",
    )


async def fetch_agreed(
    asker: object, *, registry: str = REGISTRY, version: str = NEWEST, proxy: str | None = None,
    ca_file: Path | None = None, cache: Path | None = None, progress: Progress | None = None,
    shown: AbstractAsyncContextManager[None] | None = None,
) -> Program | None:  # fmt: skip
    """Ask, then fetch the program; None when nobody can be asked, or the person does not want it.

    `shown` is entered while it is fetched. Raises RouteError (JD-ARC-…) when it cannot be fetched.
    """
    if not isinstance(asker, Consents):
        return None
    if not await asker.ask_consent(download_question(registry=registry, version=version)):
        return None
    async with shown or nullcontext():
        program = await download(
            registry=registry, version=version, proxy=proxy, ca_file=ca_file, cache=cache, progress=progress
        )
    digest = await asyncio.to_thread(hash_program, program.path)
    audit.record("arc-program.downloaded", program=str(program.path), version=program.version, sha256=digest,
                 registry=registry)  # fmt: skip
    return program


def orphan_question(orphans: Sequence[Orphan]) -> ConsentQuestion:
    """The question whether programs of earlier runs are to be ended."""
    several = len(orphans) > 1
    title = f"{len(orphans)} programs of earlier runs still serve"
    return ConsentQuestion(
        title if several else "A program of an earlier run still serves",
        (*(str(orphan) for orphan in orphans), "Whoever reaches its port on this computer acts as you."),
        "end them" if several else "end it",
        default=True,
    )


async def end_orphans(orphans: Sequence[Orphan]) -> tuple[JumpdeckError, ...]:
    """End them all, and put each on record; the errors of those that do not end."""
    found = await asyncio.gather(*(_end(orphan) for orphan in orphans))
    return tuple(error for error in found if error is not None)


async def _end(orphan: Orphan) -> JumpdeckError | None:
    try:
        await end_orphan(orphan)
    except JumpdeckError as error:
        return error
    audit.record("arc-program.orphan-ended", program=str(orphan.program), process=orphan.pid, profile=orphan.label)
    return None
