"""The audit record (S-29): who decided what, as JSON lines that cannot be changed without it being seen.

One file a day (UTC) in `audit/` of the state folder, 0600, opened for appending only, one `write` for each record.
Every record carries the SHA-256 of the line before it, over the end of a day too: a line that was changed, removed or
put in breaks the chain. Lines cut off at the very end do not show; a copy elsewhere is what helps against that.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from app import __version__
from app.errors import JumpdeckError
from app.files import lock, private_dir, shown
from app.folders import state_dir
from app.records import Record

MAX_TEXT = 2_048
"""Characters of one fact; an ARM id has some hundreds."""
_TAIL = 256 << 10
"""Bytes at the end of a file that hold its last line for sure: a record has at most a dozen facts."""
MAX_WAITING = 1_000
"""Records that wait for the writer: sessions that flap make a few a second, and each takes it a millisecond."""
FLUSH_LIMIT = 2.0
"""Seconds that the end of the process waits for records: a console window that closes leaves five in all (Windows)."""
_GENESIS = "0" * 64
_SESSION = os.urandom(8).hex()
"""Names this process in its records."""
_log = logging.getLogger("app.audit")

Fact = str | int | float | None


class Problem(Record):
    """A place where the record is not as it was written."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{shown(self.path)}:{self.line}: {self.text}"


def audit_dir() -> Path:
    """Where the records are."""
    return state_dir() / "audit"


def record(event: str, **facts: Fact) -> None:
    """Append one record; `event` is a stable name (`host-key.trusted`), `facts` never secrets.

    Never raises: when it cannot be written, the program's log says so. Blocks for milliseconds.
    """
    try:
        _append(audit_dir(), event, facts)
    except (JumpdeckError, OSError, ValueError) as exc:
        _not_written(event, exc)


def record_soon(event: str, **facts: Fact) -> None:
    """As `record`, for a loop that must not block: a thread writes, in the order of the calls."""
    _WRITER.put(audit_dir(), event, facts)


def flush(limit: float = FLUSH_LIMIT) -> bool:
    """Wait until all that came by `record_soon` is written, at most `limit` seconds; whether it is. Blocks."""
    return _WRITER.flush(limit)


def _not_written(event: str, why: object) -> None:
    _log.warning("the audit record could not be written: %s: %s", event, why)


class _Writer:
    """Writes records behind whoever makes them. Its thread lives while there is something to write."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Path, str, dict[str, Fact]]] = deque()
        self._runs = False

    def put(self, folder: Path, event: str, facts: dict[str, Fact]) -> None:
        """Have it written. When too many wait, the program's log says that this one is not."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                _not_written(event, "too many are waiting")
                return
            self._waiting.append((folder, event, facts))
            if self._runs:
                return
            self._runs = True
            try:
                threading.Thread(target=self._write, name="audit", daemon=True).start()
            except RuntimeError as exc:  # too many threads; the next record tries again
                self._runs = False
                self._waiting.clear()
                _not_written(event, exc)

    def _write(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._runs = False
                    self._changed.notify_all()
                    return
                folder, event, facts = self._waiting.popleft()
            try:
                _append(folder, event, facts)
            except Exception as exc:  # the thread must go on
                _not_written(event, exc)

    def flush(self, limit: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._runs, limit)


_WRITER = _Writer()
atexit.register(flush)


def verify(path: Path) -> list[Problem]:
    """What is wrong with one day's file, or with all files of a folder and the links between them. Raises OSError."""
    problems: list[Problem] = []
    previous: str | None = None
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        previous = _verify_file(file, previous, problems)
    return problems


def _verify_file(path: Path, previous: str | None, problems: list[Problem]) -> str | None:
    """Check one file whose first record must follow `previous` (None: not known); returns the hash of its last line."""
    lines = path.read_bytes().split(b"\n")
    if lines[-1]:
        problems.append(Problem(path, len(lines), "the last line is not whole"))
    else:
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            stated = json.loads(line)["prev"]
        except (ValueError, TypeError, KeyError):
            if number < len(lines) or line.endswith(b"}"):
                problems.append(Problem(path, number, "not a record (cut while it was written, or changed)"))
        else:
            if previous is not None and stated != previous:
                problems.append(Problem(path, number, "does not follow the line before it: lines were changed"))
        previous = _hash(line)
    return previous


def _append(folder: Path, event: str, facts: dict[str, Fact]) -> None:
    private_dir(folder)
    with lock(folder / "chain"):
        now = time.time()
        path = folder / (time.strftime("%Y-%m-%d", time.gmtime(now)) + ".jsonl")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
        try:
            tail, whole = _last_line(handle)
            if not tail:
                tail, _ = _last_line_before(path)
            entry = _entry(now, event, facts, _hash(tail) if tail else _GENESIS)
            # a record that was cut short by a crash stays as a line of its own, and this one begins a new line
            os.write(handle, (b"" if whole else b"\n") + entry + b"\n")
        finally:
            os.close(handle)


def _entry(now: float, event: str, facts: dict[str, Fact], previous: str) -> bytes:
    fields: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z",
        "monotonic": round(time.monotonic(), 6), "user": _user(), "host": _host(), "session": _SESSION,
        "pid": os.getpid(), "version": __version__, "event": event,
        "facts": {name: _fact(value) for name, value in facts.items()}, "prev": previous,
    }  # fmt: skip
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode()


def _fact(value: Fact) -> Fact:
    return value if value is None or isinstance(value, int | float) else str(value)[:MAX_TEXT]


def _user() -> str:
    """The account as the system has it: what the environment says of it anybody can set."""
    if sys.platform == "win32":
        try:
            return os.getlogin()
        except OSError:
            return ""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without a name
        return str(os.getuid())


def _host() -> str:
    import socket

    return socket.gethostname()


def _last_line(handle: int) -> tuple[bytes, bool]:
    """The last line of a file without its end, and whether it is whole (an empty file is)."""
    size = os.lseek(handle, 0, os.SEEK_END)
    if size == 0:
        return b"", True
    os.lseek(handle, max(0, size - _TAIL), os.SEEK_SET)
    tail = b""
    while piece := os.read(handle, _TAIL):
        tail += piece
    whole = tail.endswith(b"\n")
    return tail.removesuffix(b"\n").rpartition(b"\n")[2], whole


def _last_line_before(path: Path) -> tuple[bytes, bool]:
    """The last line of the newest file of an earlier day."""
    earlier = sorted(file for file in path.parent.glob("*.jsonl") if file.name < path.name)
    if not earlier:
        return b"", True
    handle = os.open(earlier[-1], os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        return _last_line(handle)
    finally:
        os.close(handle)


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
