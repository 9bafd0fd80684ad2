"""ARM over a real TLS server: tries, tokens, pages, proxies, limits, and nothing of it in a log."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import time
import traceback
from pathlib import Path

import pytest
from aiohttp import web
from azure.core.rest import HttpRequest

from app.azure import pipeline
from app.azure.arm import Arm
from app.errors import JumpdeckError, Recovery, SignInError
from app.identity.identity import AccessToken
from app.outbound import trusting
from app.secrets.secret import Secret
from app.tasks import TaskOwner
from tests.arm_server import AKS, GROUP, SCOPE, ArmServer, arm_server, arm_to, cloud, refusal
from tests.fakes import FakeIdentity
from tests.tls_servers import authority, raw_server, server_context, server_pair, unused_port
from tests.web_proxy import web_proxy

VERSION = "2026-08-01"


async def failure_of(arm: Arm, path: str = AKS) -> JumpdeckError:
    with pytest.raises(JumpdeckError) as caught:
        await arm.get(path, VERSION)
    return caught.value


async def test_a_read_is_a_get_with_version_token_and_ids(tmp_path: Path) -> None:
    identity = FakeIdentity()
    async with arm_server() as server, arm_to(server, tmp_path, identity) as arm:
        server.on(AKS, {"id": AKS, "name": "aks-prod"})
        assert (await arm.get(AKS, VERSION, {"$expand": "a b"}))["name"] == "aks-prod"
        request = server.seen[0]
        assert dict(request.query) == {"api-version": VERSION, "$expand": "a b"}
        assert request.headers["Authorization"] == f"Bearer {identity.value(SCOPE)}"
        assert request.headers["User-Agent"] == "jumpdeck"
        assert len(request.headers["x-ms-client-request-id"]) == 36
        assert "Cookie" not in request.headers
        await arm.get(AKS, VERSION)
        assert server.seen[0].transport is server.seen[1].transport, "connections are kept"
    assert identity.asked == [(SCOPE, False, None)] * 2


async def test_an_action_is_a_post_and_tells_its_headers(tmp_path: Path) -> None:
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        location = f"https://localhost:{server.port}{AKS}/commandResults/1"
        server.on(f"{AKS}/runCommand", web.Response(status=202, headers={"Location": location, "Retry-After": "5"}),
                  method="POST")  # fmt: skip
        answer = await arm.post(f"{AKS}/runCommand", VERSION, {"command": "kubectl version"})
        assert (answer.status, answer.headers["location"], answer.headers["retry-after"]) == (202, location, "5")
        assert answer.body == {}
        assert json.loads(server.bodies[0]) == {"command": "kubectl version"}
        server.on(f"{AKS}/listClusterUserCredential", {"kubeconfigs": []}, method="POST")
        assert (await arm.post(f"{AKS}/listClusterUserCredential", VERSION)).body == {"kubeconfigs": []}
        assert (server.bodies[1], server.seen[1].headers["Content-Length"]) == (b"", "0")


async def test_what_can_pass_is_tried_again(tmp_path: Path) -> None:
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        server.on(AKS, refusal(429, "TooManyRequests", "slow down", Retry_After="1"), refusal(500, "Internal", "no"),
                  {"name": "x"})  # fmt: skip
        began = asyncio.get_running_loop().time()
        assert await arm.get(AKS, VERSION) == {"name": "x"}
        assert asyncio.get_running_loop().time() - began >= 1
        assert len(server.seen) == 3
        assert len({request.headers["x-ms-correlation-request-id"] for request in server.seen}) == 1


class OpaqueIdentity(FakeIdentity):
    """Its tokens have no form that could be told from a word."""

    def value(self, scope: str) -> str:
        return "plain-sentinel-token"


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_a_gateway_that_sends_the_request_back_shows_nobody_the_token(tmp_path: Path, status: int) -> None:
    async with arm_server() as server, arm_to(server, tmp_path, OpaqueIdentity()) as arm:
        token = "plain-sentinel-token"
        server.on(AKS, *[refusal(status, "Odd", f"you sent {token} here")] * 4)
        error = await failure_of(arm)
        assert "you sent *** here" in error.detail
        assert server.seen[0].headers["Authorization"] == f"Bearer {token}"
        assert token not in "".join(error.lines()) + repr(error.__cause__)


async def test_a_long_wait_is_left_to_the_caller(tmp_path: Path) -> None:
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        server.on(AKS, refusal(429, "TooManyRequests", "come back later", Retry_After="3600"))
        error = await failure_of(arm)
        assert (error.code, error.retry_after, error.transient, len(server.seen)) == ("JD-ARM-BUSY", 300, True, 1)


async def test_an_action_that_may_have_happened_is_not_repeated(tmp_path: Path) -> None:
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        server.on(f"{AKS}/runCommand", refusal(503, "Busy", "no"), {}, method="POST")
        with pytest.raises(JumpdeckError):
            await arm.post(f"{AKS}/runCommand", VERSION, {})
        assert len(server.seen) == 1
        server.on(f"{AKS}/runCommand", refusal(429, "Busy", "no"), {}, method="POST")
        await arm.post(f"{AKS}/runCommand", VERSION, {})
        server.on(f"{AKS}/listClusterUserCredential", refusal(503, "Busy", "no"), {}, method="POST")
        await arm.post(f"{AKS}/listClusterUserCredential", VERSION)
        assert len(server.seen) == 5


async def test_a_claims_challenge_is_answered_once(tmp_path: Path) -> None:
    claims = '{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}'
    asked = base64.b64encode(claims.encode()).decode().rstrip("=")
    challenge = f'Bearer realm="", authorization_uri="https://x/", error="insufficient_claims", claims="{asked}"'
    identity = FakeIdentity()
    async with arm_server() as server, arm_to(server, tmp_path, identity) as arm:
        refused = refusal(401, "Unauthorized", "no", WWW_Authenticate=challenge)
        server.on(AKS, refused, {"name": "x"})
        assert await arm.get(AKS, VERSION) == {"name": "x"}
        assert identity.asked == [(SCOPE, False, None), (SCOPE, True, claims)]
        server.on(AKS, refused)
        error = await failure_of(arm)
        assert (error.code, error.layer, int(error.exit_code)) == ("JD-ARM-FORBIDDEN", "sign-in", 4)
        assert error.recovery is Recovery.NEEDS_PERSON
        assert FakeIdentity.TENANT in error.detail
        assert len(server.seen) == 4


async def test_a_refused_sign_in_comes_through_as_it_is(tmp_path: Path) -> None:
    identity = FakeIdentity()
    identity.error = SignInError("Conditional Access", code="JD-SIGN-IN-POLICY", recovery=Recovery.TRANSIENT)
    async with arm_server() as server, arm_to(server, tmp_path, identity) as arm:
        assert (await failure_of(arm)).code == "JD-SIGN-IN-POLICY"
        assert not server.seen and len(identity.asked) == 1


async def test_pages_are_followed_on_the_same_host_only(tmp_path: Path) -> None:
    path = f"{GROUP}/providers/Microsoft.Network/bastionHosts"
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        here = f"https://localhost:{server.port}{path}?api-version=1&$skiptoken=a%2Fb"
        server.on(path, {"value": [{"n": 1}], "nextLink": here}, {"value": [{"n": 2}], "nextLink": None})
        assert await arm.list(path, "1") == [{"n": 1}, {"n": 2}]
        assert server.seen[1].query["$skiptoken"] == "a/b"
        for other in ("https://elsewhere.test/x", f"https://127.0.0.1:{server.port}/x", f"http://localhost:{server.port}",
                      f"https://a@localhost:{server.port}/x", "//x", "https://[x",
                      f"https://localhost:{server.port}\\@elsewhere.test/", f"https://localhost:{server.port}\\.test/",
                      f"https://elsewhere.test\\@localhost:{server.port}/"):  # fmt: skip
            server.seen.clear()
            server.on(path, {"value": [], "nextLink": other})
            with pytest.raises(JumpdeckError) as caught:
                await arm.list(path, "1")
            assert (caught.value.code, len(server.seen)) == ("JD-ARM-ANSWER", 1)
        server.on(path, {"value": [], "nextLink": here})
        server.seen.clear()
        with pytest.raises(JumpdeckError) as caught:
            await arm.list(path, "1")
        assert (caught.value.code, len(server.seen)) == ("JD-ARM-TOO-LARGE", 100)


@pytest.mark.parametrize("path", ["subscriptions/x", "//elsewhere.test/x", "/subscriptions/../x", ""])
async def test_what_is_no_arm_id_is_not_sent(tmp_path: Path, path: str) -> None:
    arm = Arm(FakeIdentity(), cloud(unused_port()))
    assert (await failure_of(arm, path)).code == "JD-ARM-ID"
    await arm.aclose()


async def test_answers_are_bounded_also_when_inflated(tmp_path: Path) -> None:
    bomb = gzip.compress(b" " * (pipeline.BODY_LIMIT + 1))
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        server.on(AKS, web.Response(body=bomb, headers={"Content-Encoding": "gzip"}))
        assert (await failure_of(arm)).code == "JD-ARM-TOO-LARGE"
        server.on(AKS, web.Response(body=gzip.compress(b'{"name": "x"}'), headers={"Content-Encoding": "gzip"}))
        assert await arm.get(AKS, VERSION) == {"name": "x"}
        server.on(AKS, web.Response(body=b"not gzip", headers={"Content-Encoding": "gzip"}))
        assert (await failure_of(arm)).code == "JD-ARM-CUT"


async def test_pages_of_others_are_not_taken_for_arm(tmp_path: Path) -> None:
    html = web.Response(status=502, text="<html><title>Bad gateway</title></html>", content_type="text/html")
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        server.on(AKS, html, {"name": "x"})
        assert await arm.get(AKS, VERSION) == {"name": "x"}
        for body in ("<html>Sign in to the network</html>", "[1]", "nonsense"):
            server.on(AKS, web.Response(text=body))
            assert (await failure_of(arm)).code == "JD-ARM-NOT-ARM"
        server.on(AKS, web.Response(status=302, headers={"Location": "https://portal.test/"}))
        assert (await failure_of(arm)).code == "JD-ARM-NOT-ARM"


async def test_the_proxy_is_used_and_exempted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with arm_server() as server, web_proxy() as (port, seen):
        server.on(AKS, {"name": "x"})
        url = f"http://jo:secret@127.0.0.1:{port}"
        async with arm_to(server, tmp_path, proxy=url, host="api.test") as arm:
            await arm.get(AKS, VERSION)
        assert seen[0].startswith(f"CONNECT api.test:{server.port} ".encode())
        assert b"Proxy-Authorization: Basic am86c2VjcmV0" in seen[0]
        assert b"Bearer" not in seen[0]
        async with arm_to(server, tmp_path, proxy=url, host="127.0.0.1") as arm:
            await arm.get(AKS, VERSION)
        assert len(seen) == 1, "this computer is never reached through a proxy"
        monkeypatch.setenv("https_proxy", url)
        async with arm_to(server, tmp_path, host="api.test") as arm:
            await arm.get(AKS, VERSION)
        assert len(seen) == 2
        monkeypatch.setenv("no_proxy", ".test")
        async with arm_to(server, tmp_path, host=f"{'a' * 70}.test") as arm:
            assert (await failure_of(arm)).code == "JD-ARM-UNREACHABLE"
        assert len(seen) == 2


async def test_a_proxy_that_refuses_or_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    for answer, recovery in (
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", Recovery.NEEDS_PERSON),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", Recovery.PERMANENT),
    ):
        async with arm_server() as server, web_proxy(answer) as (port, _):
            url = f"http://jo:secret@127.0.0.1:{port}"
            async with arm_to(server, tmp_path, proxy=url, host="api.test") as arm:
                error = await failure_of(arm)
                assert (error.code, error.recovery) == ("JD-ARM-PROXY", recovery)
                assert f"proxy 127.0.0.1:{port}" in error.detail
                assert "secret" not in "".join(traceback.format_exception(error)), "nor in what goes into the log"
    async with arm_server() as server:
        gone = f"http://jo:secret@127.0.0.1:{unused_port()}"
        async with arm_to(server, tmp_path, proxy=gone, host="api.test") as arm:
            error = await failure_of(arm)
            assert (error.code, error.transient) == ("JD-ARM-PROXY", True)
            assert "secret" not in "".join(traceback.format_exception(error))
        async with arm_to(server, tmp_path, proxy="socks5://127.0.0.1:1", host="api.test") as arm:
            assert (await failure_of(arm)).code == "JD-PROXY-URL"


async def test_an_inspecting_proxy_needs_its_ca_named(tmp_path: Path) -> None:
    """The stand-in's CA is one that no system knows, as that of a proxy that inspects TLS."""
    async with arm_server() as server, web_proxy() as (port, seen):
        server.on(AKS, {"name": "x"})
        url = f"http://127.0.0.1:{port}"
        async with arm_to(server, tmp_path, proxy=url, host="api.test", trusted=False) as arm:
            error = await failure_of(arm)
            assert (error.code, error.recovery, len(seen)) == ("JD-ARM-TLS", Recovery.PERMANENT, 1)
            assert "ca-file" in error.hint
        arm = Arm(FakeIdentity(), cloud(server.port, host="api.test"), proxy=url, ca_file=str(tmp_path / "ca.pem"))
        assert await arm.get(AKS, VERSION) == {"name": "x"}
        await arm.aclose()
        async with arm_to(server, tmp_path, proxy=url, host="other.test") as arm:
            assert (await failure_of(arm)).code == "JD-ARM-TLS", "the name is verified too"


