"""The lab's Arc in Azure: ARM by the published SDK, tokens by MSAL, the relay by a WebSocket client."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import msal
import pytest
import requests
import yaml
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.mgmt.hybridkubernetes import ConnectedKubernetesClient
from azure.mgmt.hybridkubernetes.models import ListClusterUserCredentialProperties

from app.lab.arc import CLUSTERS, PROGRAM_VERSION, hybrid_connection, program_name
from app.lab.azure_names import (
    AKS_SERVER_APP,
    ARC_ENTRA,
    ARC_SERVER_APP,
    ARC_TOKEN,
    RESOURCE_GROUP,
    SUBSCRIPTION,
    TENANT,
    UPN,
)
from app.lab.control import ask, find_lab
from app.lab.entra_tokens import encode
from tests.arc_world import credential
from tests.azure_world import LIMIT, Portal, azure_world, in_thread
from tests.protocol.test_lab_azure import claims

SCOPE = f"{ARC_SERVER_APP}/.default"
KID = "k" * 43


@pytest.fixture
async def portal(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Portal]:
    async with azure_world() as portal:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", portal.ca)  # as for az: MSAL's own option yields to it
        monkeypatch.setenv("JUMPDECK_CONFIG_DIR", str(portal.lab.config_dir))
        yield portal


class Given:
    """A credential that has its token already."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_how: Any) -> AccessToken:
        return AccessToken(self._token, int(time.time()) + 3_600)


def sdk(portal: Portal, token: str | None = None) -> ConnectedKubernetesClient:
    return ConnectedKubernetesClient(
        Given(portal.token() if token is None else token), SUBSCRIPTION, portal.lab.azure.arm.url,
        credential_scopes=[f"{portal.lab.azure.arm.url}/.default"], connection_verify=portal.ca, retry_total=0,
    )  # fmt: skip


def asked(client: ConnectedKubernetesClient, name: str, method: str = "AAD", *, proxy: bool = True) -> Any:
    wanted = ListClusterUserCredentialProperties(authentication_method=method, client_proxy=proxy)
    return client.connected_cluster.list_cluster_user_credential(RESOURCE_GROUP, name, wanted)


# ARM


async def test_the_sdk_gets_a_credential_with_relay_and_kubeconfig(portal: Portal) -> None:
    portal.lab.azure.arc.relay_life = 1_000
    with sdk(portal) as client:
        for method in ("AAD", "Token"):
            found = await in_thread(lambda method=method: asked(client, "shop-01", method))
            relay = found.hybrid_connection_config
            assert abs(relay.expiration_time - time.time() - 1_000) < LIMIT
            assert (relay.relay, relay.hybrid_connection_name) == ("lab-relay", hybrid_connection(ARC_ENTRA))
            assert relay.token.startswith("SharedAccessSignature sr=")
            config = yaml.safe_load(found.kubeconfigs[0].value)
            assert found.kubeconfigs[0].name == "Kubeconfig"
            assert [len(config[kind]) for kind in ("clusters", "users", "contexts")] == [1, 1, 1]
            assert config["current-context"] == "shop-01"
        hosted = await in_thread(lambda: asked(client, "SHOP-02", proxy=False))
    assert hosted.hybrid_connection_config is None and len(hosted.kubeconfigs) == 1
    assert [(name, method) for name, method, _ in portal.lab.azure.arc.given] == [
        (ARC_ENTRA, "AAD"), (ARC_ENTRA, "Token"), (ARC_TOKEN, "AAD"),
    ]  # fmt: skip


