"""From a profile that names an ARM id to an API server that answers: real ARM stand-in, real API server, no file."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.asking import Asker
from app.azure.context import Azure
from app.cluster.access import Access, resolve_access
from app.cluster.access_aks import SETTLED, EntraCredentials, from_kubelogin
from app.cluster.api import ApiClient
from app.cluster.kubeconfig import ExecEntry
from app.errors import JumpdeckError, ProfileError, Recovery, SignInError
from app.identity.clouds import AKS_SERVER_APP
from app.profiles.model import (
    AksCluster,
    ArcCluster,
    BastionHop,
    KubeconfigCluster,
    Profile,
    ServerCluster,
    SignIn,
)
from app.routes.direct import DirectDialer
from app.rows import SessionPhase
from app.sessions.asking import Desk
from app.sessions.route import RouteGround
from app.sessions.session import Session
from app.tasks import Backoff
from tests.arm_server import AKS, ArmServer, arm_server, azure_at, refusal
from tests.fakes import FakeIdentity
from tests.tls_servers import Authority, api_server, authority

SCOPE = f"{AKS_SERVER_APP}/.default"
USER_CALL, ADMIN_CALL = f"{AKS}/listClusterUserCredential", f"{AKS}/listClusterAdminCredential"

EXEC = """
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      args:
      - get-token
      - --environment
      - AzurePublicCloud
      - --server-id
      - {app}
      - --client-id
      - 80faf920-1908-4b52-b5ef-a8e7bedfc67a
      - --tenant-id
      - {tenant}
      - --login
      - devicecode
      command: kubelogin
      env: null
      installHint: |2

        kubelogin is not installed which is required to connect to AAD enabled cluster.

        To learn more, please go to https://aka.ms/aks/kubelogin
      provideClusterInfo: false
"""
PROVIDER = """
    auth-provider:
      config:
        apiserver-id: {app}
        client-id: 80faf920-1908-4b52-b5ef-a8e7bedfc67a
        config-mode: "1"
        environment: AzurePublicCloud
        tenant-id: {tenant}
      name: azure
"""


def kubeconfig(port: int, user: str, *, host: str = "api.test", cluster: str = "", name: str = "aks-prod") -> str:
    """As AKS returns it."""
    ca = base64.b64encode(authority().pem).decode()
    return (
        f"apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n"
        f"    server: https://{host}:{port}\n{cluster}  name: aks-prod\ncontexts:\n- context:\n    cluster: aks-prod\n"
        f"    user: clusterUser_rg_aks-prod\n  name: {name}\ncurrent-context: {name}\nkind: Config\npreferences: {{}}\n"
        f"users:\n- name: clusterUser_rg_aks-prod\n  user:{user}"
    )


def entra(form: str = EXEC, *, app: str = AKS_SERVER_APP, tenant: str = FakeIdentity.TENANT) -> str:
    return form.format(app=app, tenant=tenant)


class World:
    """ARM, an API server that takes the identity's token of the moment, and the identity."""

    def __init__(self, arm: ArmServer, azure: Azure, identity: FakeIdentity, port: int) -> None:
        self.arm, self.azure, self.identity, self.port = arm, azure, identity, port
        self.accepted: Callable[[], set[str]] = lambda: {identity.value(SCOPE)}
        self.refused = 0
        self.available = True
        self.describe()

    def describe(self, **properties: Any) -> None:
        """What ARM says of the cluster."""
        said = {"powerState": {"code": "Running"}, "provisioningState": "Succeeded", "fqdn": "api.test", **properties}
        self.arm.on(AKS, {"id": AKS, "name": "aks-prod", "properties": said})

    def hand_out(self, text: str, call: str = USER_CALL) -> None:
        """The kubeconfig that ARM hands out."""
        value = base64.b64encode(text.encode()).decode()
        self.arm.on(call, {"kubeconfigs": [{"name": "x", "value": value}]}, method="POST")

    async def access(self, **fields: Any) -> Access:
        """Access of a profile that names the cluster; address 127.0.0.1 stands for its private network."""
        cluster = AksCluster(AKS, address="127.0.0.1", **fields.pop("cluster", {}))
        return await self.resolve(Profile("prod", cluster, **fields))

    async def resolve(self, profile: Profile) -> Access:
        return await resolve_access(profile, asker=None, azure=self.source)

    async def source(self) -> Azure:
        return self.azure

    async def failure(self, **fields: Any) -> JumpdeckError:
        with pytest.raises(JumpdeckError) as caught:
            await self.access(**fields)
        return caught.value

    async def api(self, request: web.Request) -> web.StreamResponse:
        if not self.available:
            return web.Response(status=503, text="no")
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer not in self.accepted():
            self.refused += 1
            said = {"kind": "Status", "status": "Failure", "reason": "Unauthorized", "message": "Unauthorized"}
            return web.json_response(said, status=401)
        if request.path == "/streamed":
            stream = web.StreamResponse()
            await stream.prepare(request)
            with suppress(ConnectionResetError):
                while True:
                    await stream.write(b"tick\n")
                    await asyncio.sleep(0.02)
        return web.json_response({"gitVersion": "v1.36.1"})


