"""The lab's Entra and ARM as published clients see them: azure-identity, and requests."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import msal
import pytest
import requests
import yaml
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ClientSecretCredential, DeviceCodeCredential

from app.lab.azure_names import (
    AKS_NAME,
    AKS_SERVER_APP,
    ARC_ENTRA,
    ARC_TOKEN,
    BASTION,
    CLUSTER,
    GROUP_ID,
    JUMP_VM,
    NETWORK,
    SCALE_SET,
    STOPPED_VM,
    SUBSCRIPTION,
    TENANT,
    TENANT_DOMAIN,
    UPN,
)
from app.lab.control import ask, find_lab
from app.lab.entra_tokens import decode
from tests.azure_world import AKS_SCOPE, CLI_SCOPE, LIMIT, Portal, azure_world, in_thread

CODE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with azure_world() as portal:
        yield portal


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decode(token.split(".")[1]))
    return found


def how(portal: Portal) -> dict[str, Any]:
    """How azure-identity is told of a cloud of one's own."""
    entra = portal.lab.azure.entra
    return {"authority": entra.url, "connection_verify": portal.ca, "disable_instance_discovery": True}


# Entra


async def test_a_service_principal_signs_in_with_azure_identity(portal: Portal) -> None:
    secret = portal.lab.azure.entra.client_secret
    with ClientSecretCredential(TENANT, "app-1", secret, **how(portal)) as credential:
        token = await in_thread(lambda: credential.get_token(CLI_SCOPE))
    found = claims(token.token)
    assert (found["aud"], found["tid"], found["appid"]) == ("https://management.core.windows.net/", TENANT, "app-1")
    assert 3_500 < token.expires_on - found["iat"] <= 3_600
    assert (await portal.arm("GET", "/subscriptions", token=token.token)).status_code == 200


async def test_a_wrong_secret_is_refused_with_its_number(portal: Portal) -> None:
    credential = ClientSecretCredential(TENANT, "app-1", "guess", **how(portal))
    with credential, pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        await in_thread(lambda: credential.get_token(CLI_SCOPE))


async def test_a_person_signs_in_with_a_device_code_and_is_not_asked_again(portal: Portal) -> None:
    entra = portal.lab.azure.entra
    entra.approve_after = None
    shown: list[tuple[str, str]] = []

    def show(uri: str, code: str, _expires: object) -> None:
        shown.append((uri, code))
        entra.approve(code)

    with DeviceCodeCredential(tenant_id=TENANT, client_id="cli", prompt_callback=show, **how(portal)) as credential:
        token = await in_thread(lambda: credential.get_token(CLI_SCOPE))
        other = await in_thread(lambda: credential.get_token(AKS_SCOPE))
    assert shown[0][0] == f"{entra.url}/devicelogin"
    assert len(shown) == 1
    assert (claims(token.token)["upn"], claims(other.token)["aud"]) == (UPN, AKS_SERVER_APP)
    assert "refresh_token" in entra.asked
    assert portal.lab.users.user(other.token) == UPN


async def start_code(portal: Portal) -> str:
    answer = await portal.entra("oauth2/v2.0/devicecode", {"client_id": "me", "scope": AKS_SCOPE})
    assert {"user_code", "verification_uri", "interval", "message"} <= set(answer.json())
    return str(answer.json()["device_code"])


async def test_a_device_code_is_pending_until_it_is_typed_and_good_once(portal: Portal) -> None:
    entra = portal.lab.azure.entra
    entra.approve_after = None
    code = await start_code(portal)
    pending = await portal.grant(grant_type=CODE_GRANT, device_code=code)
    assert (pending.status_code, pending.json()["error"]) == (400, "authorization_pending")
    answer = await asyncio.to_thread(ask, find_lab(), {"command": "approve"})
    assert answer["typed"] == 1
    done = await portal.grant(grant_type=CODE_GRANT, device_code=code)
    assert claims(done.json()["access_token"])["upn"] == UPN
    assert (await portal.grant(grant_type=CODE_GRANT, device_code=code)).json()["error"] == "invalid_grant"


async def test_a_device_code_approves_itself_after_its_time_or_is_declined(portal: Portal) -> None:
    entra = portal.lab.azure.entra
    code = await start_code(portal)
    entra.approve_after = 0.0
    assert (await portal.grant(grant_type=CODE_GRANT, device_code=code)).status_code == 200
    declined = await start_code(portal)
    entra.approve(declined=True)
    answer = await portal.grant(grant_type=CODE_GRANT, device_code=declined)
    assert answer.json()["error"] == "authorization_declined"


