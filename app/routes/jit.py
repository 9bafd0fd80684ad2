"""Just-in-time access for a hop: had before the login, waited for until the port answers through the hop before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.asking import Prompt
from app.azure.fields import name_of
from app.azure.jit import JitAccess, have_access
from app.errors import JumpdeckError, Recovery, RouteError, SignInError
from app.text import clean

if TYPE_CHECKING:
    from app.dialer import Dialer
    from app.profiles.model import Jit
    from app.routes.context import RouteContext

OPEN_LIMIT = 120.0
"""Seconds from a request to a port that answers: rules of a network security group are live within one minute."""
STANDING_LIMIT = 15.0
"""Seconds for a port to which there is access already: behind a closed one packets vanish without a word."""
TRY_LIMIT = 6.0
"""Seconds for one connection: a port that is still closed drops packets, and three of them are sent in this time."""
PAUSE, MOST_PAUSE = 0.5, 4.0
"""Seconds between two looks at the port, growing: only the port itself tells that it is open."""


class Place:
    """One port of one VM, and the way on which it is seen."""

    def __init__(self, vm: str, host: str, dialled: int, port: int, jit: Jit, bastion: str | None) -> None:
        self.vm, self.jit, self.bastion = vm, jit, bastion
        self.host, self.dialled = host, dialled
        """What is dialled through the hop before."""
        self.port = jit.port or port
        """At the VM."""

    @property
    def name(self) -> str:
        """For people."""
        return f"port {self.port} of {clean(name_of(self.vm))}"


async def open_port(
    place: Place, through: Dialer, context: RouteContext, profile: str, *, standing: float = STANDING_LIMIT,
    limit: float = OPEN_LIMIT,
) -> JitAccess:  # fmt: skip
    """Have access to the place, and wait until its port answers.

    Access that is there but does not help (it was asked for from another address) is asked for anew, once. Raises
    RouteError and SignInError.
    """
    if context.azure is None:
        raise RouteError("Azure is not at hand here", f"profile {profile} wants just-in-time access", "",
                         code="JD-JIT-NO-AZURE")  # fmt: skip
    azure = await context.azure()

    async def reason() -> str:
        return await _reason(place, context, profile)

    async def have(*, anew: bool) -> JitAccess:
        return await have_access(
            azure, place.vm, place.port, place.jit.hours, bastion=place.bastion, reason=reason,
            anew=anew,
        )  # fmt: skip

    access = await have(anew=False)
    if not access.asked:
        if await _answers(place, through, standing):
            return access
        access = await have(anew=True)
    if not await _answers(place, through, limit):
        raise RouteError(
            "The port did not open in time", f"{place.name}: access was granted, and {limit:g} s have passed",
            "Is the VM running, and does another rule of its network stand in between? It is tried again.",
            code="JD-JIT-CLOSED", recovery=Recovery.TRANSIENT,
        )  # fmt: skip
    return access


async def _reason(place: Place, context: RouteContext, profile: str) -> str:
    if context.justification:
        return context.justification
    asker = context.asker
    answers = None
    if asker is not None:
        answers = await asker.ask_prompts(
            "Just-in-time access", f"Profile {profile} asks Azure to open {place.name} for {place.jit.hours:g} h.",
            "Why? It is put on record there.", (Prompt("Justification: ", echo=True),),
        )  # fmt: skip
    if answers and answers[0].strip():
        return answers[0].strip()[:500]
    raise SignInError(
        "Just-in-time access needs a justification", place.name,
        f'Give it: --justification "WHY" (profile {profile}), or answer when asked.', code="JD-JIT-JUSTIFICATION",
        recovery=Recovery.NEEDS_PERSON,
    )  # fmt: skip


class _Probe(asyncio.Protocol):
    """Only wants to be connected."""


async def _answers(place: Place, through: Dialer, limit: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """Whether a connection comes about within `limit` seconds. Raises what trying again does not mend."""
    end, pause = clock() + limit, PAUSE
    while True:
        try:
            async with asyncio.timeout(max(0.1, min(TRY_LIMIT, end - clock()))):
                transport = await through.dial(place.host, place.dialled, _Probe)
            transport.close()
            return True
        except TimeoutError:
            pass
        except JumpdeckError as error:
            if not error.transient:
                raise
        if clock() + pause >= end:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, MOST_PAUSE)