class Ground(RouteGround):
    """What sessions share, with this world's Azure."""

    def __init__(self, here: World) -> None:
        super().__init__(None)
        self._here = here

    async def azure(self, profile: Profile, asker: Asker | None) -> Azure:
        return self._here.azure


@asynccontextmanager
async def world(folder: Path, identity: FakeIdentity | None = None) -> AsyncIterator[World]:
    identity = identity or FakeIdentity()
    made: list[World] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        return await made[0].api(request)

    async with arm_server() as arm, api_server(answer) as port, azure_at(arm, folder, identity) as azure:
        made.append(World(arm, azure, identity, port))
        made[0].hand_out(kubeconfig(port, entra()))
        yield made[0]


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


async def version(access: Access) -> str:
    client = ApiClient(access, DirectDialer())
    try:
        return (await client.probe()).version
    finally:
        await client.aclose()


async def test_an_arm_id_is_enough_to_reach_the_cluster(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        access = await here.access()
        assert (access.host, access.port, access.tls_name) == ("127.0.0.1", here.port, "api.test")
        assert (access.cluster_label, access.identity_label) == ("aks-prod", "jo@contoso.test")
        assert access.warnings == ()
        assert await version(access) == "v1.36.1"
        expiry = access.credentials_expiry()
        assert expiry is not None and 3500 < expiry - time.time() <= 3600
        (post,) = (request for request in here.arm.seen if request.method == "POST")
        assert dict(post.query) == {"api-version": "2026-08-01", "format": "exec"}
        assert {scope for scope, _, _ in here.identity.asked} == {here.azure.endpoints.arm_scope, SCOPE}
        assert "sentinel" not in repr(access)
    assert files_in(tmp_path) == {"ca.pem"}, "nothing is written"


async def test_the_old_format_is_understood_and_another_server_has_its_own_scope(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.hand_out(kubeconfig(here.port, entra(PROVIDER)))
        assert await version(await here.access()) == "v1.36.1"
        own = "aaaaaaaa-0000-0000-0000-00000000000a"
        here.hand_out(kubeconfig(here.port, entra(app=own)))
        here.accepted = lambda: {here.identity.value(f"{own}/.default")}
        assert await version(await here.access()) == "v1.36.1"


async def test_a_refused_token_is_renewed_once_and_then_it_is_the_persons_turn(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        access = await here.access()
        good = FakeIdentity()
        await good.token(SCOPE, fresh=True)
        here.accepted = lambda: {good.value(SCOPE)}
        assert await version(access) == "v1.36.1"
        assert here.identity.asked[-2:] == [(SCOPE, True, None), (SCOPE, False, None)]
        here.accepted = set
        here.refused = 0
        with pytest.raises(JumpdeckError) as caught:
            await version(access)
        error = caught.value
        assert (error.layer, error.recovery, int(error.exit_code)) == ("sign-in", Recovery.NEEDS_PERSON, 6)
        assert "jumpdeck sign-in prod" in error.hint and FakeIdentity.TENANT in error.detail
        assert here.refused == 2


async def test_requests_that_fail_together_renew_once() -> None:
    identity = FakeIdentity()
    credentials = EntraCredentials(identity, SCOPE)
    assert credentials.expires_at is None
    await credentials.headers()
    assert await credentials.refresh() and await credentials.refresh()
    assert [fresh for _, fresh, _ in identity.asked] == [False, True]
    assert SETTLED < 60


async def test_a_renewal_that_gives_the_same_token_is_not_tried() -> None:
    class Stubborn(FakeIdentity):
        async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> Any:
            return await super().token(scope)

    credentials = EntraCredentials(Stubborn(), SCOPE)
    await credentials.headers()
    assert not await credentials.refresh()


async def test_a_sign_in_of_another_tenant_is_said_before_the_cluster_refuses_it(tmp_path: Path) -> None:
    other = "99999999-2222-3333-4444-555555555555"
    async with world(tmp_path) as here:
        here.hand_out(kubeconfig(here.port, entra(tenant=other)))
        error = await here.failure()
        assert (error.code, int(error.exit_code), error.recovery) == ("JD-SIGN-IN-TENANT", 4, Recovery.PERMANENT)
        assert other in error.detail and f'tenant = "{other}"' in error.hint
        here.hand_out(kubeconfig(here.port, entra(tenant="contoso.test")))
        assert await version(await here.access()) == "v1.36.1"


async def test_the_public_name_and_the_cluster_without_one(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        private = {"apiServerAccessProfile": {"enablePrivateCluster": True}}
        here.describe(**private)
        await here.access(cluster={"fqdn": "public"}, via=(BastionHop(AKS),))
        assert {request.query.get("server-fqdn") for request in here.arm.seen} == {None, "public"}
        here.describe(**private, fqdn=None)
        assert (await here.failure(cluster={"fqdn": "public"})).code == "JD-AKS-NO-PUBLIC-NAME"


async def test_what_arm_knows_is_said_before_anything_else(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.describe(apiServerAccessProfile={"authorizedIPRanges": ["203.0.113.0/24"]})
        (warning,) = (await here.access()).warnings
        assert "203.0.113.0/24" in warning
        here.describe(powerState={"code": "Stopped"})
        assert (await here.failure()).code == "JD-AKS-STOPPED"
        here.arm.on(USER_CALL, refusal(400, "Odd", "no credential of a stopped cluster"), method="POST")
        assert (await here.failure()).code == "JD-AKS-STOPPED"
        here.arm.on(AKS, refusal(403, "AuthorizationFailed", "The client 'jo' with object id 'x' does not have "
                                 "authorization to perform action 'Microsoft.ContainerService/managedClusters/read' "
                                 "over scope '/s' or the scope is invalid."))  # fmt: skip
        error = await here.failure()
        assert (error.code, int(error.exit_code)) == ("JD-ARM-FORBIDDEN", 4)
        assert "Azure Kubernetes Service Cluster User Role" in error.hint


async def test_the_local_administrator_only_when_asked_in_words(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.hand_out(kubeconfig(here.port, "\n    token: local-admin\n", name="aks-prod-admin"), ADMIN_CALL)
        here.accepted = lambda: {"local-admin"}
        access = await here.access(cluster={"auth": "admin"})
        assert await version(access) == "v1.36.1"
        assert access.identity_label == "clusterUser_rg_aks-prod"
        (warning,) = access.warnings
        assert "Local administrator" in warning
        assert here.arm.seen[1].query.get("format") is None
        assert "local-admin" not in repr(access)
        here.hand_out(kubeconfig(here.port, "\n    token: never asked\n"))
        here.describe(disableLocalAccounts=True)
        here.arm.seen.clear()
        error = await here.failure(cluster={"auth": "admin"})
        assert (error.code, int(error.exit_code), len(here.arm.seen)) == ("JD-AKS-LOCAL-ACCOUNTS", 4, 1)


async def test_a_cluster_without_entra_is_used_with_its_local_account_and_says_so(tmp_path: Path) -> None:
    client = authority().issue("clusterUser", client=True)
    certificate, key = (base64.b64encode(part).decode() for part in (client.certificate, client.key))
    user = f"\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n    token: local\n"
    async with world(tmp_path) as here:
        here.hand_out(kubeconfig(here.port, user))
        here.accepted = lambda: {"local"}
        access = await here.access()
        assert access.certificate() is not None
        assert await version(access) == "v1.36.1"
        assert "no Entra sign-in" in access.warnings[0]


@pytest.mark.parametrize(
    ("user", "cluster", "code", "words"),
    [
        ("\n    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: /bin/sh\n"
         "      args: [-c, touch x]\n", "", "JD-AKS-KUBECONFIG", "/bin/sh"),
        ("\n    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: kubelogin\n"
         "      args: [get-token]\n", "", "JD-AKS-KUBECONFIG", "kubelogin"),
        ("\n    tokenFile: /etc/hostname\n", "", "JD-KUBECONFIG-FIELD", "tokenFile"),
        ("\n    token: x\n", "    certificate-authority: /etc/hostname\n", "JD-KUBECONFIG-FIELD",
         "certificate-authority"),
        ("\n    token: x\n", "    insecure-skip-tls-verify: true\n", "JD-TLS-SKIP-VERIFY", "skip-tls"),
        ("\n    auth-provider:\n      name: azure\n      config: {apiserver-id: 'https://x'}\n", "",
         "JD-AKS-KUBECONFIG", "API server"),
        ("\n    auth-provider:\n      name: gcp\n", "", "JD-KUBECONFIG-AUTH-PROVIDER", "auth-provider"),
        (" [", "", "JD-PROFILE-YAML", "line"),
    ],
)  # fmt: skip
async def test_a_kubeconfig_from_the_network_runs_nothing_and_reads_nothing(
    tmp_path: Path, user: str, cluster: str, code: str, words: str
) -> None:
    async with world(tmp_path) as here:
        here.hand_out(kubeconfig(here.port, user, cluster=cluster))
        error = await here.failure()
        assert error.code == code
        assert words in f"{error.title} {error.detail}"


async def test_answers_without_a_kubeconfig(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        for body in ({}, {"kubeconfigs": []}, {"kubeconfigs": [{"value": "%%"}]}, {"kubeconfigs": [{"value": ""}]}):
            here.arm.on(USER_CALL, body, method="POST")
            assert (await here.failure()).code == "JD-ARM-ANSWER"


async def test_a_profiles_ca_file_adds_to_the_clusters_own_only_where_somebody_can_inspect(tmp_path: Path) -> None:
    """Straight from here a proxy may inspect TLS to the API server too; inside a tunnel nobody can."""
    inspecting = tmp_path / "corporate.pem"
    inspecting.write_bytes(Authority("Inspecting proxy").pem)
    async with world(tmp_path) as here:
        access = await here.access(ca_file=inspecting)
        assert access.ca is not None and access.ca.count(b"BEGIN CERTIFICATE") == 2
        assert await version(access) == "v1.36.1"
        access = await here.access(ca_file=inspecting, via=(BastionHop(AKS),))
        assert access.ca == authority().pem


async def test_a_server_that_takes_entra_tokens(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        cluster = ServerCluster(f"https://127.0.0.1:{here.port}", ca_file=tmp_path / "ca.pem", auth="entra")
        access = await here.resolve(Profile("own", cluster))
        assert access.identity_label == "jo@contoso.test"
        assert await version(access) == "v1.36.1"
        here.identity.error = SignInError("Expired code", code="JD-SIGN-IN-CODE", recovery=Recovery.NEEDS_PERSON)
        with pytest.raises(SignInError):
            await here.resolve(Profile("own", cluster))


async def test_a_kubeconfig_of_ones_own_with_kubelogin_uses_the_profiles_sign_in(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        path = tmp_path / "config"
        path.write_text(kubeconfig(here.port, entra(), host="127.0.0.1"))
        path.chmod(0o600)
        access = await here.resolve(Profile("own", KubeconfigCluster(path), sign_in=SignIn("azure-cli")))
        assert access.identity_label == "jo@contoso.test"
        assert await version(access) == "v1.36.1"
        with pytest.raises(SignInError) as caught:
            await here.resolve(Profile("own", KubeconfigCluster(path)))
        assert caught.value.code in ("JD-EXEC-MISSING", "JD-SIGN-IN-KUBELOGIN"), "without a sign-in it is a program"


async def test_a_kubeconfig_does_not_choose_for_whom_a_token_is_made(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        path = tmp_path / "config"
        path.write_text(kubeconfig(here.port, entra(app="00000003-0000-0000-c000-000000000000"), host="127.0.0.1"))
        path.chmod(0o600)
        asked = len(here.identity.asked)
        with pytest.raises(SignInError) as caught:
            await here.resolve(Profile("own", KubeconfigCluster(path), sign_in=SignIn("azure-cli")))
        assert (caught.value.code, len(here.identity.asked)) == ("JD-SIGN-IN-AUDIENCE", asked)
        assert "aks-scope" in caught.value.hint


async def test_where_azure_is_not_at_hand_it_is_said() -> None:
    for cluster in (ArcCluster("/subscriptions/x"), AksCluster(AKS)):
        with pytest.raises(SignInError) as caught:
            await resolve_access(Profile("edge", cluster), asker=None)
        assert (caught.value.code, int(caught.value.exit_code)) == ("JD-SIGN-IN-NO-AZURE", 4)


async def test_a_cluster_that_is_stopped_while_a_session_is_up_is_called_stopped(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        profile = Profile("prod", AksCluster(AKS, address="127.0.0.1"))
        session = Session(profile, desk=Desk(), ground=Ground(here), tell=lambda _: None, probe_every=0.05,
                          backoff=Backoff(base=0.01, cap=0.02, floor=0.01))  # fmt: skip
        session.start()
        try:
            await session.wait_up()
            assert (session.state.identity, session.state.cluster) == ("jo@contoso.test", "aks-prod")
            here.available = False
            while session.state.phase is not SessionPhase.RETRYING:
                await session.changed()
            here.describe(powerState={"code": "Stopped"})
            with pytest.raises(JumpdeckError) as caught:
                await session.wait_up()
            assert caught.value.code == "JD-AKS-STOPPED"
            here.describe()
            here.available = True
            session.retry_now()
            while session.state.phase is not SessionPhase.UP:
                await session.changed()
        finally:
            await session.aclose()


async def test_a_sign_in_that_ends_in_mid_session_costs_no_stream(tmp_path: Path) -> None:
    gone = SignInError("The sign-in has expired", code="JD-SIGN-IN-EXPIRED", layer="sign-in",
                       recovery=Recovery.NEEDS_PERSON)  # fmt: skip
    async with world(tmp_path) as here:
        profile = Profile("prod", AksCluster(AKS, address="127.0.0.1"))
        session = Session(profile, desk=Desk(), ground=Ground(here), tell=lambda _: None, probe_every=0.05)
        session.start()
        try:
            await session.wait_up()
            until = session.state.token_until
            assert until is not None and 3500 < until - time.time() <= 3600
            client = session.api
            assert client is not None
            async with client.stream("/streamed") as stream:
                lines = stream.content
                await lines.readline()
                here.identity.error = gone
                while session.state.phase is not SessionPhase.NEEDS_SIGN_IN:
                    await session.changed()
                for _ in range(5):
                    assert b"tick" in await lines.readline()
                session.retry_now()
                while session.state.phase is not SessionPhase.UP:
                    await session.changed()
                assert session.api is client
                for _ in range(5):
                    assert b"tick" in await lines.readline()
        finally:
            await session.aclose()


async def test_a_look_that_fails_is_no_news(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        access = await here.access()
        assert access.recheck is not None
        await access.recheck()
        here.arm.on(AKS, refusal(404, "ResourceNotFound", "no"))
        await access.recheck()


async def test_no_token_and_no_kubeconfig_reach_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("azure", "aiohttp", "app"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    async with world(tmp_path) as here:
        await version(await here.access())
        here.accepted = set
        with pytest.raises(JumpdeckError) as caught:
            await version(await here.access())
        here.hand_out(kubeconfig(here.port, "\n    token: sentinel-local\n    tokenFile: /x\n"))
        with pytest.raises(ProfileError) as spoilt:
            await here.access()
        for error in (caught.value, spoilt.value):
            logging.getLogger("app").error("shown", exc_info=error)
    assert "listClusterUserCredential: HTTP 200" in caplog.text, "there was a log to search"
    assert "sentinel" not in caplog.text and "certificate-authority-data" not in caplog.text


def test_what_kubelogin_would_ask_for() -> None:
    guid = AKS_SERVER_APP

    def found(*args: str, command: str = "kubelogin") -> tuple[str, str] | None:
        server = from_kubelogin(ExecEntry(command, args))
        return None if server is None else (server.app, server.tenant)

    assert found("get-token", "--server-id", guid, "--tenant-id", "t") == (guid, "t")
    assert found("get-token", f"--server-id={guid}", "-t", "t", command="C:\\tools\\kubelogin.exe") == (guid, "t")
    assert found("get-token", "--server-id", guid, "--login", "azurecli") == (guid, "")
    assert found("get-token", "--server-id") is None
    assert found("convert-kubeconfig", "--server-id", guid) is None
    assert found("get-token", "--server-id", "https://graph.microsoft.com") is None
    assert found("get-token", "--server-id", guid, command="sh") is None
