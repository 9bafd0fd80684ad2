"""The palette (ctrl+p): profiles and commands of Jumpdeck, nothing of the framework's own (S-26)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from screens.commands import COMMANDS
from screens.main import MainScreen


class ConsoleProvider(Provider):
    """Offers every profile and every command that needs no argument.

    The palette parses help as markup: only words of our own stand there, never a profile's title.
    """

    def _offers(self) -> Iterator[tuple[str, str, str]]:
        if isinstance(self.screen, MainScreen):
            for entry in self.screen.entries:
                yield f"open {entry.name}", "open the profile, or go to it", f"profile {entry.name}"
            for command in COMMANDS:
                if not command.argument or command.argument.startswith("["):
                    yield command.name, command.help, command.name

    async def discover(self) -> Hits:
        """Everything, before anything is typed."""
        for name, what, line in self._offers():
            yield DiscoveryHit(Content(name), partial(self._run, line), text=name, help=what)

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query)
        for name, what, line in self._offers():
            if (score := matcher.match(name)) > 0:
                yield Hit(score, Content(name), partial(self._run, line), text=name, help=what)

    async def _run(self, line: str) -> None:
        if isinstance(self.screen, MainScreen):
            await self.screen.run_command(line)
