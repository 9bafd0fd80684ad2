"""What Azure Resource Manager answers when it does not do what was asked, and what keeps us from reaching it.

Shapes: `{"error": {"code", "message", "details"}}` (ARM's common error), the same without the envelope (some resource
providers), `{"message"}`, and HTML or plain text from what stands before ARM (proxies, gateways).
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
from collections.abc import Mapping
from typing import Any

from app.errors import JumpdeckError, Recovery, RouteError, SignInError
from app.records import Record
from app.text import clean, prose

MAX_RETRY_AFTER = 300.0
"""Seconds of Retry-After that are passed on; more would look like a hang, and the operator can retry at once anyway."""

MAX_SAID = 1_200
"""Characters of the server's own words: with everything around them a detail stays below the 2 kB of S-18."""

LAYER = "arm"
_TRANSIENT, _PERMANENT, _PERSON = Recovery.TRANSIENT, Recovery.PERMANENT, Recovery.NEEDS_PERSON

_NOT_ALLOWED = re.compile(
    r"client '(?P<who>[^']*)'.*?action '(?P<action>[^']*)'(?:.*? over scope '(?P<scope>[^']*)')?", re.DOTALL
)
"""AuthorizationFailed, as ARM's authorization words it."""

_ROLES = (
    ("microsoft.containerservice/managedclusters/listclusteradmincredential",
     "Azure Kubernetes Service Cluster Admin Role"),
    ("microsoft.containerservice/managedclusters/listclusterusercredential",
     "Azure Kubernetes Service Cluster User Role"),
    ("microsoft.containerservice/managedclusters/runcommand", "Azure Kubernetes Service Contributor Role"),
    ("microsoft.containerservice/managedclusters/commandresults", "Azure Kubernetes Service Contributor Role"),
    ("microsoft.containerservice/managedclusters/read", "Azure Kubernetes Service Cluster User Role"),
    ("microsoft.kubernetes/connectedclusters/listclusterusercredential",
     "Azure Arc Enabled Kubernetes Cluster User Role"),
    ("microsoft.security/", "a role of your organisation for just-in-time access"),
)  # fmt: skip
"""The smallest built-in role that has an action, by the action's beginning; whatever else ends in /read: Reader."""

_TENANT_IN_MESSAGE = re.compile(r"https://sts\.[a-z.]+/(?P<tenant>[0-9a-fA-F-]{36})")


class _Said(Record):
    """A refusal as it came."""

    code: str
    message: str
    html: bool = False


class _Rule(Record):
    """One row: when (status, ARM's code), and what to say then. The first that fits wins."""

    statuses: tuple[int, ...]
    code: str
    title: str
    hint: str
    words: str = ""
    """ARM's codes, a regular expression."""
    kind: type[JumpdeckError] = RouteError
    recovery: Recovery = _PERMANENT
    html: bool = False

    def fits(self, status: int, said: _Said) -> bool:
        return (
            (not self.statuses or status in self.statuses)
            and (not self.html or said.html)
            and (not self.words or re.search(self.words, said.code, re.IGNORECASE) is not None)
        )


UNSEEN = ("JD-ARM-UNREACHABLE", "JD-ARM-CLOSED")
"""Failures of requests that nobody has seen; the second where the connection was refused."""
_SIGN_IN_AGAIN = "Sign in again: jumpdeck sign-in PROFILE."
_WRONG_TENANT = ("Check the ARM id. A sign-in of another tenant sees nothing of it either: set `tenant` in the "
                 "profile's sign-in.")  # fmt: skip

