"""Questions to the person at the controlling terminal, never through standard input, which may be a pipe."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

from app.text import clean, clean_block

if TYPE_CHECKING:
    from app.asking import HostKeyQuestion, Prompt, SecretAnswer
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

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        """A hidden answer, kept in memory only; None when nothing was typed."""
        import asyncio

        from app.asking import SecretAnswer

        try:
            answer = await asyncio.to_thread(getpass.getpass, f"{clean(what)}: ")
        except (EOFError, OSError):
            return None
        return SecretAnswer(answer) if answer else None

    async def ask_trust(self, command: TrustedCommand) -> bool:
        """Show exactly what would run; only the word `trust` counts as yes."""
        import asyncio

        question = f"{command.describe()}\nType `trust` to let it run: "
        try:
            return await asyncio.to_thread(ask_line, question) == "trust"
        except OSError:
            return False

    async def ask_host_key(self, question: HostKeyQuestion) -> bool:
        """Show the key; the last four characters of its fingerprint, or `trust`, count as yes."""
        import asyncio

        lines = [
            f"{question.host} ({question.address}) is not known yet. It shows this {question.key_type} key:",
            f"  {question.fingerprint}",
            *(f"  {note}" for note in question.notes),
            f"Compare it, then type its last four characters ({question.proof}) or `trust`: ",
        ]
        try:
            typed = await asyncio.to_thread(ask_line, "\n".join(lines))
        except OSError:
            return False
        return typed in (question.proof, "trust")

    async def ask_prompts(
        self, server: str, title: str, instructions: str, prompts: tuple[Prompt, ...]
    ) -> tuple[str, ...] | None:
        """Each of the server's prompts in turn; None at end of file."""
        import asyncio

        def ask() -> tuple[str, ...] | None:
            answers = []
            heading = "\n".join(f"[from {server}] {line}" for line in (title, instructions) if line)
            for number, prompt in enumerate(prompts):
                text = f"[from {server}] {prompt.text} "
                shown = f"{heading}\n{text}" if heading and number == 0 else text
                answers.append(ask_line(shown) if prompt.echo else getpass.getpass(clean_block(shown)))
            return tuple(answers)

        try:
            return await asyncio.to_thread(ask)
        except (EOFError, OSError):
            return None

    def tell(self, server: str, text: str) -> None:
        """A banner goes to standard error, line by line, with its speaker's name."""
        for line in clean_block(text).splitlines():
            sys.stderr.write(f"[from {clean(server)}] {line}\n")
