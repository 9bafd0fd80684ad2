"""Questions to the person at the controlling terminal, never through standard input, which may be a pipe."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

from app.text import clean, clean_block

if TYPE_CHECKING:
    from app.trust import TrustedCommand


def ask_line(question: str) -> str:
    """A visible answer from the controlling terminal; empty at end of file. Raises OSError without a terminal."""
    if sys.platform == "win32":
        with open("CONOUT$", "w", encoding="utf-8") as out, open("CONIN$", encoding="utf-8") as answers:
            out.write(clean_block(question))
            out.flush()
            return answers.readline().strip()
    with open("/dev/tty", "r+b", buffering=0) as terminal:
        terminal.write(clean_block(question).encode())
        return terminal.readline().decode("utf-8", "replace").strip()


class TerminalAsker:
    """Asks off the loop, so that a slow typist holds up nothing else."""

    async def ask_secret(self, what: str) -> str | None:
        """A hidden answer, kept in memory only; None when nothing was typed."""
        import asyncio

        try:
            answer = await asyncio.to_thread(getpass.getpass, f"{clean(what)}: ")
        except (EOFError, OSError):
            return None
        return answer or None

    async def ask_trust(self, command: TrustedCommand) -> bool:
        """Show exactly what would run; only the word `trust` counts as yes."""
        import asyncio

        question = f"{command.describe()}\nType `trust` to let it run: "
        try:
            return await asyncio.to_thread(ask_line, question) == "trust"
        except OSError:
            return False
