"""The route of one session: opened, kept while its connections live, and dialled by whoever reads through it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.errors import JumpdeckError, Recovery, RouteError
from app.profiles.model import ArcCluster
from app.tasks import TaskOwner

if TYPE_CHECKING:
    from pathlib import Path

    from app.asking import Asker
    from app.azure.context import Azure
    from app.dialer import Dialer, Hop, ProtocolFactory
    from app.identity.identities import Identities
    from app.profiles.model import Profile
    from app.routes.context import RouteContext
    from app.routes.host_keys import HostKeys
    from app.routes.route import Route
    from app.routes.shared import SharedHops
    from app.rows import HopState
    from app.secrets.secret import SecretSource
    from app.sessions.asking import Attempt

VERIFY_LIMIT = 3.0
"""Seconds in which every connection of a route must answer: the slowest links have round trips below one second, and
with two probes (20 s) a frozen link is still known within 30 s."""
CLOSE_LIMIT = 2.0
"""Seconds for the goodbyes of a route that is closed on purpose; part of the three that a clean end may take."""

_log = logging.getLogger(__name__)

StepShow = Callable[[str], AbstractAsyncContextManager[None]]


class RouteGround:
    """What the routes of one process share: connections, secrets, known servers. Made when first needed.

    A console with direct routes alone loads nothing of SSH.
    """

    policy_file: Path | None = None
    """Another policy than the machine's, for tests."""

    def __init__(
        self, asker: Asker | None, *, host_keys: HostKeys | None = None, justification: str = ""
    ) -> None:
        self._asker = asker
        self._justification = justification
        self._shared: SharedHops | None = None
        self._secrets: SecretSource | None = None
        self._host_keys = host_keys
        self._lost: dict[Hashable, str] = {}
        self._identities: Identities | None = None
        self._azures: dict[Hashable, Azure] = {}

    @property
    def shared(self) -> SharedHops:
        """The connections that several routes use."""
        if self._shared is None:
            from app.routes.shared import SharedHops

            self._shared = SharedHops()
        return self._shared

    @property
    def secrets(self) -> SecretSource:
        """Where passwords, passphrases and tokens come from."""
        if self._secrets is None:
            from app.secrets.secret import SecretSource

            self._secrets = SecretSource(self._asker)
        return self._secrets

    @property
    def identities(self) -> Identities:
        """Who we are at Azure."""
        if self._identities is None:
            from app.identity.identities import Identities

            self._identities = Identities(self._asker, self.secrets)
        return self._identities

    async def azure(self, profile: Profile, asker: Asker | None) -> Azure:
        """Azure as a profile sees it: one for all profiles with the same sign-in, cloud and way out.

        From now on in the calling task, `asker` is asked where a person must sign in. Raises SignInError.
        """
        from app.identity.attending import attend
        from app.identity.clouds import profile_endpoints
        from app.outbound import choose_proxy

        attend(asker)
        identity, endpoints = self.identities.for_profile(profile), profile_endpoints(profile)
        proxy = choose_proxy(urlsplit(endpoints.resource_manager).hostname or "", profile.proxy)
        key = (id(identity), endpoints, proxy)
        if key not in self._azures:
            from app.azure.arm import Arm
            from app.azure.context import Azure

            ca_file = None if endpoints.ca_file is None else str(endpoints.ca_file)
            self._azures[key] = Azure(identity, endpoints, Arm(identity, endpoints, proxy=proxy, ca_file=ca_file))
        return self._azures[key]

    async def aclose(self) -> None:
        """Close what was opened to Azure. Nothing else here has a life of its own."""
        azures, self._azures = list(self._azures.values()), {}
        identities, self._identities = self._identities, None
        await asyncio.gather(*(azure.arm.aclose() for azure in azures))
        if identities is not None:
            await identities.aclose()

    def context(self, profile: Profile, asker: Asker | None, show: StepShow | None = None) -> RouteContext:
        """What the hops of one session need; `show` shows what a hop does while it opens."""
        from app.routes.context import RouteContext

        if self._host_keys is None:
            from app.routes.host_keys import HostKeys

            self._host_keys = HostKeys()
        return RouteContext(
            asker=asker, secrets=self.secrets, host_keys=self._host_keys, lost=self._lost,
            azure=lambda: self.azure(profile, asker), justification=self._justification, show=show,
        )  # fmt: skip


