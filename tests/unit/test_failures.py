"""Every failure has a layer, a cause, a next step, a stable code, an exit code and a recovery."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cluster import aiohttp_failures, failures
from app.errors import JumpdeckError, Recovery
from app.routes.failures import from_os_error
from tests.recordings import cases, load


def status(code: int, message: str, reason: str = "", **details: object) -> bytes:
    return json.dumps({"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code,
                       "details": details}).encode()  # fmt: skip


HTML = b"<!DOCTYPE html><html><body>hello</body></html>"
ANSWERS: list[tuple[int, bytes, dict[str, str], str, str, int, bool]] = [
    # HTTP status, body, headers, code, layer, exit code, worth another try
    (400, status(400, "field label not supported: x", "BadRequest"), {}, "JD-API-BAD-REQUEST", "api", 1, False),
    (400, b"Client sent an HTTP request to an HTTPS server.\n", {}, "JD-TLS-EXPECTED", "tls", 5, False),
    (400, status(400, 'container "a" in pod "b" is waiting to start: PodInitializing'),
     {}, "JD-LOG-WAITING", "log", 1, True),
    (400, status(400, 'previous terminated container "a" in pod "b" not found'),
     {}, "JD-LOG-NO-PREVIOUS", "log", 7, False),
    (400, status(400, "a container name must be specified for pod x"), {}, "JD-LOG-CONTAINER", "log", 1, False),
    (400, status(400, "container nosuch is not valid for pod x"), {}, "JD-LOG-NO-CONTAINER", "log", 7, False),
    (401, status(401, "Unauthorized", "Unauthorized"), {}, "JD-API-UNAUTHORIZED", "token", 6, False),
    (401, status(401, "token has expired", "Unauthorized"), {}, "JD-API-TOKEN-EXPIRED", "token", 6, False),
    (403, status(403, "no"), {}, "JD-API-FORBIDDEN", "rbac", 6, False),
    (403, status(403, 'pods is forbidden: User "system:anonymous" cannot list resource "pods"'),
     {}, "JD-API-ANONYMOUS", "rbac", 6, False),
    (404, status(404, 'pods "x" not found', "NotFound", name="x", kind="pods"),
     {}, "JD-API-NOT-FOUND", "api", 7, False),
    (404, b"404 page not found\n", {"Content-Type": "text/plain"}, "JD-API-NO-PATH", "api", 7, False),
    (404, HTML, {"Content-Type": "text/html"}, "JD-API-NOT-KUBERNETES", "api", 5, False),
    (403, b"<html>Blocked by Zscaler</html>", {"Content-Type": "text/html"}, "JD-PROXY-BLOCKED", "proxy", 5, False),
    (405, status(405, "no"), {}, "JD-API-METHOD", "api", 1, False),
    (406, status(406, "only the following"), {}, "JD-API-NOT-ACCEPTABLE", "api", 1, False),
    (407, b"", {}, "JD-PROXY-SIGN-IN", "proxy", 5, False),
    (409, status(409, "changed"), {}, "JD-API-CONFLICT", "api", 1, True),
    (410, status(410, "too old resource version", "Expired"), {}, "JD-API-GONE", "api", 1, True),
    (429, b"Too many requests, please try again later.\n", {"Retry-After": "1"}, "JD-API-BUSY", "api", 1, True),
    (500, status(500, "etcdserver: request timed out"), {}, "JD-API-ETCD", "api", 1, True),
    (500, b"[+]ping ok\n[-]etcd failed: reason withheld\n", {}, "JD-API-ETCD", "api", 1, True),
    (500, b"[+]ping ok\n[-]informer-sync failed: reason withheld\n", {}, "JD-API-STARTING", "api", 1, True),
    (500, status(500, 'Get "https://n:10250/containerLogs/a/b/c": dial tcp: connect: connection refused'),
     {}, "JD-LOG-NODE", "log", 1, True),
    (500, status(500, "Internal error occurred: x"), {}, "JD-API-SERVER-ERROR", "api", 1, True),
    (502, HTML, {"Content-Type": "text/html"}, "JD-API-NO-BACKEND", "api", 5, True),
    (503, status(503, "the server is currently unable to handle the request"),
     {}, "JD-API-UNAVAILABLE", "api", 1, True),
    (504, status(504, "Timeout: Too large resource version: 9, current: 1", "Timeout"),
     {}, "JD-API-TIMEOUT", "api", 1, True),
    (302, b"", {"Location": "https://login.test"}, "JD-API-REDIRECT", "api", 5, False),
    (418, b"teapot", {}, "JD-API-UNEXPECTED", "api", 1, False),
]  # fmt: skip


@pytest.mark.parametrize(("http", "body", "headers", "code", "layer", "exit_code", "transient"), ANSWERS)
def test_answer(
    http: int, body: bytes, headers: dict[str, str], code: str, layer: str, exit_code: int, transient: bool
) -> None:
    error = failures.from_status(http, body, headers, "GET /api")
    assert (error.code, error.layer, int(error.exit_code), error.transient) == (code, layer, exit_code, transient)
    assert error.title
    assert f"HTTP {http}" in error.detail
    assert error.hint or code == "JD-API-METHOD"
    if headers.get("Retry-After"):
        assert error.retry_after == 1.0


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ('pods is forbidden: User "jo" cannot list resource "pods" in API group "" in the namespace "shop"',
         "jo may not list pods in namespace shop"),
        ('pods is forbidden: User "jo" cannot watch resource "pods" in API group "" at the cluster scope',
         "jo may not watch pods in the whole cluster"),
        ('forbidden: User "jo" cannot get path "/version"', "jo may not get /version"),
    ],
)  # fmt: skip
def test_a_refusal_says_who_may_not_do_what_and_where(message: str, title: str) -> None:
    error = failures.from_status(403, status(403, message, "Forbidden"), {}, "GET /x")
    assert error.title == title
    assert message in error.detail
    assert "role" in error.hint


def test_an_expired_token_is_called_expired() -> None:
    error = failures.from_status(401, status(401, "Unauthorized"), {}, "GET /api", expires_at=time.time() - 60)
    assert error.code == "JD-API-TOKEN-EXPIRED"
    assert "it ended 20" in error.detail
    assert error.recovery is Recovery.NEEDS_PERSON
    fresh = failures.from_status(401, status(401, "Unauthorized"), {}, "GET /api", expires_at=time.time() + 60)
    assert fresh.code == "JD-API-UNAUTHORIZED"


SYSTEM = [
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "JD-DNS-UNKNOWN", "dns"),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "JD-DNS-NO-ANSWER", "dns"),
    (ConnectionRefusedError(ECONNREFUSED, "refused"), "JD-TCP-REFUSED", "tcp"),
    (ConnectionResetError(ECONNRESET, "reset"), "JD-TCP-RESET", "tcp"),
    (TimeoutError(), "JD-TCP-TIMEOUT", "tcp"),
    (TimeoutError(ETIMEDOUT, "timed out"), "JD-TCP-TIMEOUT", "tcp"),
    (OSError(ENETUNREACH, "unreachable"), "JD-TCP-UNREACHABLE", "tcp"),
    (OSError(EHOSTUNREACH, "no route"), "JD-TCP-UNREACHABLE", "tcp"),
    (OSError(99999, "odd"), "JD-TCP-FAILED", "tcp"),
]


@pytest.mark.parametrize(("error", "code", "layer"), SYSTEM)
def test_system_error(error: OSError, code: str, layer: str) -> None:
    found = from_os_error(error, "api.test:443")
    assert (found.code, found.layer, int(found.exit_code)) == (code, layer, 5)
    assert "api.test:443" in found.detail
    assert found.hint
    assert found.transient


LIBRARY = [
    (aiohttp.ClientPayloadError("cut"), "JD-API-TRUNCATED"),
    (aiohttp.ServerDisconnectedError(), "JD-API-CLOSED"),
    (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), "JD-TCP-RESET"),
    (aiohttp.ClientConnectionError("Connector is closed."), "JD-SESSION-CLOSED"),
    (RuntimeError("Session is closed"), "JD-SESSION-CLOSED"),
    (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "JD-TLS-NOT-TLS"),
    (ValueError("Chunk too big"), "JD-API-NOT-HTTP"),
]


@pytest.mark.parametrize(("error", "code"), LIBRARY)
def test_library_error(error: Exception, code: str) -> None:
    with pytest.raises(JumpdeckError) as caught, aiohttp_failures.mapped("GET /x", "api.test:443"):
        raise error
    assert caught.value.code == code
    assert caught.value.__cause__ is error


async def test_a_deadline_is_an_error_of_ours_and_only_its_own() -> None:
    with pytest.raises(JumpdeckError) as caught:
        async with failures.deadline(0.001, "GET /x"):
            import asyncio

            await asyncio.get_running_loop().create_future()
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-API-NO-ANSWER", 5)


def test_a_watch_error_reads_an_object_or_an_event() -> None:
    gone = status(410, "too old resource version: 5 (2128)", "Expired")
    assert failures.from_watch_error(gone).code == "JD-API-GONE"
    event = b'{"type":"ERROR","object":' + gone + b"}"
    assert failures.from_watch_error(event).code == "JD-API-GONE"
    assert failures.from_watch_error(json.loads(event)).code == "JD-API-GONE"
    assert failures.from_watch_error(b"nonsense").code == "JD-API-SERVER-ERROR"


def test_every_recorded_refusal_of_a_real_server_is_known() -> None:
    seen = 0
    for case in cases():
        recording = load(case)
        if recording.response.get("status", 0) >= 400:
            error = failures.from_status(recording.status, recording.body, recording.headers, case)
            assert error.code not in ("JD-API-UNEXPECTED", "JD-API-NOT-KUBERNETES", "JD-PROXY-BLOCKED"), case
            seen += 1
    assert seen > 50


@given(st.integers(100, 599), st.binary(max_size=300), st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_no_answer_breaks_the_seam(http: int, body: bytes, headers: dict[str, str]) -> None:
    for error in (failures.from_status(http, body, headers, "GET /x"), failures.from_watch_error(body)):
        assert re.fullmatch(r"JD-[A-Z0-9]+(-[A-Z0-9]+)+", error.code)
        assert "\x1b" not in "".join(error.lines())
        assert "\n" not in error.title + error.detail + error.hint


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["kind", "message", "reason", "code", "details", "object", "name",
                                         "retryAfterSeconds"]), inner, max_size=5)))  # fmt: skip
def test_no_shape_of_json_breaks_the_seam(data: object) -> None:
    failures.from_watch_error(json.dumps(data).encode())
    if isinstance(data, dict):
        failures.from_status(403, json.dumps({**data, "kind": "Status"}).encode(), {}, "x")
