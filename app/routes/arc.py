"""The hop to a connected cluster: a local program of ours that speaks to it through Azure Relay."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from app.arc.native import NativeTunnel, minutes
from app.arc.opening import Opening, proxy_of
from app.arc.ports import HOST
from app.errors import JumpdeckError, RouteError
from app.profiles.model import ArcCluster, Profile
from app.routes.context import RouteContext
from app.routes.counted import CountedStream, Traffic
from app.routes.direct import DirectDialer
from app.rows import HopState, StepState
from app.secrets.secret import Secret, SecretItem, token_name
from app.tasks import TaskOwner
from app.text import clean

if TYPE_CHECKING:
    import asyncio

    from app.arc.preflight import ArcFacts
    from app.arc.tunnel import Tunnel
    from app.dialer import Dialer, ProtocolFactory

Explain = Callable[[JumpdeckError, float], Awaitable[JumpdeckError]]

MODES = {"entra": "Entra", "token": "service-account token"}


class ArcDial:
    """The hop that an Arc profile ends with. It shares nothing: one program serves one session."""

    key = None

    def __init__(self, profile: Profile, cluster: ArcCluster, context: RouteContext) -> None:
        self.profile, self.cluster, self.context = profile, cluster, context
        self.name = clean(cluster.arc.rstrip("/").rpartition("/")[2])

    @property
    def label(self) -> str:
        return f"{self.name} (Azure Arc)"

    @asynccontextmanager
    async def open(self, through: Dialer) -> AsyncIterator[ArcConnection]:
        """Have the tunnel stand. The program finds its own way out: hops before it are networks and web proxies.

        Raises JumpdeckError.
        """
        if self.context.azure is None:
            raise RouteError("Azure is not at hand here", f"profile {self.profile.name} is a connected cluster",
                             code="JD-ARC-NO-AZURE")  # fmt: skip
        azure = await self.context.azure()
        opening = Opening(
            self.profile, azure, self.context.show or _silent, asker=self.context.asker,
            token=self._token if self.cluster.auth == "token" else None,
        )  # fmt: skip
        opened = await opening.open()

        async def explain(error: JumpdeckError, limit: float) -> JumpdeckError:
            from app.arc.unanswered import explained

            return await explained(error, azure, opened.facts, opened.relay, proxy_of(self.profile), limit)

        connection = ArcConnection(self.label, MODES[self.cluster.auth], opened.tunnel, opened.facts, explain)
        try:
            yield connection
        finally:
            await connection.aclose()

    async def _token(self) -> Secret:
        item = SecretItem(token_name(self.profile.name), f"Token for {self.profile.name}")
        found = await self.context.secrets.get(item, asker=self.context.asker)
        return Secret(found.reveal().strip())


def _silent(_: str) -> AbstractAsyncContextManager[None]:
    return nullcontext()


class ArcConnection:
    """An open tunnel as a `Connection`: every stream goes to our program's port on this computer."""

    def __init__(
        self, label: str, mode: str, tunnel: Tunnel, facts: ArcFacts, explain: Explain | None = None
    ) -> None:
        self.tunnel, self.arc_facts = tunnel, facts
        self._explain, self._traffic = explain, Traffic()
        self._label, self._mode = label, mode
        self._since = time.time()
        self._dialer = DirectDialer()
        self._lost: JumpdeckError | None = None
        self._owner = TaskOwner(label)
        self._waiting: asyncio.Task[JumpdeckError] = self._owner.spawn(self._wait(), name="wait lost")

    @property
    def kubeconfig(self) -> bytes:
        """What the program answered to being registered."""
        return self.tunnel.kubeconfig

    @property
    def token_ends(self) -> float | None:
        """POSIX seconds at which the identity ends unless it is renewed."""
        return self.tunnel.token_ends

    @property
    def warnings(self) -> tuple[str, ...]:
        """Lasting ones, for the session: what Azure knows in advance, and that az does it."""
        by_az = getattr(self.tunnel, "warning", "")
        return (*self.arc_facts.warnings, *((by_az,) if by_az else ()))

    async def renew(self) -> None:
        """Have a new credential of the relay now, where that is ours to do. Raises JumpdeckError."""
        if isinstance(self.tunnel, NativeTunnel):
            await self.tunnel.renew()

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        """A stream to the program, whatever `host` and `port`: there is one cluster behind it. Raises RouteError."""
        if self._lost is not None:
            raise self._lost
        await self.tunnel.check_listener()
        stream = CountedStream(factory, self._traffic)
        await self._dialer.dial(HOST, self.tunnel.port, lambda: stream.below)
        return stream

    async def wait_lost(self) -> JumpdeckError:
        """Return when the tunnel has ended."""
        return await self.tunnel.wait_lost()

    def facts(self) -> HopState:
        """Mode, how it runs, the time left of tunnel and token, the correlation id, the agent, bytes of all streams."""
        tunnel, now = self.tunnel, time.time()
        told = [self._mode, tunnel.label]
        if tunnel.relay_ends is not None:
            told.append(f"tunnel {minutes(tunnel.relay_ends - now)} left")
        if tunnel.token_ends is not None:
            told.append(f"token {minutes(tunnel.token_ends - now)} left")
        if tunnel.correlation_id:
            told.append(f"correlation id {clean(tunnel.correlation_id)}")
        state = StepState.DONE if self._lost is None else StepState.FAILED
        return HopState(
            self._label, state, self._since, received=self._traffic.received, sent=self._traffic.sent,
            note=", ".join((*told, *self.arc_facts.told, *tunnel.notes)),
        )  # fmt: skip

    async def explain(self, error: JumpdeckError, limit: float) -> JumpdeckError:
        """A failure behind the tunnel, with what this computer reaches of the relay."""
        return error if self._explain is None else await self._explain(error, limit)

    async def verify(self, limit: float) -> None:
        """Have the program answer. Raises RouteError."""
        if self._lost is not None:
            raise self._lost
        await self.tunnel.verify(limit)

    async def aclose(self) -> None:
        """End the program."""
        try:
            await self._owner.aclose()
        finally:
            await self.tunnel.aclose()

    async def _wait(self) -> JumpdeckError:
        self._lost = await self.tunnel.wait_lost()
        return self._lost
