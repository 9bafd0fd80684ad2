"""What a command that goes on for ever does when its sign-in ends: say so once, wait, and go on after the next one.

Looked for is a sign-in made elsewhere (`jumpdeck sign-in PROFILE`, `az login`): nothing tells another process of it, so
tokens are asked for in silence, at a slow pace. Nobody is asked from here unless somebody presses Enter: no browser
opens by itself at night.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app.cli.frame import say
from app.dialer import ends_sign_in
from app.errors import JumpdeckError, RefusedError
from app.rows import SessionPhase
from app.tasks import TaskOwner

if TYPE_CHECKING:
    from app.cli.prompts import TerminalAsker
    from app.profiles.model import Profile
    from app.sessions.route import RouteGround
    from app.sessions.session import Session

FIRST_LOOK, MOST_LOOK, GROWTH = 3.0, 30.0, 1.5
"""Seconds between two looks for a new sign-in: a person needs half a minute for one, and each look may start az or ask
Entra."""


@asynccontextmanager
async def kept_signed_in(
    session: Session, ground: RouteGround, terminal: TerminalAsker | None = None, *, first_look: float = FIRST_LOOK
) -> AsyncIterator[None]:
    """While inside: a sign-in that ends is waited for. At `terminal` Enter signs in there."""
    async with TaskOwner(f"signed in {session.profile.name}") as owner:
        owner.spawn(_Keeper(session, ground, terminal, first_look).run(), name="keep")
        yield


class _Keeper:
    def __init__(
        self, session: Session, ground: RouteGround, terminal: TerminalAsker | None, first_look: float
    ) -> None:
        self._session, self._ground, self._terminal = session, ground, terminal
        self._name = session.profile.name
        self._first, self._wait = first_look, first_look
        self._told = False

    async def run(self) -> None:
        while True:
            state = self._session.state
            if state.phase is SessionPhase.NEEDS_SIGN_IN and state.error is not None and ends_sign_in(state.error):
                first = not self._told
                self._say(state.error)
                await self._until_worth_trying(state.error, "  Enter signs in here.\n" if first else "")
                self._session.retry_now()
            elif state.phase is SessionPhase.UP and self._told:
                self._told, self._wait = False, self._first
                say(f"jumpdeck: {time.strftime('%H:%M:%S')} {self._name} is signed in again and goes on.")
            await self._session.changed()

    def _say(self, error: JumpdeckError) -> None:
        if self._told:
            return
        self._told = True
        say(f"jumpdeck: {time.strftime('%H:%M:%S')} {self._name} needs a sign-in: {error.title} [{error.code}]")
        if error.detail:
            say(f"  {error.detail}")
        say(f"  It waits, and goes on after: jumpdeck sign-in {self._name}  (in another terminal).")

    async def _until_worth_trying(self, error: JumpdeckError, offer: str) -> None:
        async with TaskOwner(f"sign-in of {self._name}") as owner:
            waits = {owner.spawn(self._elsewhere(error), name="elsewhere")}
            if self._terminal is not None:
                waits.add(owner.spawn(self._terminal.wait_enter(offer), name="enter"))
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)

    async def _elsewhere(self, error: JumpdeckError) -> None:
        """Return when tokens can be had; where they can be and the cluster refuses them, at the slowest pace."""
        while True:
            wait = MOST_LOOK if isinstance(error, RefusedError) else self._wait
            self._wait = min(self._wait * GROWTH, MOST_LOOK)
            await asyncio.sleep(wait)
            if await signed_in(self._session.profile, self._ground):
                return


async def signed_in(profile: Profile, ground: RouteGround) -> bool:
    """Whether every token of a profile can be had without a person."""
    from app.cli.sign_in import scopes_of
    from app.identity.attending import attend
    from app.identity.clouds import profile_endpoints

    attend(None)
    try:
        identity = ground.identities.for_profile(profile)
        for scope in scopes_of(profile, profile_endpoints(profile)):
            await identity.token(scope)
    except JumpdeckError:
        return False
    return True