async def test_a_closed_port_and_a_server_that_breaks_off(tmp_path: Path) -> None:
    arm = Arm(FakeIdentity(), cloud(unused_port()))
    error = await failure_of(arm)
    assert (error.code, error.layer, int(error.exit_code), error.transient) == ("JD-ARM-CLOSED", "arm", 5, True)
    await arm.aclose()
    assert (await failure_of(arm)).code == "JD-SESSION-CLOSED"
    heard = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        await reader.readuntil(b"\r\n\r\n")
        heard += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()

    async with raw_server(hang_up, server_context(server_pair())) as port:
        peer = ArmServer()
        peer.port = port
        async with arm_to(peer, tmp_path) as arm:
            with pytest.raises(JumpdeckError) as caught:
                await arm.post(f"{AKS}/runCommand", VERSION, {})
            assert (caught.value.code, heard) == ("JD-ARM-CUT", 1)
            assert (await failure_of(arm)).code == "JD-ARM-CUT"
            assert heard == 1 + pipeline.MAX_TRIES


async def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        server.on(AKS, never)
        async with TaskOwner("test") as owner:
            reading = owner.spawn(failure_of(arm), name="read")
            await asked.wait()
            await arm.aclose()
            assert (await reading).code in ("JD-SESSION-CLOSED", "JD-ARM-CUT")


