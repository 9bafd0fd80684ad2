"""What ARM says when it does not do what was asked: each has a cause, a next step, a code, an exit code, a recovery."""

from __future__ import annotations

import base64
import json
import re
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from azure.core.exceptions import ServiceRequestError
from hypothesis import given
from hypothesis import strategies as st

from app.azure import failures
from app.errors import JumpdeckError, Recovery

ID = "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/rg/providers/x/y/z"
TENANT = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"


def said(code: str, message: str = "no") -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


P, T, N = Recovery.PERMANENT, Recovery.TRANSIENT, Recovery.NEEDS_PERSON
HTML = b"<!DOCTYPE html><html><head><style>x{}</style></head><body>Blocked by the firewall</body></html>"
ANSWERS: list[tuple[int, bytes, str, int, Recovery, str]] = [
    # status, body, code, exit code, recovery, words of title or hint
    (400, said("InvalidApiVersionParameter"), "JD-ARM-REFUSED", 5, P, "refuses"),
    (400, said("InvalidSubscriptionId"), "JD-ARM-NO-SUBSCRIPTION", 5, P, "tenant"),
    (401, said("ExpiredAuthenticationToken"), "JD-ARM-FORBIDDEN", 4, N, "jumpdeck sign-in"),
    (401, said("InvalidAuthenticationTokenTenant"), "JD-ARM-FORBIDDEN", 4, N, "another tenant"),
    (401, b"Unauthorized", "JD-ARM-FORBIDDEN", 4, N, "does not accept"),
    (403, said("AuthorizationFailed"), "JD-ARM-FORBIDDEN", 4, P, "role"),
    (403, said("RequestDisallowedByPolicy"), "JD-ARM-FORBIDDEN", 4, P, "policy"),
    (404, said("ResourceNotFound"), "JD-ARM-NOT-FOUND", 5, P, "resource is not there"),
    (404, b'{"code":"NotFound","message":"no cluster"}', "JD-ARM-NOT-FOUND", 5, P, "resource is not there"),
    (404, said("ResourceGroupNotFound"), "JD-ARM-NOT-FOUND", 5, P, "resource group"),
    (404, said("SubscriptionNotFound"), "JD-ARM-NO-SUBSCRIPTION", 5, P, "subscription is not there"),
    (407, b"", "JD-ARM-PROXY", 5, N, "proxy"),
    (409, said("OperationNotAllowed"), "JD-ARM-CONFLICT", 5, T, "busy"),
    (409, said("ReadOnlyDisabledSubscription"), "JD-ARM-DISABLED", 5, P, "disabled"),
    (429, said("TooManyRequests"), "JD-ARM-BUSY", 5, T, "limits"),
    (500, said("InternalServerError"), "JD-ARM-SERVER", 5, T, "trouble"),
    (502, HTML, "JD-ARM-SERVER", 5, T, "gateway"),
    (503, b"", "JD-ARM-SERVER", 5, T, "trouble"),
    (403, HTML, "JD-ARM-NOT-ARM", 5, P, "not Azure"),
    (302, b"", "JD-ARM-NOT-ARM", 5, P, "elsewhere"),
    (418, b"teapot", "JD-ARM-REFUSED", 5, P, "refuses"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "code", "exit_code", "recovery", "words"), ANSWERS)
def test_answer(status: int, body: bytes, code: str, exit_code: int, recovery: Recovery, words: str) -> None:
    headers = {"retry-after": "7", "x-ms-correlation-request-id": "the-correlation"}
    error = failures.from_answer(status, headers, body, f"GET {ID}", tenant=TENANT, request_id="ours")
    assert (error.code, int(error.exit_code), error.recovery, error.retry_after) == (code, exit_code, recovery, 7)
    assert words in f"{error.title} {error.hint}"
    assert error.title and error.hint
    assert f"HTTP {status}" in error.detail and "correlation id the-correlation" in error.detail
    assert error.layer == ("sign-in" if status == 401 else "arm")


def test_a_refusal_names_the_action_and_the_role_that_has_it() -> None:
    message = (
        f"The client 'jo@contoso.test' with object id '{TENANT}' does not have authorization to perform action "
        f"'Microsoft.ContainerService/managedClusters/listClusterUserCredential/action' over scope '{ID}' or the "
        "scope is invalid. If access was recently granted, please refresh your credentials."
    )
    error = failures.from_answer(403, {}, said("AuthorizationFailed", message), f"POST {ID}")
    assert error.title == ("Azure does not let jo@contoso.test do "
                           "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action")  # fmt: skip
    assert "Azure Kubernetes Service Cluster User Role" in error.hint and ID in error.hint
    for action, role in (
        ("Microsoft.Network/bastionHosts/read", "Reader"),
        ("Microsoft.ContainerService/managedClusters/listClusterAdminCredential/action", "Cluster Admin Role"),
        ("Microsoft.ContainerService/managedClusters/runCommand/action", "Contributor Role"),
        ("Microsoft.Other/things/write", "a role that has Microsoft.Other/things/write"),
    ):
        message = f"The client 'x' does not have authorization to perform action '{action}' over scope '/s' or"
        error = failures.from_answer(403, {}, said("AuthorizationFailed", message), "GET /x")
        assert role in error.hint


