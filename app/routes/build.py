"""From the hops of a profile to hops that can be opened."""

from __future__ import annotations

from app.dialer import Hop
from app.errors import RouteError
from app.profiles.model import BastionHop, HopSpec, InvokeHop, NetworkHop, Profile, ProxyHop, SshHop
from app.routes.network import NetworkDial
from app.routes.proxy import ProxyDial


def build_hops(profile: Profile) -> tuple[Hop, ...]:
    """The hops of `via`, in order. Raises RouteError (JD-ROUTE-NOT-BUILT) for a kind that has no route yet."""
    return tuple(_hop(profile, spec) for spec in profile.via)


def _hop(profile: Profile, spec: HopSpec) -> Hop:
    if isinstance(spec, NetworkHop):
        return NetworkDial(spec)
    if isinstance(spec, ProxyHop):
        return ProxyDial(spec.proxy)
    kind = {SshHop: "SSH", BastionHop: "Bastion", InvokeHop: "command invoke"}[type(spec)]
    raise RouteError(
        f"This version has no {kind} route yet", f"profile {profile.name} goes via {kind}",
        "Reach the cluster directly: a profile without that hop, over a VPN or another network.",
        code="JD-ROUTE-NOT-BUILT",
    )  # fmt: skip