class RouteKeeper:
    """Dials through whatever carries the session now, so that readers keep one API client across reconnects."""

    def __init__(self, profile: Profile, ground: RouteGround, asker: Asker | None) -> None:
        self._profile, self._ground, self._asker = profile, ground, asker
        self._ends = TaskOwner(f"route {profile.name}")
        self._route: Route | None = None
        self._begun: Route | None = None
        """What the last try got open, kept for the next one: the first jump box is not to see a login each try."""
        self._direct: Dialer | None = None
        """What carries a route without hops, which nothing can be lost of."""

    # -- as a Dialer ---------------------------------------------------------------------------------------------------

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        """Open a stream at the far end. Raises RouteError, also while there is no route."""
        carrier = self._direct if self._route is None else self._route.dialer
        if carrier is None:
            raise _not_open("it is being opened again")
        return await carrier.dial(host, port, factory)

    async def wait_lost(self) -> JumpdeckError:
        """Return when a connection of the route has gone, with the reason."""
        carrier = self._direct if self._route is None else self._route
        return _not_open() if carrier is None else await carrier.wait_lost()

    # -- for the session -----------------------------------------------------------------------------------------------

    def hop_states(self) -> tuple[HopState, ...]:
        """How every open hop stands now, also those of a route that is open in part."""
        route = self._route or self._begun
        return () if route is None else route.hop_states()

    @property
    def far_end(self) -> Dialer:
        """What dials at the end of the open route. Raises RouteError while there is none."""
        carrier = self._direct if self._route is None else self._route.dialer
        if carrier is None:
            raise _not_open()
        return carrier

    def hops(self, target: tuple[str, int], show: StepShow | None = None) -> tuple[Hop, ...]:
        """The hops of the profile; `target` is the API server. Raises as `app.routes.build.check_built`."""
        if not self._profile.via and not isinstance(self._profile.cluster, ArcCluster):
            return ()
        from app.routes.build import build_hops

        context = self._ground.context(self._profile, self._asker, show)
        return build_hops(self._profile, target=target, context=context)

    async def open(self, hops: tuple[Hop, ...], attempt: Attempt, show: StepShow) -> None:
        """Have a route: the one there is when its connections answer, else a new one. Raises JumpdeckError."""
        from app.identity.attending import attend
        from app.routes.direct import DirectDialer

        attend(self._asker)  # hops that were opened before may need a new token
        if not hops:
            self._direct = DirectDialer()
            return
        if self._route is not None:
            try:
                async with show(hops[-1].label):
                    await self.verify()
                return
            except JumpdeckError as error:  # verify has closed it
                _log.debug("%s: the kept route is gone: %s", self._profile.name, error)
        from app.routes.shared import part_of_way

        route = await self._resumed(show)
        keys = tuple(part_of_way(hop) for hop in hops)
        begun = len(route.labels)

        def step(label: str) -> AbstractAsyncContextManager[None]:
            nonlocal begun
            begun += 1
            attempt.arrive(keys[:begun] if hops[begun - 1].key is not None else ())
            return show(label)

        try:
            await route.extend(hops, self._ground.shared, step, began=attempt.began)
        except BaseException as error:
            if route.carries and isinstance(error, JumpdeckError) and error.transient:
                self._begun = route
            else:
                await self._end(route)
            raise
        self._route = route
        attempt.arrive(())

    async def _resumed(self, show: StepShow) -> Route:
        """A route with the hops that the last try got open, if they answer: none of them is logged in to again."""
        from app.routes.direct import DirectDialer
        from app.routes.route import Route

        route, self._begun = self._begun, None
        if route is not None:
            try:
                for number, label in enumerate(route.labels):
                    async with show(label):
                        if number == 0:
                            await route.verify(VERIFY_LIMIT)
                return route
            except BaseException as error:
                await self._end(route)
                if not isinstance(error, JumpdeckError):
                    raise
        return Route(DirectDialer())

    async def verify(self, limit: float = VERIFY_LIMIT) -> None:
        """Have every connection answer. Raises the error of the one that does not, and ends the route there."""
        if self._route is None:
            return
        try:
            await self._route.verify(limit)
        except JumpdeckError:
            await self.shed()
            raise

    async def blamed(self, error: JumpdeckError) -> JumpdeckError:
        """A failure behind the hops, with the hop named that is to blame for it as far as that can be told."""
        route = self._route or self._begun
        if route is None or not error.transient or error.layer in ("sign-in", "arm") or error.code == "JD-ROUTE-ANEW":
            return error
        return await route.blamed(error, VERIFY_LIMIT)

    async def shed(self) -> None:
        """A connection of the route has gone: keep the hops before it for the next try, close the rest."""
        route, self._route, self._direct = self._route, None, None
        if route is not None:
            end = self._ends.spawn(route.shed(), name="shed")
            await asyncio.wait({end}, timeout=CLOSE_LIMIT)
            if route.carries and end.done():
                self._begun = route
            else:
                await self._end(route)

    async def aclose(self) -> None:
        """Close the route; connections that other sessions use stay. What says no goodbye in time ends behind us."""
        routes, self._route, self._begun, self._direct = (self._route, self._begun), None, None, None
        for route in routes:
            if route is not None:
                await self._end(route)

    async def _end(self, route: Route) -> None:
        end = self._ends.spawn(route.aclose(), name="close")
        await asyncio.wait({end}, timeout=CLOSE_LIMIT)


def _not_open(why: str = "") -> RouteError:
    return RouteError("The route is not open", why, code="JD-ROUTE-NOT-OPEN", recovery=Recovery.TRANSIENT)
