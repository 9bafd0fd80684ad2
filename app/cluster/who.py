"""Who a profile's cluster, and Azure on the way to it, will take us for: asked of the credentials, not of the cluster.

No route is opened. A token is asked for where there is none yet, so a person may have to sign in, and a kubeconfig's
trusted command may run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.cluster.access import AskedTokenCredentials, Credentials, resolve_access
from app.errors import SignInError
from app.identity.claims import Kind, Who, of_certificate, of_token
from app.profiles.model import AksCluster, ArcCluster, KubeconfigCluster, Profile
from app.records import Record, replace
from app.secrets.secret import Secret

if TYPE_CHECKING:
    from app.asking import Asker
    from app.azure.context import Azure
    from app.cluster.access import AzureSource
    from app.secrets.secret import SecretSource

_BEARER = "Bearer "
_FOR_ARM = "token for Azure Resource Manager"
_FOR_API = "token for the API server"
GROUP_LIMIT = 200
"""Groups of a person that Entra puts into a token."""


class Seen(Record):
    """Whom the two gates on the way see."""

    cluster: Who
    """Whom the API server sees."""
    azure: Who | None = None
    """Whom Azure Resource Manager sees, where the way leads through it; else None."""
    notes: tuple[str, ...] = ()
    """What follows from it: sentences, cleaned."""


async def who_is(
    profile: Profile, *, asker: Asker | None, secrets: SecretSource | None = None, azure: AzureSource
) -> Seen:
    """Read the credentials of a profile. Raises SignInError and ProfileError, as opening the profile would."""
    cluster = profile.cluster
    if isinstance(cluster, ArcCluster):
        return await _arc(profile, cluster, asker, secrets, await azure())
    if isinstance(cluster, AksCluster):
        return await _aks(profile, cluster, await azure())
    access = await resolve_access(profile, asker=asker, secrets=secrets, azure=azure)
    read_from = _FOR_API
    if isinstance(cluster, KubeconfigCluster):
        read_from = f"kubeconfig user {access.identity_label}"
    found = await _bearer(access.credentials, read_from)
    certificate = access.certificate()  # a command of the kubeconfig has run by now, if there is one
    if found is None and certificate is not None:
        found = await asyncio.to_thread(of_certificate, certificate.chain, read_from=certificate.origin)
    return _judged(profile, found or Who(Kind.NOBODY, read_from=read_from), None)


async def _arc(
    profile: Profile, cluster: ArcCluster, asker: Asker | None, secrets: SecretSource | None, azure: Azure
) -> Seen:
    arm = await _of_azure(azure, azure.endpoints.arm_scope, _FOR_ARM)
    if cluster.auth == "token":
        try:
            stored = await _bearer(AskedTokenCredentials(profile.name, asker, secrets), "service-account token")
        except SignInError as error:
            manifests = f"jumpdeck whoami {profile.name} --for service-account:NAME"
            error.hint += f". None yet? What an administrator makes for it: {manifests}"
            raise
        assert stored is not None
        return _judged(profile, stored, arm)
    # The token for the cluster belongs to a key of the running proxy, so there is none before the route is open.
    seen = _judged(profile, arm, arm)
    if arm.kind is Kind.MANAGED_IDENTITY:
        note = "A managed identity gets no proof-of-possession token: this sign-in cannot open an Arc cluster."
        return replace(seen, notes=(*seen.notes, note))
    if arm.overage:
        return replace(seen, notes=(*seen.notes, *_way_out(profile)))
    return seen


def _way_out(profile: Profile) -> tuple[str, ...]:
    return (
        f"More than {GROUP_LIMIT} groups: an Arc cluster refuses this account ("
        "\"Overage claim … is currently not supported\"), whatever roles it has.",
        "The way out: sign in as a service principal, or use a service account: auth = \"token\" in the profile, and "
        f"the manifests of `jumpdeck whoami {profile.name} --for service-account:NAMESPACE/NAME`.",
    )


async def _aks(profile: Profile, cluster: AksCluster, azure: Azure) -> Seen:
    arm = await _of_azure(azure, azure.endpoints.arm_scope, _FOR_ARM)
    if cluster.auth == "admin":
        admin = Who(Kind.ADMIN, read_from='auth = "admin"')
        return Seen(admin, arm, ("What is done in the cluster is not done in your name.",))
    seen = _judged(profile, await _of_azure(azure, azure.endpoints.aks_scope, _FOR_API), arm)
    if seen.cluster.overage:
        note = f"More than {GROUP_LIMIT} groups: AKS looks them up in the directory, so nothing needs to be done."
        return replace(seen, notes=(*seen.notes, note))
    return seen


async def _of_azure(azure: Azure, scope: str, read_from: str) -> Who:
    token = await azure.identity.token(scope)
    return of_token(token.value, read_from=read_from, expires_at=token.expires_at)


async def _bearer(credentials: Credentials, read_from: str) -> Who | None:
    value = (await credentials.headers()).get("Authorization", "")
    if not value.startswith(_BEARER):
        return None
    until = getattr(credentials, "expires_at", None)
    token = Secret(value.removeprefix(_BEARER))
    return of_token(token, read_from=read_from, expires_at=until if isinstance(until, float) else None)


def _judged(profile: Profile, who: Who, azure: Who | None) -> Seen:
    notes: tuple[str, ...] = ()
    ask = f"`jumpdeck exec {profile.name} -- kubectl auth whoami`"
    if who.kind is Kind.OPAQUE:
        notes = (f"The token says nothing of itself; the cluster does: {ask}.",)
    elif who.kind is Kind.OTHER:
        notes = (f"What the cluster calls its owner is a setting of the cluster: {ask}.",)
    elif who.kind is Kind.SERVICE_ACCOUNT and who.expires_at is None:
        notes = ("This token does not end by itself: it is good until its Secret is deleted.",)
    elif who.kind is Kind.NOBODY:
        notes = ("Nothing proves who we are: the cluster sees system:anonymous.",)
    return Seen(who, azure, notes)
