"""`jumpdeck sign-in PROFILE`: sign in to Azure now, and say who it is and for how long."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.identity.clouds import CloudEndpoints
    from app.profiles.model import Profile


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("profile", metavar="PROFILE")
    parser.add_argument("--no-input", action="store_true", help="never ask; fail with what to run first")


def run(args: argparse.Namespace) -> int:
    """Sign in. Raises JumpdeckError."""
    from app.cli.frame import run_async
    from app.profiles.store import load

    return run_async(_sign_in(load().get(args.profile), args))


async def _sign_in(profile: Profile, args: argparse.Namespace) -> int:
    from app.cli.frame import asker_for
    from app.identity.attending import attend
    from app.identity.clouds import profile_endpoints
    from app.identity.identities import Identities
    from app.secrets.secret import SecretSource

    asker = asker_for(args)
    identities = Identities(asker, SecretSource(asker))
    attend(asker)
    try:
        identity = identities.for_profile(profile)
        ends = [(await identity.token(scope)).expires_at for scope in scopes_of(profile, profile_endpoints(profile))]
        left = max(round((min(ends) - time.time()) / 60), 0)
        until = time.strftime("%H:%M", time.localtime(min(ends)))
        how = "" if identity.label == identity.about.label else f" ({identity.about.label})"
        print(f"Signed in as {identity.label}{how}, token until {until} ({left} min)")  # noqa: T201
        return 0
    finally:
        await identities.aclose()


def scopes_of(profile: Profile, endpoints: CloudEndpoints) -> tuple[str, ...]:
    """What a profile needs tokens for: ARM, the API server, or both."""
    from app.profiles.model import AksCluster, ArcCluster, BastionHop, InvokeHop, KubeconfigCluster, SshHop

    cluster = profile.cluster
    to_arm = isinstance(cluster, AksCluster | ArcCluster) or any(
        isinstance(hop, BastionHop | InvokeHop) or (isinstance(hop, SshHop) and hop.jit is not None)
        for hop in profile.via
    )
    to_cluster = not isinstance(cluster, KubeconfigCluster) and cluster.auth == "entra"
    found = ((endpoints.arm_scope,) if to_arm else ()) + ((endpoints.aks_scope,) if to_cluster else ())
    return found or (endpoints.arm_scope,)
