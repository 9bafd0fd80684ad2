"""Signals that end the console: the terminal is restored and everything closed before it goes (R-15)."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

from app.errors import ExitCode

_CODES = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED, "SIGHUP": ExitCode.TERMINATED}
"""Names, because Windows has no SIGHUP."""


def on_signals(end: Callable[[ExitCode], None]) -> Callable[[], None]:
    """Call `end` in the running loop at the first signal; returns how to undo that."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        return _on_windows(loop, end)
    names = [name for name in _CODES if hasattr(signal, name)]
    for name in names:
        loop.add_signal_handler(getattr(signal, name), end, _CODES[name])

    def undo() -> None:
        for name in names:
            loop.remove_signal_handler(getattr(signal, name))

    return undo


def _on_windows(loop: asyncio.AbstractEventLoop, end: Callable[[ExitCode], None]) -> Callable[[], None]:
    """The C runtime tells Ctrl+Break, closing the window, logging off and shutting down as SIGBREAK."""
    codes = {"SIGBREAK": ExitCode.TERMINATED, "SIGTERM": ExitCode.TERMINATED, "SIGINT": ExitCode.INTERRUPTED}
    before = {}
    for name, code in codes.items():
        if (number := getattr(signal, name, None)) is not None:
            before[number] = signal.signal(number, lambda *_, code=code: loop.call_soon_threadsafe(end, code))

    def undo() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return undo
