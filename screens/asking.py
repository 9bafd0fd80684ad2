"""Asks the person at the console what a sign-in needs; one question at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from textual.app import App
from textual.screen import ModalScreen

from app.text import clean_block, clean_line

if TYPE_CHECKING:
    from app.asking import ConsentQuestion, DeviceCode, HostKeyQuestion, Prompt, SecretAnswer
    from app.trust import TrustedCommand

T = TypeVar("T")


BANNER_WIDTH = 100
"""Characters of a banner's first line that are shown in passing."""


class ConsoleAsker:
    """The `Asker` of sessions that run under the console. Sessions wait; the screen goes on."""

    def __init__(self, app: App[None], say: Callable[[str], None]) -> None:
        self._app = app
        self._say = say
        self._turn = asyncio.Lock()

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        """Ask without echo; None when the person gives up."""
        from screens.questions import SecretScreen

        return await self._ask(SecretScreen(what, may_keep=may_keep))

    async def ask_trust(self, command: TrustedCommand) -> bool:
        """Show the command as it will run and ask whether it may."""
        from screens.questions import TrustScreen

        question = f"The kubeconfig of {command.profile} wants to run this command to sign in:"
        return await self._ask(TrustScreen(question, command.describe())) is True

    async def ask_host_key(self, question: HostKeyQuestion) -> bool:
        """Show the key of an unknown server."""
        from screens.questions import HostKeyScreen

        return await self._ask(HostKeyScreen(question)) is True

    async def ask_prompts(
        self, server: str, title: str, instructions: str, prompts: tuple[Prompt, ...]
    ) -> tuple[str, ...] | None:
        """Ask what a server asks, all of it on one screen."""
        from screens.questions import PromptsScreen

        return await self._ask(PromptsScreen(server, title, instructions, prompts))

    async def ask_consent(self, question: ConsentQuestion) -> bool:
        """Show what would be done, and ask whether it may."""
        from screens.questions import ConsentScreen

        return await self._ask(ConsentScreen(question)) is True

    async def show_device_code(self, code: DeviceCode) -> None:
        """Show URL and code until the sign-in has ended, or the person gives up."""
        from screens.questions import DeviceCodeScreen

        await self._ask(DeviceCodeScreen(code))

    async def ask_look(self, profile: str) -> bool:
        """Whether a profile by command invoke may be looked at, at the price of a pod each time."""
        from screens.dialogs import LookScreen

        return await self._ask(LookScreen(profile)) is True

    def tell(self, server: str, text: str) -> None:
        """A banner: its first line for a moment; the route's page keeps all of it."""
        first = next((line for line in clean_block(text).splitlines() if line.strip()), "")
        if first:
            self._app.call_later(self._say, f"from {clean_line(server)}: {first[:BANNER_WIDTH]}")

    def note(self, text: str) -> None:
        """A sentence of Jumpdeck's own, for a moment."""
        self._app.call_later(self._say, clean_line(text))

    async def _ask(self, screen: ModalScreen[T]) -> T | None:
        """Show a question and wait. When whoever asks goes away, so does the question."""
        async with self._turn:
            answer: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
            self._app.call_later(self._push, screen, answer)
            try:
                return await answer
            except asyncio.CancelledError:
                self._app.call_later(self._withdraw, screen)
                raise

    def _push(self, screen: ModalScreen[T], answer: asyncio.Future[T | None]) -> None:
        def answered(value: T | None) -> None:
            if not answer.done():
                answer.set_result(value)

        if not answer.cancelled():
            self._app.push_screen(screen, answered)

    def _withdraw(self, screen: ModalScreen[T]) -> None:
        if screen in self._app.screen_stack:
            while self._app.screen is not screen:  # what lies on it was opened for it
                self._app.pop_screen()
            self._app.pop_screen()