async def test_a_call_has_an_end_and_a_person_at_the_sign_in_does_not_count() -> None:
    began = time.monotonic()
    call = pipeline.Call("GET /x", repeatable=True, limit=60.0)
    with call.standing():
        stood = -time.monotonic()
        await asyncio.sleep(0.06)
        stood += time.monotonic()
    left = call.left
    assert 60.0 - left <= time.monotonic() - began - stood + 1e-3, "what the person took is not counted"

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(silent, server_context(server_pair())) as port:
        url = f"https://localhost:{port}"
        trust = trusting(authority().pem, "")
        line = pipeline.Pipeline(url, f"localhost:{port}", FakeIdentity(), SCOPE, None, trust)
        with pytest.raises(JumpdeckError) as caught:
            await line.send(HttpRequest("GET", url), pipeline.Call("GET /x", repeatable=True, limit=0.2))
        await line.aclose()
        assert (caught.value.code, caught.value.transient) == ("JD-ARM-TIMEOUT", True)


async def test_no_token_reaches_a_log_or_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("azure", "aiohttp", "asyncio", "app"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    identity = FakeIdentity()
    kubeconfig = {"kubeconfigs": [{"name": "clusterUser", "value": "sentinel-credential"}]}
    async with arm_server() as server, arm_to(server, tmp_path, identity) as arm:
        server.on(f"{AKS}/listClusterUserCredential", kubeconfig, method="POST")
        await arm.post(f"{AKS}/listClusterUserCredential", VERSION, {"clusterToken": "sentinel-body"})
        errors = []
        spoilt = web.Response(body=b"not gzip", headers={"Content-Encoding": "gzip"})
        for reply in (refusal(401, "x", "no"), refusal(403, "x", "no"), web.Response(text="<html>"), spoilt):
            server.on(AKS, reply)
            errors.append(await failure_of(arm))
    for error in errors:
        logging.getLogger("app").error("shown", exc_info=error)
    told = caplog.text + "".join(map(repr, errors))
    assert "listClusterUserCredential: HTTP 200" in told, "there was a log to search"
    assert "sentinel" not in told
    assert "Bearer" not in told


class SpoiltIdentity(FakeIdentity):
    """Gives a token with a line end in it."""

    async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> AccessToken:
        return AccessToken(Secret("a\r\nX-Other: b"), 0.0)


async def test_a_token_that_is_none_is_not_sent(tmp_path: Path) -> None:
    async with arm_server() as server, arm_to(server, tmp_path, SpoiltIdentity()) as arm:
        assert (await failure_of(arm)).code == "JD-SIGN-IN-TOKEN-FORM"
        assert not server.seen


def test_claims_are_read_out_of_a_challenge_or_not_at_all() -> None:
    good_claims = base64.b64encode(b'{"a":1}').decode()
    assert pipeline.claims_of(f'Bearer error="insufficient_claims", claims="{good_claims}"') == '{"a":1}'
    for bad in ("", "Bearer", 'Bearer claims="%%%"', f'Bearer claims="{base64.b64encode(b"[1]").decode()}"',
                'Bearer claims="' + "A" * 9000 + '"'):  # fmt: skip
        assert pipeline.claims_of(bad) is None
