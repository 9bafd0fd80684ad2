"""Proof-of-possession tokens: of each kind of sign-in that gets them, never mixed with bearer tokens or in a log."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msal import SerializableTokenCache, TokenCache

from app.errors import Recovery, SignInError
from app.identity.attending import attend
from app.identity.azure_cli_cache import CACHE_LIMIT
from app.identity.identities import SharedIdentity
from app.identity.key_bound import BearerCache
from app.identity.pop import AZURE_CLI_APP, SCOPE, PopUnable, client_id, pop_token, refusal, request_data
from app.identity.source import About, token_claims
from tests.entra import ARM, CLIENT, TENANT, UPN, Entra, _part, entra
from tests.fakes import FakeIdentity
from tests.protocol.test_identity import World
from tests.protocol.test_identity_kinds import lab

LIMIT = 20.0
KID, OTHER = "a" * 43, "b" * 43


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path / "azure"))
    (tmp_path / "azure").mkdir()
    async with entra(tmp_path) as (server, ca):
        found = World(server, ca)
        try:
            async with asyncio.timeout(60):
                yield found
        finally:
            attend(None)
            await found.aclose()


async def signed_in(world: World, kind: str) -> SharedIdentity:
    """An identity as the relay's credential leaves it: with a token for ARM."""
    attend(world.asker)
    if kind == "service-principal":
        identity = world.service_principal()
    elif kind == "azure-cli":
        az_signed_in(world.server)
        return world.identity(kind)  # az itself is asked for the token of ARM
    else:
        identity = world.identity(kind)
    await identity.token(ARM)
    return identity


async def failure(identity: object, tenant: str = TENANT, kid: str = "", *, ask: bool = True) -> SignInError:
    kid = kid or secrets.token_hex(20)  # another each time: MSAL answers what was refused a moment ago by itself
    with pytest.raises(SignInError) as caught:
        async with asyncio.timeout(LIMIT):
            await pop_token(identity, kid, tenant, ask=ask)
    assert caught.value.exit_code == 4
    return caught.value


# -- the request ------------------------------------------------------------------------------------------------------


def test_the_request_names_the_key_without_any_padding() -> None:
    for kid in (KID, KID + "x", KID + "xy"):  # each length leaves another padding
        data = request_data(kid)
        assert (data["token_type"], data["key_id"]) == ("pop", kid)
        raw = data["req_cnf"]
        assert "=" not in raw
        assert json.loads(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4))) == {"kid": kid, "xms_ksl": "sw"}
    for bad in ("", "a b", "ä", "x" * 513, "a\n"):
        with pytest.raises(ValueError):
            request_data(bad)


@pytest.mark.parametrize("kind", ["device-code", "service-principal", "azure-cli"])
async def test_each_key_gets_a_token_of_its_own_and_no_bearer_request_one_of_them(world: World, kind: str) -> None:
    identity, server = await signed_in(world, kind), world.server
    first = await pop_token(identity, KID, TENANT)
    assert token_claims(first.value)["cnf"] == {"kid": KID, "xms_ksl": "sw"}
    assert 3_000 < first.expires_at - time.time() <= 3_600
    sent = server.requests[-1]
    assert {name: sent[name] for name in ("token_type", "key_id", "req_cnf")} == request_data(KID)
    assert sent["scope"].split()[0] == SCOPE
    assert sent["client_id"] == (CLIENT if kind == "service-principal" else AZURE_CLI_APP)
    other = await pop_token(identity, OTHER, TENANT)
    assert token_claims(other.value)["cnf"] == {"kid": OTHER, "xms_ksl": "sw"}
    again = await pop_token(identity, KID, TENANT)
    assert again.value != first.value
    assert token_claims(again.value)["cnf"] == {"kid": KID, "xms_ksl": "sw"}
    if kind == "azure-cli":
        return  # its bearer tokens come from az, and it has no cache here
    count = len(server.requests)
    bearer = await identity.token(SCOPE)
    assert "cnf" not in token_claims(bearer.value) and "token_type" not in server.requests[-1]
    assert len(server.requests) == count + 1
    assert await identity.token(SCOPE) == bearer
    fourth = await pop_token(identity, KID, TENANT)  # and the bearer token is none for a key
    assert fourth.value not in (bearer.value, first.value, again.value)
    assert "cnf" in token_claims(fourth.value)
    assert await identity.token(SCOPE) == bearer


def test_msal_answers_bearer_requests_with_bound_tokens_unless_they_are_kept_out() -> None:
    event = {
        "client_id": CLIENT, "scope": [SCOPE], "token_endpoint": f"https://login.test/{TENANT}/oauth2/v2.0/token",
        "data": {"token_type": "pop", "key_id": KID},
        "response": {"access_token": "bound", "token_type": "pop", "expires_in": 3600, "refresh_token": "r"},
    }  # fmt: skip
    for cache, found in ((TokenCache(), ["bound"]), (BearerCache(TokenCache()), [])):
        cache.add(event)
        entries = cache.search("AccessToken", target=[SCOPE], query={"client_id": CLIENT})
        assert [entry["secret"] for entry in entries] == found
        assert [entry["secret"] for entry in cache.search("RefreshToken")] == ["r"], "refresh tokens are kept"
    assert event["response"]["access_token"] == "bound", "whoever asked has it"


