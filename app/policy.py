"""The machine's policy (S-35): what nobody may do from this computer, whatever a user's own files say.

`/etc/jumpdeck/policy.toml`, on Windows `jumpdeck\\policy.toml` in the folder for program data. It only tightens. Only
root (Administrators, the system) may own or change it: a file that others could have written is an error, and so is
every word in it that is not known. With an error everything that a policy can forbid is forbidden. Neither variable nor
option names another file.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from app.errors import ProfileError
from app.records import Record
from app.text import clean

FORBIDDABLE = {
    "command-invoke": "commands that Azure runs in a cluster",
    "programs": "other programs on a cluster (exec, connect)",
    "listener": "ports on this computer that lead to a cluster",
}
"""What a policy can forbid, and how that is said."""
LIMIT = 64 << 10
"""Bytes of the file; it has one line."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0


class Policy(Record):
    """What is forbidden here."""

    forbid: frozenset[str] = frozenset()
    path: str = ""
    """The file; cleaned text, empty without one."""

    def require(self, name: str, profile: str) -> None:
        """Raise ProfileError (JD-POLICY-FORBIDDEN) when `name` is forbidden, and put that on record."""
        if name not in self.forbid:
            return
        from app.audit import record

        record("policy.forbidden", what=name, profile=profile, policy=self.path)
        raise ProfileError(
            "This computer's policy forbids it", f"{clean(profile)}: {FORBIDDABLE[name]}; {self.path} forbids {name}",
            "Use another profile or way in, or ask whoever looks after this computer.", code="JD-POLICY-FORBIDDEN",
        )  # fmt: skip


def require(name: str, profile: str, path: Path | None = None) -> None:
    """Raise ProfileError when the policy forbids `name`, or cannot be trusted. `path`: another file, for tests."""
    load(path).require(name, profile)


def policy_file() -> Path:
    """Where the machine's policy is; asked of the system, for a variable would be the user's to change."""
    if sys.platform == "win32":
        import ctypes

        found = ctypes.create_unicode_buffer(260)
        failed = ctypes.WinDLL("shell32").SHGetFolderPathW(None, 0x23, None, 0, found)  # CSIDL_COMMON_APPDATA
        return Path("C:\\ProgramData" if failed else found.value, "jumpdeck", "policy.toml")
    else:
        return Path("/etc/jumpdeck/policy.toml")


def load(path: Path | None = None) -> Policy:
    """The policy; one that forbids nothing where there is no file.

    Raises ProfileError: JD-POLICY-OWNER when others may have written it, JD-POLICY-FILE when it cannot be understood.
    """
    file = path or policy_file()
    try:
        data = _read(file)
    except (FileNotFoundError, NotADirectoryError):
        return Policy()
    except OSError as exc:
        raise _broken(file, clean(exc.strerror or type(exc).__name__), "Have it made readable for everybody.") from exc
    return Policy(_forbidden(file, data), clean(str(file)))


def _read(file: Path) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(file, flags | getattr(os, "O_NOFOLLOW", 0))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _broken(file, "it is not a regular file", "Put a file in its place.")
        if wrong := _others(file, found) or _others(file.parent, os.stat(file.parent)):
            raise ProfileError(
                "This computer's policy cannot be trusted", f"{clean(str(file))}: {wrong}",
                "Only an administrator may own or change it and its folder; until then what a policy can forbid is "
                "forbidden.", code="JD-POLICY-OWNER",
            )  # fmt: skip
        data = os.read(handle, LIMIT + 1)
    finally:
        os.close(handle)
    if len(data) > LIMIT:
        raise _broken(file, f"more than {LIMIT} bytes", "Is it the right file?")
    return data


def _others(path: Path, found: os.stat_result) -> str | None:
    """Who besides an administrator may change a file or folder; None: nobody."""
    if sys.platform == "win32":
        from app.windows_acl import admin_complaint

        return admin_complaint(path)
    else:
        return complaint(found.st_uid, found.st_mode)


def complaint(owner: int, mode: int) -> str | None:
    """What is wrong with a policy file, or its folder, of `owner` with `mode` (POSIX); None when nothing is."""
    if owner != _ROOT:
        return f"it belongs to user {owner}"
    return "others may write to it" if mode & _OTHERS_WRITE else None


def _forbidden(file: Path, data: bytes) -> frozenset[str]:
    import tomllib

    try:
        tables = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as exc:
        raise _broken(file, clean(str(exc))[:300], "Have the TOML corrected.") from exc
    names = tables.pop("forbid", [])
    if tables:
        raise _broken(file, f"unknown: {clean(', '.join(sorted(tables)))[:200]}", "It knows one field: forbid.")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _broken(file, "forbid is not a list of names", 'For example: forbid = ["command-invoke"]')
    if unknown := sorted(set(names) - FORBIDDABLE.keys()):
        raise _broken(file, f"unknown in forbid: {clean(', '.join(unknown))[:200]}",
                      f"It knows {', '.join(FORBIDDABLE)}.")  # fmt: skip
    return frozenset(names)


def _broken(file: Path, why: str, hint: str) -> ProfileError:
    return ProfileError(
        "This computer's policy cannot be understood", f"{clean(str(file))}: {why}",
        f"{hint} Until then what a policy can forbid is forbidden.", code="JD-POLICY-FILE",
    )  # fmt: skip
