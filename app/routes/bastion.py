"""The Bastion hop: one host of Azure Bastion, and the VM or managed cluster behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from app.errors import ProfileError, Recovery, RouteError
from app.outbound import choose_proxy, make_trust
from app.profiles.model import AksCluster, BastionHop, Cluster, Profile
from app.routes import bastion_failures
from app.routes.bastion_dialer import BastionDialer, BastionLimits, BastionWay
from app.routes.bastion_failures import Where
from app.routes.bastion_http import BastionHttp, Place
from app.routes.bastion_tokens import BastionTokens, Target
from app.routes.context import RouteContext
from app.routes.direct import DirectDialer
from app.routes.websocket_frames import FRAME_SIZE
from app.text import clean

if TYPE_CHECKING:
    from app.azure.context import Azure
    from app.dialer import Dialer
    from app.identity.identity import AccessToken

API_PORT = 443
"""Where every managed cluster's API server is."""
TRUST_LIMIT = 20.0
"""Seconds to read the trust store; a cold disk or a virus scanner takes a few."""
_PLACE = r"([A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)(?::([0-9]{1,5}))?"


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
        async with asyncio.timeout(TRUST_LIMIT):
            trust = await asyncio.to_thread(make_trust, azure.endpoints.ca_file)
        place = await self._place(azure)
        http = BastionHttp(self._way_out(through, place.host), place, trust, dial_limit=self.limits.dial)
        dialer = BastionDialer(
            BastionWay(self.name, self.spec.bastion, self._targets(), bool(self.spec.target)), through, http,
            BastionTokens(http, _tokens(azure)), self.limits, frame_size=self.frame_size,
        )  # fmt: skip
        try:
            yield dialer
        finally:
            await dialer.aclose()

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

    def _targets(self) -> tuple[Target, ...]:
        port = self.spec.port or (0 if self.spec.target else API_PORT)
        return tuple(Target(resource, port, _name(resource)) for resource in self._resources())

    def _way_out(self, through: Dialer, host: str) -> Dialer:
        """Straight from this computer the web proxy of its environment applies; behind a hop there is none."""
        if not isinstance(through, DirectDialer) or (proxy := choose_proxy(host, self.profile.proxy)) is None:
            return through
        from app.routes.proxy import ProxyDialer

        return ProxyDialer(through, proxy)

    async def _place(self, azure: Azure) -> Place:
        document = await azure.arm.get(self.spec.bastion, "2024-01-01")
        properties: dict[str, Any] = document.get("properties") or {}
        where = Where(self.name, self.spec.bastion, ", ".join(map(_name, self._resources())))
        if not properties.get("enableTunneling"):
            raise bastion_failures.tunneling_disabled(where, str(where))
        return place_of(str(properties.get("dnsName") or ""), where)


def place_of(dns_name: str, where: Where) -> Place:
    """Host and port of a `dnsName`. Raises RouteError when ARM returns none that can be used."""
    found = re.fullmatch(_PLACE, dns_name)
    if found is None or not 0 < int(found[2] or API_PORT) < 65_536:
        raise RouteError(
            "ARM names no address of the Bastion", f"{where}: dnsName is {clean(dns_name[:100])!r}",
            "Is it still being made? Look at it in the portal.", code="JD-BASTION-NO-ADDRESS",
            recovery=Recovery.TRANSIENT,
        )  # fmt: skip
    return Place(found[1], int(found[2] or API_PORT))


def _tokens(azure: Azure) -> Any:
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
