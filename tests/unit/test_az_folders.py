"""What az's folders tell without starting it: is it there, its extension, how old, who is signed in, for which one."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.arc.az import check_az, neither
from app.arc.az_folders import find_az_with_extension
from app.errors import JumpdeckError, Recovery, RouteError, SignInError
from app.profiles.model import ArcCluster, Cloud, Profile, SignIn
from tests.az_proxy import ARC, OTHER_SUBSCRIPTION, OTHER_TENANT, SUBSCRIPTION, TENANT, Az, subscription
from tests.peers import require_linux


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Az:
    return Az(tmp_path, monkeypatch)


def profile(sign_in: SignIn | None = None, *, auth: str = "entra", cloud: str = "public") -> Profile:
    return Profile("shop-edge", ArcCluster(ARC, auth), sign_in=sign_in, cloud=Cloud(cloud))


def fits(wanted: Profile, who: str = "") -> bool:
    """Whether az may open it."""
    try:
        check_az(wanted, who)
    except JumpdeckError:
        return False
    return True


def refused(wanted: Profile, who: str = "") -> JumpdeckError:
    with pytest.raises(JumpdeckError) as caught:
        check_az(wanted, who)
    return caught.value


def test_az_with_its_extension_is_found_and_never_started(az: Az) -> None:
    packages = az.home / "opt" / "lib" / "python3.12" / "site-packages"
    (packages / "azure_cli-2.91.0.dist-info").mkdir(parents=True)
    (packages / "azure_cli_core-2.92.0.dist-info").mkdir()
    script = 'bin_dir=`pwd`\nAZ_INSTALLER=DEB "$bin_dir/../home/opt/bin/python3" -Im azure.cli "$@"\n'
    (az.bin / "az").write_text(f"#!/usr/bin/env bash\n{script}")
    found = find_az_with_extension()
    assert (found.path, found.argv, found.version, found.extension) == (
        az.bin / "az", (str(az.bin / "az"),), "2.91.0", "1.11.2",
    )  # fmt: skip
    assert found.label == "az 2.91.0, connectedk8s 1.11.2"
    assert fits(profile()) and az.calls == []


def test_an_rpm_names_its_packages_in_pythonpath(az: Az) -> None:
    packages = az.home / "lib64" / "site-packages"
    (packages / "azure_cli-2.80.0.dist-info").mkdir(parents=True)
    others = az.home / "opt" / "lib" / "python3.12" / "site-packages"  # of the interpreter: not what az imports first
    (others / "azure_cli-2.95.0.dist-info").mkdir(parents=True)
    script = f'PYTHONPATH={packages} AZ_INSTALLER=RPM {az.home}/opt/bin/python3 -sm azure.cli "$@"\n'
    (az.bin / "az").write_text(f"#!/bin/sh\n{script}")
    assert find_az_with_extension().version == "2.80.0"


def test_no_az(az: Az, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(az.home))
    error = refused(profile())
    assert (error.code, error.exit_code, error.layer, error.recovery) == (
        "JD-ARC-AZ-MISSING", 5, "arc", Recovery.NEEDS_PERSON,
    )  # fmt: skip
    assert "az extension add --name connectedk8s" in error.hint


def test_no_extension_gives_the_command_and_the_way_without_internet(az: Az, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_EXTENSION_DIR", str(az.home / "elsewhere"))
    error = refused(profile())
    assert (error.code, error.recovery) == ("JD-ARC-AZ-EXTENSION", Recovery.NEEDS_PERSON)
    assert "elsewhere" in error.detail
    assert "az extension add --name connectedk8s" in error.hint and "az extension add --source FILE.whl" in error.hint


@pytest.mark.parametrize("variable", ["AZURE_EXTENSION_DIR", "AZURE_EXTENSION_SYS_DIR", "AZURE_CONFIG_DIR"])
def test_where_extensions_may_lie(az: Az, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = az.home / "elsewhere"
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(az.home / "empty"))
    az.install("1.10.7b1", under=folder / "cliextensions" if variable == "AZURE_CONFIG_DIR" else folder)
    monkeypatch.setenv(variable, str(folder))
    assert find_az_with_extension().extension == "1.10.7b1"


def test_an_old_extension(az: Az, monkeypatch: pytest.MonkeyPatch) -> None:
    az.install("1.6.7", under=az.home / "old")
    monkeypatch.setenv("AZURE_EXTENSION_DIR", str(az.home / "old"))
    error = refused(profile())
    assert (error.code, error.detail) == ("JD-ARC-AZ-OLD", "connectedk8s 1.6.7 is here, 1.6.8 is needed")
    assert "az extension update --name connectedk8s" in error.hint and "--upgrade" in error.hint


def test_an_az_that_is_too_old_for_the_extension(az: Az) -> None:
    packages = az.home / "lib" / "python3.11" / "site-packages"
    (packages / "azure_cli-2.69.0.dist-info").mkdir(parents=True)
    (az.bin / "az").write_text(f"#!{az.home}/bin/python3\n# as pip makes it\n")
    error = refused(profile())
    assert (error.code, error.detail, error.hint) == (
        "JD-ARC-AZ-OLD", "az 2.69.0 is here, 2.70.0 is needed", "Update it: az upgrade",
    )  # fmt: skip


def test_damaged_metadata_is_as_none(az: Az) -> None:
    for path in (az.config / "cliextensions").rglob("azext_metadata.json"):
        path.write_text("[" * 100_000)
    assert find_az_with_extension().extension == "1.11.2"


# -- who is signed in --------------------------------------------------------------------------------------------------


def test_the_account_is_that_of_the_clusters_subscription(az: Az) -> None:
    az.signed_in(subscription(SUBSCRIPTION.upper(), default=False), subscription(OTHER_SUBSCRIPTION))
    account = check_az(profile()).account
    assert (account.user, account.tenant, account.cloud) == ("ops@contoso.com", TENANT, "AzureCloud")


def test_a_cluster_of_another_tenant_than_azs_default_is_refused(az: Az) -> None:
    az.signed_in(subscription(default=False), subscription(OTHER_SUBSCRIPTION, tenant=OTHER_TENANT))
    error = refused(profile())
    assert (error.code, error.recovery) == ("JD-ARC-AZ-ACCOUNT", Recovery.NEEDS_PERSON)
    assert TENANT in error.detail and OTHER_TENANT in error.detail
    assert f"az account set --subscription {SUBSCRIPTION}" in error.hint


def test_another_default_person_is_refused(az: Az) -> None:
    az.signed_in(subscription(default=False), subscription(OTHER_SUBSCRIPTION, user="jo@contoso.com"))
    assert "jo@contoso.com" in refused(profile()).detail


def test_azs_folder_may_be_the_groups_its_files_may_not(az: Az) -> None:
    require_linux("modes")
    az.config.chmod(0o775)
    assert fits(profile())
    (az.config / "azureProfile.json").chmod(0o664)
    assert refused(profile()).code == "JD-SIGN-IN-AZ"


@pytest.mark.parametrize("data", [None, b"", b"[]", b'{"subscriptions": []}', b"[" * 100_000])
def test_nobody_is_signed_in(az: Az, data: bytes | None) -> None:
    path = az.config / "azureProfile.json"
    path.unlink() if data is None else path.write_bytes(data)
    error = refused(profile(SignIn("azure-cli", tenant="contoso.com")))
    assert (error.code, error.exit_code, error.recovery) == ("JD-SIGN-IN-AZ-LOGIN", 4, Recovery.NEEDS_PERSON)
    assert "az login" in error.hint


def test_a_subscription_that_az_does_not_know(az: Az) -> None:
    az.signed_in(subscription(OTHER_SUBSCRIPTION))
    error = refused(profile(SignIn("azure-cli", tenant="contoso.com")))
    assert error.code == "JD-SIGN-IN-AZ-LOGIN" and error.hint == "Run: az login --tenant contoso.com"


@pytest.mark.parametrize(
    ("sign_in", "who", "right"),
    [
        (SignIn("azure-cli"), "somebody@contoso.com", True),
        (SignIn("azure-cli", account="Ops@Contoso.com"), "", True),
        (SignIn("azure-cli", account="jo@contoso.com"), "", False),
        (SignIn("broker"), "", True),
        (SignIn("broker"), "ops@contoso.com", True),
        (SignIn("broker"), "ops_contoso.com#EXT#@fabrikam.com", True),
        (SignIn("broker"), "jo@contoso.com", False),
        (SignIn("service-principal", client_id="app"), "", False),
        (SignIn("managed-identity"), "", False),
        (SignIn("lab"), "", False),
    ],
)
def test_az_never_stands_in_for_another_person(az: Az, sign_in: SignIn, who: str, right: bool) -> None:
    assert fits(profile(sign_in), who) is right


def test_applications_and_the_environment(az: Az, monkeypatch: pytest.MonkeyPatch) -> None:
    az.signed_in(subscription(user="App", kind="servicePrincipal"))
    assert fits(profile(SignIn("service-principal", client_id="app")))
    monkeypatch.setenv("AZURE_CLIENT_ID", "app")
    assert fits(profile(SignIn("environment")))
    monkeypatch.setenv("AZURE_CLIENT_ID", "other")
    assert refused(profile(SignIn("environment"))).code == "JD-SIGN-IN-ACCOUNT"


def test_a_managed_identity_opens_with_a_service_accounts_token_only(az: Az) -> None:
    az.signed_in(subscription(user="systemAssignedIdentity", kind="servicePrincipal"))
    assert refused(profile(SignIn("managed-identity"))).code == "JD-ARC-AZ-ACCOUNT"
    assert fits(profile(SignIn("managed-identity"), auth="token"))


def test_the_cloud_must_be_the_profiles(az: Az, monkeypatch: pytest.MonkeyPatch) -> None:
    az.signed_in(subscription(cloud="AzureUSGovernment"), subscription(OTHER_SUBSCRIPTION))
    error = refused(profile(cloud="us-government"))
    assert (error.code, error.detail) == ("JD-ARC-AZ-ACCOUNT", "az: AzureCloud, the profile: us-government")
    assert "az cloud set --name AzureUSGovernment" in error.hint
    (az.config / "config").write_text("[cloud]\nname = AzureUSGovernment\n")
    assert fits(profile(cloud="us-government"))
    monkeypatch.setenv("AZURE_CLOUD_NAME", "Stack")
    az.signed_in(subscription(cloud="Stack"))
    assert fits(profile(cloud="stack"))
    assert "az: Stack" in refused(profile()).detail


def test_both_causes_and_both_ways_on() -> None:
    lack = RouteError("No az", "none", "Get az.", code="JD-ARC-AZ-MISSING")
    why = SignInError("No such token", "broker", "Sign in otherwise.", code="JD-SIGN-IN-POP")
    both = neither(why, lack)
    assert isinstance(both, SignInError)
    assert both.lines() == [
        "No such token [JD-SIGN-IN-POP]", "broker; by az neither: No az: none", "Sign in otherwise. For az: Get az.",
    ]  # fmt: skip