async def test_the_version_of_az_is_known_and_others_are_not(portal: Portal) -> None:
    assert (await credential(portal))["hybridConnectionConfig"]["relayTid"] == TENANT
    url = f"{portal.lab.azure.arm.url}{ARC_ENTRA}/listClusterUserCredential?api-version=2019-01-01"
    answer = await portal.arm("POST", url, {"authenticationMethod": "AAD", "clientProxy": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidApiVersionParameter")
    url = url.replace("2019-01-01", "2026-05-01")
    for body in ({}, {"authenticationMethod": "AAD"}, {"authenticationMethod": "Magic", "clientProxy": True}):
        assert (await portal.arm("POST", url, body)).status_code == 400


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("arm-401", ClientAuthenticationError, "ExpiredAuthenticationToken"),
        ("arc-credential-403", HttpResponseError, "AuthorizationFailed"),
        ("arc-credential-409", HttpResponseError, "Conflict"),
        ("arm-429", HttpResponseError, "TooManyRequests"),
        ("arm-500", HttpResponseError, "InternalServerError"),
        ("", ResourceNotFoundError, "ResourceNotFound"),
    ],
)
async def test_refusals_are_those_of_arm(
    portal: Portal, fault: str, error: type[HttpResponseError], code: str
) -> None:
    if fault:
        await portal.lab.fault(fault, "arm")
    with sdk(portal) as client, pytest.raises(error) as caught:
        await in_thread(lambda: asked(client, "shop-01" if fault else "shop-77"))
    assert caught.value.error is not None and caught.value.error.code == code
    assert "listClusterUserCredential/action" in str(caught.value) or fault != "arc-credential-403"


async def test_the_clusters_are_read_and_listed(portal: Portal) -> None:
    with sdk(portal) as client:
        one = await in_thread(lambda: client.connected_cluster.get(RESOURCE_GROUP, "shop-01"))
        both = await in_thread(lambda: list(client.connected_cluster.list_by_subscription()))
        group = await in_thread(lambda: list(client.connected_cluster.list_by_resource_group(RESOURCE_GROUP)))
        assert [each.id for each in both] == [each.id for each in group] == list(CLUSTERS)
        assert (one.properties.connectivity_status, one.properties.private_link_state) == ("Connected", "Disabled")
        assert one.properties.agent_version and one.properties.aad_profile.tenant_id == TENANT
        facts = {"arc-offline": "Offline", "arc-expired": "Expired", "arc-no-agent": "AgentNotInstalled"}
        for fault, status in facts.items():
            await portal.lab.fault(fault)
            seen = await in_thread(lambda: client.connected_cluster.get(RESOURCE_GROUP, "shop-01"))
            assert seen.properties.connectivity_status == status
            assert time.time() - seen.properties.last_connectivity_time.timestamp() > 86_400
            await portal.lab.fault(fault, on=False)
        await portal.lab.fault("arc-private-link")
        seen = await in_thread(lambda: client.connected_cluster.get(RESOURCE_GROUP, "shop-01"))
        assert seen.properties.private_link_state == "Enabled"
        await portal.lab.fault("arc-read-403")
        with pytest.raises(HttpResponseError, match="connectedClusters/read"):
            await in_thread(lambda: client.connected_cluster.get(RESOURCE_GROUP, "shop-01"))
        assert (await in_thread(lambda: asked(client, "shop-01"))).kubeconfigs  # the role that operators have


async def test_the_metadata_names_the_relay_and_the_list_its_gateways(portal: Portal) -> None:
    url = f"{portal.lab.azure.arm.url}/metadata/endpoints?api-version=2022-09-01"
    found = (await portal.arm("GET", url, token="")).json()
    assert found["suffixes"]["relayEndpointSuffix"] == f".{portal.lab.azure.arc.relay.suffix}"
    assert found["authentication"]["loginEndpoint"].startswith(portal.lab.azure.entra.url)
    assert found["authentication"]["audiences"][0] and found["name"] and found["resourceManager"]
    where = found["dataplaneEndpoints"]["arcGlobalNotificationServiceEndpoint"]
    path = f"{where}/urls/allowlist?api-version=2020-01-01&location="
    names = (await portal.arm("GET", path + "westeurope", token="")).json()
    assert all(name.endswith(f":{portal.lab.azure.arc.relay.door.port}") for name in names)
    assert len(names) > len(set(names))  # as the service's own list
    assert (await portal.arm("GET", path + "West Europe", token="")).status_code == 400


def test_the_program_has_the_vendors_name() -> None:
    assert program_name().startswith("arcProxy_") and program_name().endswith(PROGRAM_VERSION)
    assert program_name().count("_") == 5


# Entra


