"""Private files: who may change what we trust, and saves that survive a crash (requirements S-10 and S-11).

POSIX judges owner and mode bits; Windows judges the security descriptor (`app.windows_acl`).
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from app.errors import ProfileError
from app.pids import is_taken
from app.text import clean

VERSIONS_KEPT = 5
"""Previous versions of a file that stay beside it (S-11)."""
LOCK_SECONDS = 10.0
"""Longest wait for another process of ours that is saving; a save takes milliseconds."""
_LOCK_PAUSE_SECONDS = 0.05
_BUSY_SECONDS = 2.0
"""Windows: a virus scanner may hold a new file open for a moment; the replacement is tried again for this long."""
MAX_LINKS = 8
"""Links that are followed one after the other; dotfile managers use one or two."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ANY = stat.S_IRWXG | stat.S_IRWXO
_O_BINARY = getattr(os, "O_BINARY", 0)
_O_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_O_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # opening a pipe that nobody writes must not hang


def read_private(path: Path, *, limit: int = 1 << 20, what: str = "profile file", shared: bool = False) -> bytes:
    """The bytes of a file that only the user, root or Administrators may change; at most `limit` bytes.

    Readable by others is allowed when `shared`, else it is tightened when the file is ours. A link is followed when the
    link and its target are the user's. Raises ProfileError with the repairing command (JD-PROFILE-PERMISSION), or
    JD-PROFILE-MISSING, JD-PROFILE-UNREADABLE, JD-PROFILE-TOO-LARGE.
    """
    try:
        target = _follow(path, what)
        _check_folder(target.parent, what)
        handle = os.open(target, os.O_RDONLY | _O_BINARY | _O_NOFOLLOW | _O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):  # before `open`, which keeps a directory's handle when it refuses it
            os.close(handle)
            raise _unreadable(path, what, "it is not a regular file")
        with open(handle, "rb") as file:
            _check(target, found, what, linked=target != path)
            if not shared and sys.platform != "win32" and found.st_uid == os.getuid() and found.st_mode & _OTHERS_ANY:
                with contextlib.suppress(OSError):  # a read-only file system: what counts is that nobody else can write
                    os.fchmod(handle, stat.S_IMODE(found.st_mode) & ~_OTHERS_ANY)
            data = file.read(limit + 1)
    except FileNotFoundError as exc:
        raise ProfileError(
            f"The {what} does not exist", shown(path), "Check the path.", code="JD-PROFILE-MISSING"
        ) from exc
    except OSError as exc:
        raise _unreadable(path, what, clean(exc.strerror or str(exc))) from exc
    except ValueError as exc:  # a null character in the path
        raise _unreadable(path, what, clean(str(exc))) from exc
    if len(data) > limit:
        raise ProfileError(
            f"The {what} is too large",
            f"{shown(path)}: more than {limit} bytes",
            "Is it the right file?",
            code="JD-PROFILE-TOO-LARGE",
        )
    return data


def write_private(path: Path, data: bytes, *, versions: int = 0) -> None:
    """Replaces `path` in one step by a 0600 file with `data`; whoever reads meanwhile sees the old or the new, whole.

    A link stays a link: its target is replaced, when link and target are the user's. With `versions`, that many
    previous contents stay beside it, `.NAME.~1~` the newest. Raises ProfileError (JD-PROFILE-PERMISSION, -SAVE).
    """
    temporary: Path | None = None
    try:
        target = _follow(path, "file")
        private_dir(target.parent)
        with contextlib.suppress(FileNotFoundError):
            _check(target, os.lstat(target), "file", linked=target != path)
        sweep(target)
        temporary = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(6).hex()}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_NOFOLLOW | _O_BINARY | getattr(os, "O_CLOEXEC", 0)
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if versions:
            _keep_previous(target, versions)
        _replace(temporary, target)
        temporary = None
        _sync_folder(target.parent)
    except OSError as exc:
        raise ProfileError(
            f"Cannot save {shown(path)}",
            f"{clean(exc.strerror or str(exc))}; the old contents are untouched",
            "Free space, or correct the folder's permissions, and try again.",
            code="JD-PROFILE-SAVE",
        ) from exc
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def private_dir(path: Path) -> Path:
    """The folder `path`, made 0700 when it is missing. Raises ProfileError when others may write to it."""
    try:
        # On Windows mode 0700 sets a private list of rights from CPython 3.11.10 on; before, the profile's own applies.
        if not path.is_dir():
            private_parent(path.parent)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
        _check_folder(path, "folder")
    except OSError as exc:
        raise ProfileError(
            f"Cannot use the folder {shown(path)}",
            clean(exc.strerror or str(exc)),
            "Correct it, or name another folder.",
            code="JD-PROFILE-FOLDER",
        ) from exc
    return path


def private_parent(path: Path) -> None:
    """Makes the missing folders above a private one; those that exist are left alone (`~/.config` may be 0755)."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def sweep(path: Path) -> None:
    """Removes what a killed save of `path` left behind. Only with the lock held, or when only one process saves."""
    for stale in path.parent.glob(f".{_globbed(path.name)}.*-*.tmp"):
        with contextlib.suppress(OSError, ValueError):
            owner = int(stale.name.rsplit(".", 2)[1].split("-")[0])
            if owner != os.getpid() and not is_taken(owner):
                stale.unlink()


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds the lock of `path` (a file `.NAME.lock` beside it) against other processes and threads of ours.

    The system lets go when the process dies. Raises ProfileError (JD-PROFILE-LOCKED) after `LOCK_SECONDS`.
    """
    handle = open_lock(path)
    try:
        until = time.monotonic() + LOCK_SECONDS
        while not try_lock(handle):  # neither system offers a lock with a limit, so it is asked for again
            if time.monotonic() > until:
                raise ProfileError(
                    f"{shown(path)} is being saved by another Jumpdeck",
                    f"waited {LOCK_SECONDS:.0f} s",
                    "Close the other one, or try again.",
                    code="JD-PROFILE-LOCKED",
                )
            time.sleep(_LOCK_PAUSE_SECONDS)
        yield
    finally:
        os.close(handle)


