"""The program's own log file, `jumpdeck.log` in the state folder. Nothing is ever logged to the terminal.

Tracebacks go in without local variables: a local may be a secret.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from app.errors import JumpdeckError

_LIMIT = 4 << 20
"""Bytes after which the file starts anew; one older file is kept."""
_log = logging.getLogger("app")


def log_path() -> Path:
    """Where the log is."""
    from app.folders import state_dir

    return state_dir() / "jumpdeck.log"


def start_program_log(*, verbose: bool) -> None:
    """Send the `app` loggers to the file. Libraries stay quiet: some of them log tokens at debug level."""
    path = log_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _LIMIT:
            os.replace(path, path.with_suffix(".log.1"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        handle = os.fdopen(os.open(path, flags, 0o600), "a", encoding="utf-8")
    except OSError:
        return  # a read-only home must not keep anybody from working
    handler = logging.StreamHandler(handle)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.DEBUG if verbose else logging.INFO)
    _log.propagate = False


def keep_from_terminal(*libraries: str) -> None:
    """Send the warnings of these libraries where ours go. With no handler, Python prints them on standard error."""
    for name in libraries:
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.WARNING)
        logger.parent = _log


def log_error(error: JumpdeckError) -> None:
    """Record an error that was shown, with the exceptions that caused it."""
    if _log.handlers:
        _log.error("%s", " | ".join(error.lines()), exc_info=error if _log.isEnabledFor(logging.DEBUG) else None)


def log_crash(error: BaseException) -> Path | None:
    """Record a defect; returns the file, or None when it could not be written."""
    if not _log.handlers:
        start_program_log(verbose=False)
    if not _log.handlers:
        return None
    _log.critical("defect", exc_info=error)
    return log_path()