def pop(kid: str = KID) -> dict[str, str]:
    """The fields as az builds them."""
    bound = encode(json.dumps({"kid": kid, "xms_ksl": "sw"}).encode())
    return {"token_type": "pop", "key_id": kid, "req_cnf": bound}


async def test_msal_gets_a_bound_token_for_a_service_principal(portal: Portal) -> None:
    entra = portal.lab.azure.entra

    def sign_in() -> dict[str, Any]:
        app = msal.ConfidentialClientApplication(
            "app-1", entra.client_secret, authority=f"{entra.url}/{TENANT}", instance_discovery=False, verify=portal.ca
        )
        return dict(app.acquire_token_for_client([SCOPE], data=pop()))

    found = await in_thread(sign_in)
    assert found["token_type"] == "pop"
    assert claims(found["access_token"])["cnf"] == {"kid": KID, "xms_ksl": "sw"}
    assert claims(found["access_token"])["aud"] == ARC_SERVER_APP


async def test_msal_renews_a_persons_bound_token_silently(portal: Portal) -> None:
    entra = portal.lab.azure.entra
    entra.approve_after = 0.0

    def sign_in() -> list[dict[str, Any]]:
        app = msal.PublicClientApplication(
            "cli", authority=f"{entra.url}/{TENANT}", instance_discovery=False, verify=portal.ca
        )
        app.acquire_token_by_device_flow(app.initiate_device_flow(["https://management.core.windows.net//.default"]))
        account = app.get_accounts()[0]
        return [app.acquire_token_silent_with_error([SCOPE], account, data=pop(kid)) for kid in (KID, "other")]

    for found, kid in zip(await in_thread(sign_in), (KID, "other"), strict=True):
        assert (found["token_type"], claims(found["access_token"])["cnf"]["kid"]) == ("pop", kid)
        assert portal.lab.users.user(found["access_token"]) == UPN


async def test_the_labs_own_sign_in_gives_bound_tokens_and_a_broken_key_is_refused(portal: Portal) -> None:
    request = {"command": "token", "scope": SCOPE, "data": pop()}
    answer = await asyncio.to_thread(ask, find_lab(), request)
    assert (answer["token_type"], claims(answer["token"])["cnf"]["kid"]) == ("pop", KID)
    broken = await portal.grant(grant_type="client_credentials", client_secret=portal.lab.azure.entra.client_secret,
                                scope=SCOPE, token_type="pop", key_id="another", req_cnf=pop()["req_cnf"])  # fmt: skip
    assert (broken.status_code, broken.json()["error_codes"]) == (400, [900144])


async def test_the_api_server_knows_service_accounts_and_refuses_too_many_groups(portal: Portal) -> None:
    async def who(token: str) -> requests.Response:
        url = f"{portal.lab.api_url}/apis/authentication.k8s.io/v1/selfsubjectreviews"
        body = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
        how: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}"}, "verify": portal.ca, "timeout": LIMIT}
        return await in_thread(lambda: requests.post(url, json=body, **how))

    stored = await asyncio.to_thread(ask, find_lab(), {"command": "secret", "name": "token lab-arc-token"})
    info = (await who(stored["value"])).json()["status"]["userInfo"]
    assert info["username"] == "system:serviceaccount:default:jumpdeck-user" == claims(stored["value"])["sub"]
    assert "system:serviceaccounts:default" in info["groups"]
    await portal.lab.fault("group-overage")
    answer = await asyncio.to_thread(ask, find_lab(), {"command": "token", "scope": SCOPE, "data": pop()})
    assert "groups" in claims(answer["token"])["_claim_names"]
    refused = await who(answer["token"])
    assert (await who(portal.lab.entra_tokens.mint(AKS_SERVER_APP, overage=True).token)).status_code == 201
    assert refused.status_code == 401 and "more than 200 group membership" in refused.json()["message"]


# the relay


async def sender(
    portal: Portal, session: aiohttp.ClientSession, token: str, name: str = "", action: str = "connect"
) -> aiohttp.ClientWebSocketResponse:
    path = name or hybrid_connection(ARC_ENTRA)
    url = f"{portal.lab.azure.arc.relay.url}/$hc/{path}?sb-hc-action={action}&sb-hc-id=1&sb-hc-token="
    return await session.ws_connect(url + quote(token, safe=""), ssl=ssl.create_default_context(cafile=portal.ca))


