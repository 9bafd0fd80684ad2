"""Kinds of sign-in that need something of their own: a desktop, Windows, Azure's hosts, a lab; and the saved record."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from app.errors import SignInError
from app.identity import token_cache
from app.identity.attending import attend
from app.identity.clouds import PUBLIC
from app.identity.credentials import PersonSource, Threads
from app.identity.failures import failure_of, skew_of
from app.identity.identities import SharedIdentity
from app.identity.kinds import make_source, no_browser
from app.identity.source import About, LastAnswer, principal
from app.secrets.secret import Secret, SecretMemory, SecretSource
from tests.entra import ARM, CLIENT, TENANT, UPN, Entra, entra
from tests.fakes import FakeAsker, SmallServer

LIMIT = 20.0


def identity(kind: str, **about: str) -> SharedIdentity:
    source = make_source(
        About(kind, profile="prod-weu", authority=PUBLIC.authority, **about), PUBLIC, proxy=None,
        secrets=SecretSource(None, SecretMemory()), asker=None,
    )  # fmt: skip
    return SharedIdentity(source)


def refused(kind: str) -> SignInError:
    with pytest.raises(SignInError) as caught:
        identity(kind)
    assert caught.value.exit_code == 4
    return caught.value


# -- people at a desktop ----------------------------------------------------------------------------------------------


def test_a_browser_needs_a_desktop_and_never_draws_in_this_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform in ("win32", "darwin"):
        assert not no_browser()
        return
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    error = refused("browser")
    assert error.code == "JD-SIGN-IN-NO-BROWSER" and "device-code" in error.hint
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert not no_browser()
    assert identity("browser").label == "browser"
    monkeypatch.setenv("BROWSER", "/usr/bin/lynx %s")
    assert "lynx" in refused("browser").detail


def test_the_broker_is_windows_own() -> None:
    if sys.platform != "win32":
        error = refused("broker")
        assert error.code == "JD-SIGN-IN-BROKER" and "azure-cli" in error.hint


def test_an_unknown_kind_names_the_known_ones() -> None:
    assert "device-code" in refused("guess").hint


# -- managed identity -------------------------------------------------------------------------------------------------


async def test_a_managed_identity_asks_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Entra()
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append({**request.query, "header": request.headers.get("X-IDENTITY-HEADER", "")})
        return web.json_response({
            "access_token": emulator.token("managed", appid=CLIENT), "expires_on": str(int(time.time()) + 3600),
            "resource": request.query["resource"], "token_type": "Bearer",
        })  # fmt: skip

    async with SmallServer(answer) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.port}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "header-value")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        found = identity("managed-identity", client_id=CLIENT)
        await found.token(ARM)
        assert (found.label, asked[0]["client_id"], asked[0]["header"]) == (f"app {CLIENT}", CLIENT, "header-value")
        assert asked[0]["resource"] == "https://management.test/"
        await found.aclose()


# -- the lab ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def lab(folder: Path, answer: dict[str, object]) -> AsyncIterator[list[dict[str, object]]]:
    """A control channel that gives one answer; yields what it was asked."""
    asked: list[dict[str, object]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(json.loads(await reader.readline()))
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    (folder / "lab.json").write_text(json.dumps({"port": server.sockets[0].getsockname()[1], "token": "t"}))
    try:
        yield asked
    finally:
        server.close()


async def test_a_lab_signs_its_own_profiles_in(tmp_path: Path) -> None:
    assert refused("lab").code == "JD-SIGN-IN-LAB"
    token = Entra().token("lab", upn="lab@jumpdeck.test")
    async with lab(tmp_path / "config", {"ok": True, "token": token, "expires_at": time.time() + 60}) as asked:
        found = identity("lab")
        got = await found.token(ARM)
        assert (got.value.reveal(), found.label) == (token, "lab@jumpdeck.test")
        assert asked == [{"command": "token", "scope": ARM, "fresh": False, "token": "t"}]
    async with lab(tmp_path / "config", {"error": {"title": "no \x1b[0mEntra"}}):
        with pytest.raises(SignInError, match="The lab gives no token: no"):
            await identity("lab").token(ARM)


# -- what outlives a process ------------------------------------------------------------------------------------------


async def test_the_record_of_an_account_is_private_and_never_names_the_server(tmp_path: Path) -> None:
    from azure.identity import AuthenticationRecord

    about = About("device-code", authority="https://login.test", tenant=TENANT)
    record = AuthenticationRecord(TENANT, CLIENT, "elsewhere.test", "home", UPN)
    token_cache.save_record(record, about)
    path = token_cache.record_path(about)
    assert path.stat().st_mode & 0o777 == 0o600 and path.is_relative_to(tmp_path / "state")
    loaded = token_cache.load_record(about)
    assert loaded is not None and (loaded.username, loaded.authority) == (UPN, "https://login.test")
    assert token_cache.load_record(About("device-code", authority="https://login.test")) is None
    path.write_text("{}")
    assert token_cache.load_record(about) is None
    assert token_cache.remove_record(about) and not token_cache.remove_record(about)


async def test_a_kept_account_signs_in_without_a_person(tmp_path: Path) -> None:
    """As on Windows and macOS, where the system encrypts the cache; the one here outlives each identity."""
    from azure.identity import DeviceCodeCredential
    from msal import TokenCache

    kept = TokenCache()

    async def open_cache() -> tuple[TokenCache, bool]:
        return kept, True

    async with entra(tmp_path) as (server, ca):

        def start() -> SharedIdentity:
            def make(options: dict[str, object]) -> DeviceCodeCredential:
                own = {} if "authentication_record" in options else {"authority": server.url}
                return DeviceCodeCredential(tenant_id=TENANT, disable_instance_discovery=True, **own, **options)

            threads = Threads(server.about("device-code", account=UPN), server.endpoints(ca), None)
            return SharedIdentity(PersonSource(threads, make, open_cache=open_cache))

        first, second = start(), start()
        attend(FakeAsker())
        await first.token(ARM)
        attend(None)
        assert (await second.token(ARM)).value
        assert second.label == UPN and server.codes == ["CODE0"]
        assert await second.forget()
        third = start()
        with pytest.raises(SignInError, match="A person must sign in"):
            await third.token(ARM)
        assert not list(kept.search(TokenCache.CredentialType.REFRESH_TOKEN))
        for each in (first, second, third):
            await each.aclose()


async def test_without_an_encrypted_store_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("DISPLAY", "")
    if sys.platform == "linux":
        _, lasting = await token_cache.open_cache()
        home = tmp_path / "home"
        assert not lasting and not list(home.rglob("*.nocae"))


# -- words ------------------------------------------------------------------------------------------------------------


def test_a_wrong_clock_is_said() -> None:
    date = formatdate(time.time() - 720, usegmt=True)
    assert skew_of(LastAnswer(400, date)) == "this computer's clock is 12 min ahead"
    assert skew_of(LastAnswer(400, formatdate(time.time() + 600, usegmt=True))).endswith("10 min behind")
    for fine in (None, LastAnswer(400), LastAnswer(400, "noon"), LastAnswer(400, formatdate(usegmt=True))):
        assert skew_of(fine) == ""
    from azure.core.exceptions import ClientAuthenticationError

    error = failure_of(ClientAuthenticationError("AADSTS700024: not valid"), About("x"), LastAnswer(400, date))
    assert (error.code, "12 min ahead" in error.detail) == ("JD-SIGN-IN-CLOCK", True)


def test_who_a_token_speaks_for() -> None:
    emulator = Entra()
    assert principal(Secret(emulator.token("x", upn="a\x1b[0m@b"))) == "a␛[0m@b"
    assert principal(Secret(emulator.token("x", appid=CLIENT))) == f"app {CLIENT}"
    for none in ("opaque", "a.b.c", emulator.token("x", upn=5), "a." + "W" * 8 + ".c"):
        assert principal(Secret(none)) == ""
