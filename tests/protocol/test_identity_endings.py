"""Sign-ins that are given up, abandoned or refused: what is shown then, and what the next one finds."""

from __future__ import annotations

import asyncio
import base64
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msal
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError

from app.asking import DeviceCode
from app.errors import SignInError
from app.identity.attending import attend
from app.identity.azure_cli import AzureCliSource
from app.identity.clouds import CloudEndpoints
from app.identity.credentials import AppSource, PersonSource, Threads
from app.identity.failures import failure_of
from app.identity.identities import SharedIdentity
from app.identity.identity import AccessToken
from app.identity.source import About, LastAnswer, Obtained, PersonNeeded, Show
from app.identity.ssh_certificate import SshCertificates, request_data
from app.identity.transport import ANSWER_LIMIT, Transport
from app.secrets.secret import Secret
from tests.fakes import FakeAsker
from tests.tls_servers import authority, raw_server, server_context, server_pair

ABOUT = About("device-code", "adm", "prod", authority="https://login.test")
CLOUD = CloudEndpoints("test", "https://login.test", "https://arm.test", "arm/.default")
CODE = DeviceCode("adm", "https://login.test/device", "CODE", 0.0)


class Person:
    """A source that shows a code and waits for a person who does not come."""

    about = ABOUT

    def __init__(self) -> None:
        self.asked = 0

    async def silent(self, scope: str, claims: str | None, fresh: bool) -> Obtained:
        if scope == "known":
            return Obtained(AccessToken(Secret("t"), 2e9))
        raise PersonNeeded("a person must sign in")

    async def ask(self, scope: str, claims: str | None, show: Show) -> Obtained:
        self.asked += 1
        show(CODE)
        await asyncio.Event().wait()
        raise AssertionError

    async def key_bound(self, scope: str, data: dict[str, str], show: Show | None, tenant: str) -> AccessToken:
        if show is not None:
            show(CODE)
        await asyncio.Event().wait()
        raise AssertionError

    async def forget(self) -> bool:
        return False

    def close(self) -> None:
        pass


def asks(asker: FakeAsker, ask: Any) -> asyncio.Task[Any]:
    async def run() -> Any:
        attend(asker)
        return await ask()

    return asyncio.ensure_future(run())


async def test_who_gives_up_waiting_for_a_certificate_takes_nobodys_code_away() -> None:
    identity, one, other = SharedIdentity(Person()), FakeAsker(), FakeAsker()
    signing = asks(one, lambda: identity.token("arm"))
    await one.shown.wait()
    queued = asks(other, lambda: identity.ssh_certificates.current("ssh"))
    await other.shown.wait()  # they see the same sign-in
    queued.cancel()
    await asyncio.wait({queued})
    assert (one.hidden, signing.done()) == (0, False)
    signing.cancel()
    await asyncio.wait({signing})
    await identity.aclose()
    assert one.hidden == 1


async def test_a_person_gives_up_on_the_sign_in_for_a_certificate() -> None:
    identity, asker = SharedIdentity(Person()), FakeAsker()
    getting = asks(asker, lambda: identity.ssh_certificates.current("ssh"))
    await asker.shown.wait()
    asker.gives_up.set()
    with pytest.raises(SignInError) as caught:
        await asyncio.wait_for(getting, 60)
    assert caught.value.code == "JD-SIGN-IN-GIVEN-UP"
    assert (await identity.token("known")).value.reveal() == "t", "nothing is held up by it"
    await identity.aclose()


async def test_who_waits_when_all_is_closed_is_told_and_not_cancelled() -> None:
    identity, asker = SharedIdentity(Person()), FakeAsker()
    signing = asks(asker, lambda: identity.token("arm"))
    await asker.shown.wait()
    await identity.aclose()
    with pytest.raises(SignInError) as caught:
        await signing
    assert (caught.value.code, asker.hidden) == ("JD-SIGN-IN-CLOSED", 1)