async def test_a_browser_brings_the_code_back_by_address_or_by_form(portal: Portal) -> None:
    where = f"{portal.lab.azure.entra.url}/{TENANT}/oauth2/v2.0/authorize"
    query = {"client_id": "cli", "redirect_uri": "http://localhost:1/back", "state": "s<1>"}

    def go(**more: str) -> requests.Response:
        return requests.get(where, {**query, **more}, verify=portal.ca, timeout=LIMIT, allow_redirects=False)

    moved = await in_thread(go)
    assert moved.status_code == 302
    assert moved.headers["Location"].startswith("http://localhost:1/back?code=")
    page = (await in_thread(lambda: go(response_mode="form_post"))).text
    assert 'value="s&lt;1&gt;"' in page
    code = page.split('name="code" value="')[1].split('"')[0]
    assert (await portal.grant(grant_type="authorization_code", code=code)).status_code == 200
    assert (await portal.grant(grant_type="authorization_code", code=code)).status_code == 400


async def test_metadata_names_the_endpoints_and_knows_one_tenant(portal: Portal) -> None:
    path = "v2.0/.well-known/openid-configuration"
    for tenant in (TENANT, TENANT_DOMAIN, "organizations"):
        found = (await portal.entra(path, tenant=tenant)).json()
        assert found["token_endpoint"].startswith(portal.lab.azure.entra.url)
        assert found["issuer"].endswith(f"/{TENANT}/v2.0")
    other = await portal.entra(path, tenant="contoso.com")
    assert (other.status_code, other.json()["error"]) == (400, "invalid_tenant")
    assert "AADSTS90002" in other.json()["error_description"]
    instance = (await portal.entra("discovery/instance", tenant="common")).json()
    assert instance["tenant_discovery_endpoint"].endswith(path)


ENTRA_REFUSALS = [
    ("conditional-access", "invalid_grant", 53003), ("wrong-tenant", "invalid_grant", 50020),
    ("expired-code", "expired_token", 70020), ("entra-500", "server_error", 90033),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "error", "number"), ENTRA_REFUSALS)
async def test_a_fault_of_entra_reads_as_entra_words_it(portal: Portal, fault: str, error: str, number: int) -> None:
    portal.lab.azure.entra.approve_after = 0.0
    code = await start_code(portal)
    await portal.lab.fault(fault, "entra")
    refused = await portal.grant(grant_type=CODE_GRANT, device_code=code)
    assert refused.status_code == (500 if fault == "entra-500" else 400)
    assert (refused.json()["error"], refused.json()["error_codes"]) == (error, [number])
    assert refused.json()["error_description"].startswith(f"AADSTS{number}: ")
    assert refused.json()["correlation_id"]
    await portal.lab.fault(fault, "entra", on=False)
    code = await start_code(portal)
    assert (await portal.grant(grant_type=CODE_GRANT, device_code=code)).status_code == 200


async def test_faults_of_entra_reach_azure_identity(portal: Portal) -> None:
    secret = portal.lab.azure.entra.client_secret

    async def refusal() -> str:
        """Of a new credential: MSAL keeps a refusal in mind for a minute."""
        credential = ClientSecretCredential(TENANT, "app-1", secret, retry_total=0, **how(portal))
        with credential, pytest.raises((ClientAuthenticationError, HttpResponseError)) as caught:
            await in_thread(lambda: credential.get_token(CLI_SCOPE))
        return str(caught.value)

    for fault, number in (("wrong-tenant", "AADSTS700016"), ("conditional-access", "AADSTS53003")):
        await portal.lab.fault(fault, "entra")
        assert number in await refusal()
        await portal.lab.fault(fault, on=False)
    await portal.lab.fault("entra-500")
    assert "500" in await refusal()


async def test_refresh_tokens_end_on_demand_and_tokens_are_short(portal: Portal) -> None:
    portal.lab.azure.entra.approve_after = 0.0
    code = await start_code(portal)
    refresh = (await portal.grant(grant_type=CODE_GRANT, device_code=code)).json()["refresh_token"]
    await portal.lab.fault("short-tokens")
    renewed = (await portal.grant(grant_type="refresh_token", refresh_token=refresh)).json()
    assert renewed["expires_in"] == 60
    await portal.lab.fault("refresh-expired")
    ended = (await portal.grant(grant_type="refresh_token", refresh_token=refresh)).json()
    assert ended["error_codes"] == [700082]