# -- people -----------------------------------------------------------------------------------------------------------


async def test_a_renewal_in_the_background_asks_nobody(world: World) -> None:
    identity = await signed_in(world, "device-code")
    world.server.refuse_refresh = ("invalid_grant", "AADSTS50076: multi-factor authentication is needed. Trace ID: 1")
    shown = len(world.asker.asked)
    error = await failure(identity, ask=False)
    assert error.recovery is Recovery.NEEDS_PERSON and "AADSTS50076" in error.detail
    assert "jumpdeck sign-in prod-weu" in error.hint
    assert len(world.asker.asked) == shown
    attend(None)
    assert (await failure(identity)).recovery is Recovery.NEEDS_PERSON
    attend(world.asker)
    token = await pop_token(identity, KID, TENANT)
    assert "cnf" in token_claims(token.value)
    assert len(world.asker.asked) == shown + 1, "who opens a session may sign in again"


async def test_a_refusal_says_so_with_entras_words(world: World) -> None:
    identity = await signed_in(world, "service-principal")
    world.server.refuse = ("invalid_request", "AADSTS9099999: req_cnf is not for this application. Trace ID: 1")
    error = await failure(identity)
    assert (error.code, error.title) == ("JD-SIGN-IN-POP", "Entra refused the proof-of-possession token")
    assert "AADSTS9099999" in error.detail and "Managed identity and Cloud Shell" in error.hint
    world.server.refuse = ("invalid_grant", "AADSTS53003: Access has been blocked by Conditional Access policies.")
    assert (await failure(identity)).code == "JD-SIGN-IN-CONDITIONAL-ACCESS", "a known cause has a better next step"
    world.server.refuse, world.server.status = None, 503
    assert (await failure(identity)).recovery is Recovery.TRANSIENT
    world.server.status, world.server.bound_type = 0, "Bearer"
    error = await failure(identity)
    assert error.code == "JD-SIGN-IN-POP" and "token type Bearer" in error.detail
    world.server.bound_type = "pop"
    assert (await failure(identity, tenant="other")).code == "JD-SIGN-IN-TENANT"
    assert (await failure(identity, kid="no key")).code == "JD-SIGN-IN-POP"


@pytest.mark.parametrize(("kind", "az_may"), [("broker", True), ("managed-identity", False), ("environment", True)])
def test_kinds_that_get_none_are_known_beforehand_with_the_way_out(kind: str, az_may: bool) -> None:
    error = refusal(kind, "adm")
    assert isinstance(error, PopUnable)
    assert (error.code, int(error.exit_code), error.az_may) == ("JD-SIGN-IN-POP", 4, az_may)
    assert ("az connectedk8s proxy" in error.hint) == az_may and 'auth = "token"' in error.hint
    assert "device-code" in error.hint and error.detail.startswith("adm: ")


async def test_an_identity_without_a_way_to_ask_is_refused() -> None:
    assert [refusal(kind) for kind in ("browser", "device-code", "azure-cli", "service-principal", "lab")] == [None] * 5
    assert isinstance(await failure(FakeIdentity()), PopUnable)
    assert client_id(About("browser")) == AZURE_CLI_APP
    assert client_id(About("service-principal", client_id=CLIENT)) == CLIENT


async def test_the_lab_gets_the_forms_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setenv("JUMPDECK_CONFIG_DIR", str(tmp_path / "lab"))
    answer = {"ok": True, "token": Entra().token("lab", tid=TENANT), "expires_at": time.time() + 600}
    async with lab(tmp_path / "lab", answer) as asked:
        token = await pop_token(world.identity("lab"), KID, TENANT)
    assert token.value.reveal() == answer["token"]
    assert (asked[0]["scope"], asked[0]["data"]) == (SCOPE, request_data(KID))


# -- az's sign-in -----------------------------------------------------------------------------------------------------


def folder() -> Path:
    return Path(os.environ["AZURE_CONFIG_DIR"])


def az_signed_in(server: Entra, *users: str, user: dict[str, object] | None = None, refresh: bool = True) -> Path:
    """az's files as it leaves them after `az login`."""
    cache = SerializableTokenCache()
    for number, name in enumerate(users or (UPN,)):
        id_token = server.token("id", aud=AZURE_CLI_APP, iss=f"{server.url}/{TENANT}/v2.0", tid=TENANT, sub="s",
                                preferred_username=name, exp=time.time() + 3600, iat=time.time())  # fmt: skip
        server.made.append(secret := f"az-refresh-sentinel-{number}")
        response = {
            "access_token": server.token("az"), "token_type": "pop", "expires_in": 3600, "id_token": id_token,
            "client_info": _part({"uid": f"u{number}", "utid": TENANT}),
        }  # fmt: skip
        cache.add({
            "client_id": AZURE_CLI_APP, "scope": [SCOPE], "data": {"key_id": KID, "token_type": "pop"},
            "token_endpoint": f"{server.url}/{TENANT}/oauth2/v2.0/token",
            "response": {**response, "refresh_token": secret} if refresh else response,
        })  # fmt: skip
    path = folder() / "msal_token_cache.json"
    path.write_text(cache.serialize())
    path.chmod(0o600)
    named = user or {"name": (users or (UPN,))[0], "type": "user"}
    profile = {"subscriptions": [{"id": "x", "isDefault": False, "user": {}}, {"isDefault": True, "user": named}]}
    (folder() / "azureProfile.json").write_text(json.dumps(profile), encoding="utf-8-sig")
    return path


