"""What all az proxies of one user share, so that one start at a time is right: ~/.clientproxy/config.yml, the ports.

az deletes and rewrites that file at every start and nobody reads it afterwards: the vendor's program reads it once. So
the contents that were there come back when ours has started, unless somebody else has written it meanwhile; when we are
killed before, the next start brings them back (`run_records`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.arc.program import LAYER
from app.errors import JumpdeckError, ProfileError, Recovery, RouteError
from app.files import open_lock, read_private, try_lock, write_private
from app.folders import state_dir
from app.restricted_yaml import load_yaml

TURN_LIMIT = 180.0
"""Seconds to wait for another start by az: one may take two minutes, and one may stand before us."""
_PAUSE = 0.1
"""Seconds between two looks at the lock: neither system tells when it is free."""
_CONFIG_LIMIT = 64 << 10
"""Bytes of the shared configuration; az's has 200."""
_KEPT = "shared.json"


@asynccontextmanager
async def turn(*, state: Path | None = None, limit: float = TURN_LIMIT) -> AsyncIterator[None]:
    """Hold the one place for starting az, against all processes of this user.

    Raises RouteError (JD-ARC-AZ-BUSY) after `limit` seconds, ProfileError for the state folder.
    """
    handle = open_lock((state or state_dir()) / "run" / "az-proxy")
    try:
        until = time.monotonic() + limit
        while not try_lock(handle):
            if time.monotonic() >= until:
                raise RouteError(
                    "Another start by az is not done yet", f"waited {limit:g} s: az starts one proxy at a time",
                    "It is tried again.", code="JD-ARC-AZ-BUSY", layer=LAYER, recovery=Recovery.TRANSIENT,
                )  # fmt: skip
            await asyncio.sleep(_PAUSE)
        yield
    finally:
        os.close(handle)  # lets go of it


def program_is_here(home: Path | None = None) -> bool:
    """Whether az has a program to run, so that it need not fetch one. (It fetches another when its version differs.)"""
    return any(((home or Path.home()) / ".clientproxy").glob("arcProxy_*"))


class SharedConfig:
    """The file that az overwrites, as it was before. Its methods block for a moment; only `keep` raises."""

    def __init__(self, home: Path | None = None) -> None:
        self._path = (home or Path.home()) / ".clientproxy" / "config.yml"
        self._there = os.path.lexists(self._path)
        self._before = self._contents()
        self._mode = 0o600
        with contextlib.suppress(OSError):
            self._mode = stat.S_IMODE(os.lstat(self._path).st_mode)

    def keep(self, folder: Path, port: int) -> None:
        """Write it down in the folder of the run whose az takes `port`: we may be killed. Raises ProfileError."""
        before = None if self._before is None else base64.b64encode(self._before).decode()
        told = {"path": str(self._path), "there": self._there, "before": before, "mode": self._mode, "port": port}
        write_private(folder / _KEPT, json.dumps(told).encode())

    def put_back(self, port: int, *, cut_off: bool = False) -> bool:
        """Restore it if it is what our az wrote, whose port for the API is `port`; whether that was done.

        `cut_off`: az has ended before it was done, perhaps between deleting the file and writing it.
        """
        if self._there and self._before is None:  # no small regular file: nothing to bring back
            return False
        found = self._contents()
        ours = found is not None and _https_port(found) == port
        if cut_off and not found and found != self._before:
            ours = found is not None or not os.path.lexists(self._path)
        if not ours:
            return False
        with contextlib.suppress(OSError):
            if self._before is None:
                self._path.unlink()
            else:
                self._replace(self._before)
            return True
        return False

    def _replace(self, data: bytes) -> None:
        beside = self._path.with_name(f".config.yml.{os.getpid()}-{os.urandom(6).hex()}.tmp")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            with open(os.open(beside, flags, self._mode), "wb") as file:
                file.write(data)
            os.chmod(beside, self._mode)  # whatever the umask
            os.replace(beside, self._path)
        finally:
            beside.unlink(missing_ok=True)

    def _contents(self) -> bytes | None:
        """The bytes of the file; None where there is none, or something else than a small regular file."""
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.lstat(self._path).st_mode):
                with open(self._path, "rb") as file:
                    data = file.read(_CONFIG_LIMIT + 1)
                return data if len(data) <= _CONFIG_LIMIT else None
        return None


def forget(folder: Path) -> None:
    """What `keep` wrote down is not needed any more."""
    with contextlib.suppress(OSError):
        (folder / _KEPT).unlink()


def put_back_kept(folder: Path) -> None:
    """Restore what a run wrote down that could not do it itself: it was killed. Its az has ended. Never raises."""
    with contextlib.suppress(JumpdeckError, ValueError, TypeError, KeyError, RecursionError):
        told = json.loads(read_private(folder / _KEPT, limit=2 * _CONFIG_LIMIT, what="run record"))
        path, before = Path(told["path"]), told["before"]
        if path.name != "config.yml":
            return
        config = SharedConfig(path.parent.parent)
        config._there, config._mode = bool(told["there"]), int(told["mode"]) & 0o777
        config._before = None if before is None else base64.b64decode(before, validate=True)
        config.put_back(int(told["port"]), cut_off=True)


def _https_port(config: bytes) -> object:
    with contextlib.suppress(ProfileError):
        found = load_yaml(config, "config.yml")
        server = found.get("server") if isinstance(found, dict) else None
        return server.get("httpsPort") if isinstance(server, dict) else None
    return None
