"""The API client against real TLS servers on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from app.cluster.access import Access, resolve_access
from app.cluster.api import ApiClient
from app.cluster.tls import ClientCertificate, make_context
from app.errors import ExitCode, JumpdeckError, ProfileError, Recovery, RefusedError, SignInError
from app.profiles.model import KubeconfigCluster, Profile
from app.routes.direct import DirectDialer
from app.secrets.secret import Secret
from tests.tls_servers import (
    NO_SUCH_HOST,
    Authority,
    access_to,
    api_server,
    authority,
    kubeconfig_text,
    raw_server,
    server_context,
    server_pair,
    unused_port,
)


@asynccontextmanager
async def client(access: Access) -> AsyncIterator[ApiClient]:
    api = ApiClient(access, DirectDialer())
    try:
        yield api
    finally:
        await api.aclose()


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {"path": request.path_qs, "method": request.method, "gitVersion": "v1.33.1",
         "host": request.headers["Host"], "authorization": request.headers.get("Authorization", "")}
    )  # fmt: skip


async def test_a_stream_goes_through_our_own_connector_to_the_named_server() -> None:
    """The canary of the private seam: aiohttp calls `_create_connection`, and the answer comes back."""
    async with api_server(echo) as port, client(access_to(port, base_path="/k8s/c1")) as api:
        async with api.stream("/api/v1/pods", {"watch": 1, "labelSelector": "a=b,c in (d)"}) as response:
            answer = json.loads(await response.read())
        assert answer["path"].startswith("/k8s/c1/api/v1/pods?watch=1&labelSelector=a%3Db,c+in+(d)"), answer["path"]
        assert answer["host"] == f"api.test:{port}"


async def test_a_request_goes_to_the_named_server() -> None:
    async with api_server(echo) as port, client(access_to(port, base_path="/k8s/c1")) as api:
        answer = json.loads(await api.get("/api/v1/pods", {"limit": 500, "labelSelector": "a=b,c in (d)"}))
        assert answer["path"].startswith("/k8s/c1/api/v1/pods?limit=500&labelSelector=a%3Db,c+in+(d)"), answer["path"]
        assert answer["host"] == f"api.test:{port}"
        probe = await api.probe()
        assert probe.version == "v1.33.1"
        assert probe.seconds > 0
        assert probe.date_skew is not None and abs(probe.date_skew) < 60


async def test_a_kubeconfig_with_ca_and_token_reads_from_its_server(tmp_path: Path) -> None:
    path = tmp_path / "config"
    async with api_server(echo) as port:
        path.write_text(kubeconfig_text(port, context="namespace: shop"))
        profile = Profile("here", KubeconfigCluster(path))
        access = await resolve_access(profile, asker=None)
        assert (access.namespace, access.cluster_label, access.identity_label) == ("shop", "c1", "u1")
        assert "sesame" not in repr(access)
        async with client(access) as api:
            assert json.loads(await api.get("/api"))["authorization"] == "Bearer sesame"


async def failure_of(access: Access, path: str = "/version") -> JumpdeckError:
    """The error of a GET, with everything closed behind it."""
    async with client(access) as api:
        with pytest.raises(JumpdeckError) as caught:
            await api.get(path, timeout=40)
        return caught.value


async def test_tls_failures_say_what_is_wrong_with_the_certificate() -> None:
    other = Authority("Other CA")
    async with api_server(echo) as port:
        assert (await failure_of(access_to(port, ca=other.pem))).code == "JD-TLS-UNKNOWN-CA"
        wrong = await failure_of(access_to(port, name="prod.test"))
        assert wrong.code == "JD-TLS-WRONG-NAME"
        assert "expected prod.test" in wrong.detail
        assert "api.test" in wrong.detail
        assert (int(wrong.exit_code), wrong.layer) == (5, "tls")
    async with api_server(echo, authority().issue("api.test", days=(-9, -1))) as port:
        assert (await failure_of(access_to(port))).code == "JD-TLS-EXPIRED"
    async with api_server(echo, authority().issue("api.test", days=(1, 9))) as port:
        assert (await failure_of(access_to(port))).code == "JD-TLS-EARLY"


async def test_the_name_that_tls_verifies_is_not_the_address_that_is_dialled() -> None:
    pair = authority().issue("private.test")
    async with api_server(echo, pair) as port, client(access_to(port, name="private.test", host="127.0.0.1")) as api:
        assert json.loads(await api.get("/"))["host"] == f"private.test:{port}"


async def test_the_servers_own_certificate_may_be_pinned() -> None:
    async with api_server(echo) as port, client(access_to(port, ca=server_pair().certificate)) as api:
        assert await api.get("/")


async def test_an_http_server_on_the_port_is_called_not_tls() -> None:
    async with api_server(echo, plain=True) as port:
        assert (await failure_of(access_to(port))).code == "JD-TLS-NOT-TLS"
    async with api_server(echo, plain=True) as port, client(access_to(port, scheme="http")) as api:
        assert await api.get("/")


async def test_a_server_that_closes_during_the_handshake() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async with raw_server(hang_up) as port:
        error = await failure_of(access_to(port))
    assert error.code in ("JD-TLS-CLOSED", "JD-TCP-RESET")
    assert error.transient


async def test_nothing_listens() -> None:
    error = await failure_of(access_to(unused_port()))
    assert (error.code, error.layer, error.transient) == ("JD-TCP-REFUSED", "tcp", True)


async def test_a_name_that_does_not_resolve() -> None:
    error = await failure_of(access_to(443, host=NO_SUCH_HOST))
    assert error.layer == "dns"
    assert error.exit_code is ExitCode.ROUTE
    assert "`address`" in error.hint


async def test_a_client_certificate_is_shown_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    os.chmod(tmp_path, 0o700)
    pair = authority().issue("jo", client=True)
    certificate = ClientCertificate(pair.certificate, Secret(pair.key.decode()))
    async with api_server(echo, client_ca=authority().pem) as port:
        async with client(access_to(port, certificate=certificate)) as api:
            assert await api.get("/")
        assert not [name for name in os.listdir(tmp_path) if name.startswith("jumpdeck")]
        # TLS 1.3 tells after the handshake, so the alert may be lost behind the closed connection.
        assert (await failure_of(access_to(port))).code in ("JD-TLS-CLIENT-CERT", "JD-API-CLOSED", "JD-TCP-RESET")
    old = authority().issue("jo", client=True, days=(-9, -1))
    with pytest.raises(SignInError) as caught:
        make_context(None, ClientCertificate(old.certificate, Secret(old.key.decode())))
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-CLIENT-CERT-EXPIRED", 4)
    with pytest.raises(ProfileError):
        make_context(authority().pem, ClientCertificate(pair.certificate, Secret(old.key.decode())))


async def test_gzip_is_inflated_and_a_bomb_is_refused() -> None:
    async def answer(request: web.Request) -> web.Response:
        body = b"a" * 100_000 if request.path == "/small" else b"\0" * (8 << 20)
        return web.Response(body=gzip.compress(body), headers={"Content-Encoding": "gzip"})

    async with api_server(answer) as port, client(access_to(port)) as api:
        assert await api.get("/small") == b"a" * 100_000
        assert len(await api.get("/bomb")) == 8 << 20
        with pytest.raises(JumpdeckError) as caught:
            await api.get("/bomb", limit=1 << 20)
        assert caught.value.code == "JD-API-TOO-LARGE"
        with pytest.raises(JumpdeckError):
            await api.get("/small", limit=99_999)


@pytest.mark.parametrize("cut", [1, 20, 200])
async def test_a_body_that_ends_early_is_an_error(cut: int) -> None:
    whole = gzip.compress(bytes(range(256)) * 40)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + whole[:-cut])
        await writer.drain()
        writer.write_eof() if writer.can_write_eof() else writer.close()
        await writer.wait_closed()

    async with raw_server(talk, server_context(server_pair())) as port:
        assert (await failure_of(access_to(port))).code == "JD-API-TRUNCATED"


async def test_a_server_that_drips_meets_the_overall_deadline() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with raw_server(talk, server_context(server_pair())) as port, client(access_to(port)) as api:
        with pytest.raises(JumpdeckError) as caught:
            await api.get("/", timeout=0.2)
    assert caught.value.code == "JD-API-NO-ANSWER"


async def test_a_server_that_says_nothing_meets_the_first_byte_limit() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with raw_server(talk, server_context(server_pair())) as port, client(access_to(port)) as api:
        with pytest.raises(JumpdeckError) as caught:
            async with api.stream("/log", first_byte=0.1):
                raise AssertionError("there is no response")
    assert caught.value.code == "JD-API-NO-ANSWER"


async def test_a_stream_is_read_in_pieces_and_its_cut_is_an_error() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nline1\n\r\n")
        await writer.drain()
        await reader.read(1)

    got: list[bytes] = []
    async with raw_server(talk, server_context(server_pair())) as port:
        api = ApiClient(access_to(port), DirectDialer())
        with pytest.raises(JumpdeckError) as caught:
            async with api.stream("/log") as response:
                async for chunk in response.content.iter_any():
                    got.append(chunk)
                    await api.aclose()
        assert got == [b"line1\n"]
        assert caught.value.code in ("JD-API-TRUNCATED", "JD-API-CLOSED", "JD-SESSION-CLOSED")


async def test_many_streams_at_once_do_not_wait_for_each_other() -> None:
    streams = 120  # more than aiohttp's own limit of 100
    here = 0
    everybody = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal here
        here += 1
        if here == streams:
            everybody.set()
        await everybody.wait()
        return web.Response(body=b"x")

    async def read(api: ApiClient) -> bytes:
        async with api.stream("/", first_byte=60) as response:
            return await response.read()

    async with api_server(answer) as port, client(access_to(port)) as api:
        async with asyncio.timeout(60):
            assert await asyncio.gather(*(read(api) for _ in range(streams))) == [b"x"] * streams


class Renewing:
    """Credentials whose first token is bad; counts its renewals."""

    def __init__(self, good_after: int) -> None:
        self.good_after = good_after
        self.renewals = 0

    async def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer t{self.renewals}"}

    async def refresh(self) -> bool:
        self.renewals += 1
        return True


class Opaque(Renewing):
    """A token that no pattern knows."""

    async def headers(self) -> dict[str, str]:
        return {"Authorization": "Bearer 7f3kq-opaque-token-9d2c"}


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_refusal_that_repeats_the_request_shows_no_token(status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=f"sent: {request.headers['Authorization']}!")

    async with api_server(answer) as port, client(access_to(port, credentials=Opaque(0))) as api:
        with pytest.raises(JumpdeckError) as asked:
            await api.get("/")
        with pytest.raises(JumpdeckError) as streamed:
            async with api.stream("/"):
                pass
    for caught in (asked, streamed):
        told = " ".join(caught.value.lines())
        assert "opaque" not in told + repr(caught.value) and "sent: Bearer ***!" in told


async def test_a_401_renews_once_and_tries_once_more() -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.Response(status=200 if seen[-1] == "Bearer t1" else 401)

    async with api_server(answer) as port:
        async with client(access_to(port, credentials=Renewing(1))) as api:
            await api.get("/")
            assert seen == ["Bearer t0", "Bearer t1"]
        seen.clear()
        bad = Renewing(1)
        bad.renewals = 5
        async with client(access_to(port, credentials=bad)) as api:
            with pytest.raises(RefusedError) as caught:
                await api.get("/")
        assert seen == ["Bearer t5", "Bearer t6"]
        assert caught.value.exit_code is ExitCode.REFUSED
        assert caught.value.recovery is Recovery.NEEDS_PERSON


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v1/pods", True), ("HEAD", "/", True), ("DELETE", "/api/v1/namespaces/a/pods/b", False),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", True),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", True),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", False),
        ("POST", "/api/v1/namespaces/a/pods", False), ("PATCH", "/api/v1/pods", False), ("PUT", "/x", False),
        ("POST", "/api/v1/namespaces/selfsubjectreviews", False),
    ],
)  # fmt: skip
async def test_only_reads_leave_whoever_asks(method: str, path: str, allowed: bool) -> None:
    async with (
        api_server(echo) as port,
        client(access_to(port)) as api,
        aiohttp.ClientSession(connector=api.connector, connector_owner=False) as foreign,
    ):
        if allowed:
            async with foreign.request(method, f"https://api.test:{port}{path}") as response:
                assert response.status == 200
        else:
            with pytest.raises(JumpdeckError) as caught:
                await foreign.request(method, f"https://api.test:{port}{path}")
            assert caught.value.code == "JD-API-READ-ONLY"


async def test_a_redirect_is_not_followed_and_a_page_is_not_kubernetes() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path.startswith("/page"):
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        return web.Response(status=302, headers={"Location": "/page"})

    async with api_server(answer) as port:
        assert (await failure_of(access_to(port))).code == "JD-API-REDIRECT"
        async with client(access_to(port, base_path="/page")) as api:
            for ask in (api.probe(), api.post_review("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {})):
                with pytest.raises(JumpdeckError) as caught:
                    await ask
                assert caught.value.code == "JD-API-NOT-KUBERNETES"