_RULES: tuple[_Rule, ...] = (
    _Rule((407,), "JD-ARM-PROXY", "The proxy wants a sign-in", "Set a proxy that needs none, or add its credentials.",
          recovery=_PERSON),
    _Rule((502, 503, 504), "JD-ARM-SERVER", "A gateway answers in place of Azure", "It is tried again.", html=True,
          recovery=_TRANSIENT),
    _Rule((), "JD-ARM-NOT-ARM", "What answers is not Azure Resource Manager",
          "A portal, proxy or firewall may stand in between: sign in to it, or ask for this host to be let through.",
          html=True),
    _Rule((401,), "JD-ARM-FORBIDDEN", "The sign-in is of another tenant than the subscription",
          "Set `tenant` in the profile's sign-in, then sign in again.", kind=SignInError, recovery=_PERSON,
          words="TenantNotFound|AuthenticationTokenTenant"),
    _Rule((401,), "JD-ARM-FORBIDDEN", "Azure does not accept the sign-in", _SIGN_IN_AGAIN, kind=SignInError,
          recovery=_PERSON),
    _Rule((403,), "JD-ARM-FORBIDDEN", "A policy of the organisation forbids it at Azure",
          "Ask whoever runs the subscription.", words="DisallowedByPolicy|PolicyViolation|DenyAssignment",
          kind=SignInError),
    _Rule((403,), "JD-ARM-FORBIDDEN", "Azure does not allow it", "Ask an administrator for a role that allows it.",
          kind=SignInError),
    _Rule((400, 404), "JD-ARM-NO-SUBSCRIPTION", "The subscription is not there for this sign-in", _WRONG_TENANT,
          words="SubscriptionNotFound|InvalidSubscriptionId|SubscriptionNotRegistered"),
    _Rule((404,), "JD-ARM-NOT-FOUND", "The resource group is not there", _WRONG_TENANT, words="ResourceGroupNotFound"),
    _Rule((404,), "JD-ARM-NOT-FOUND", "The resource is not there", _WRONG_TENANT),
    _Rule((409,), "JD-ARM-DISABLED", "The subscription is disabled", "Ask whoever pays for it.",
          words="SubscriptionDisabled|DisabledSubscription"),
    _Rule((409, 412), "JD-ARM-CONFLICT", "Azure is busy with another change of it", "It is tried again.",
          recovery=_TRANSIENT),
    _Rule((429,), "JD-ARM-BUSY", "Azure limits the number of requests",
          "It is tried again after the wait that it asks for.", recovery=_TRANSIENT),
    _Rule((301, 302, 303, 307, 308), "JD-ARM-NOT-ARM", "What answers sends us elsewhere",
          "Check resource-manager of the cloud; a portal of the network may stand in between."),
    _Rule((408, *range(500, 600)), "JD-ARM-SERVER", "Azure has trouble of its own", "It is tried again.",
          recovery=_TRANSIENT),
    _Rule((), "JD-ARM-REFUSED", "Azure refuses the request", "Look at what it says."),
)  # fmt: skip


def from_answer(
    status: int, headers: Mapping[str, str], body: bytes, what: str, *, tenant: str = "", request_id: str = ""
) -> JumpdeckError:
    """The error for an answer of ARM other than 2xx.

    `headers` have names in lower case, `what` is method and path, `tenant` that of the token when it is known,
    `request_id` the one that we sent.
    """
    said = _read(headers, body)
    rule = next(rule for rule in _RULES if rule.fits(status, said))
    title, hint = rule.title, rule.hint
    allowed = _NOT_ALLOWED.search(said.message) if status == 403 else None
    if allowed is not None:
        title, hint = _not_allowed(allowed)
    parts = [f"{clean(what)}: HTTP {status}{f' {clean(said.code[:80])}' if said.code else ''}"]
    named = _TENANT_IN_MESSAGE.findall(said.message) if status == 401 else []
    if len(set(named)) > 1:
        parts.append(f"the sign-in is of tenant {named[0]}, the subscription of {named[-1]}")
    elif tenant and (rule.hint is _WRONG_TENANT or status in (401, 403)):
        parts.append(f"the sign-in is of tenant {clean(tenant[:80])}")
    if said.message:
        parts.append(f"from server: {prose(said.message, MAX_SAID)}")
    correlation = headers.get("x-ms-correlation-request-id") or headers.get("x-ms-request-id") or request_id
    if correlation:
        parts.append(f"correlation id {clean(correlation[:80])}")
    layer = "sign-in" if status == 401 else LAYER
    return rule.kind(title, "; ".join(parts), hint, code=rule.code, layer=layer, recovery=rule.recovery,
                     retry_after=retry_after(headers))  # fmt: skip


