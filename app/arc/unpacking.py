"""The vendor's archive, of which nothing but the expected is taken: a .tar.gz of `dir/arcproxy…` and two texts."""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import zlib
from pathlib import Path

from app.arc.program import LAYER
from app.errors import RouteError
from app.text import clean, prose

UNPACKED_LIMIT = 512 << 20
"""Bytes of the whole archive once inflated: ten times what it has."""
MAX_FILES = 8
_TEXTS = ("LICENSE.txt", "ThirdPartyNotice.txt")
_CHUNK = 1 << 20
_BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError, RecursionError)
"""What the standard library raises for archives that are none, or are made to confuse it."""
_FLAGS = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)  # fmt: skip


class _Bounded:
    """The inflated archive, which ends with an error where it becomes too large."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self._file, self._left = file, limit

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _bad("it is too large once inflated")
        return data


def unpack(archive: Path, target: Path, *, limit: int = UNPACKED_LIMIT) -> None:
    """Install the program of an archive as `target` (0700), its licence texts beside it, in one step each. Blocks.

    Every file must be exactly `dir/file`; links, devices, other names and more than one program are refused, and then
    nothing is installed. Raises RouteError (JD-ARC-ARCHIVE), OSError from the disk.
    """
    made: dict[Path, Path] = {}
    try:
        with gzip.open(archive, "rb") as inflated:
            bounded = _Bounded(inflated, limit)
            try:
                with tarfile.open(fileobj=bounded, mode="r|") as tar:  # type: ignore[call-overload]  # it only reads
                    _take(tar, target, made)
            except _BROKEN as error:
                raise _bad(prose(str(error), 200)) from error
        if target not in made:
            raise _bad("there is no program in it")
        for place in sorted(made, key=lambda path: path == target):  # the program last: it is what is looked for
            os.replace(made[place], place)
    finally:
        for temporary in made.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


def _take(tar: tarfile.TarFile, target: Path, made: dict[Path, Path]) -> None:
    for count, member in enumerate(tar):
        if count >= MAX_FILES:
            raise _bad("it has too many files")
        parts = member.name.split("/")
        odd = any(part in ("", ".", "..") or "\\" in part or ":" in part or "\0" in part for part in parts)
        if odd or len(parts) > 2:
            raise _bad(f"{clean(member.name[:200])} is no name of it")
        if member.type == tarfile.DIRTYPE and len(parts) == 1:
            continue
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None or len(parts) != 2:
            raise _bad(f"{clean(member.name[:200])} is no file in a folder")
        place = _place(parts[1], target)
        if place in made:
            raise _bad(f"it has {clean(member.name[:200])} twice")
        source = tar.extractfile(member)
        assert source is not None
        temporary = place.with_name(f".{place.name}.{os.getpid()}-{os.urandom(6).hex()}.tmp")
        with open(os.open(temporary, _FLAGS, 0o700 if place == target else 0o600), "wb") as file:
            made[place] = temporary
            while data := source.read(_CHUNK):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if temporary.stat().st_size != member.size:
            raise _bad(f"{clean(member.name[:200])} is cut off")


def _place(name: str, target: Path) -> Path:
    if name.lower().startswith("arcproxy"):
        return target
    if name in _TEXTS:
        return target.with_name(f"{target.name.removesuffix('.exe')}.{name}")
    raise _bad(f"{clean(name[:200])} is no name of it")


def _bad(why: str) -> RouteError:
    return RouteError(
        "The archive of the Arc proxy program is not as expected", why,
        "Nothing was installed. A newer Jumpdeck may know its new form; report it, please.", code="JD-ARC-ARCHIVE",
        layer=LAYER,
    )  # fmt: skip
