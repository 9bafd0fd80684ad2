"""Those who wait for a sign-in, and what each of them is shown while a person signs in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.tasks import spawn

if TYPE_CHECKING:
    from app.asking import Asker, DeviceCode


class Waiting:
    """Counts who waits by whom they can ask; shows all of them the same sign-in, also those who come later.

    Each session's asker has its session stand aside; which of them draws the code they settle among themselves.
    """

    def __init__(self) -> None:
        self._askers: dict[int, tuple[Asker, int]] = {}
        self._shows: dict[int, asyncio.Task[None]] = {}
        self._code: DeviceCode | None = None
        self._gave_up = asyncio.Event()

    @property
    def anybody(self) -> bool:
        """Whether somebody who waits can be asked."""
        return bool(self._askers)

    def join(self, asker: Asker | None) -> None:
        """One more waits."""
        if asker is None:
            return
        _, count = self._askers.get(id(asker), (asker, 0))
        self._askers[id(asker)] = asker, count + 1
        self._show_to(asker)

    def leave(self, asker: Asker | None) -> None:
        """One waits no more."""
        if asker is None:
            return
        _, count = self._askers[id(asker)]
        if count > 1:
            self._askers[id(asker)] = asker, count - 1
            return
        del self._askers[id(asker)]
        if (show := self._shows.pop(id(asker), None)) is not None:
            show.cancel()

    def show(self, code: DeviceCode) -> None:
        """Show all who wait what to do."""
        self._code = code
        for asker, _ in tuple(self._askers.values()):
            self._show_to(asker)

    async def given_up(self) -> None:
        """Return when a person gives up."""
        self._gave_up.clear()
        await self._gave_up.wait()

    async def hide(self) -> None:
        """The sign-in has ended, well or not."""
        self._code = None
        shows = list(self._shows.values())
        for show in shows:
            show.cancel()
        if shows:
            await asyncio.wait(shows)

    async def aclose(self) -> None:
        """Show nothing more."""
        await self.hide()

    def _show_to(self, asker: Asker) -> None:
        if self._code is not None and id(asker) not in self._shows:
            show = spawn(asker.show_device_code(self._code), name="show a sign-in")
            self._shows[id(asker)] = show
            show.add_done_callback(lambda done: self._ended(id(asker), done))

    def _ended(self, key: int, show: asyncio.Task[None]) -> None:
        if self._shows.get(key) is show:
            del self._shows[key]
        if show.cancelled():
            return
        show.exception()  # who cannot show it leaves the person without it: given up as well
        self._gave_up.set()
