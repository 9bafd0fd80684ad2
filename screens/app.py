"""The console as an application: its life from first frame to clean exit. What it shows is in the other screens."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.filter import LineFilter

from app.errors import ExitCode, JumpdeckError
from app.tasks import TaskOwner
from screens.asking import ConsoleAsker
from screens.main import MainScreen
from screens.sanitise import SANITISE
from screens.signals import on_signals
from screens.terminal import lasting_driver
from screens.typeahead import OrderedKeysApp
from widgets.glyphs import ASCII, UNICODE
from widgets.profile_list import ProfileEntry

if TYPE_CHECKING:
    from textual.command import Provider

    from app.profiles.store import ProfileBook
    from app.sessions.supervisor import Sessions
    from screens.bridge import Bridge

CONFIRM = 3.0
"""Seconds within which ctrl+c must be pressed again when routes are open."""
CLOSE_LIMIT = 4.0
"""Seconds that closing all sessions may take: a window that closes leaves five in all (Windows)."""
_REFUSED = frozenset(
    {"screenshot", "simulate_key", "suspend_process", "add_class", "remove_class", "toggle_class", "change_theme"}
)
"""Actions of the framework that nothing here uses: they write files, fake keys, or leave the screen (S-26)."""


def _provider() -> type[Provider]:
    """The palette's offers, loaded when it is opened."""
    from screens.palette import ConsoleProvider

    return ConsoleProvider


def _load_services() -> None:
    from screens.bridge import load_services

    load_services()


@dataclass(frozen=True)
class Ground:
    """What the console stands on, known once the profile file is read."""

    entries: tuple[ProfileEntry, ...]
    make_sessions: Callable[[ConsoleAsker], Sessions]
    problem: JumpdeckError | None = None
    """What is wrong with a profile file as a whole."""
    book: ProfileBook | None = None
    """The profiles themselves, for sessions that are opened later."""


