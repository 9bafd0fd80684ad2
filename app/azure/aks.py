"""AKS clusters as ARM describes them, their credentials, and what ARM knows in advance to go wrong.

Source: `managedClusters` of Microsoft.ContainerService 2026-08-01. All credential calls are POST without a body; the
first of the kubeconfigs in the answer is used, as the Azure CLI does.
"""

from __future__ import annotations

import base64
import binascii

from app.azure.arm import Arm
from app.azure.failures import bad_shape
from app.azure.fields import flag, inner, name_of, objects, part_of, properties, text, texts
from app.errors import Recovery, RouteError, SignInError
from app.profiles.model import BastionHop, HopSpec, InvokeHop, NetworkHop
from app.records import Record
from app.text import clean

API_VERSION = "2026-08-01"
_SHOWN_RANGES = 4
"""Address ranges that a warning lists; a cluster may have two hundred."""


class Cluster(Record):
    """A managed cluster. Texts are as they came; empty when not said."""

    id: str
    name: str
    private: bool
    """Whether its API server has only a private address."""
    fqdn: str
    """The public name, which a private cluster may have too."""
    power: str
    """Running or Stopped."""
    provisioning: str
    local_accounts_disabled: bool
    entra: bool
    """Whether people sign in to it with Entra (`aadProfile.managed`)."""
    tenant: str
    """Of the Entra sign-in."""
    authorized_ranges: tuple[str, ...]
    run_command_disabled: bool
    private_dns_zone: str
    """`system`, `none`, or a zone's ARM id."""
    node_resource_group: str

    @property
    def label(self) -> str:
        """How errors and the screen name it."""
        return clean(self.name)


async def read_cluster(arm: Arm, arm_id: str) -> Cluster:
    """The cluster with this ARM id. Raises JumpdeckError."""
    found = await arm.get(arm_id, API_VERSION)
    said = properties(found, arm_id)
    access, aad = inner(said, "apiServerAccessProfile"), inner(said, "aadProfile")
    return Cluster(
        id=arm_id, name=text(found, "name") or name_of(arm_id), private=flag(access, "enablePrivateCluster"),
        fqdn=text(said, "fqdn"), power=text(inner(said, "powerState"), "code"),
        provisioning=text(said, "provisioningState"), local_accounts_disabled=flag(said, "disableLocalAccounts"),
        entra=flag(aad, "managed"), tenant=text(aad, "tenantID"), authorized_ranges=texts(access, "authorizedIPRanges"),
        run_command_disabled=flag(access, "disableRunCommand"), private_dns_zone=text(access, "privateDNSZone"),
        node_resource_group=text(said, "nodeResourceGroup"),
    )  # fmt: skip


async def user_credential(arm: Arm, arm_id: str, *, public: bool = False) -> bytes:
    """The kubeconfig of a person, in `exec` format when the cluster has Entra; `public`: with the public name."""
    params = {"format": "exec", **({"server-fqdn": "public"} if public else {})}
    return await _credential(arm, f"{arm_id}/listClusterUserCredential", params)


async def admin_credential(arm: Arm, cluster: Cluster, *, public: bool = False) -> bytes:
    """The kubeconfig of the cluster's local administrator. Raises SignInError when the cluster has none."""
    if cluster.local_accounts_disabled:
        raise SignInError(
            "The cluster has no local administrator", f"{cluster.label}: local accounts are disabled",
            'Take auth = "admin" out of the profile: sign in as yourself.', code="JD-AKS-LOCAL-ACCOUNTS",
            recovery=Recovery.PERMANENT,
        )  # fmt: skip
    return await _credential(
        arm, f"{cluster.id}/listClusterAdminCredential", {"server-fqdn": "public"} if public else {}
    )


async def _credential(arm: Arm, path: str, params: dict[str, str]) -> bytes:
    answer = await arm.post(path, API_VERSION, None, params)
    found = objects(answer.body, "kubeconfigs")
    value = text(found[0], "value") if found else ""
    try:
        raw = base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_shape(f"POST {path}", "its kubeconfig is not base64") from error
    if not raw:
        raise bad_shape(f"POST {path}", "it holds no kubeconfig")
    return raw


