"""Azure's side of a connected cluster: the relay's credential, what ARM knows beforehand, and the cloud's names."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.arc.cloud import cloud_config
from app.arc.credential import IdentityCredential, RelayCredential, list_user_credential, read
from app.arc.preflight import HIDDEN, ArcFacts, preflight
from app.arc.prerequisites import check_relay
from app.azure import pipeline
from app.azure.arm import Arm
from app.azure.context import Azure
from app.errors import JumpdeckError, Recovery
from app.identity.clouds import CloudEndpoints
from app.identity.identities import SharedIdentity
from app.identity.kinds import make_source
from app.identity.pop import pop_token
from app.identity.source import About, token_claims
from app.lab.azure_names import ARC_ENTRA, TENANT
from app.records import replace
from app.secrets.secret import Secret, SecretMemory, SecretSource, client_secret_name
from tests.arm_server import SCOPE, ArmServer, arm_server, azure_at, refusal
from tests.azure_world import CLI_SCOPE, azure_world
from tests.fakes import FakeIdentity
from tests.web_proxy import web_proxy

SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
ARC = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Kubernetes/connectedClusters/shop-01"
POST = f"{ARC}/listClusterUserCredential"
KUBECONFIG = b"apiVersion: v1\nkind: Config\n# sentinel-kubeconfig\n"
SAS = "SharedAccessSignature sr=http%3a%2f%2frelay&sig=sentinel-sas%3d&se=1&skn=send"
CORRELATION = "11111111-aaaa-bbbb-cccc-222222222222"
OTHER_TENANT = "99999999-2222-3333-4444-555555555555"


def answer(ends: float = 10_800.0, **changed: Any) -> dict[str, Any]:
    """What ARM answers, as the published examples have it."""
    relay = {
        "relay": "azgnrelay-weu-l1", "token": SAS, "expirationTime": int(time.time() + ends),
        "hybridConnectionName": "microsoft.kubernetes/connectedclusters/0123abcd/1700000000000000000",
        "relayTid": "t", "relayType": "byor",
    }  # fmt: skip
    return {
        "hybridConnectionConfig": {**relay, **changed},
        "kubeconfigs": [{"name": "credentialName1", "value": base64.b64encode(KUBECONFIG).decode()}],
    }  # fmt: skip


@asynccontextmanager
async def azure(folder: Path, **options: Any) -> AsyncIterator[tuple[ArmServer, Azure]]:
    async with arm_server() as server, azure_at(server, folder, **options) as found:
        yield server, found


async def failure(found: Azure, auth: str = "entra") -> JumpdeckError:
    with pytest.raises(JumpdeckError) as caught:
        await list_user_credential(found, ARC, auth=auth, correlation_id=CORRELATION)
    return caught.value


# -- the relay's credential -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("auth", "method"), [("entra", "AAD"), ("token", "Token")])
async def test_the_credential_is_asked_for_by_the_vendors_client_over_our_pipeline(
    tmp_path: Path, auth: str, method: str
) -> None:
    identity = FakeIdentity()
    async with azure(tmp_path, identity=identity) as (server, found):
        server.on(POST, answer(), method="POST")
        got = await list_user_credential(found, ARC, auth=auth, correlation_id=CORRELATION)
        sent = server.seen[0]
        assert (sent.path, dict(sent.query)) == (POST, {"api-version": "2026-05-01"})
        assert json.loads(server.bodies[0]) == {"authenticationMethod": method, "clientProxy": True}
        assert sent.headers["x-ms-correlation-request-id"] == CORRELATION
        assert len(sent.headers["x-ms-client-request-id"]) == 36
        assert sent.headers["Authorization"] == f"Bearer {identity.value(SCOPE)}"
        assert sent.headers["User-Agent"] == "jumpdeck"
        await list_user_credential(found, ARC, auth=auth)
        assert server.seen[0].transport is server.seen[1].transport, "connections are kept"
        assert server.seen[1].headers["x-ms-correlation-request-id"] != CORRELATION
    assert (got.kubeconfig, got.relay, got.token.reveal()) == (KUBECONFIG, "azgnrelay-weu-l1", SAS)
    assert got.hybrid_connection.endswith("/1700000000000000000") and got.correlation_id == CORRELATION
    assert abs(got.expires_at - time.time() - 10_800) < 60
    assert identity.asked == [(SCOPE, False, None)] * 2


async def test_what_can_pass_is_tried_again_and_a_claims_challenge_is_answered(tmp_path: Path) -> None:
    identity = FakeIdentity()
    claims = base64.b64encode(b'{"access_token":{}}').decode()
    async with azure(tmp_path, identity=identity) as (server, found):
        challenge = refusal(401, "InvalidAuthenticationToken", "again", WWW_Authenticate=f'Bearer claims="{claims}"')
        server.on(POST, refusal(429, "TooManyRequests", "slow", Retry_After="0.01"), challenge, answer(), method="POST")
        await list_user_credential(found, ARC, auth="entra")
        assert len(server.seen) == 3
    assert identity.asked[-1] == (SCOPE, True, '{"access_token":{}}')


@pytest.mark.parametrize(("reply", "code", "exit_code", "said", "hint"), [
    (refusal(401, "ExpiredAuthenticationToken", "The access token expired."), "JD-ARM-FORBIDDEN", 4,
     "does not accept the sign-in", "Sign in again"),
    (refusal(403, "AuthorizationFailed", f"The client 'jo' with object id 'x' does not have authorization to perform "
             f"action 'Microsoft.Kubernetes/connectedClusters/listClusterUserCredential/action' over scope '{ARC}' or "
             "the scope is invalid."), "JD-ARM-FORBIDDEN", 4,
     "You cannot open this cluster: the role Azure Arc Enabled Kubernetes Cluster User Role is missing on " + ARC,
     "Ask an administrator for Azure Arc Enabled Kubernetes Cluster User Role"),
    (refusal(403, "RequestDisallowedByPolicy", "no"), "JD-ARM-FORBIDDEN", 4, "policy", "whoever runs"),
    (refusal(404, "ResourceNotFound", "not found"), "JD-ARM-NOT-FOUND", 5,
     f"No connected cluster shop-01: not in rg of subscription {SUBSCRIPTION}", "Check the subscription"),
    (refusal(404, "SubscriptionNotFound", "not found"), "JD-ARM-NO-SUBSCRIPTION", 5, "No connected cluster shop-01",
     "tenant"),
    (refusal(409, "Conflict", "busy"), "JD-ARM-CONFLICT", 5, "busy", ""),
    (refusal(429, "TooManyRequests", "slow down", Retry_After="3600"), "JD-ARM-BUSY", 5, "slow down", ""),
    (refusal(500, "InternalServerError", "trouble", Retry_After="3600"), "JD-ARM-SERVER", 5, "trouble", ""),
])  # fmt: skip
async def test_refusals_say_what_is_missing(
    tmp_path: Path, reply: web.Response, code: str, exit_code: int, said: str, hint: str,
) -> None:  # fmt: skip
    async with azure(tmp_path) as (server, found):
        server.on(POST, reply, method="POST")
        error = await failure(found)
    assert (error.code, int(error.exit_code)) == (code, exit_code)
    assert said in str(error) and hint in error.hint
    assert error.transient == (reply.status in (409, 429, 500))
    assert CORRELATION in error.detail
    assert error.retry_after == (300 if reply.status in (429, 500) else None), "a longer wait looks like a hang"


@pytest.mark.parametrize(("reply", "said"), [
    ({}, "it holds no kubeconfig"),
    ({"kubeconfigs": answer()["kubeconfigs"]}, "it names no relay"),
    ({**answer(), "kubeconfigs": [{"name": "x", "value": "sentinel*"}]}, "not base64"),
    ({**answer(), "kubeconfigs": [{"name": "x", "value": "/////w=="}]}, "not base64 of a text"),
    ({**answer(), "kubeconfigs": [{"name": "x", "value": "ICA="}]}, "empty"),
    (answer(relay="sentinel/../x"), "its relay's name"),
    (answer(hybridConnectionName="a b"), "hybridConnectionName"),
    (answer(token=None), "token is none"),
    (answer(token="sentinel\r\nX: y"), "token is none"),
    (answer(expirationTime="soon"), "expirationTime"),
    (answer(expirationTime=True), "expirationTime"),
    (answer(expirationTime=10**400), "expirationTime"),
    (answer(-5), "has ended already"),
])  # fmt: skip
def test_malformed_answers_are_refused_without_a_word_of_them(reply: dict[str, Any], said: str) -> None:
    with pytest.raises(JumpdeckError) as caught:
        read(reply, "POST x")
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-ARM-ANSWER", 5)
    assert said in caught.value.detail and "sentinel" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"sentinel", b"{"])
async def test_what_is_no_json_object_is_not_arm(tmp_path: Path, body: bytes) -> None:
    async with azure(tmp_path) as (server, found):
        server.on(POST, web.Response(body=body), method="POST")
        error = await failure(found)
        assert error.code == "JD-ARM-NOT-ARM"
        server.on(POST, web.Response(status=202, body=body), method="POST")
        assert (await failure(found)).code == "JD-ARM-ANSWER", "a good status that the client does not know"


async def test_answers_are_bounded_also_when_inflated(tmp_path: Path) -> None:
    bomb = gzip.compress(b" " * (pipeline.BODY_LIMIT + 1))
    async with azure(tmp_path) as (server, found):
        server.on(POST, web.Response(body=bomb, headers={"Content-Encoding": "gzip"}), method="POST")
        assert (await failure(found)).code == "JD-ARM-TOO-LARGE"


async def test_it_goes_through_the_profiles_proxy_and_trusts_the_profiles_ca(tmp_path: Path) -> None:
    async with web_proxy() as (port, seen), arm_server() as server:
        server.on(POST, answer(), method="POST")
        async with azure_at(server, tmp_path, proxy=f"http://127.0.0.1:{port}", host="arm.test") as found:
            error = await failure(found)
            assert error.code == "JD-ARM-TLS", "the stand-in's certificate is of another name"
            assert seen[0].startswith(b"CONNECT arm.test:")
        async with azure_at(server, tmp_path, trusted=False) as found:
            assert (await failure(found)).code == "JD-ARM-TLS"
        assert not server.seen


async def test_the_sdk_gets_the_identity_in_its_own_form(tmp_path: Path) -> None:
    identity = FakeIdentity()
    async with IdentityCredential(identity) as credential:
        token = await credential.get_token(SCOPE)
        info = await credential.get_token_info(SCOPE, options={"claims": "{}"})
    assert (token.token, info.token) != ("", "") and abs(info.expires_on - time.time() - 3600) < 60
    assert identity.asked == [(SCOPE, False, None), (SCOPE, True, "{}")]


async def test_no_part_of_it_reaches_a_log_an_error_or_a_repr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[object] = []
    async with azure(tmp_path) as (server, found):
        server.on(POST, answer(), method="POST")
        told.append(await list_user_credential(found, ARC, auth="entra"))
        for broken in (answer(expirationTime=None), {**answer(), "kubeconfigs": []}):
            server.on(POST, broken, method="POST")
            told.append(await failure(found))
    assert isinstance(told[0], RelayCredential)
    said = caplog.text + "".join(f"{one!r}{one}{getattr(one, 'detail', '')}" for one in told)
    assert "HTTP 200" in said and "azgnrelay" in said
    assert "sentinel" not in said and base64.b64encode(KUBECONFIG).decode() not in said


# -- what ARM knows beforehand ----------------------------------------------------------------------------------------


def cluster(**properties: Any) -> dict[str, Any]:
    return {
        "id": ARC, "name": "shop-01", "location": "West Europe", "type": "microsoft.kubernetes/connectedclusters",
        "identity": {"type": "SystemAssigned", "tenantId": FakeIdentity.TENANT, "principalId": "p"},
        "properties": {
            "agentVersion": "1.21.10", "connectivityStatus": "Connected", "provisioningState": "Succeeded",
            "lastConnectivityTime": datetime.now(UTC).isoformat(), "privateLinkState": "Disabled",
            "kubernetesVersion": "1.33.1", "aadProfile": {"enableAzureRBAC": True}, **properties,
        },
    }  # fmt: skip


async def facts(folder: Path, reply: Any, **options: Any) -> ArcFacts:
    async with azure(folder, **options) as (server, found):
        server.on(ARC, reply)
        return await preflight(found, ARC)


async def test_a_healthy_cluster_has_facts_and_no_warnings(tmp_path: Path) -> None:
    found = await facts(tmp_path, cluster())
    assert found.warnings == () and not found.hidden
    assert (found.name, found.region, found.tenant) == ("shop-01", "westeurope", FakeIdentity.TENANT)
    assert (found.status, found.agent_version, found.version) == ("Connected", "1.21.10", "1.33.1")
    assert found.azure_rbac is True and found.last_contact is not None


async def test_who_may_not_read_it_may_connect_anyway(tmp_path: Path) -> None:
    reply = refusal(403, "AuthorizationFailed", "The client 'jo' does not have authorization")
    found = await facts(tmp_path, reply)
    assert found.hidden and found.warnings == (HIDDEN,)
    assert (found.name, found.tenant, found.azure_rbac) == ("shop-01", FakeIdentity.TENANT, None)
    found = await facts(tmp_path, {"something": "else"})
    assert found.hidden and "connecting anyway" in found.warnings[0]


@pytest.mark.parametrize(("properties", "said"), [
    ({"connectivityStatus": "Offline", "lastConnectivityTime": "2020-01-01T00:00:00Z"}, "(Offline). The tunnel will"),
    ({"connectivityStatus": "Expired"}, "(Expired). The tunnel will"),
    ({"connectivityStatus": "AgentNotInstalled", "lastConnectivityTime": None}, "the agent: AgentNotInstalled. The"),
    ({"lastConnectivityTime": "2020-01-01T00:00:00.1234567+00:00"}, "(Connected). The tunnel may fail"),
    ({"agentVersion": "1.13.4"}, "1.13.4, before 1.14"),
    ({"provisioningState": "Failed"}, "of the cluster: Failed"),
    ({"managedIdentityCertificateExpirationTime": "2020-01-01T00:00:00Z"}, "certificate ended"),
    ({"arcAgentProfile": {"agentErrors": [{"message": "no DNS\x1b[2J"}, 7]}}, "The agent reports: no DNS"),
])  # fmt: skip
async def test_what_may_go_wrong_is_a_warning(tmp_path: Path, properties: dict[str, Any], said: str) -> None:
    found = await facts(tmp_path, cluster(**properties))
    assert len(found.warnings) == 1 and said in found.warnings[0]
    assert "\x1b" not in found.warnings[0]


async def test_another_tenant_than_the_clusters_is_said(tmp_path: Path) -> None:
    found = await facts(tmp_path, cluster(), identity=FakeIdentity(tenant=OTHER_TENANT))
    assert found.tenant == OTHER_TENANT and found.cluster_tenant == FakeIdentity.TENANT
    assert OTHER_TENANT in found.warnings[0] and "Set `tenant`" in found.warnings[0]


@pytest.mark.parametrize(("reply", "code", "exit_code"), [
    (cluster(privateLinkState="Enabled"), "JD-ARC-PRIVATE-LINK", 5),
    (refusal(404, "ResourceNotFound", "x"), "JD-ARM-NOT-FOUND", 5),
    (refusal(401, "ExpiredAuthenticationToken", "x"), "JD-ARM-FORBIDDEN", 4),
])  # fmt: skip
async def test_what_cannot_work_ends_it_there(tmp_path: Path, reply: Any, code: str, exit_code: int) -> None:
    with pytest.raises(JumpdeckError) as caught:
        await facts(tmp_path, reply)
    assert (caught.value.code, int(caught.value.exit_code)) == (code, exit_code)
    assert caught.value.recovery is (Recovery.NEEDS_PERSON if exit_code == 4 else Recovery.PERMANENT)


# -- the cloud --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "told"), [
    ("public", "AZUREPUBLICCLOUD"), ("us-government", "AzureUSGovernmentCloud"), ("china", "AzureChinaCloud"),
])  # fmt: skip
async def test_a_built_in_cloud_needs_no_question(tmp_path: Path, name: str, told: str) -> None:
    async with azure(tmp_path) as (server, found):
        named = replace(found, endpoints=replace(found.endpoints, name=name))
        assert await cloud_config(named) == {"cloud": told}
        assert not server.seen


async def test_a_disconnected_cloud_is_told_as_its_arm_says(tmp_path: Path) -> None:
    async with azure(tmp_path) as (server, found):
        assert await cloud_config(found) == {"cloud": "HERE"}, "no such page"
        server.on("/metadata/endpoints", web.json_response([{"name": "a"}]))
        assert await cloud_config(found) == {"cloud": "HERE"}, "a list of clouds"
        good = {
            "name": "Local", "resourceManager": "https://arm.local", "authentication": {"loginEndpoint": "https://in"},
            "suffixes": {"relayEndpointSuffix": ".relay.local"}, "dataplaneEndpoints": {"arcConfigEndpoint": "x"},
        }  # fmt: skip
        server.on("/metadata/endpoints", good)
        assert dict(server.seen[-1].query) == {"api-version": "2022-09-01"}
        assert await cloud_config(found) == {"cloud": "HERE", "cloudConfig": {
            "resourceManagerEndpoint": "https://arm.local", "serviceBusEndpointSuffix": "relay.local",
            "activeDirectoryEndpoint": "https://in",
        }}  # fmt: skip
        server.on("/metadata/endpoints", {**good, "suffixes": {}})
        with pytest.raises(JumpdeckError) as caught:
            await cloud_config(found)
        assert "relayEndpointSuffix" in caught.value.detail


# -- over the lab's Azure ---------------------------------------------------------------------------------------------


async def test_the_whole_side_over_the_labs_azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    async with azure_world() as portal:
        entra = portal.lab.azure.entra
        entra.approve_after = 0.0
        cloud = CloudEndpoints("lab", entra.url, portal.lab.azure.arm.url, CLI_SCOPE, ca_file=Path(portal.ca))
        memory = SecretMemory()
        memory.keep(client_secret_name("app-1"), Secret(entra.client_secret))
        about = About("service-principal", tenant=TENANT, client_id="app-1", authority=cloud.authority)
        source = make_source(about, cloud, proxy=None, secrets=SecretSource(None, memory), asker=None)
        identity = SharedIdentity(source)
        azure = Azure(identity, cloud, Arm(identity, cloud))
        try:
            found = await preflight(azure, ARC_ENTRA)
            assert (found.hidden, found.tenant, found.warnings) == (False, TENANT, ())
            got = await list_user_credential(azure, ARC_ENTRA, auth="entra")
            assert b"kind: Config" in got.kubeconfig and got.expires_at > time.time()
            config = (await cloud_config(azure))["cloudConfig"]
            assert isinstance(config, dict) and config["resourceManagerEndpoint"].startswith(cloud.resource_manager)
            token = await pop_token(identity, "k" * 43, found.tenant)
            assert token_claims(token.value)["cnf"]
            row, _ = await check_relay(azure, got.relay)
            assert row.ok, row
            assert row.endpoint.host.startswith(got.relay) and row.endpoint.host.endswith(
                config["serviceBusEndpointSuffix"].partition(":")[0]
            )  # fmt: skip
        finally:
            await azure.arm.aclose()
            await identity.aclose()
