"""From the hops of a profile to hops that can be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.dialer import Hop
from app.errors import RouteError, SignInError
from app.profiles.model import ArcCluster, BastionHop, InvokeHop, NetworkHop, Profile, ProxyHop, SshHop
from app.routes.network import NetworkDial
from app.routes.proxy import ProxyDial
from app.text import clean

if TYPE_CHECKING:
    from app.routes.context import RouteContext

NO_CERTIFICATES = ("azure-cli", "managed-identity", "environment", "lab")
"""Kinds of sign-in for which Entra gives no SSH certificate, or not to us."""


def check_built(profile: Profile) -> None:
    """Raise SignInError for a way in that the profile's sign-in cannot open, before a person signs in for it."""
    kind = profile.sign_in.kind if profile.sign_in is not None else ""
    for spec in profile.via:
        if isinstance(spec, SshHop) and spec.entra_certificate and kind in NO_CERTIFICATES:
            raise SignInError(
                f"The sign-in {kind} gets no SSH certificate",
                f"profile {profile.name}: the hop {', '.join(map(clean, spec.ssh))} asks for one (entra-certificate)",
                "Use browser, device-code, broker or service-principal; or get one with `az ssh cert` and name it: "
                "key and certificate.", code="JD-SIGN-IN-CERTIFICATE", layer="hop",
            )  # fmt: skip


def build_hops(
    profile: Profile, *, target: tuple[str, int] | None = None, context: RouteContext | None = None
) -> tuple[Hop, ...]:
    """The hops of `via`, in order, and the tunnel of a connected cluster. Loads no SSH library.

    `target` is host and port of the API server at the end of the route, for a hop that looks whether it is near.
    Without `context` nobody is asked. Raises as `check_built`.
    """
    check_built(profile)
    hops = tuple(_hop(profile, at, target, context) for at in range(len(profile.via)))
    if isinstance(profile.cluster, ArcCluster):
        from app.routes.arc import ArcDial

        return (*hops, ArcDial(profile, profile.cluster, context or _nobody()))
    return hops


def _hop(profile: Profile, at: int, target: tuple[str, int] | None, context: RouteContext | None) -> Hop:
    spec = profile.via[at]
    if isinstance(spec, NetworkHop):
        return NetworkDial(spec, target=target)
    if isinstance(spec, ProxyHop):
        return ProxyDial(spec.proxy)
    if isinstance(spec, BastionHop):
        from app.routes.bastion import BastionDial

        return BastionDial(spec, context or _nobody(), profile, profile.cluster)
    if isinstance(spec, InvokeHop):
        raise RouteError("Command invoke is no way for streams", f"profile {profile.name}",
                         "Use a profile with a network path.", code="JD-INVOKE-NO-STREAM")  # fmt: skip
    from app.routes.ssh import SshDial

    policy = profile.host_keys or ("strict" if profile.production else "ask")
    before = profile.via[at - 1] if at else None
    bastion = before if isinstance(before, BastionHop) else None
    return SshDial(spec, context or _nobody(), profile=profile.name, policy=policy, bastion=bastion)


def _nobody() -> RouteContext:
    from app.routes.context import RouteContext
    from app.routes.host_keys import HostKeys
    from app.secrets.secret import SecretSource

    return RouteContext(None, SecretSource(None), HostKeys())
