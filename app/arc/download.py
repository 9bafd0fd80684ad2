"""The vendor's arcProxy program from a registry, with everything checked before it may run.

It is found by its tag, its bytes must have the SHA-256 that the manifest says, and only one program is taken out of the
archive. A download that was cut off goes on where it stood. Consent is given elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

from app.arc.program import LAYER, NEWEST, Program, own_cache, this_platform
from app.arc.registry import BY_HAND, Layer, Registry, wrong_digest
from app.arc.unpacking import unpack
from app.errors import JumpdeckError, Recovery, RouteError
from app.files import open_lock, private_dir, shown, try_lock
from app.text import clean

REGISTRY = "https://mcr.microsoft.com"
"""Where the program is, for all clouds but disconnected ones."""
LIMIT = 900.0
"""Seconds for all of it: some twenty MiB at 25 KiB/s. What came is kept for the next time."""
TRIES = 3
"""Connections in a row that bring nothing."""
PAUSE = 1.0
"""Seconds between two of them."""
_BUSY_PAUSE = 0.2
"""Seconds between two looks whether another of ours has finished the same download."""
_FLAGS = (
    os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
)

Progress = Callable[[int, int], None]
"""Bytes that are here, and of how many."""


async def download(
    *, registry: str = REGISTRY, version: str = NEWEST, proxy: str | None = None, ca_file: Path | None = None,
    cache: Path | None = None, progress: Progress | None = None, limit: float = LIMIT, pause: float = PAUSE,
) -> Program:  # fmt: skip
    """Fetch, check and install the program into our own folder; the caller has been given consent.

    `proxy` is the profile's (else the environment's), `ca_file` is trusted in place of the system's store. When another
    of ours does the same, it is waited for. Raises RouteError: JD-ARC-DOWNLOAD (not reachable, refused, no answer in
    `limit` seconds), JD-ARC-DIGEST, JD-ARC-ARCHIVE, JD-ARC-PLATFORM; ProfileError (CA file, folder).
    """
    here = this_platform()
    folder = private_dir(cache or own_cache())
    target = folder / here.file_name(version)
    try:
        async with asyncio.timeout(limit), _alone(folder / "download"):
            if not target.exists():
                async with Registry(registry, proxy=proxy, ca_file=ca_file) as there:
                    await _fetch(there, here.repository, version, target, progress, pause)
    except TimeoutError as error:
        raise RouteError(
            "The Arc proxy program cannot be downloaded", f"it is not here after {limit:g} s",
            f"What came is kept; try again and it goes on from there. {BY_HAND}", code="JD-ARC-DOWNLOAD", layer=LAYER,
            recovery=Recovery.TRANSIENT,
        ) from error  # fmt: skip
    except OSError as error:
        raise RouteError(
            "The Arc proxy program cannot be kept", f"{shown(folder)}: {clean(error.strerror or str(error))}",
            "Free space, or correct the folder's permissions, and try again.", code="JD-ARC-DOWNLOAD", layer=LAYER,
        ) from error  # fmt: skip
    return Program(target, version, "own")


async def _fetch(there: Registry, repository: str, version: str, target: Path, progress: Progress | None,
                 pause: float) -> None:  # fmt: skip
    layer = await there.layer(repository, version)
    part = target.with_name(f".{target.name}.{layer.digest.removeprefix('sha256:')[:16]}.part")
    for other in target.parent.glob(".arcProxy*.part"):
        if other != part:
            other.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, _FLAGS, 0o600), "r+b") as file:
            found = await _bytes(there, repository, layer, file, progress, pause)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        if found != layer.digest:
            raise wrong_digest(f"{repository}:{version} from {there.host}: it has {found}, announced is {layer.digest}")
        await asyncio.to_thread(unpack, part, target)
    except RouteError as error:
        if error.code in ("JD-ARC-DIGEST", "JD-ARC-ARCHIVE"):
            part.unlink(missing_ok=True)
        raise
    part.unlink(missing_ok=True)


async def _bytes(there: Registry, repository: str, layer: Layer, file: IO[bytes], progress: Progress | None,
                 pause: float) -> str:  # fmt: skip
    """All bytes of the layer in `file`, which may have the first of them; their digest."""
    digest = await asyncio.to_thread(_digest_of, file)
    failed = 0
    while (here := file.tell()) < layer.size:
        try:
            async with there.blob(repository, layer, here) as (start, pieces):
                if start != here:
                    file.seek(0)
                    file.truncate()
                    digest = hashlib.sha256()
                async for piece in pieces:
                    if file.tell() + len(piece) > layer.size:
                        raise wrong_digest(f"{repository} from {there.host}: more than {layer.size} bytes")
                    file.write(piece)
                    digest.update(piece)
                    if progress is not None:
                        progress(file.tell(), layer.size)
        except JumpdeckError as error:
            failed = 0 if file.tell() > here else failed + 1
            if not error.transient or failed >= TRIES:
                raise
            await asyncio.sleep(pause)
        else:
            failed = 0 if file.tell() > here else failed + 1
            if failed >= TRIES:
                raise wrong_digest(f"{repository} from {there.host}: it ends after {here} of {layer.size} bytes")
    return f"sha256:{digest.hexdigest()}"


def _digest_of(file: IO[bytes]) -> hashlib._Hash:
    digest = hashlib.sha256()
    while data := file.read(1 << 20):
        digest.update(data)
    return digest


@contextlib.asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Hold the lock of the download against other sessions and processes of ours."""
    handle = open_lock(path)
    try:
        while not try_lock(handle):  # noqa: ASYNC110 (no system tells when another process lets go)
            await asyncio.sleep(_BUSY_PAUSE)
        yield
    finally:
        os.close(handle)
