"""Whether az is here, how old it is, and whether its extension connectedk8s is: read from their folders alone.

az is never started to be asked: it takes seconds, and where an extension is missing it may ask whether to install it.

Folders (azure-cli-core, `azure.cli.core.extension` and `azure.cli.core._config`): extensions lie in
AZURE_EXTENSION_DIR, else in `cliextensions` of AZURE_CONFIG_DIR (else ~/.azure), and those of the whole computer in
AZURE_EXTENSION_SYS_DIR, else in `azure-cli-extensions` beside az's packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from app.arc.program import LAYER
from app.errors import Recovery, RouteError
from app.files import shown
from app.identity.azure_cli import config_folder, find_az
from app.records import Record
from app.text import clean

EXTENSION = "connectedk8s"
OLDEST_EXTENSION = (1, 6, 8)
"""The first that runs beside another proxy (Azure/azure-cli-extensions, PR #7455)."""
OLDEST_AZ = (2, 30, 0)
"""Older ones hand a refresh token over in place of a token that is bound to the proxy's key."""
_METADATA_LIMIT = 256 << 10
"""Bytes of an extension's metadata; it has some thousand."""
_SCRIPT_LIMIT = 16 << 10
_PYTHON = re.compile(rb"/[^\s\"':]*/python[0-9.]*(?=[\s\"'])")
"""The interpreter that a start script of az names by its path (deb, rpm, Homebrew, pip)."""
_PACKAGES = re.compile(rb"PYTHONPATH=[\"']?(/[^\s\"':$]+)")
_VERSION = re.compile(r"\d+(?:\.\d+)*")


class Az(Record):
    """az as it lies here, with the extension."""

    path: Path
    """What is on PATH."""
    argv: tuple[str, ...]
    """How it is started."""
    version: str
    """`2.91.0`; empty when its folders do not tell."""
    extension: str
    """The version of connectedk8s."""

    @property
    def label(self) -> str:
        """For the screen; cleaned."""
        az = f"az {clean(self.version)}, " if self.version else ""
        return f"{az}{EXTENSION} {clean(self.extension)}"


def find_az_with_extension() -> Az:
    """az and its extension, both new enough.

    Blocks. Raises RouteError with the remedy: JD-ARC-AZ-MISSING, JD-ARC-AZ-EXTENSION, JD-ARC-AZ-OLD.
    """
    path = find_az()
    if path is None:
        raise RouteError(
            "The Azure CLI is not installed here", "az is not on PATH",
            f"Install it, then: az extension add --name {EXTENSION}. Better: have Jumpdeck run the Arc proxy itself.",
            code="JD-ARC-AZ-MISSING", layer=LAYER, recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip
    packages = tuple(_package_folders(path))
    az = _distribution(packages, "azure_cli")
    version, minimum = _extension(packages)
    _check(az, OLDEST_AZ, "The Azure CLI is too old", "az", "Update it: az upgrade")
    _check(version, OLDEST_EXTENSION, "The extension connectedk8s of az is too old", EXTENSION,
           f"Update it: az extension update --name {EXTENSION}. {offline_remedy(upgrade=True)}")  # fmt: skip
    _check(az, _numbers(minimum), f"The Azure CLI is too old for {EXTENSION} {clean(version)}", "az",
           "Update it: az upgrade")  # fmt: skip
    return Az(path, _argv(path), az, version)


def offline_remedy(*, upgrade: bool = False) -> str:
    """How to bring the extension to a computer without internet."""
    return (
        f"Without internet: bring the wheel ({EXTENSION}-VERSION-py2.py3-none-any.whl; `az extension list-available "
        f"--show-details` on another computer says where it is), then: az extension add --source FILE.whl --yes"
        + (" --upgrade" if upgrade else "")
    )


def _extension(packages: tuple[Path, ...]) -> tuple[str, str]:
    """The version of the extension, and the oldest az that it works with (may be empty). Raises RouteError."""
    looked = tuple(_extension_folders(packages))
    for folder in looked:
        own = folder / EXTENSION
        version = _distribution((own,), EXTENSION)
        if version:
            return version, _metadata(own).get("azext.minCliCoreVersion", "")
    raise RouteError(
        f"The extension {EXTENSION} of az is missing", f"not in {', '.join(shown(folder) for folder in looked[:2])}",
        f"Install it: az extension add --name {EXTENSION}. {offline_remedy()}", code="JD-ARC-AZ-EXTENSION",
        layer=LAYER, recovery=Recovery.NEEDS_PERSON,
    )  # fmt: skip


def _extension_folders(packages: tuple[Path, ...]) -> Iterator[Path]:
    own = os.environ.get("AZURE_EXTENSION_DIR")
    yield Path(own).expanduser() if own else config_folder() / "cliextensions"
    system = os.environ.get("AZURE_EXTENSION_SYS_DIR")
    if system:
        yield Path(system).expanduser()
        return
    for folder in packages:
        yield folder / "azure-cli-extensions"


def _distribution(folders: tuple[Path, ...], name: str) -> str:
    """The newest version of a distribution whose `NAME-VERSION.dist-info` (or egg-info) lies in one of the folders."""
    found: list[str] = []
    written = name.replace("_", "[-_]")
    shape = re.compile(rf"{written}-(\d+(?:\.\d+)*[A-Za-z0-9.]*?)(?:-py[0-9.]+)?\.(?:dist|egg)-info")
    for folder in folders:
        with contextlib.suppress(OSError):
            for entry in folder.iterdir():
                if match := shape.fullmatch(entry.name):
                    found.append(match[1])
        if found:
            break
    return max(found, key=_numbers, default="")


def _metadata(extension: Path) -> dict[str, str]:
    """The texts of `azext_metadata.json`, or of the `metadata.json` that wheel makes of it."""
    for path in (*extension.glob("azext_*/azext_metadata.json"), *extension.glob("*.dist-info/metadata.json")):
        with contextlib.suppress(OSError, ValueError, RecursionError), open(path, "rb") as file:
            found = json.loads(file.read(_METADATA_LIMIT))
            if isinstance(found, dict) and "azext.minCliCoreVersion" in found:
                return {str(name): value for name, value in found.items() if isinstance(value, str)}
    return {}


def _package_folders(az: Path) -> Iterator[Path]:
    """Where the packages of this az may lie, by its kind of installation."""
    if sys.platform == "win32":  # wbin\az.cmd beside Lib\site-packages; pip: Scripts\az.bat
        yield az.parent.parent / "Lib" / "site-packages"
        return
    roots: list[Path] = []
    with contextlib.suppress(OSError), open(az, "rb") as file:
        script = file.read(_SCRIPT_LIMIT).replace(b"$bin_dir", os.fsencode(az.parent))  # deb, rpm: az's own folder
        yield from (Path(os.fsdecode(found)) for found in _PACKAGES.findall(script))
        roots += [Path(os.fsdecode(found)).parent.parent for found in _PYTHON.findall(script)]
    with contextlib.suppress(OSError):
        roots.append(az.resolve().parent.parent)
    for root in dict.fromkeys(roots):
        for pattern in ("lib/python3*/site-packages", "lib64/python3*/site-packages", "lib/python3*/dist-packages"):
            with contextlib.suppress(OSError):
                yield from sorted(root.glob(pattern))


def _argv(az: Path) -> tuple[str, ...]:
    """On Windows its interpreter, as az.cmd starts it: cmd.exe would read names with brackets in its own way."""
    if sys.platform == "win32":
        python = az.parent.parent / "python.exe"
        if python.is_file():
            return (str(python), "-IBm", "azure.cli")
    return (str(az),)


def _check(version: str, oldest: tuple[int, ...], title: str, what: str, hint: str) -> None:
    """Raise RouteError (JD-ARC-AZ-OLD) when a version is known and lower."""
    if version and _numbers(version) < oldest:
        raise RouteError(
            title, f"{what} {clean(version)} is here, {'.'.join(map(str, oldest))} is needed", hint,
            code="JD-ARC-AZ-OLD", layer=LAYER, recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    """`1.11.2` as (1, 11, 2); betas count as what they become."""
    match = _VERSION.match(version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
