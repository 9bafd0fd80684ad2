"""Questions to the person at the controlling terminal, one at a time, however many sessions ask."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from app.cli.terminal import columns, in_foreground, read_answer, show
from app.text import MAX_PROSE, clean, clean_block

if TYPE_CHECKING:
    import asyncio

    from app.asking import ConsentQuestion, DeviceCode, HostKeyQuestion, Prompt, SecretAnswer
    from app.trust import TrustedCommand

T = TypeVar("T")

_WITHDRAW_LIMIT = 1.0
"""Seconds that a withdrawn question gets to put the terminal's modes back; it needs milliseconds."""
_LEAST_ROOM = 20
"""Columns for a server's words beside their label, on however narrow a terminal."""
_MAX_LINES = 60
"""Lines of a server's words; a notice to users has twenty."""
KEEP_QUESTION = "Keep it in the operating system's store? [y/N] "


def ask_line(question: str) -> str:
    """A visible answer from the controlling terminal; empty at end of file. Raises OSError without a terminal."""
    return (read_answer(question) or "").strip()


class TerminalAsker:
    """Asks off the loop, so that a slow typist holds up nothing else. A cancelled question restores the terminal."""

    def __init__(self) -> None:
        self._turn: asyncio.Lock | None = None

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        """A hidden answer; None when nothing was typed. With `may_keep`, `y` or `yes` then stores it for good."""
        from app.asking import SecretAnswer

        def ask(stop: int | None) -> SecretAnswer | None:
            answer = read_answer(f"{clean(what)}: ", hidden=True, stop=stop)
            if not answer:
                return None
            keep = may_keep and (read_answer(KEEP_QUESTION, stop=stop) or "").strip().lower() in ("y", "yes")
            return SecretAnswer(answer, keep)

        return await self._ask(ask)

    async def ask_trust(self, command: TrustedCommand) -> bool:
        """Show exactly what would run; only the word `trust` counts as yes."""
        question = f"{command.describe()}\nType `trust` to let it run: "
        return await self._ask_line(question) == "trust"

    async def ask_host_key(self, question: HostKeyQuestion) -> bool:
        """Show the key; the last four characters of its fingerprint, or `trust`, count as yes."""
        lines = [
            f"{question.host} ({question.address}) is not known yet. It shows this {question.key_type} key:",
            f"  {question.fingerprint}",
            *([f"  trust is kept under the name {question.alias}"] if question.alias else []),
            *(f"  {note}" for note in question.notes),
            f"Compare it, then type its last four characters ({question.proof}) or `trust`: ",
        ]
        return await self._ask_line("\n".join(lines)) in (question.proof, "trust")

    async def ask_prompts(
        self, server: str, title: str, instructions: str, prompts: tuple[Prompt, ...]
    ) -> tuple[str, ...] | None:
        """Each of the server's prompts in turn, labelled as its words; None at end of file."""
        heading = "".join(f"{line}\n" for text in (title, instructions) if text for line in labelled(server, text))

        def ask(stop: int | None) -> tuple[str, ...] | None:
            answers = []
            for number, prompt in enumerate(prompts):
                text = "\n".join(labelled(server, prompt.text)) or f"[from {clean(server)}]"
                shown = f"{heading if number == 0 else ''}{text.rstrip()} "
                answer = read_answer(shown, hidden=not prompt.echo, stop=stop)
                if answer is None:
                    return None
                answers.append(answer)
            return tuple(answers)

        return await self._ask(ask)

    async def ask_consent(self, question: ConsentQuestion) -> bool:
        """Show what would be done; `y` or `yes` says so, enter alone what the question's default is."""
        choice = "[Y/n]" if question.default else "[y/N]"
        lines = [f"{clean(question.title)}.", *(f"  {clean(line)}" for line in question.lines)]
        asked = "\n".join((*lines, f"{clean(question.yes)[:1].upper()}{clean(question.yes)[1:]}? {choice} "))

        def ask(stop: int | None) -> str | None:
            return read_answer(asked, stop=stop)

        answer = await self._ask(ask)
        if answer is None:
            return False
        return answer.strip().lower() in (("", "y", "yes") if question.default else ("y", "yes"))

    async def show_device_code(self, code: DeviceCode) -> None:
        """URL and code on the terminal, then silence until the sign-in has ended; who gives up interrupts the command.

        Without a terminal nobody can read it: given up at once.
        """
        import asyncio
        import time

        from app.tasks import in_own_thread

        minutes = max(round((code.expires_at - time.time()) / 60), 1)
        lines = [
            f"To sign in ({clean(code.sign_in)}), open this page in a browser on any computer:",
            f"    {clean(code.url)}",
            f"and type this code, within {minutes} minutes:",
            f"    {clean(code.code)}",
        ]
        lines = [*(lines if code.code else [clean(code.says)]), "Waiting for it … (ctrl+c gives up)"]
        try:
            await in_own_thread(lambda: show("\n".join(lines) + "\n"), name="device code")
        except OSError:
            return
        await asyncio.get_running_loop().create_future()

    async def wait_enter(self, offer: str) -> None:
        """Show `offer` and return when somebody presses Enter; neither where this command is not in the foreground.

        Another program reads the terminal then, and a read of ours would stop us. Windows: never, its reads cannot be
        withdrawn.
        """
        import asyncio

        if not in_foreground() or await self._ask(lambda stop: read_answer(offer, stop=stop)) is None:
            await asyncio.get_running_loop().create_future()

    def tell(self, server: str, text: str) -> None:
        """A banner goes to standard error, line by line, with its speaker's name."""
        from app.cli.frame import say

        for line in labelled(server, text):
            say(line)

    def note(self, text: str) -> None:
        """A sentence of Jumpdeck's own, on standard error."""
        from app.cli.frame import say

        say(f"jumpdeck: {clean(text)}")

    async def _ask_line(self, question: str) -> str:
        def ask(stop: int | None) -> str | None:
            return read_answer(question, stop=stop)

        return (await self._ask(ask) or "").strip()

    async def _ask(self, ask: Callable[[int | None], T | None]) -> T | None:
        """Run one question in a thread of its own, when no other is open. None without a terminal.

        When it is cancelled (a signal, a session that closes, no answer in time), the thread is told and puts the
        terminal back before the cancellation goes on. Windows: the console's modes are not ours to restore, and the
        thread is left behind at its key.
        """
        import asyncio

        from app.tasks import in_own_thread, spawn

        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            reading, writing = os.pipe()
            asking = spawn(in_own_thread(lambda: ask(reading), name="question"), name="question")
            try:
                return await asyncio.shield(asking)
            except OSError:
                return None
            except asyncio.CancelledError:
                os.write(writing, b"x")
                await asyncio.wait({asking}, timeout=_WITHDRAW_LIMIT)
                if asking.done() and not asking.cancelled():
                    asking.exception()  # `Stopped`, as told
                raise
            finally:
                if asking.done():  # else its thread still looks at the pipe
                    os.close(reading)
                os.close(writing)


def labelled(server: str, text: str) -> list[str]:
    """A server's words, line by line, harmless, with their speaker before each; at most `MAX_PROSE` characters.

    Lines are broken here and not by the terminal, so that no words of a server stand at a line's beginning, where ours
    stand.
    """
    shown = clean_block(text)
    if len(shown) > MAX_PROSE:
        shown = shown[: MAX_PROSE - 1] + "…"
    label = f"[from {clean(server)}] "
    room = max(columns() - len(label) - 1, _LEAST_ROOM)
    lines = [piece for line in shown.splitlines() for piece in _pieces(line.replace("\t", "    "), room)]
    return [label + line for line in lines[:_MAX_LINES]] + ([label + "…"] if len(lines) > _MAX_LINES else [])


def _pieces(line: str, room: int) -> list[str]:
    """A line in pieces of at most `room` columns; what is not ASCII may be two columns wide and counts so."""
    pieces, start, used = [], 0, 0
    for at, letter in enumerate(line):
        width = 1 if letter.isascii() else 2
        if used + width > room:
            pieces.append(line[start:at])
            start, used = at, 0
        used += width
    return [*pieces, line[start:]]