async def test_azs_cache_is_read_and_stays_as_it_is(world: World) -> None:
    path = az_signed_in(world.server, UPN, "second@contoso.com")
    before = path.read_bytes(), path.stat().st_mtime_ns, sorted(folder().iterdir())
    identity = world.identity("azure-cli")
    token = await pop_token(identity, KID, TENANT)
    assert world.server.requests[-1]["refresh_token"] == "az-refresh-sentinel-0", "its own bound token is not taken"
    assert "cnf" in token_claims(token.value)
    await pop_token(world.identity("azure-cli", account="Second@contoso.com"), KID, TENANT)
    assert world.server.requests[-1]["refresh_token"] == "az-refresh-sentinel-1"
    assert (path.read_bytes(), path.stat().st_mtime_ns, sorted(folder().iterdir())) == before
    assert f"/{TENANT}/oauth2/v2.0/token" in world.server.paths[-1]


async def test_azs_refusals_send_to_az(world: World) -> None:
    identity = world.identity("azure-cli")
    error = await failure(identity)
    assert (error.code, error.recovery) == ("JD-SIGN-IN-AZ-LOGIN", Recovery.NEEDS_PERSON)
    path = az_signed_in(world.server)
    world.server.refuse_refresh = ("invalid_grant", "AADSTS70043: The refresh token has expired. Trace ID: 1")
    error = await failure(identity)
    assert error.recovery is Recovery.NEEDS_PERSON and f"az login --tenant {TENANT}" in error.hint
    assert (await failure(world.identity("azure-cli", account="who@contoso.com"))).code == "JD-SIGN-IN-AZ-LOGIN"
    az_signed_in(world.server, "a@b.c", "d@e.f", user={"type": "user"})
    assert "name the account" in (await failure(identity)).detail
    path.write_text("{ sentinel-broken")
    error = await failure(identity)
    assert isinstance(error, PopUnable) and "sentinel" not in str(error)


@pytest.mark.parametrize(("user", "why", "az_may"), [
    ({"name": CLIENT, "type": "servicePrincipal"}, "as an application", True),
    ({"name": "systemAssignedIdentity", "type": "servicePrincipal", "assignedIdentityInfo": "MSI"}, "managed", False),
    ({"name": UPN, "type": "user", "cloudShellID": True}, "Cloud Shell", False),
])  # fmt: skip
async def test_what_az_is_signed_in_as_decides(
    world: World, user: dict[str, object], why: str, az_may: bool
) -> None:
    az_signed_in(world.server, user=user)
    error = await failure(world.identity("azure-cli"))
    assert isinstance(error, PopUnable) and error.az_may == az_may and why in error.detail


async def test_a_sign_in_that_only_az_can_use_is_said(world: World) -> None:
    path = az_signed_in(world.server, refresh=False)
    error = await failure(world.identity("azure-cli"))
    assert isinstance(error, PopUnable) and error.az_may and "account broker" in error.detail
    path.rename(path.with_suffix(".bin"))
    error = await failure(world.identity("azure-cli"))
    assert isinstance(error, PopUnable) and error.az_may  # encrypted: by another system, or not for us


async def test_a_cache_that_others_may_write_or_that_is_too_large_is_not_used(world: World) -> None:
    path = az_signed_in(world.server)
    if os.name == "posix":
        path.chmod(0o666)
        assert (await failure(world.identity("azure-cli"))).code == "JD-SIGN-IN-AZ"
        path.chmod(0o600)
    with path.open("ab") as file:
        file.truncate(CACHE_LIMIT + 1)
    error = await failure(world.identity("azure-cli"))
    assert error.code == "JD-SIGN-IN-AZ" and "more than" in error.detail


# -- nothing in logs --------------------------------------------------------------------------------------------------


async def test_no_token_reaches_a_log_an_error_or_a_repr(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[object] = []
    for kind in ("device-code", "service-principal", "azure-cli"):
        identity = await signed_in(world, kind)
        told += [identity, await pop_token(identity, KID, TENANT), *vars(identity).values()]
        world.server.bound_type = "ssh-cert"
        told.append(await failure(identity))
        world.server.bound_type = "pop"
    assert len(world.server.made) > 10
    said = caplog.text + "".join(f"{one!r}{one}{getattr(one, 'detail', '')}" for one in told)
    assert not [secret for secret in world.server.made if secret in said]
