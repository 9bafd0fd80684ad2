"""Whom a credential speaks for, for every kind of profile, without a cluster."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

import pytest

from app.azure.context import Azure
from app.cluster.who import Seen, who_is
from app.cluster.who_page import fields, for_us
from app.errors import SignInError
from app.identity.claims import Kind, of_token
from app.identity.clouds import PUBLIC
from app.identity.identity import AccessToken
from app.profiles.model import AksCluster, ArcCluster, KubeconfigCluster, Profile, ServerCluster
from app.secrets.secret import MEMORY, Secret
from app.sessions.supervisor import Sessions
from tests.fakes import FakeAsker
from tests.tls_servers import Authority

IN_LAB = "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/lab/providers"
ARC = f"{IN_LAB}/Microsoft.Kubernetes/connectedClusters/shop-01"
AKS = f"{IN_LAB}/Microsoft.ContainerService/managedClusters/aks"
UPN, OID, TENANT = "jo@contoso.com", "0a000000-0000-0000-0000-000000000001", "0a000000-0000-0000-0000-000000000002"
PERSON = {"tid": TENANT, "oid": OID, "upn": UPN, "idtyp": "user", "scp": "user_impersonation"}
APP = {"tid": TENANT, "oid": OID, "appid": "0a000000-0000-0000-0000-000000000003", "idtyp": "app"}
BOUND = {"sub": "system:serviceaccount:shop:reader", "iss": "https://kubernetes.default.svc",
         "kubernetes.io": {"namespace": "shop"}}  # fmt: skip
LONG_LIVED = {"iss": "kubernetes/serviceaccount", "kubernetes.io/serviceaccount/namespace": "shop",
              "kubernetes.io/serviceaccount/service-account.name": "reader"}  # fmt: skip


def jwt(claims: dict[str, object]) -> str:
    parts = ({"alg": "none"}, {"exp": int(time.time()) + 600, **claims})
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts), "sig"])


class Signed:
    """A sign-in with one set of claims for every scope; keeps the scopes."""

    label = "signed"

    def __init__(self, claims: dict[str, object]) -> None:
        self.claims, self.scopes = claims, []

    async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> AccessToken:
        self.scopes.append(scope)
        return AccessToken(Secret(jwt(self.claims)), time.time() + 600)


async def seen(cluster: object, signed: Signed | None = None, asker: FakeAsker | None = None) -> Seen:
    async def azure() -> Azure:
        assert signed is not None, "no sign-in to Azure is needed here"
        return Azure(signed, PUBLIC, None)

    return await who_is(Profile("shop-edge", cluster), asker=asker, azure=azure)


@pytest.mark.parametrize(
    ("claims", "kind", "name"),
    [
        (PERSON, Kind.PERSON, UPN),
        ({"tid": TENANT, "oid": OID, "preferred_username": UPN, "scp": "x"}, Kind.PERSON, UPN),
        (APP, Kind.APPLICATION, APP["appid"]),
        ({"tid": TENANT, "oid": OID, "azp": "x"}, Kind.APPLICATION, "x"),
        ({**APP, "xms_mirid": "/subscriptions/…/vm"}, Kind.MANAGED_IDENTITY, APP["appid"]),
        (BOUND, Kind.SERVICE_ACCOUNT, "system:serviceaccount:shop:reader"),
        (LONG_LIVED, Kind.SERVICE_ACCOUNT, "system:serviceaccount:shop:reader"),
        ({"iss": "https://dex.corp", "email": "jo@corp", "groups": ["ops"]}, Kind.OTHER, "jo@corp"),
        ({**PERSON, "upn": "jo\x1b]0;x\x07@c"}, Kind.PERSON, "jo␛]0;x␇@c"),
        ({**PERSON, "groups": [1, None], "exp": "soon", "oid": ["x"]}, Kind.PERSON, UPN),
    ],
)
def test_the_kind_of_principal_is_read_from_the_claims(claims, kind, name) -> None:
    found = of_token(Secret(jwt(claims)))
    assert (found.kind, found.name) == (kind, name)


def test_what_is_no_jwt_says_nothing() -> None:
    for value in ("sha256~abc", "a.b.c", ""):
        assert of_token(Secret(value)).kind is Kind.OPAQUE


@pytest.mark.parametrize("claim", [{"hasgroups": True}, {"_claim_names": {"groups": "src1"}}])
async def test_too_many_groups_are_seen_before_an_arc_cluster_is_opened_with_the_way_out(claim) -> None:
    signed = Signed({**PERSON, **claim})
    found = await seen(ArcCluster(ARC), signed)
    assert found.cluster.overage and signed.scopes == [PUBLIC.arm_scope], "never the scope of bound tokens"
    assert "refuses this account" in found.notes[0] and "service principal" in found.notes[1]
    assert "--for service-account:" in found.notes[1]
    assert "nothing needs to be done" in (await seen(AksCluster(AKS), signed)).notes[0]


async def test_an_arc_cluster_by_token_sees_the_account_and_azure_sees_the_person() -> None:
    MEMORY.keep("token shop-edge", Secret(f" {jwt({**LONG_LIVED, 'exp': None})}\n"))
    try:
        found = await seen(ArcCluster(ARC, auth="token"), Signed(PERSON))
    finally:
        MEMORY.forget("token shop-edge")
    assert (found.cluster.account, found.azure.upn) == (("shop", "reader"), UPN)
    assert "until its Secret is deleted" in found.notes[0]
    profile = Profile("shop-edge", ArcCluster(ARC, auth="token"))
    text, wanted = for_us(profile, found)
    assert "the cluster will see\n  kind        service account" in text and "on the way to it, will see" in text
    assert f"--assignee-object-id {OID}" in wanted and "kind: ServiceAccount" in wanted
    with pytest.raises(SignInError, match="A secret is needed") as caught:
        await seen(ArcCluster(ARC, auth="token"), Signed(PERSON))
    assert "jumpdeck whoami shop-edge --for service-account:NAME" in caught.value.hint


async def test_a_managed_identity_is_told_that_it_opens_no_arc_cluster() -> None:
    found = await seen(ArcCluster(ARC), Signed({**APP, "xms_mirid": "x"}))
    assert "cannot open an Arc cluster" in found.notes[0]


async def test_the_local_administrator_is_nobody_in_particular() -> None:
    found = await seen(AksCluster(AKS, auth="admin"), Signed(PERSON))
    assert (found.cluster.kind, found.azure.upn) == (Kind.ADMIN, UPN)
    _, wanted = for_us(Profile("p", AksCluster(AKS, auth="admin")), found)
    assert "Cluster Admin Role" in wanted and "Binding" not in wanted


async def test_a_server_by_entra_asks_for_the_api_servers_token() -> None:
    signed = Signed(PERSON)
    found = await seen(ServerCluster("https://api.test", auth="entra"), signed)
    assert (found.cluster.upn, found.azure, set(signed.scopes)) == (UPN, None, {PUBLIC.aks_scope})


def kubeconfig(folder: Path, user: str) -> KubeconfigCluster:
    path = folder / "kubeconfig"
    path.write_text(
        'apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: "https://api.test"}}]\n'
        f"users: [{{name: u, user: {{{user}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
        "current-context: x\n"
    )
    path.chmod(0o600)
    return KubeconfigCluster(path)


async def test_a_kubeconfigs_token_command_and_certificate_say_who_they_are(tmp_path: Path) -> None:
    assert (await seen(kubeconfig(tmp_path, f"token: {jwt(BOUND)}"))).cluster.kind is Kind.SERVICE_ACCOUNT
    opaque = await seen(kubeconfig(tmp_path, "token: abc"))
    assert opaque.cluster.kind is Kind.OPAQUE and "jumpdeck exec shop-edge -- kubectl auth whoami" in opaque.notes[0]
    status = {"token": jwt({"iss": "https://dex.corp", "sub": "jo"})}
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    run = f'exec: {{apiVersion: {answer["apiVersion"]}, interactiveMode: Never, command: "{sys.executable}", args: {json.dumps(["-I", "-c", f"print({json.dumps(json.dumps(answer))})"])}}}'  # noqa: E501
    by_command = await seen(kubeconfig(tmp_path, run), asker=FakeAsker(trusts=True))
    assert (by_command.cluster.kind, by_command.cluster.issuer) == (Kind.OTHER, "https://dex.corp")
    chain, key = Authority().issue("jo", client=True).files(tmp_path, "jo")
    found = await seen(kubeconfig(tmp_path, f'client-certificate: "{chain}", client-key: "{key}"'))
    assert (found.cluster.kind, found.cluster.name) == (Kind.CERTIFICATE, "jo")
    assert found.cluster.expires_at > time.time()
    assert (await seen(kubeconfig(tmp_path, ""))).cluster.kind is Kind.NOBODY


async def test_json_has_what_the_page_has() -> None:
    found = await seen(ArcCluster(ARC), Signed({**PERSON, "groups": ["g1", "g2"], "exp": 1_800_000_060}))
    told = fields(Profile("shop-edge", ArcCluster(ARC)), found, now=1_800_000_000.0)
    assert {key: told[key] for key in ("kind", "upn", "object-id", "tenant", "groups", "groups-overage")} == {
        "kind": "person", "upn": UPN, "object-id": OID, "tenant": TENANT, "groups": ["g1", "g2"],
        "groups-overage": False,
    }  # fmt: skip
    assert (told["token-until"], told["token-seconds"]) == ("2027-01-15T08:01:00Z", 60)
    assert [grant["gate"] for grant in told["ask-for"]] == ["azure", "kubernetes", "azure"]
    text, _ = for_us(Profile("shop-edge", ArcCluster(ARC)), found, now=1_800_000_000.0)
    assert "(1 min)" in text and "groups      2: g1, g2" in text and text.count(OID) > 2


async def test_the_sessions_of_a_console_ask_on_the_ground_that_they_share(tmp_path: Path) -> None:
    class Book:
        def get(self, name: str) -> Profile:
            return Profile(name, kubeconfig(tmp_path, f"token: {jwt(BOUND)}"))

    async with Sessions(Book()) as sessions:
        assert (await sessions.who("p")).cluster.account == ("shop", "reader")
        assert sessions.open_names == ()


@pytest.mark.parametrize(
    "end", [10**400, 1e300, float("nan"), float("inf"), -1e300, True, "soon", None, 0], ids=lambda end: str(end)[:9]
)
def test_an_end_that_no_calendar_knows_is_none(end: object) -> None:
    for claims in (PERSON, BOUND, LONG_LIVED, {"iss": "x"}):
        who = of_token(Secret(jwt({**claims, "exp": end})), expires_at=1e9)
        assert who.expires_at == 1e9
        profile = Profile("x", ArcCluster(ARC))
        assert for_us(profile, Seen(who, who))[0] and fields(profile, Seen(who))["token-seconds"] == 0
