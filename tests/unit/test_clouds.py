"""The Azure clouds as records: where each signs in, what its tokens are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.identity.clouds import endpoints, is_built_in, profile_endpoints
from app.profiles.model import AksCluster, Cloud, KubeconfigCluster, Profile

CLOUDS = [
    ("public", "https://login.microsoftonline.com", "https://management.azure.com",
     "https://management.core.windows.net//.default", "https://pas.windows.net/CheckMyAccess/Linux/.default"),
    ("us-government", "https://login.microsoftonline.us", "https://management.usgovcloudapi.net",
     "https://management.core.usgovcloudapi.net//.default",
     "https://pasff.usgovcloudapi.net/CheckMyAccess/Linux/.default"),
    ("china", "https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn",
     "https://management.core.chinacloudapi.cn//.default", "https://pas.chinacloudapi.cn/CheckMyAccess/Linux/.default"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "authority", "manager", "arm", "ssh"), CLOUDS)
def test_each_cloud_has_its_own_places(name: str, authority: str, manager: str, arm: str, ssh: str) -> None:
    found = endpoints(Cloud(name))
    assert (found.authority, found.resource_manager, found.arm_scope, found.ssh_scope) == (authority, manager, arm, ssh)
    assert found.aks_scope == "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
    assert is_built_in(found) and found.ca_file is None


def test_a_cloud_of_ones_own_is_not_looked_up_at_microsoft() -> None:
    cloud = Cloud("lab", "localhost:8443", "https://localhost:8444/", arm_scope="arm/.default",
                  ca_file=Path("ca.pem"))  # fmt: skip
    found = endpoints(cloud)
    assert (found.authority, found.resource_manager) == ("https://localhost:8443", "https://localhost:8444")
    assert (found.arm_scope, found.ssh_scope, found.ca_file) == ("arm/.default", None, Path("ca.pem"))
    assert not is_built_in(found)


def test_the_profiles_ca_serves_azure_where_the_cluster_brings_its_own() -> None:
    own = Path("corp.pem")
    aks = Profile("p", AksCluster("/subscriptions/…"), ca_file=own)
    assert profile_endpoints(aks).ca_file == own
    assert profile_endpoints(Profile("p", KubeconfigCluster(Path("k")), ca_file=own)).ca_file is None
    cloud = Cloud("corp", ca_file=Path("cloud.pem"))
    assert profile_endpoints(Profile("p", aks.cluster, ca_file=own, cloud=cloud)).ca_file == Path("cloud.pem")
