"""The Bastion hop: one host of Azure Bastion, and the VM or managed cluster behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from app.azure.bastions import Bastion, check_bastion, read_bastion
from app.azure.machines import running_machines
from app.cluster.failures import deadline
from app.errors import JumpdeckError, ProfileError, Recovery, RouteError
from app.outbound import choose_proxy, make_trust
from app.profiles.model import AksCluster, BastionHop, Cluster, Profile
from app.routes.bastion_dialer import BastionDialer, BastionLimits, BastionWay
from app.routes.bastion_http import BastionHttp, Place
from app.routes.bastion_tokens import AccessTokens, BastionTokens, Target, by_address
from app.routes.context import RouteContext
from app.routes.direct import DirectDialer
from app.routes.websocket_frames import FRAME_SIZE
from app.tasks import TaskOwner
from app.text import clean

if TYPE_CHECKING:
    import ssl

    from app.azure.context import Azure
    from app.dialer import Dialer
    from app.identity.identity import AccessToken

API_PORT = HTTPS_PORT = 443
"""Where every managed cluster's API server is, and a Bastion's data plane unless its name has a port."""
TRUST_LIMIT = 20.0
"""Seconds to read the trust store; a cold disk or a virus scanner takes a few."""
_PLACE = r"([A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)(?::([0-9]{1,5}))?"
T = TypeVar("T")


class BastionDial:
    """The `bastion` hop. `cluster` is what a hop without a target goes to."""

    def __init__(
        self, spec: BastionHop, context: RouteContext, profile: Profile, cluster: Cluster, *,
        limits: BastionLimits | None = None, frame_size: int = FRAME_SIZE,
    ) -> None:  # fmt: skip
        self.spec, self.context, self.profile, self.cluster = spec, context, profile, cluster
        self.limits, self.frame_size = limits or BastionLimits(), frame_size
        self.name = _name(spec.bastion)

    @property
    def label(self) -> str:
        return f"{self.name} (Bastion)"

    @property
    def key(self) -> Hashable:
        """Which host, to where, as whom."""
        spec, profile = self.spec, self.profile
        return ("bastion", spec.bastion.lower(), tuple(resource.lower() for resource in self._resources()), spec.port,
                profile.sign_in, profile.cloud, profile.proxy)  # fmt: skip

    @asynccontextmanager
    async def open(self, through: Dialer) -> AsyncIterator[BastionDialer]:
        """Read the host from ARM and make ready. Raises RouteError, SignInError and ProfileError."""
        if self.context.azure is None:
            raise _no_azure(self.profile.name)
        azure = await self.context.azure()
        trust, bastion, targets = await self._read(azure)
        place = place_of(bastion)
        http = BastionHttp(self._way_out(through, place.host), place, trust, dial_limit=self.limits.dial)
        dialer = BastionDialer(
            BastionWay(self.name, self.spec.bastion, targets, bool(self.spec.target)), through, http,
            BastionTokens(http, _tokens(azure)), self.limits, frame_size=self.frame_size,
        )  # fmt: skip
        try:
            yield dialer
        finally:
            await dialer.aclose()

    async def _read(self, azure: Azure) -> tuple[ssl.SSLContext, Bastion, tuple[Target, ...]]:
        """What is trusted, the host and its targets: side by side. The first failure ends the others."""
        async with TaskOwner(f"bastion {self.name}") as owner:
            trust = owner.spawn(_told(_trust(azure)), name="trust")
            host = owner.spawn(_told(self._host(azure)), name="host")
            targets = owner.spawn(_told(self._targets(azure)), name="targets")
            return _good(await trust), _good(await host), _good(await targets)

    def _resources(self) -> tuple[str, ...]:
        if self.spec.target:
            return self.spec.target
        if not isinstance(self.cluster, AksCluster):
            raise ProfileError(
                f"Profile {self.profile.name} cannot be used",
                "a Bastion without target goes straight to an AKS cluster",
                "Add target to the Bastion hop, or name the cluster by its ARM id (aks).", code="JD-PROFILE-BASTION",
            )  # fmt: skip
        return (self.cluster.aks,)

    async def _targets(self, azure: Azure) -> tuple[Target, ...]:
        """Where streams may go, those that run first. Port 0: the one that is asked for."""
        resources, port = self._resources(), self.spec.port or 0
        if not self.spec.target:
            return (Target(resources[0], port or API_PORT, _name(resources[0])),)
        addresses = [resource for resource in resources if not resource.startswith("/")]
        if addresses:
            return tuple(by_address(self.spec.bastion, address, port) for address in addresses)
        running = await running_machines(azure.arm, resources)
        return tuple(Target(machine.id, port, _name(machine.id)) for machine in running)

    def _way_out(self, through: Dialer, host: str) -> Dialer:
        """Straight from this computer the web proxy of its environment applies; behind a hop there is none."""
        if not isinstance(through, DirectDialer) or (proxy := choose_proxy(host, self.profile.proxy)) is None:
            return through
        from app.routes.proxy import ProxyDialer

        return ProxyDialer(through, proxy)

    async def _host(self, azure: Azure) -> Bastion:
        bastion = await read_bastion(azure.arm, self.spec.bastion)
        named = any(not resource.startswith("/") for resource in self.spec.target)
        check_bastion(bastion, cluster=not self.spec.target, by_address=named)
        return bastion


async def _trust(azure: Azure) -> ssl.SSLContext:
    async with deadline(TRUST_LIMIT, "reading certificates"):
        return await asyncio.to_thread(make_trust, azure.endpoints.ca_file)


async def _told(reading: Awaitable[T]) -> T | JumpdeckError:
    """What was read, or why not: a failure is the reader's to raise, in the order in which it asks."""
    try:
        return await reading
    except JumpdeckError as error:
        return error


def _good(told: T | JumpdeckError) -> T:
    if isinstance(told, JumpdeckError):
        raise told
    return told


def place_of(bastion: Bastion) -> Place:
    """Host and port of the data plane. Raises RouteError when ARM's name for it cannot be used."""
    found = re.fullmatch(_PLACE, bastion.dns_name)
    if found is None or not 0 < int(found[2] or HTTPS_PORT) < 65_536:
        raise RouteError(
            "The Bastion's address cannot be used",
            f"{bastion.label}: ARM says dnsName is {clean(bastion.dns_name[:100])!r}",
            "Is it still being made? Look at it in the Azure portal.", code="JD-BASTION-NO-ADDRESS",
            recovery=Recovery.TRANSIENT,
        )  # fmt: skip
    return Place(found[1], int(found[2] or HTTPS_PORT))


def _tokens(azure: Azure) -> AccessTokens:
    async def token(fresh: bool) -> AccessToken:
        return await azure.identity.token(azure.endpoints.arm_scope, fresh=fresh)

    return token


def _name(resource: str) -> str:
    """The name at the end of an id; of a scale set's instance, both."""
    parts = resource.rstrip("/").split("/")
    if len(parts) > 3 and parts[-2].lower() == "virtualmachines" and parts[-4].lower() == "virtualmachinescalesets":
        return clean(f"{parts[-3]}/{parts[-1]}")
    return clean(parts[-1])


def _no_azure(profile: str) -> RouteError:
    return RouteError("Azure is not at hand here", f"profile {profile} goes through a Bastion", "",
                      code="JD-BASTION-NO-AZURE")  # fmt: skip
