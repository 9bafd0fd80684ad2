"""A terminal driver that outlives its terminal: when the window is closed, sessions still get to close (R-15).

The framework's writer thread dies at the first failed write; its queue then fills and blocks the loop for good.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from textual.driver import Driver

if TYPE_CHECKING:
    from typing import IO


class _Endable(Protocol):
    """An application that can be told that its terminal has gone."""

    def terminal_lost(self) -> None: ...


class LastingFile:
    """Passes text on until that fails; from then on swallows it."""

    def __init__(self, file: IO[str], lost: Callable[[], None]) -> None:
        self._file = file
        self._lost = lost
        self._gone = False

    def _try(self, call: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            call()
        except (OSError, ValueError):
            self._gone = True
            self._lost()

    def write(self, text: str) -> int:
        """Pass text on."""
        self._try(lambda: self._file.write(text))
        return len(text)

    def flush(self) -> None:
        """Pass on what is held back."""
        self._try(self._file.flush)

    def fileno(self) -> int:
        """The descriptor of the terminal."""
        return self._file.fileno()


def lasting_driver(ordinary: type[Driver]) -> type[Driver]:
    """The framework's driver for this terminal, made to last. Windows ends the process with its window anyway."""
    if sys.platform == "win32":
        return ordinary
    from textual.drivers.linux_driver import LinuxDriver

    class LastingDriver(LinuxDriver):
        """Tells the application, once, that the terminal has gone."""

        def __init__(self, app: Any, **options: Any) -> None:
            super().__init__(app, **options)
            self._told = False
            self._file: Any = LastingFile(self._file, self._lost)

        def _lost(self) -> None:
            if not self._told:
                self._told = True
                app = cast("_Endable", self._app)
                self._app.call_later(app.terminal_lost)

        def run_input_thread(self) -> None:
            """Read keys until the terminal has gone."""
            try:
                super().run_input_thread()
            except OSError:
                self._lost()

    return LastingDriver if issubclass(LinuxDriver, ordinary) else ordinary
