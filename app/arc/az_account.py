"""Who is signed in to az, and for which subscriptions: read from azureProfile.json, without starting az.

az takes the tenant of its *default* subscription for the token that is bound to the proxy's key, whatever
`--subscription` says (azure-arc.md §2.6). To change that default is the user's own decision, so a cluster of another
tenant is refused here.
"""

from __future__ import annotations

import configparser
import os
from typing import Any

from app.arc.program import LAYER
from app.azure.fields import inner, part_of, text
from app.errors import Recovery, RouteError, SignInError
from app.identity.azure_cli import config_folder
from app.identity.azure_cli_cache import read_file, subscriptions
from app.profiles.model import ArcCluster, Profile
from app.records import Record
from app.text import clean

_SETTINGS_LIMIT = 256 << 10
_CLOUDS = {"AzureCloud": "public", "AzureUSGovernment": "us-government", "AzureChinaCloud": "china"}
"""az's names of the clouds, and ours."""
_MANAGED = ("systemAssignedIdentity", "userAssignedIdentity")
"""What az calls the user of a managed identity."""
_ENVIRONMENT_ID = "AZURE_CLIENT_ID"


class AzAccount(Record):
    """The sign-in with which az would open a cluster."""

    user: str
    """UPN, or the id of an application; cleaned."""
    tenant: str
    cloud: str
    """az's name of the cloud."""
    managed: bool = False


def account_for(profile: Profile, who: str = "") -> AzAccount:
    """Whom az would open the profile's cluster as; `who` is the UPN of the profile's sign-in when it is known.

    Blocks. Raises JumpdeckError when az is signed in to nothing that has the cluster, as somebody else than the
    profile wants, for another tenant or another cloud.
    """
    assert isinstance(profile.cluster, ArcCluster)
    wanted = part_of(profile.cluster.arc, "subscriptions").lower()
    cloud = _active_cloud()
    _check_cloud(profile, cloud)
    listed = [one for one in subscriptions(config_folder()) if text(one, "environmentName") in ("", cloud)]
    default = next((one for one in listed if one.get("isDefault") is True), None)
    if default is None:
        raise _no_login("nobody is signed in to it" if not listed else "it has no default subscription", "az login")
    its = next((one for one in listed if text(one, "id").lower() == wanted), None)
    if its is None:
        raise _no_login(f"it does not know subscription {clean(wanted)}", _login(profile))
    _check_tenant(profile, default, its)
    account = _account(its, cloud)
    if (mine := _account(default, cloud)).user != account.user:  # the token for the proxy comes from the default's
        raise _other_tenant(profile, f"az signs in as {mine.user} by default, but as {account.user} for the cluster")
    _check_person(profile, account, who)
    return account


def _account(subscription: dict[str, Any], cloud: str) -> AzAccount:
    user = inner(subscription, "user")
    name = text(user, "name")
    return AzAccount(clean(name), text(subscription, "tenantId").lower(), cloud, managed=name in _MANAGED)


def _active_cloud() -> str:
    """The cloud that az works with: AZURE_CLOUD_NAME, or `[cloud] name` of its settings."""
    if named := os.environ.get("AZURE_CLOUD_NAME"):
        return named
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read_string((read_file(config_folder() / "config", _SETTINGS_LIMIT) or b"").decode("utf-8", "replace"))
    except (SignInError, configparser.Error):
        return "AzureCloud"
    return settings.get("cloud", "name", fallback="AzureCloud")


def _check_cloud(profile: Profile, cloud: str) -> None:
    known, wanted = _CLOUDS.get(cloud, ""), profile.cloud.name
    if known != (wanted if wanted in _CLOUDS.values() else ""):
        named = next((name for name, ours in _CLOUDS.items() if ours == wanted), "NAME")
        raise _refused(
            "The Azure CLI works with another cloud", f"az: {clean(cloud)}, the profile: {clean(wanted)}",
            f"To change it is yours to do: az cloud set --name {named}, then az login",
        )  # fmt: skip


def _check_tenant(profile: Profile, default: dict[str, Any], its: dict[str, Any]) -> None:
    have, need = text(default, "tenantId").lower(), text(its, "tenantId").lower()
    if have != need:
        raise _other_tenant(profile, f"the cluster is in tenant {clean(need)}, az's default subscription in "
                                     f"{clean(have)}")  # fmt: skip


def _other_tenant(profile: Profile, why: str) -> RouteError:
    assert isinstance(profile.cluster, ArcCluster)
    subscription = clean(part_of(profile.cluster.arc, "subscriptions"))
    return _refused(
        "The cluster is of another tenant than az's default subscription",
        f"{why}; az asks for the proxy's token there, whatever subscription is named",
        f"To change the default is yours to do: az account set --subscription {subscription}",
    )


def _check_person(profile: Profile, account: AzAccount, who: str) -> None:
    """az's sign-in must be the one that the profile names: never another in its place."""
    assert isinstance(profile.cluster, ArcCluster)
    sign_in = profile.sign_in
    kind = sign_in.kind if sign_in is not None else "azure-cli"
    if kind == "lab":
        raise _refused("The lab's sign-in is not az's", "it lives in the lab alone", "Start it again: jumpdeck lab")
    if account.managed and profile.cluster.auth == "entra":
        raise _refused(
            "A managed identity cannot open a connected cluster", "neither az nor Jumpdeck gets a proof-of-possession "
            "token for it", "Sign in as a person or a service principal, or use auth = \"token\".",
        )  # fmt: skip
    if kind == "managed-identity":
        fits, wanted = account.managed, "a managed identity"
    else:
        named = (sign_in.account or sign_in.client_id if sign_in is not None else "") or ""
        if kind == "environment":
            named = os.environ.get(_ENVIRONMENT_ID, "")
        if not named and "@" in who and kind != "azure-cli":
            named = _home_name(who)
        fits, wanted = not named or named.lower() == account.user.lower(), clean(named)
    if not fits:
        raise SignInError(
            "The Azure CLI is signed in as somebody else", f"{account.user}, not {wanted}",
            f"Run: {_login(profile)} (as {wanted})", code="JD-SIGN-IN-ACCOUNT", recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip


def _home_name(upn: str) -> str:
    """A guest's name at home, as az knows people: `jo_contoso.com#EXT#@fabrikam.com` is jo@contoso.com."""
    home, guest, _ = upn.partition("#EXT#")
    return "@".join(home.rsplit("_", 1)) if guest else upn


def _login(profile: Profile) -> str:
    tenant = profile.sign_in.tenant if profile.sign_in is not None else None
    return f"az login --tenant {clean(tenant)}" if tenant else "az login"


def _no_login(why: str, run: str) -> SignInError:
    return SignInError("The Azure CLI is not signed in", why, f"Run: {run}", code="JD-SIGN-IN-AZ-LOGIN",
                       recovery=Recovery.NEEDS_PERSON)  # fmt: skip


def _refused(title: str, why: str, hint: str) -> RouteError:
    return RouteError(title, why, hint, code="JD-ARC-AZ-ACCOUNT", layer=LAYER, recovery=Recovery.NEEDS_PERSON)