async def test_a_resource_that_nobody_knows_has_no_tokens(portal: Portal) -> None:
    answer = await portal.grant(grant_type="client_credentials", scope="https://nowhere.example/.default")
    assert answer.json()["error_codes"] == [500011]


async def test_the_lab_signs_its_own_profiles_in_over_the_control_channel(portal: Portal) -> None:
    scope = f"{portal.lab.azure.arm.url}//.default"
    answer = await asyncio.to_thread(ask, find_lab(), {"command": "token", "scope": scope})
    assert claims(answer["token"])["upn"] == UPN
    assert answer["expires_at"] > portal.lab.entra_tokens.clock() + 3_500
    assert (await portal.arm("GET", CLUSTER, token=answer["token"])).status_code == 200
    await portal.lab.fault("conditional-access")
    refused = await portal.lab.handle({"command": "token", "scope": scope})
    assert refused["error"]["exit_code"] == 4
    assert "AADSTS53003" in refused["error"]["detail"]
    await portal.lab.fault("conditional-access", on=False)
    await portal.lab.fault("cut", "entra")
    assert "error" in await portal.lab.handle({"command": "token", "scope": scope})


def test_msal_reads_the_answers_too() -> None:
    """azure-identity stands on this one; a change of its major version is a change of what is emulated."""
    assert int(msal.__version__.split(".")[0]) == 1


# ARM: who may ask


