"""The Azure clouds, one record each: where to sign in, where ARM is, and the scopes that tokens are asked for."""

from __future__ import annotations

from pathlib import Path

from app.profiles.model import AksCluster, ArcCluster, Cloud, Profile
from app.records import Record, replace

AKS_SERVER_APP = "6dae42f8-4368-4678-94ff-3960e28e3630"
"""The application id of every AKS API server, the same in all clouds (Azure/kubelogin, concepts/aks)."""


class CloudEndpoints(Record):
    """One cloud, ready to use. URLs end without a slash."""

    name: str
    authority: str
    """`https://login.microsoftonline.com`."""
    resource_manager: str
    """`https://management.azure.com`."""
    arm_scope: str
    """The scope of tokens for ARM and for Bastion's token exchange; the double slash is deliberate."""
    aks_scope: str = f"{AKS_SERVER_APP}/.default"
    ssh_scope: str | None = None
    """Of Entra SSH certificates; None: this cloud has none."""
    ca_file: Path | None = None
    """A CA for sign-in and ARM in place of the system's trust store (TLS inspection, the lab)."""
    suffixes: tuple[tuple[str, str], ...] = ()
    """What a table of one's own says of its services' domains: `relay`, `guest-notification`; without a dot before."""


PUBLIC = CloudEndpoints(
    "public", "https://login.microsoftonline.com", "https://management.azure.com",
    "https://management.core.windows.net//.default", ssh_scope="https://pas.windows.net/CheckMyAccess/Linux/.default",
)  # fmt: skip
US_GOVERNMENT = CloudEndpoints(
    "us-government", "https://login.microsoftonline.us", "https://management.usgovcloudapi.net",
    "https://management.core.usgovcloudapi.net//.default",
    ssh_scope="https://pasff.usgovcloudapi.net/CheckMyAccess/Linux/.default",
)  # fmt: skip
CHINA = CloudEndpoints(
    "china", "https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn",
    "https://management.core.chinacloudapi.cn//.default",
    ssh_scope="https://pas.chinacloudapi.cn/CheckMyAccess/Linux/.default",
)  # fmt: skip
BUILT_IN = {cloud.name: cloud for cloud in (PUBLIC, US_GOVERNMENT, CHINA)}


def endpoints(cloud: Cloud) -> CloudEndpoints:
    """The endpoints of a profile's cloud: a built-in one, or a `[cloud.NAME]` table whose gaps public fills."""
    base = BUILT_IN.get(cloud.name, PUBLIC)
    authority = (cloud.authority or base.authority).rstrip("/")
    manager = (cloud.resource_manager or base.resource_manager).rstrip("/")
    custom = cloud.resource_manager is not None
    return CloudEndpoints(
        cloud.name, authority if "://" in authority else f"https://{authority}", manager,
        cloud.arm_scope or (f"{manager}//.default" if custom else base.arm_scope), cloud.aks_scope or base.aks_scope,
        cloud.ssh_scope or (None if custom else base.ssh_scope), cloud.ca_file,
        tuple((service, suffix.removeprefix(".")) for service, suffix in cloud.suffixes),
    )  # fmt: skip


def profile_endpoints(profile: Profile) -> CloudEndpoints:
    """The endpoints as a profile uses them.

    Its own `ca-file` stands in for the cloud's where the cluster comes from ARM, and with it its own CA.
    """
    found = endpoints(profile.cloud)
    if found.ca_file is None and profile.ca_file is not None and isinstance(profile.cluster, AksCluster | ArcCluster):
        return replace(found, ca_file=profile.ca_file)
    return found


def is_built_in(cloud: CloudEndpoints) -> bool:
    """Whether its authority is one of Microsoft's own clouds."""
    return cloud.authority in {known.authority for known in BUILT_IN.values()}