def diagnose(
    cluster: Cluster, via: tuple[HopSpec, ...], *, public: bool = False, address: str | None = None
) -> tuple[str, ...]:
    """What ARM knows of this way to the cluster before it is tried: lasting warnings, cleaned text.

    `public` and `address` are the profile's `fqdn = "public"` and `address`. Raises RouteError for what cannot work:
    JD-AKS-STOPPED, JD-AKS-NO-PUBLIC-NAME, JD-INVOKE-DISABLED.
    """
    _check(cluster, via, public)
    warnings = []
    if cluster.provisioning.lower() in ("failed", "canceled", "deleting", "creating"):
        warnings.append(f"Azure says of {cluster.label}: {clean(cluster.provisioning)}")
    if any(isinstance(hop, InvokeHop) for hop in via):
        return tuple(warnings)
    if cluster.private:
        warnings += _private(cluster, via, public, address)
    elif cluster.authorized_ranges:
        warnings.append(_ranges(cluster, via))
    return tuple(warnings)


def _check(cluster: Cluster, via: tuple[HopSpec, ...], public: bool) -> None:
    if cluster.power.lower() == "stopped":
        raise _error(cluster, "JD-AKS-STOPPED", "The cluster is stopped", "its nodes and API server are switched off",
                     f"Start it (it takes minutes): az aks start {_names(cluster)}")  # fmt: skip
    if cluster.run_command_disabled and any(isinstance(hop, InvokeHop) for hop in via):
        change = f"az aks update {_names(cluster)} --enable-run-command"
        raise _error(cluster, "JD-INVOKE-DISABLED", "The cluster does not take commands through Azure",
                     "run command is disabled (disableRunCommand)",
                     f"Use another way in, or allow it: {change}")  # fmt: skip
    if public and cluster.private and not cluster.fqdn:
        raise _error(cluster, "JD-AKS-NO-PUBLIC-NAME", "The cluster has no public name",
                     'the profile says fqdn = "public"',
                     f"Take it out, or make one: az aks update {_names(cluster)} --enable-public-fqdn")  # fmt: skip


def _private(cluster: Cluster, via: tuple[HopSpec, ...], public: bool, address: str | None) -> list[str]:
    """A private cluster straight from here works only inside its network, and there only where its name resolves."""
    if via:
        return []
    told = f"{cluster.label} is private and the profile names no way in: this works only inside its network"
    if address is None and not public:
        zone = cluster.private_dns_zone.lower()
        if zone == "none":
            told += "; it has no private DNS zone, so its name resolves by public DNS only"
        else:
            told += "; its name resolves only in networks linked to its private DNS zone"
            if zone == "system" and cluster.node_resource_group:
                told += f" in {clean(cluster.node_resource_group)}"
    return [told]


def _ranges(cluster: Cluster, via: tuple[HopSpec, ...]) -> str:
    listed = ", ".join(clean(one) for one in cluster.authorized_ranges[:_SHOWN_RANGES])
    more = len(cluster.authorized_ranges) - _SHOWN_RANGES
    shown = f"{listed} and {more} more" if more > 0 else listed
    carried = [hop for hop in via if not isinstance(hop, NetworkHop)]
    if not carried:
        whose = "the public address of this computer must be among them"
    elif isinstance(carried[-1], BastionHop):
        whose = "the Bastion's public address must be among them"
    else:
        whose = "the public address of the last hop must be among them"
    return f"{cluster.label} lets in only {shown}: {whose}"


def _names(cluster: Cluster) -> str:
    group, subscription = part_of(cluster.id, "resourceGroups"), part_of(cluster.id, "subscriptions")
    return f"--name {clean(name_of(cluster.id))} --resource-group {clean(group)} --subscription {clean(subscription)}"


def _error(cluster: Cluster, code: str, title: str, why: str, hint: str) -> RouteError:
    return RouteError(title, f"{cluster.label}: {why}", hint, code=code, layer="arm")