async def test_arm_answers_nobody_without_a_good_token(portal: Portal) -> None:
    good, other = portal.token(), "00000000-0000-0000-0000-00000000001b"
    tokens = {
        "AuthenticationFailed": "",
        "InvalidAuthenticationToken": good[:-4] + "AAAA",
        "ExpiredAuthenticationToken": portal.token(life=-10),
        "InvalidAuthenticationTokenAudience": portal.token(AKS_SCOPE),
        "InvalidAuthenticationTokenTenant": portal.token(tenant=other),
    }
    for code, token in tokens.items():
        answer = await portal.arm("GET", CLUSTER, token=token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")
        assert good not in answer.text


async def test_arm_says_what_it_is_asked_by_id_in_any_case(portal: Portal) -> None:
    for path in (CLUSTER, CLUSTER.upper(), CLUSTER.lower(), f"{CLUSTER}/"):
        assert (await portal.read(path))["id"] == CLUSTER
    answer = await portal.arm("GET", CLUSTER)
    assert answer.headers["x-ms-request-id"]
    assert answer.headers["x-ms-correlation-request-id"]
    bare = f"{portal.lab.azure.arm.url}{CLUSTER}?api-version="
    assert (await portal.arm("GET", bare)).json()["error"]["code"] == "MissingApiVersionParameter"


NOWHERE = [
    (f"/subscriptions/{TENANT}/resourceGroups/lab", "SubscriptionNotFound"),
    (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/none", "ResourceGroupNotFound"),
    (f"{GROUP_ID}/providers/Microsoft.Network/bastionHosts/none", "ResourceNotFound"),
    ("/nothing", "NotFound"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "code"), NOWHERE)
async def test_what_is_not_there_is_404(portal: Portal, path: str, code: str) -> None:
    for method in ("GET", "POST"):
        answer = await portal.arm(method, path if method == "GET" else f"{path}/action")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)


# ARM: what there is


async def test_lists_of_a_subscription_and_a_group_come_in_pages(portal: Portal) -> None:
    for scope in (f"/subscriptions/{SUBSCRIPTION}", GROUP_ID):
        for kind, ids in (
            ("Microsoft.Network/bastionHosts", [BASTION]),
            ("Microsoft.ContainerService/managedClusters", [CLUSTER]),
            ("Microsoft.Compute/virtualMachines", [JUMP_VM, STOPPED_VM]),
            ("Microsoft.Compute/virtualMachineScaleSets", [SCALE_SET]),
            ("Microsoft.Kubernetes/connectedClusters", [ARC_ENTRA, ARC_TOKEN]),
        ):
            found = await portal.read(f"{scope}/providers/{kind}")
            assert [each["id"] for each in found["value"]] == ids
    portal.lab.azure.arm.page = 1
    first = await portal.read(f"{GROUP_ID}/providers/Microsoft.Compute/virtualMachines")
    second = (await portal.arm("GET", first["nextLink"])).json()
    assert [page["value"][0]["id"] for page in (first, second)] == [JUMP_VM, STOPPED_VM]
    assert "nextLink" not in second
    assert [each["subscriptionId"] for each in (await portal.read("/subscriptions"))["value"]] == [SUBSCRIPTION]
    assert [each["tenantId"] for each in (await portal.read("/tenants"))["value"]] == [TENANT]


async def test_the_bastion_says_where_it_is_and_what_it_can(portal: Portal) -> None:
    found = await portal.read(BASTION)
    assert found["sku"] == {"name": "Standard"}
    assert found["properties"]["dnsName"] == f"127.0.0.1:{portal.lab.azure.bastion.port}"
    assert found["properties"]["enableTunneling"] is True
    assert found["properties"]["enableIpConnect"] is True
    subnet = found["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"]
    assert subnet.startswith(NETWORK)
    assert (await portal.read(subnet))["properties"]["addressPrefix"] == "10.77.1.0/26"
    await portal.lab.fault("bastion-no-tunneling")
    assert "enableTunneling" not in (await portal.read(BASTION))["properties"]
    await portal.lab.fault("bastion-no-tunneling", on=False)
    for fault, sku in (("basic-sku", "Basic"), ("developer-sku", "Developer")):
        await portal.lab.fault(fault)
        assert (await portal.read(BASTION))["sku"]["name"] == portal.lab.azure.bastion.sku == sku
        await portal.lab.fault(fault, on=False)
    assert portal.lab.azure.bastion.sku == "Standard"


async def test_the_bastion_takes_the_tokens_of_arm_only(portal: Portal) -> None:
    url = f"https://127.0.0.1:{portal.lab.azure.bastion.port}/api/tokens"

    async def exchange(token: str) -> requests.Response:
        form = {"resourceId": CLUSTER, "protocol": "tcptunnel", "workloadHostPort": 443, "aztoken": token}
        return await in_thread(lambda: requests.post(url, form, verify=portal.ca, timeout=LIMIT))

    assert {"authToken", "nodeId", "websocketToken"} <= set((await exchange(portal.token())).json())
    for bad in (portal.token(AKS_SCOPE), portal.token(life=-1), "guess"):
        assert (await exchange(bad)).status_code == 401


async def test_machines_say_whether_they_run(portal: Portal) -> None:
    async def state(path: str) -> str:
        return str((await portal.read(f"{path}/instanceView"))["statuses"][1]["code"])

    assert [await state(vm) for vm in (JUMP_VM, STOPPED_VM)] == ["PowerState/running", "PowerState/deallocated"]
    expanded = await portal.read(JUMP_VM, **{"$expand": "instanceView"})
    assert expanded["properties"]["instanceView"]["statuses"][1]["code"] == "PowerState/running"
    instances = (await portal.read(f"{SCALE_SET}/virtualMachines"))["value"]
    assert [each["instanceId"] for each in instances] == ["0", "1"]
    states = [await state(each["id"]) for each in instances]
    assert states == ["PowerState/deallocated", "PowerState/running"]
    await portal.lab.fault("vm-stopped")
    assert await state(JUMP_VM) == "PowerState/deallocated"


CLUSTER_FAULTS = [
    ("aks-stopped", lambda found: found["powerState"]["code"] == "Stopped"),
    ("run-command-disabled", lambda found: found["apiServerAccessProfile"]["disableRunCommand"]),
    ("local-accounts-disabled", lambda found: found["disableLocalAccounts"]),
    ("ip-ranges", lambda found: found["apiServerAccessProfile"].get("authorizedIPRanges")),
]


@pytest.mark.parametrize(("fault", "shows"), CLUSTER_FAULTS)
async def test_a_fault_of_the_cluster_shows_in_its_properties(portal: Portal, fault: str, shows: Any) -> None:
    assert not shows((await portal.read(CLUSTER))["properties"])
    await portal.lab.fault(fault)
    assert shows((await portal.read(CLUSTER))["properties"])


async def credential(portal: Portal, action: str, **params: Any) -> Any:
    answer = await portal.arm("POST", f"{CLUSTER}/{action}", **params)
    assert answer.status_code == 200, answer.text
    return yaml.safe_load(base64.b64decode(answer.json()["kubeconfigs"][0]["value"]))


async def test_the_user_credential_calls_kubelogin_as_that_of_aks_does(portal: Portal) -> None:
    config = await credential(portal, "listClusterUserCredential", format="exec")
    assert config["clusters"][0]["cluster"]["server"] == f"https://{AKS_NAME}:443"
    run = config["users"][0]["user"]["exec"]
    assert run["command"] == "kubelogin"
    given = dict(zip(run["args"][1::2], run["args"][2::2], strict=True))
    assert given["--server-id"] == AKS_SERVER_APP
    assert given["--tenant-id"] == TENANT
    assert given["--login"] == "devicecode"
    old = await credential(portal, "listClusterUserCredential", format="azure")
    assert old["users"][0]["user"]["auth-provider"]["config"]["apiserver-id"] == AKS_SERVER_APP
    public = await credential(portal, "listClusterUserCredential", **{"server-fqdn": "public"})
    assert AKS_NAME not in public["clusters"][0]["cluster"]["server"]


async def test_the_admin_credential_is_a_local_one_unless_they_are_switched_off(portal: Portal) -> None:
    config = await credential(portal, "listClusterAdminCredential")
    assert config["users"][0]["user"]["token"] == portal.lab.tokens["admin"]
    await portal.lab.fault("local-accounts-disabled")
    refused = await portal.arm("POST", f"{CLUSTER}/listClusterAdminCredential")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "BadRequest")
    assert "local accounts" in refused.json()["error"]["message"]