async def test_a_code_that_comes_after_the_end_of_its_sign_in_is_not_shown() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    class Late:
        def __init__(self, options: dict[str, Any]) -> None:
            self.prompt = options["prompt_callback"]

        def get_token_info(self, *scopes: str, options: Any = None) -> Any:
            begun.set()
            release.wait(10)
            self.prompt("https://login.test/device", "LATE", datetime.now(UTC))
            ended.set()
            raise RuntimeError("nobody waits")

    async def cache() -> tuple[Any, bool]:
        return SimpleNamespace(), False

    shown: list[DeviceCode] = []
    source = PersonSource(Threads(ABOUT, CLOUD, None), Late, open_cache=cache)
    asking = asyncio.ensure_future(source.ask("arm", None, shown.append))
    assert await asyncio.to_thread(begun.wait, 10)
    asking.cancel()
    await asyncio.wait({asking})
    release.set()
    assert await asyncio.to_thread(ended.wait, 10)
    await asyncio.sleep(0)
    assert shown == []


async def test_a_refused_certificate_is_asked_for_anew_and_not_out_of_msals_memory() -> None:
    made = 0

    class App:
        def __init__(self) -> None:
            self.token_cache = msal.TokenCache()

        def acquire_token_for_client(self, scopes: list[str], data: dict[str, str]) -> dict[str, str]:
            return {"error": "invalid_client", "error_description": "AADSTS7000222: expired"}

    def make(options: dict[str, Any]) -> Any:
        nonlocal made
        made += 1
        return SimpleNamespace(_get_app=App)

    about = About("service-principal", authority="https://login.test")
    source = AppSource(Threads(about, CLOUD, None), make)
    for count in (1, 2):
        with pytest.raises(SignInError) as caught:
            await source.key_bound("ssh", {}, None)
        assert (caught.value.code, made) == ("JD-SIGN-IN-SECRET-EXPIRED", count)


async def test_two_logins_at_once_have_certificates_of_the_same_key() -> None:
    async def get(scope: str, data: dict[str, str]) -> str:
        await asyncio.sleep(0.02)
        return base64.b64encode(data["key_id"].encode()).decode()

    certificates = SshCertificates(get, "adm")
    for key in await asyncio.gather(*(certificates.current("ssh") for _ in range(3))):
        assert request_data(key.private)["key_id"].encode() == key.certificate


async def test_what_an_answer_that_is_no_certificate_begins_with_is_not_shown() -> None:
    async def get(scope: str, data: dict[str, str]) -> str:
        return "SENTINEL.token.x"

    with pytest.raises(SignInError) as caught:
        await SshCertificates(get, "adm").current("ssh")
    assert not any("SENTINEL" in line for line in caught.value.lines())


@pytest.mark.parametrize("scope", ["x&calc/.default", "%PATH%", "a|b", "--debug", "a b", 'a"b'])
async def test_nothing_for_a_shell_reaches_az(scope: str) -> None:
    with pytest.raises(SignInError) as caught:
        await AzureCliSource(About("azure-cli")).silent(scope, None, False)
    assert caught.value.code == "JD-SIGN-IN-AZ" and "scope" in caught.value.detail


@pytest.mark.parametrize("abandoned", [False, True])
async def test_an_answer_of_a_sign_in_server_has_a_limit(abandoned: bool, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n")
        begun.set()
        while True:
            writer.write(bytes(ANSWER_LIMIT // 64))
            await writer.drain()
            await asyncio.sleep(0.02 if abandoned else 0)

    from app.outbound import make_trust

    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority().pem)
    async with raw_server(endless, server_context(server_pair())) as port:
        transport = Transport(make_trust(ca), None)
        asking = asyncio.ensure_future(asyncio.to_thread(transport._session.get, f"https://localhost:{port}/"))
        await begun.wait()
        if abandoned:
            transport.close()
        with pytest.raises(requests.ConnectionError, match="abandoned" if abandoned else "too long"):
            await asyncio.wait_for(asking, 60)
        transport.close()


def test_a_server_that_asks_for_an_endless_wait_is_asked_again_in_minutes() -> None:
    error = failure_of(ClientAuthenticationError("no"), ABOUT, LastAnswer(429, "", "9" * 400))
    assert (error.code, error.retry_after) == ("JD-SIGN-IN-BUSY", 300)