def test_a_subscription_that_is_not_there_says_of_which_tenant_the_sign_in_is() -> None:
    error = failures.from_answer(404, {}, said("SubscriptionNotFound"), "GET /x", tenant=TENANT)
    assert f"the sign-in is of tenant {TENANT}" in error.detail and "set `tenant`" in error.hint
    wrong = (f"The access token is from the wrong issuer 'https://sts.windows.net/{TENANT}/'. It must match the tenant "
             f"'https://sts.windows.net/{OTHER}/' associated with this subscription.")  # fmt: skip
    body = said("InvalidAuthenticationTokenTenant", wrong)
    error = failures.from_answer(401, {}, body, "GET /x", tenant=TENANT)
    assert f"the sign-in is of tenant {TENANT}, the subscription of {OTHER}" in error.detail


def test_a_long_wait_is_cut_and_a_strange_one_ignored() -> None:
    assert failures.retry_after({"retry-after": "99999"}) == failures.MAX_RETRY_AFTER
    for strange in ("", "soon", "-1", "0", "nan"):
        assert failures.retry_after({"retry-after": strange}) is None


def test_the_tenant_of_a_token_is_read_or_not_known() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"tid": TENANT}).encode()).decode().rstrip("=")
    assert failures.tenant_of(f"x.{claims}.y") == TENANT
    for odd in ("", "x.y", "x.%.y", "x.W10.y", f"x.{base64.b64encode(b'{}').decode()}.y", "é.é.é"):
        assert failures.tenant_of(odd) == ""


KEY = ConnectionKey(**{**dict.fromkeys(ConnectionKey._fields), "host": "arm.test", "port": 443})  # type: ignore[arg-type]
EXCEPTIONS: list[tuple[Exception, str]] = [
    (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "unknown name")), "JD-ARM-UNREACHABLE"),
    (aiohttp.ClientConnectorSSLError(KEY, OSError(1, "alert")), "JD-ARM-TLS"),
    (aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("bad")), "JD-ARM-TLS"),
    (aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused")), "JD-ARM-CLOSED"),
    (aiohttp.ClientConnectorError(KEY, OSError(113, "no route")), "JD-ARM-UNREACHABLE"),
    (aiohttp.ConnectionTimeoutError(), "JD-ARM-UNREACHABLE"),
    (aiohttp.SocketTimeoutError(), "JD-ARM-TIMEOUT"),
    (aiohttp.ServerDisconnectedError(), "JD-ARM-CUT"),
    (aiohttp.ClientPayloadError("cut"), "JD-ARM-CUT"),
    (OSError(5, "i/o"), "JD-ARM-CUT"),
    (RuntimeError("Session is closed"), "JD-SESSION-CLOSED"),
]


@pytest.mark.parametrize(("error", "code"), EXCEPTIONS, ids=lambda value: type(value).__name__)
def test_exception(error: Exception, code: str) -> None:
    for raised in (error, ServiceRequestError(error, error=error)):
        found = failures.from_exception(raised, f"GET {ID}", "arm.test:443")
        assert found.code == code


NAMES = st.sampled_from(["content-type", "retry-after", "x-ms-request-id", "x-ms-correlation-request-id"])


@given(st.integers(100, 599), st.binary(max_size=300), st.dictionaries(NAMES, st.text(max_size=9)))
def test_no_answer_breaks_the_seam(status: int, body: bytes, headers: dict[str, str]) -> None:
    check(failures.from_answer(status, headers, body, "GET /x", tenant="\x1b[31m"))


FIELDS = st.sampled_from(["error", "code", "message", "Message", "details"])


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda deep: st.lists(deep, max_size=3) | st.dictionaries(FIELDS, deep, max_size=5)))  # fmt: skip
def test_no_shape_of_json_breaks_the_seam(data: object) -> None:
    check(failures.from_answer(403, {}, json.dumps(data).encode(), "GET /x"))


def test_the_servers_words_are_cleaned_labelled_and_bounded() -> None:
    body = said("Odd\x1b]52;", "\x1b]52;c;ZXZpbA==\x07 " + "long " * 5000)
    for status in (400, 403, 404, 500):
        error = failures.from_answer(status, {}, body, "GET /x")
        check(error)
        assert "from server: " in error.detail and len(error.detail) <= 2_048


def check(error: JumpdeckError) -> None:
    assert re.fullmatch(r"JD-[A-Z]+(-[A-Z]+)+", error.code)
    assert "\x1b" not in "".join(error.lines())
    assert "\n" not in error.title + error.detail + error.hint
