"""Which commands of imported files may run (S-20): trust by content, never by name or place alone.

The content is the whole argv, the environment that the file adds, the resolved program and its SHA-256. Any change
asks again. What was trusted is in `trusted-commands.json` in the state folder (0600).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import JumpdeckError, Recovery, SignInError
from app.files import lock, private_dir, read_private, write_private
from app.folders import state_dir
from app.text import clean

FILE_NAME = "trusted-commands.json"
MAX_COMMANDS = 500
"""Remembered commands; the oldest go first. One per cluster user, so this is beyond what a person has."""
_HASH_PIECE = 1 << 20


@dataclass(frozen=True)
class TrustedCommand:
    """A command exactly as it would run. `argv[0]` is the absolute path of the program."""

    profile: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    """Variables that the file adds; values take part in the fingerprint and are never written down or shown."""
    program_hash: str
    """SHA-256 of the program's bytes, hex."""

    @property
    def fingerprint(self) -> str:
        """`SHA256:` and 64 hex digits over everything that decides what happens."""
        content = json.dumps([self.argv, sorted(self.env), self.program_hash], ensure_ascii=True)
        return "SHA256:" + hashlib.sha256(content.encode()).hexdigest()

    def describe(self) -> str:
        """What to show before asking, one fact a line; harmless text."""
        shown = " ".join(_quoted(clean(part)) for part in self.argv)
        lines = [f"command      {shown}"]
        if self.env:
            lines.append("environment  " + " ".join(clean(name) for name, _ in self.env))
        real = os.path.realpath(self.argv[0])
        if real != self.argv[0]:
            lines.append(f"leads to     {clean(real)}")
        return "\n".join([*lines, f"program      SHA-256 {self.program_hash}", f"fingerprint  {self.fingerprint}"])


@dataclass(frozen=True)
class TrustEntry:
    """A remembered command."""

    fingerprint: str
    profile: str
    argv: tuple[str, ...]
    trusted_at: float
    """POSIX seconds."""


class CommandTrust:
    """The remembered commands. Methods block for milliseconds; raise JumpdeckError."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or state_dir() / FILE_NAME

    def entries(self) -> list[TrustEntry]:
        """All of them, the newest last."""
        return [
            TrustEntry(fingerprint, str(raw.get("profile", "")), tuple(str(part) for part in raw.get("argv", ())),
                       float(raw.get("trusted_at", 0.0)))
            for fingerprint, raw in self._read().items()
        ]  # fmt: skip

    def trusts(self, command: TrustedCommand) -> bool:
        """Whether exactly this was trusted."""
        return command.fingerprint in self._read()

    def add(self, command: TrustedCommand) -> None:
        """Remember it."""
        private_dir(self.path.parent)
        with lock(self.path):
            known = self._read()
            known[command.fingerprint] = {
                "profile": command.profile, "argv": [clean(part) for part in command.argv], "trusted_at": time.time(),
            }  # fmt: skip
            self._write(dict(list(known.items())[-MAX_COMMANDS:]))

    def remove(self, fingerprint: str) -> bool:
        """Forget the command with this fingerprint, or one beginning of it that is unique. False when none fits."""
        if not self.path.exists():
            return False
        with lock(self.path):
            known = self._read()
            wanted = fingerprint.lower().removeprefix("sha256:")
            found = [name for name in known if wanted and name.lower().removeprefix("sha256:").startswith(wanted)]
            if len(found) != 1:
                return False
            del known[found[0]]
            self._write(known)
        return True

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        try:
            found = json.loads(read_private(self.path, what="list of trusted commands"))
            known = found["commands"]
            return {str(name): dict(raw) for name, raw in known.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise JumpdeckError(
                "The list of trusted commands cannot be read", clean(str(self.path)),
                "Delete it; each command is then asked for again.", code="JD-TRUST-FILE",
            ) from exc  # fmt: skip

    def _write(self, known: dict[str, dict[str, Any]]) -> None:
        write_private(self.path, json.dumps({"version": 1, "commands": known}, indent=1).encode())


def find_program(command: str, folder: Path) -> Path | None:
    """The absolute path of a command as client-go finds it: with a slash from the kubeconfig's folder, else on PATH.

    Relative folders of PATH, and on Windows the current folder and batch files, take no part.
    """
    windows = sys.platform == "win32"
    endings = ("", ".exe", ".com") if windows else ("",)
    if "/" in command or (windows and ("\\" in command or ":" in command)):
        places = [folder.absolute() / Path(command).expanduser()]
    else:
        parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
        places = [Path(part) / command for part in parts if part and os.path.isabs(part)]
    for place in places:
        for ending in endings:
            candidate = place.with_name(place.name + ending)
            if windows and candidate.suffix.lower() not in (".exe", ".com"):
                continue
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return Path(os.path.abspath(candidate))
    return None


def hash_program(path: Path) -> str:
    """SHA-256 of a file, hex. Blocks; a program of 100 MB takes a tenth of a second."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_HASH_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def trust_needed(command: TrustedCommand) -> SignInError:
    """The error of a command that was not trusted and cannot be asked for."""
    return SignInError(
        "The kubeconfig wants to run a command that was not trusted yet",
        " ".join(_quoted(clean(part)) for part in command.argv),
        f"Look at it and trust it first: jumpdeck trust {command.profile}",
        code="JD-TRUST-COMMAND", layer="trust", recovery=Recovery.NEEDS_PERSON,
    )  # fmt: skip


def _quoted(part: str) -> str:
    plain = part and all(letter.isalnum() or letter in "-_./:=@,+%\\" for letter in part)
    return part if plain else "'" + part.replace("'", "'\\''") + "'"