# ARM: what goes wrong


async def test_arm_throttles_with_a_time_to_wait(portal: Portal) -> None:
    await portal.lab.fault("arm-429")
    answer = await portal.arm("GET", CLUSTER)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json()["error"]["code"] == "TooManyRequests"


async def test_arm_names_the_action_that_is_missing(portal: Portal) -> None:
    await portal.lab.fault("arm-403")
    for method, path, action in (
        ("GET", BASTION, "Microsoft.Network/bastionHosts/read"),
        ("GET", f"{JUMP_VM}/instanceView", "Microsoft.Compute/virtualMachines/instanceView/read"),
        ("POST", f"{CLUSTER}/runCommand", "Microsoft.ContainerService/managedClusters/runCommand/action"),
    ):
        answer = await portal.arm(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")
        assert f"'{action}'" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("arm-500", 500, "InternalServerError"), ("arm-401", 401, "ExpiredAuthenticationToken"),
        ("wrong-tenant", 401, "InvalidAuthenticationTokenTenant"),
    ],
)  # fmt: skip
async def test_arm_fails_on_demand(portal: Portal, fault: str, status: int, code: str) -> None:
    await portal.lab.fault(fault, "arm")
    answer = await portal.arm("GET", CLUSTER)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    await portal.lab.fault(fault, "arm", on=False)
    assert (await portal.arm("GET", CLUSTER)).status_code == 200


async def test_a_claims_challenge_wants_a_new_token(portal: Portal) -> None:
    await portal.lab.fault("arm-claims")
    answer = await portal.arm("GET", CLUSTER)
    challenge = answer.headers["WWW-Authenticate"]
    assert 'error="insufficient_claims"' in challenge
    wanted = base64.b64decode(challenge.split('claims="')[1].split('"')[0]).decode()
    request = {"command": "token", "scope": CLI_SCOPE, "claims": wanted}
    token = (await portal.lab.handle(request))["token"]
    assert (await portal.arm("GET", CLUSTER, token=token)).status_code == 200


@pytest.mark.parametrize("place", ["arm", "entra", "bastion"])
async def test_the_doors_of_azure_can_be_shut(portal: Portal, place: str) -> None:
    azure = portal.lab.azure
    url = {"arm": azure.arm.url, "entra": azure.entra.url}.get(place, f"https://127.0.0.1:{azure.bastion.port}")

    def visit() -> int:
        return requests.get(f"{url}/{TENANT}/v2.0/x", verify=portal.ca, timeout=LIMIT).status_code

    assert await in_thread(visit) >= 400
    await portal.lab.fault("refuse", place)
    with pytest.raises(requests.ConnectionError):
        await in_thread(visit)
    await portal.lab.fault("refuse", place, on=False)
    assert await in_thread(visit) >= 400
