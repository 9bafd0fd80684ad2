"""Asks the person at the console what a sign-in needs; one question at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from textual.app import App
from textual.screen import ModalScreen

if TYPE_CHECKING:
    from app.trust import TrustedCommand

T = TypeVar("T")


class ConsoleAsker:
    """The `Asker` of sessions that run under the console. Sessions wait; the screen goes on."""

    def __init__(self, app: App[None]) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def ask_secret(self, what: str) -> str | None:
        """Ask without echo; None when the person gives up."""
        from screens.dialogs import SecretScreen

        return await self._ask(SecretScreen(what))

    async def ask_trust(self, command: TrustedCommand) -> bool:
        """Show the command as it will run and ask whether it may."""
        from screens.dialogs import TrustScreen

        question = f"The kubeconfig of {command.profile} wants to run this command to sign in:"
        answer = await self._ask(TrustScreen(question, command.describe()))
        return answer is True

    async def _ask(self, screen: ModalScreen[T]) -> T | None:
        async with self._turn:
            answer: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
            self._app.call_later(self._push, screen, answer)
            return await answer

    def _push(self, screen: ModalScreen[T], answer: asyncio.Future[T | None]) -> None:
        def answered(value: T | None) -> None:
            if not answer.done():
                answer.set_result(value)

        self._app.push_screen(screen, answered)
