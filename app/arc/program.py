"""The vendor's arcProxy program: which file fits this computer, which versions are known, where it is found.

Names as the published az extension gives them (`arcProxy_{os}_{arch}_{version}`). The program is run where it lies, and
nothing is written where az keeps it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import stat
import sys
from pathlib import Path

from app.errors import Recovery, RouteError
from app.files import complaint, shown
from app.folders import state_dir
from app.records import Record
from app.text import clean, prose

LAYER = "arc"
NEWEST = "1.3.035022"
"""The version that is offered for download: the one that az's extension 1.11.2 pins."""
OLDEST = "1.3.022011"
"""The first version whose private interface is known to be the present one (extension 1.3.8)."""

_MACHINES = (("arm64", "arm64"), ("aarch64", "arm64"), ("64", "amd64"), ("86", "386"))
"""Ends of a machine's name, lower case, and the vendor's word; the first that fits wins (az's rule)."""
_NAME = re.compile(r"arcProxy_(?P<os>linux|darwin|windows)_(?P<arch>amd64|arm64|386)_(?P<version>\d+(?:_\d+){1,3})")


class Platform(Record):
    """A system and a machine in the vendor's words."""

    os: str
    """linux, darwin or windows."""
    arch: str
    """amd64, arm64 or 386."""

    @property
    def repository(self) -> str:
        """Where a registry has the program."""
        return f"azureconnectivity/proxy/{self.os}/{self.arch}/arc-proxy"

    def file_name(self, version: str) -> str:
        """`arcProxy_linux_amd64_1_3_035022`, with `.exe` for Windows."""
        return f"arcProxy_{self.os}_{self.arch}_{version.replace('.', '_')}{'.exe' if self.os == 'windows' else ''}"


class Program(Record):
    """An arcProxy program on this computer."""

    path: Path
    version: str
    """`1.3.035022`; empty when the file's name does not say it."""
    source: str
    """Where it was found: `arc-proxy` (the profile's), `own` (downloaded by us) or `az`."""

    @property
    def note(self) -> str:
        """What to tell about a version that nobody has tried with Jumpdeck; empty for known ones."""
        if not self.version:
            return "the version of the Arc proxy program is not in its file's name"
        if OLDEST <= self.version <= NEWEST:
            return ""
        return f"Arc proxy program {self.version}: known are {OLDEST} to {NEWEST}"


def this_platform(system: str | None = None, machine: str | None = None) -> Platform:
    """The platform of this computer (or of the names given). Raises RouteError (JD-ARC-PLATFORM)."""
    system, machine = (system or platform.system()).lower(), (machine or platform.machine()).lower()
    arch = next((word for end, word in _MACHINES if machine.endswith(end)), "")
    if system not in ("linux", "darwin", "windows") or not arch or (system, arch) == ("darwin", "386"):
        raise RouteError(
            "There is no Arc proxy program for this computer", f"{clean(system)} on {clean(machine)}",
            "Use the console on Linux, macOS or Windows, on amd64 or arm64.", code="JD-ARC-PLATFORM", layer=LAYER,
        )  # fmt: skip
    return Platform(system, arch)


def own_cache() -> Path:
    """The folder of the programs that we have downloaded."""
    return state_dir() / "arc-proxy"


def find_program(setting: Path | None = None, *, az_folder: Path | None = None) -> Program | None:
    """The program to run, or None when there is none: then it can be downloaded, or az be used. Blocks.

    The profile's `arc-proxy` is the only one that counts when it is set. Else the newest of our own downloads, else
    the newest that az has. Files that others may change are passed over, and versions of another series than ours too.
    Raises RouteError: JD-ARC-PROGRAM (the setting leads nowhere, or to what is not safe), JD-ARC-PLATFORM.
    """
    if setting is not None:
        return _from_setting(setting.expanduser())
    here = this_platform()
    for folder, source in ((own_cache(), "own"), (az_folder or Path.home() / ".clientproxy", "az")):
        found = [
            Program(path, version, source)
            for path, version in _versions(folder, here)
            if version.split(".")[:2] == NEWEST.split(".")[:2] and version >= OLDEST and not _wrong(path)
        ]
        if found:
            return max(found, key=lambda program: program.version)
    return None


def version_of(path: Path) -> str:
    """The version in a file's name, `1.3.035022`; empty when it is not the vendor's name."""
    found = _NAME.fullmatch(path.name.removesuffix(".exe"))
    return found["version"].replace("_", ".") if found else ""


def no_program(profile: str, why: str = "") -> RouteError:
    """Nothing was found for a profile, and nothing may be downloaded (`why` says that). Blocks."""
    here = this_platform()
    where = "; ".join((f"neither in {shown(own_cache())} nor in ~/.clientproxy", *_passed_over(here)))
    return RouteError(
        "The Arc proxy program is not here", prose(why) or where,
        f"On a terminal, `jumpdeck trust {clean(profile)}` offers the download of {NEWEST}. Without internet: bring "
        f"{here.file_name(NEWEST)} from a computer that has it (az keeps it in ~/.clientproxy) and set "
        "arc-proxy = \"PATH\" in the profile.",
        code="JD-ARC-PROGRAM", layer=LAYER, recovery=Recovery.NEEDS_PERSON,
    )  # fmt: skip


def _from_setting(path: Path) -> Program:
    wrong = _wrong(path)
    if wrong:
        raise RouteError(
            "The Arc proxy program cannot be used", f"arc-proxy = {shown(path)}: {wrong}",
            "Correct the file, or the setting in the profile.", code="JD-ARC-PROGRAM", layer=LAYER,
        )  # fmt: skip
    return Program(path, version_of(path), "arc-proxy")


def _passed_over(here: Platform) -> list[str]:
    """The programs that are here and may not be run, with the reason; a few of them."""
    found = [path for folder in (own_cache(), Path.home() / ".clientproxy") for path, _ in _versions(folder, here)]
    wrong = [(path, why) for path in sorted(found) if (why := _wrong(path))]
    return [f"{shown(path)} is not run: {why}" for path, why in wrong[:2]]


def _versions(folder: Path, here: Platform) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            match = _NAME.fullmatch(path.name.removesuffix(".exe"))
            if match and (match["os"], match["arch"]) == (here.os, here.arch):
                found.append((path, match["version"].replace("_", ".")))
    return found


def _wrong(path: Path) -> str:
    """Why a file is not to be run; empty when it may be. What we run must be changeable by nobody but us (or root)."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return "it is not a regular file"
        if not os.access(path, os.X_OK):
            return f"it may not be run; repair it: chmod u+x {shown(path)}"
        if sys.platform == "win32":
            from app.windows_acl import path_complaint

            return path_complaint(path) or ""
        me = os.getuid()
        return complaint(found.st_uid, found.st_mode, me) or _wrong_above(path, me)
    except (OSError, ValueError) as error:
        return clean(getattr(error, "strerror", None) or str(error))


def _wrong_above(path: Path, me: int) -> str:
    """Why the folders of a file are not safe, those of a link and of its target; empty when they are.

    Whoever may write to a folder can put another file, link or folder there between our look and the start. Above the
    nearest, groups are let be: system folders belong to some.
    """
    for place in dict.fromkeys((path.absolute(), path.resolve())):
        for folder in place.parents:
            found = os.stat(folder)
            wrong = complaint(found.st_uid, found.st_mode, me) if folder == place.parent else None
            if wrong is None and found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
                wrong = "others may write to it"
            if wrong:
                return f"its folder {shown(folder)} is not safe, {wrong}"
    return ""