class ConsoleApp(OrderedKeysApp):
    """Owns the sessions: it makes them after the first frame and awaits their end before it leaves."""

    CSS_PATH = "console.tcss"
    TITLE = "Jumpdeck"
    COMMANDS: ClassVar[set[Any]] = {_provider}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", "quit", id="app.interrupt", priority=True, show=False,
                tooltip="Leave Jumpdeck; twice when a route is open."),
        Binding("ctrl+q", "interrupt", "quit", id="app.quit", priority=True, show=False,
                tooltip="Leave Jumpdeck; twice when a route is open."),
    ]  # fmt: skip

    def __init__(
        self,
        survey: Callable[[], Ground],
        *,
        first: str | None = None,
        ascii_only: bool = False,
        clock: Callable[[], float] = time.time,
        load: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.main = MainScreen(clock, ASCII if ascii_only else UNICODE)
        self.set_class(ascii_only, "-ascii")
        self._survey = survey
        self._first = first
        self._clock = clock
        self._load = load or _load_services
        self._owner = TaskOwner("console")
        self._bridge: Bridge | None = None
        self._interrupted_at = -CONFIRM
        self._leaving = False
        self._undo_signals: Callable[[], None] | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    def get_default_screen(self) -> MainScreen:
        """The main screen is the only one at first."""
        return self.main

    def on_mount(self) -> None:
        """Take over signals and failures of tasks; load the rest once the first frame stands."""
        asyncio.get_running_loop().set_exception_handler(self._task_failed)
        if not self.is_headless:
            self._undo_signals = on_signals(self._end)
        self.call_after_refresh(self._start_loading)

    def _start_loading(self) -> None:
        self._owner.spawn(self._load_services(), name="load services")

    async def _load_services(self) -> None:
        ground = await asyncio.to_thread(self._survey)
        self.main.entries = ground.entries
        self.main.surveyed = True
        await asyncio.to_thread(self._load)
        from screens.bridge import Bridge

        asker = ConsoleAsker(self, self.main.flash)
        self._bridge = Bridge(ground.make_sessions(asker), self.main.post_message, asker.ask_look)
        self.main.bridge = self._bridge
        gc.collect()
        gc.freeze()  # what is loaded now stays: the collector need not look at it again
        gc.enable()
        if ground.problem is not None:
            from app.messages import FailureMet

            self.main.post_message(FailureMet(ground.problem))
        if self._first is not None:
            self.call_later(self.main.open, self._first)

    async def on_unmount(self) -> None:
        """The net under `action_quit`: whatever way the application ends, sessions end first."""
        if self._undo_signals is not None:
            self._undo_signals()
        await self._close()
        await self._owner.aclose()

    async def _close(self) -> None:
        if self._bridge is not None:
            bridge, self._bridge = self._bridge, None
            try:
                async with asyncio.timeout(CLOSE_LIMIT):
                    await bridge.aclose()
            except TimeoutError:
                return

    async def action_reload(self) -> None:
        """Read the profile file again: new profiles appear, open sessions run on as they were opened."""
        from app.messages import FailureMet

        try:
            ground = await asyncio.to_thread(self._survey)
        except JumpdeckError as error:
            self.main.post_message(FailureMet(error))
            return
        self.main.entries = ground.entries
        if self._bridge is not None and ground.book is not None:
            self._bridge.sessions.adopt(ground.book)
        if ground.problem is not None:
            self.main.post_message(FailureMet(ground.problem))
        else:
            self.main.flash(f"Read again: {len(ground.entries)} profiles")

    # -- leaving -------------------------------------------------------------------------------------------------------

    async def action_quit(self) -> None:
        """Close all sessions, then leave."""
        self._end(ExitCode.DONE)

    def action_interrupt(self) -> None:
        """Leave at once with no route open, else on the second press."""
        now = time.monotonic()
        routes = len(self._bridge.open_names) if self._bridge else 0
        if routes and now - self._interrupted_at > CONFIRM:
            self._interrupted_at = now
            self.main.flash(f"{routes} route{'s' * (routes > 1)} open: press again to close and leave")
        else:
            self._end(ExitCode.DONE)

    def _end(self, code: ExitCode) -> None:
        """Close everything and leave with an exit code. Also called by signals."""
        if not self._leaving:
            self._leaving = True
            self._owner.spawn(self._close_and_exit(code), name="leave")

    async def _close_and_exit(self, code: ExitCode) -> None:
        if self.main.is_attached:
            self.main.flash("closing …")
        await self._close()
        self.exit(return_code=int(code))

    # -- what must not happen ------------------------------------------------------------------------------------------

    def get_line_filters(self) -> Sequence[LineFilter]:
        """The framework's filters, and last ours: see `screens.sanitise`."""
        return [*super().get_line_filters(), SANITISE]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Refuse what the framework offers and nothing here uses."""
        return action not in _REFUSED and super().check_action(action, parameters)

    def get_driver_class(self) -> type[Driver]:
        """The framework's driver, made to outlive its terminal."""
        return lasting_driver(super().get_driver_class())

    def _set_pointer_shape(self, shape: str) -> None:
        """Leave the mouse pointer alone: without this no `ESC ]` reaches the terminal at all, which tests can hold."""

    def terminal_lost(self) -> None:
        """The window was closed, or the connection to it lost."""
        self._end(ExitCode.TERMINATED)

    def _task_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task failed that nobody waited for: a defect. It goes to the log and is named on the screen."""
        from app.program_log import log_crash

        error = context.get("exception")
        if isinstance(error, BaseException):
            log_crash(error)
            if self.main.is_attached:
                self.main.flash(f"A part of Jumpdeck failed: {type(error).__name__} [JD-CONSOLE-TASK]")

    def _fatal_error(self) -> None:
        """Leave after a defect. The framework's own way prints local variables, which may hold secrets (S-08)."""
        from app.program_log import log_crash
        from app.text import prose

        error = sys.exc_info()[1] or self._exception
        path = log_crash(error) if error is not None else None
        lines = [
            "Jumpdeck failed [JD-CONSOLE-CRASH]",
            f"{type(error).__name__}: {prose(str(error), 300)}",
            f"The details are in {path}." if path else "Run it again with --verbose to keep the details.",
        ]
        self._exit_renderables.append(Text("\n".join(lines)))
        self._close_messages_no_wait()
