"""From the hops of a profile to hops that can be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.dialer import Hop
from app.errors import RouteError, SignInError
from app.profiles.model import BastionHop, HopSpec, NetworkHop, Profile, ProxyHop, SshHop
from app.routes.network import NetworkDial
from app.routes.proxy import ProxyDial
from app.text import clean

if TYPE_CHECKING:
    from app.routes.context import RouteContext

_LATER: dict[type[HopSpec], str] = {}


def check_built(profile: Profile) -> None:
    """Raise what the profile needs and this version does not have.

    RouteError (JD-ROUTE-NOT-BUILT) for a kind of hop, SignInError (JD-SIGN-IN-NOT-BUILT) for a way to be let in at an
    SSH server: it is never left out in silence, for the login would be another than the profile asks for.
    """
    for spec in profile.via:
        if (kind := _LATER.get(type(spec))) is not None:
            raise RouteError(
                f"This version has no {kind} route yet", f"profile {profile.name} goes via {kind}",
                "Reach the cluster without that hop: an SSH server, a VPN or another network.",
                code="JD-ROUTE-NOT-BUILT",
            )  # fmt: skip
        if isinstance(spec, SshHop):
            _check_way_in(profile, spec)


def _check_way_in(profile: Profile, spec: SshHop) -> None:
    for field, wanted, instead in (
        ("entra-certificate", spec.entra_certificate, "Get one with `az ssh cert`, and name it: key and certificate."),
    ):  # fmt: skip
        if wanted:
            raise SignInError(
                f"This version does not have {field} yet",
                f"profile {profile.name}: the hop {', '.join(map(clean, spec.ssh))} asks for it", instead,
                code="JD-SIGN-IN-NOT-BUILT", layer="hop",
            )  # fmt: skip


def build_hops(
    profile: Profile, *, target: tuple[str, int] | None = None, context: RouteContext | None = None
) -> tuple[Hop, ...]:
    """The hops of `via`, in order. Loads no SSH library.

    `target` is host and port of the API server at the end of the route, for a hop that looks whether it is near.
    Without `context` nobody is asked. Raises as `check_built`.
    """
    check_built(profile)
    return tuple(_hop(profile, at, target, context) for at in range(len(profile.via)))


def _hop(profile: Profile, at: int, target: tuple[str, int] | None, context: RouteContext | None) -> Hop:
    spec = profile.via[at]
    if isinstance(spec, NetworkHop):
        return NetworkDial(spec, target=target)
    if isinstance(spec, ProxyHop):
        return ProxyDial(spec.proxy)
    if isinstance(spec, BastionHop):
        from app.routes.bastion import BastionDial

        return BastionDial(spec, context or _nobody(), profile, profile.cluster)
    assert isinstance(spec, SshHop), "check_built refuses the others"
    from app.routes.ssh import SshDial

    policy = profile.host_keys or ("strict" if profile.production else "ask")
    before = profile.via[at - 1] if at else None
    bastion = before if isinstance(before, BastionHop) else None
    return SshDial(spec, context or _nobody(), profile=profile.name, policy=policy, bastion=bastion)


def _nobody() -> RouteContext:
    from app.routes.context import RouteContext
    from app.routes.host_keys import HostKeys
    from app.secrets import SecretSource

    return RouteContext(None, SecretSource(None), HostKeys())