async def test_the_relay_checks_token_path_and_listener_and_pipes_bytes(portal: Portal) -> None:
    relay, name = portal.lab.azure.arc.relay, hybrid_connection(ARC_ENTRA)
    good, late = relay.token(name, int(time.time()) + 600), int(time.time()) - 1
    async with aiohttp.ClientSession() as session:
        for token, path, status in (
            ("", name, 401), (good.replace("sig=", "sig=A"), name, 401), (good.replace("&se=", "&se=9"), name, 401),
            (relay.token(name, late), name, 401), (good, hybrid_connection(ARC_TOKEN), 403), (good, "nothing", 404),
        ):  # fmt: skip
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await sender(portal, session, token, path)
            assert caught.value.status == status
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await sender(portal, session, good, action="listen")
        await portal.lab.fault("arc-offline")
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await sender(portal, session, good)
        assert caught.value.status == 404
        await portal.lab.fault("arc-offline", on=False)
        stream = await sender(portal, session, good)
        await stream.send_bytes(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ")
        await stream.send_bytes(portal.lab.tokens["admin"].encode() + b"\r\n\r\n")
        said = b""
        async for message in stream:
            said += message.data
        assert said.startswith(b"HTTP/1.1 200") and b"gitVersion" in said
        assert stream.close_code == 1000
    assert relay.refusals.count(401) == 4 and relay.opened == 1


async def test_streams_end_with_their_token_with_their_connection_and_without_a_cluster(portal: Portal) -> None:
    relay, name = portal.lab.azure.arc.relay, hybrid_connection(ARC_ENTRA)
    async with aiohttp.ClientSession() as session, asyncio.timeout(LIMIT):
        ends = int(time.time()) + 600
        relay.clock = lambda: ends - 0.2
        ending = await sender(portal, session, relay.token(name, ends))
        lasting = await sender(portal, session, relay.token(name, ends + 600))
        assert (await ending.receive()).type is aiohttp.WSMsgType.CLOSE
        assert ending.close_code == 1008
        await portal.lab.fault("refuse", "api")
        unreachable = await sender(portal, session, relay.token(name, ends + 600))
        await unreachable.receive()
        assert unreachable.close_code == 1011
        relay.delete(name)
        await lasting.receive()
        assert lasting.close_code == 1001
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await sender(portal, session, relay.token(name, int(time.time()) + 600))
    assert sorted(relay.closed) == [1001, 1008]


async def test_the_relay_is_a_place_for_faults(portal: Portal) -> None:
    relay, name = portal.lab.azure.arc.relay, hybrid_connection(ARC_ENTRA)
    async with aiohttp.ClientSession() as session, asyncio.timeout(LIMIT):
        stream = await sender(portal, session, relay.token(name, int(time.time()) + 600))
        await portal.lab.fault("cut", "relay")
        assert (await stream.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        with pytest.raises(aiohttp.ClientConnectorError):
            await sender(portal, session, relay.token(name, int(time.time()) + 600))
        await portal.lab.fault("cut", "relay", on=False)
        await (await sender(portal, session, relay.token(name, int(time.time()) + 600))).close()


async def test_a_short_life_is_a_fault_and_an_expiry_can_be_set(portal: Portal) -> None:
    await portal.lab.fault("arc-short-relay")
    ends = (await credential(portal))["hybridConnectionConfig"]["expirationTime"]
    assert isinstance(ends, int) and ends - time.time() <= 60
    await portal.lab.fault("arc-short-relay", on=False)
    portal.lab.azure.arc.expires_at = 1_900_000_000
    config = (await credential(portal))["hybridConnectionConfig"]
    assert config["expirationTime"] == 1_900_000_000 and "se=1900000000" in config["token"]
    value = (await credential(portal))["kubeconfigs"][0]["value"]
    assert yaml.safe_load(base64.b64decode(value))["kind"] == "Config"  # once, not twice
