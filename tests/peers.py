"""Programs that tests use as peers and that a machine may lack.

Where one is missing the test says so in one line and is skipped; under `REQUIRE_PEERS=1` that is a failure, so that
nothing is skipped where it must run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest


def require(*names: str) -> str:
    """The path of the first program; skips, or fails under REQUIRE_PEERS=1, when any of them is missing."""
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    missing = [name for name in names if shutil.which(name, path=places) is None]
    if missing:
        _lacking(f"needs {', '.join(missing)} on PATH")
    path = shutil.which(names[0], path=places)
    assert path is not None
    return path


def require_linux(why: str) -> None:
    """For tests, or a whole module at its import, that look at a Linux system; `why` says what they need of it."""
    if sys.platform != "linux":
        _lacking(why)


def require_root() -> None:
    """For tests that act as a second user."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        _lacking("needs to run as root, to act as another user")


def _lacking(message: str) -> None:
    if os.environ.get("REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


def require_namespaces() -> None:
    """That network namespaces can be made here: root, `ip`, `unshare`, `nsenter`. Skips or fails as `require` does."""
    require("ip", "unshare", "nsenter")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        _lacking("needs root: network namespaces cannot be made here")
