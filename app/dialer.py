"""What a route is made of: hops that open byte streams, one through the other, with no local port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from app.errors import JumpdeckError, Recovery
from app.rows import HopState

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Dialer(Protocol):
    """Opens byte streams to hosts as they are named and reachable at its far end."""

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        """Connect to `host:port` and return the transport, its protocol made by `factory`.

        The transport is one that `loop.start_tls` accepts. Raises RouteError (layer dns, tcp, proxy or hop) only.
        """
        ...

    async def wait_lost(self) -> JumpdeckError:
        """Return, with the reason, when what carries the streams has gone. A direct dialer never returns."""
        ...


@runtime_checkable
class Connection(Dialer, Protocol):
    """A dialer that rests on a connection of its own (SSH, Bastion), which can be asked how it is."""

    def facts(self) -> HopState:
        """How it stands now: since when, round-trip time, bytes, notes. Costs nothing, sends nothing."""
        ...

    async def verify(self, limit: float) -> None:
        """Have the far end answer within `limit` seconds.

        Raises RouteError, and ends the connection (`wait_lost` returns everywhere), when it does not.
        """
        ...


@runtime_checkable
class Reachable(Protocol):
    """A dialer whose near end can be asked for a connection that costs nothing and carries nothing (a Bastion)."""

    async def reach(self, limit: float) -> None:
        """Return when it takes a connection within `limit` seconds. Raises the RouteError that names it; ends nothing.

        It may raise too what is known of streams that led nowhere. Open streams may go on where this fails, so it says
        whom to blame, not that anything is lost.
        """
        ...


@runtime_checkable
class Explaining(Protocol):
    """A dialer that can find out more about a failure behind it (the tunnel of a connected cluster)."""

    async def explain(self, error: JumpdeckError, limit: float) -> JumpdeckError:
        """The failure, with what can be seen from here within `limit` seconds. Raises nothing; ends nothing."""
        ...


class Hop(Protocol):
    """One step of the way in. Enter it to be able to dial from its far end."""

    @property
    def label(self) -> str:
        """How the hop stands in the route line, e.g. `Contoso VPN (network)`; cleaned text."""
        ...

    @property
    def key(self) -> Hashable | None:
        """What makes two hops one: where, as whom, by which rules of trust. None: the hop carries nothing to share."""
        ...

    def open(self, through: Dialer) -> AbstractAsyncContextManager[Dialer]:
        """Enter the hop through the one before it. Raises JumpdeckError only."""
        ...


class Link(Protocol):
    """What a reader (a watch, a log follow) knows of the session that carries it.

    A reader that loses its stream keeps its cursor, reports what it saw, waits for the session to be up and resumes.
    """

    async def wait_up(self) -> None:
        """Return when the session is UP. Raises the session's error when it has failed for good or was closed."""
        ...

    def report(self, error: JumpdeckError) -> None:
        """Tell the session that a stream failed in a way that may mean that the link is gone. Never blocks."""
        ...

    def alive(self) -> None:
        """Tell the session that the API server has just been heard (bytes came): proof of life."""
        ...


def worth_waiting(link: Link, error: JumpdeckError) -> bool:
    """Whether a reader that met `error` keeps its cursor and waits for the session, rather than end with it.

    What passes by itself always; a sign-in that ended where the session is `patient`: somebody signs in meanwhile.
    """
    return error.transient or (bool(getattr(link, "patient", False)) and ends_sign_in(error))


def ends_sign_in(error: JumpdeckError) -> bool:
    """Whether all that lacks is that a person signs in again."""
    return error.layer == "sign-in" and error.recovery is Recovery.NEEDS_PERSON