def _not_allowed(found: re.Match[str]) -> tuple[str, str]:
    who, action = prose(found["who"], 120) or "This sign-in", prose(found["action"], 160)
    known = next((role for prefix, role in _ROLES if action.lower().startswith(prefix)), None)
    if known is None and action.lower().endswith(("/read", "/instanceview")):
        known = "Reader"
    role = f"the role {known} (it has {action})" if known else f"a role that has {action}"
    scope = f" on {prose(found['scope'], 300)}" if found["scope"] else ""
    again = "If it was given just now, sign in again."
    return f"Azure does not let {who} do {action}", f"Ask for {role}{scope}. {again}"


def _read(headers: Mapping[str, str], body: bytes) -> _Said:
    head = body[:256].lstrip().lower()
    if "html" in headers.get("content-type", "").lower() or head.startswith((b"<!doctype", b"<html", b"<head")):
        text = re.sub(rb"<(script|style)\b.*?</\1>|<[^>]*>", b" ", body[:16_384], flags=re.DOTALL | re.IGNORECASE)
        return _Said("", text.decode("utf-8", "replace").strip(), html=True)
    found = json_object(body)
    if found is None:
        return _Said("", body[: MAX_SAID * 4].decode("utf-8", "replace"))
    inner = found.get("error")
    error: Mapping[str, Any] = inner if isinstance(inner, dict) else found
    message = error.get("message") or error.get("Message") or found.get("error_description") or ""
    if isinstance(inner, str):
        return _Said(inner, str(message))
    code = error.get("code") or error.get("Code") or ""
    return _Said(str(code), str(message))


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`, or None when it holds none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After (RFC 9110 §10.2.3, in seconds as ARM sends it), at most `MAX_RETRY_AFTER`."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None


def not_arm(what: str, status: int, body: bytes) -> JumpdeckError:
    """A good status whose body is not a JSON object."""
    return RouteError("What answers is not Azure Resource Manager",
                      f"{clean(what)}: HTTP {status}, it begins with {prose(body[:80])!r}",
                      "Check resource-manager of the cloud; a portal of the network may stand in between.",
                      code="JD-ARM-NOT-ARM", layer=LAYER)  # fmt: skip


def bad_shape(what: str, why: str) -> JumpdeckError:
    """An answer of ARM without what it must have."""
    return RouteError("Azure's answer cannot be used", f"{clean(what)}: {why}",
                      "Check the ARM id and the cloud of the profile.", code="JD-ARM-ANSWER", layer=LAYER)  # fmt: skip


def too_large(what: str, limit: str) -> JumpdeckError:
    """An answer beyond its limit."""
    return RouteError("Azure's answer is too large", f"{clean(what)}: more than {limit}",
                      "Ask for less: a resource group in place of a subscription.", code="JD-ARM-TOO-LARGE",
                      layer=LAYER)  # fmt: skip


def no_answer(what: str, at: str, seconds: float) -> JumpdeckError:
    """No whole answer in time."""
    return RouteError("Azure gave no answer in time", f"{clean(what)} at {clean(at)}: {seconds:.3g} s have passed",
                      "Check the network, or the proxy that it needs.", code="JD-ARM-TIMEOUT", layer=LAYER,
                      recovery=_TRANSIENT)  # fmt: skip


def closed(what: str) -> JumpdeckError:
    """A request on a client that we have closed."""
    return JumpdeckError("The session has been closed", clean(what), "", code="JD-SESSION-CLOSED", layer="local")


def from_exception(error: BaseException, what: str, at: str, proxy: str = "") -> JumpdeckError:
    """The error for what azure-core and aiohttp raise; `at` is ARM's `host:port`, `proxy` the proxy's when one is used.

    Codes: those of `UNSEEN`, JD-ARM-TLS, JD-ARM-PROXY, JD-ARM-TIMEOUT, JD-ARM-CUT.
    """
    import aiohttp

    inner = getattr(error, "inner_exception", None) or error
    place = clean(at)
    if isinstance(inner, aiohttp.ClientConnectorCertificateError):
        return _from_certificate(inner.certificate_error, place)
    if isinstance(inner, aiohttp.ClientHttpProxyError):
        return _error("JD-ARM-PROXY", f"The proxy refuses to connect to {place}",
                      f"proxy {clean(proxy)}: HTTP {inner.status}, from server: {prose(inner.message, 200)}",
                      "It wants a sign-in, or this host to be let through.",
                      _PERSON if inner.status == 407 else _PERMANENT)  # fmt: skip
    if isinstance(inner, aiohttp.ClientProxyConnectionError):
        return _error("JD-ARM-PROXY", "The proxy cannot be reached", f"proxy {clean(proxy)}: {_os_words(inner)}",
                      "Check the proxy's address, or whether it is needed here (NO_PROXY, proxy in the profile).",
                      _TRANSIENT)  # fmt: skip
    if isinstance(inner, aiohttp.ClientConnectorError):
        if isinstance(inner, aiohttp.ClientConnectorSSLError) or isinstance(inner.os_error, ssl.SSLError):
            return _error("JD-ARM-TLS", "TLS with Azure fails", f"{place}: {_os_words(inner)}",
                          "A proxy or firewall may stand in between, or the wrong port.", _TRANSIENT)  # fmt: skip
        return unreachable(place, _os_words(inner), refused=isinstance(inner.os_error, ConnectionRefusedError))
    if isinstance(inner, aiohttp.ConnectionTimeoutError):
        return unreachable(place, "no connection in time")
    if isinstance(inner, UnicodeError):
        return _error("JD-ARM-UNREACHABLE", "Azure cannot be reached", f"{place}: that is no host name",
                      "Check resource-manager of the cloud.", _PERMANENT)  # fmt: skip
    if isinstance(inner, RuntimeError):  # aiohttp's word for a session that was closed meanwhile
        return closed(what)
    if isinstance(inner, TimeoutError):
        return _error("JD-ARM-TIMEOUT", "Azure gave no answer in time", f"{clean(what)} at {place}",
                      "It is tried again.", _TRANSIENT)  # fmt: skip
    said = prose(str(inner) or type(inner).__name__, 300)
    return _error("JD-ARM-CUT", "The connection to Azure broke off", f"{clean(what)} at {place}: {said}",
                  "It is tried again.", _TRANSIENT)  # fmt: skip


def from_sdk(error: BaseException, what: str) -> JumpdeckError:
    """The error for what a client of azure-mgmt-* itself does not take: its own failures, not ARM's."""
    return bad_shape(what, f"{type(error).__name__}: {prose(str(error).partition(chr(10))[0], 300)}")


def unreachable(place: str, why: str, *, refused: bool = False) -> JumpdeckError:
    """No connection: nobody has seen the request. `refused`: that was said at once, because nobody listens there."""
    return _error(UNSEEN[refused], "Azure cannot be reached", f"{place}: {why}",
                  "Check the network and DNS, and whether it needs a proxy (proxy in the profile, HTTPS_PROXY).",
                  _TRANSIENT)  # fmt: skip


def _from_certificate(error: Exception, place: str) -> JumpdeckError:
    reason = prose(getattr(error, "verify_message", "") or str(error), 300)
    return _error(
        "JD-ARM-TLS", "The certificate of Azure's endpoint is not accepted", f"{place}: {reason}",
        "If a proxy inspects TLS here, name its CA: ca-file in the profile or the cloud. Else check the clock.",
        _PERMANENT,
    )  # fmt: skip


def _os_words(error: Any) -> str:
    inner = getattr(error, "os_error", None)
    number = getattr(inner, "errno", None)
    if isinstance(number, int) and number > 0 and not isinstance(inner, ssl.SSLError):
        return os.strerror(number)  # asyncio words it in Python
    return prose(getattr(inner, "strerror", None) or str(inner or error) or type(error).__name__, 300)


def _error(code: str, title: str, detail: str, hint: str, recovery: Recovery) -> RouteError:
    return RouteError(title, detail, hint, code=code, layer=LAYER, recovery=recovery)


def tenant_of(token: str) -> str:
    """The tenant that a JWT says it is of (`tid`), read without checking it: only to say why it was refused."""
    parts = token.split(".")
    if len(parts) != 3:
        return ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return ""
    tenant = claims.get("tid") if isinstance(claims, dict) else None
    return tenant if isinstance(tenant, str) else ""