def open_lock(path: Path) -> int:
    """The lock's file of `path`, open and not yet held (`try_lock`). Closing it lets go. Raises ProfileError."""
    private_dir(path.parent)
    beside = path.with_name(f".{path.name}.lock")
    try:
        return os.open(beside, os.O_RDWR | os.O_CREAT | _O_NOFOLLOW | _O_BINARY | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as exc:
        raise ProfileError(
            f"Cannot lock {shown(path)}", clean(exc.strerror or str(exc)), "Correct the folder.", code="JD-PROFILE-SAVE"
        ) from exc


def previous(path: Path) -> list[Path]:
    """The kept versions of `path`, newest first."""
    found = (path.with_name(f".{path.name}.~{number}~") for number in range(1, VERSIONS_KEPT + 1))
    return [version for version in found if version.exists()]


def shown(path: Path) -> str:
    """A path for people: harmless, with `~` for the home folder."""
    with contextlib.suppress(ValueError, RuntimeError):
        inside = path.relative_to(Path.home())
        return clean(str(Path("~") / inside))
    return clean(str(path))


def complaint(owner: int, mode: int, me: int) -> str | None:
    """What is wrong with a POSIX file or folder of `owner` with `mode`, for user `me`; None when nothing is."""
    if owner not in (me, 0):
        return f"it belongs to user {owner}"
    if mode & _OTHERS_WRITE:
        sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX  # as in /tmp: others cannot replace our files there
        return None if sticky else "others may write to it"
    return None


def _follow(path: Path, what: str) -> Path:
    """Where `path` leads. Every link on the way must be the user's (or root's)."""
    for _ in range(MAX_LINKS):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(found.st_mode):
            return path
        if sys.platform != "win32" and found.st_uid not in (os.getuid(), 0):
            raise _forbidden(path, what, f"the link belongs to user {found.st_uid}", f"Remove it: rm {_quoted(path)}")
        path = path.parent / os.readlink(path)
    raise _unreadable(path, what, f"more than {MAX_LINKS} links one after the other")


def _check(path: Path, found: os.stat_result, what: str, *, linked: bool) -> None:
    if sys.platform == "win32":
        from app.windows_acl import path_complaint

        if wrong := path_complaint(path):
            raise _forbidden(path, what, wrong, _windows_repair(path))
        return
    me = os.getuid()
    if linked and found.st_uid != me:
        raise _forbidden(path, what, "the link leads to a file that is not yours", "Replace the link by a copy.")
    if wrong := complaint(found.st_uid, found.st_mode, me):
        raise _forbidden(path, what, wrong, _repair(path, found, me))


def _check_folder(folder: Path, what: str) -> None:
    """Who may write to the folder can replace the file."""
    found = os.stat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(20, "not a folder", str(folder))
    if sys.platform == "win32":
        return  # the rights of the file itself include deletion, and %LOCALAPPDATA% is the user's own
    me = os.getuid()
    if wrong := complaint(found.st_uid, found.st_mode, me):
        raise _forbidden(folder, what, f"its folder is not safe, {wrong}", _repair(folder, found, me))


def _repair(path: Path, found: os.stat_result, me: int) -> str:
    if found.st_uid not in (me, 0):
        return f"Repair it: sudo chown {me} {_quoted(path)}"
    prefix = "" if found.st_uid == me else "sudo "
    return f"Repair it: {prefix}chmod go-w {_quoted(path)}"


def _windows_repair(path: Path) -> str:
    return f'Repair it: icacls "{clean(str(path))}" /setowner "%USERNAME%" && icacls "{clean(str(path))}" /reset /inheritance:r /grant:r "%USERNAME%:F"'  # fmt: skip # noqa: E501


def _forbidden(path: Path, what: str, why: str, repair: str) -> ProfileError:
    return ProfileError(f"The {what} is not safe to use", f"{shown(path)}: {why}", repair, code="JD-PROFILE-PERMISSION")


def _unreadable(path: Path, what: str, why: str) -> ProfileError:
    return ProfileError(
        f"Cannot read the {what}", f"{shown(path)}: {why}", "Correct the file.", code="JD-PROFILE-UNREADABLE"
    )


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(clean(str(path)))


def _globbed(name: str) -> str:
    import glob

    return glob.escape(name)


def _keep_previous(path: Path, versions: int) -> None:
    """Shifts the kept versions by one and adds the present contents; a crash in between loses at most the oldest."""
    if not path.exists():
        return
    names = [path.with_name(f".{path.name}.~{number}~") for number in range(1, versions + 1)]
    for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
        with contextlib.suppress(FileNotFoundError):
            os.replace(newer, older)
    try:
        os.link(path, names[0])
    except OSError:  # a file system without hard links
        import shutil

        shutil.copyfile(path, names[0])
    with contextlib.suppress(OSError):
        os.chmod(names[0], 0o600)


def _replace(source: Path, target: Path) -> None:
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if sys.platform == "win32" and time.monotonic() <= until:
                time.sleep(_LOCK_PAUSE_SECONDS)
                continue
            raise


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # NTFS journals the rename; a folder cannot be opened for fsync
    handle = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Hold the lock if nobody else does; whether it is held now. The system lets go when the process dies."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
