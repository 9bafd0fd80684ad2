"""Every failure of a request to the API server as layer, cause, next step, code and exit code.

TLS is in `tls_failures`, the operating system's part in `app.routes.failures`, aiohttp's in `aiohttp_failures`, which
alone loads that library. Answers of the server are read by a table, the first row that fits wins. Shapes: a `Status`
object (Kubernetes API conventions, "Response Status Kind"), or plain text from what stands before the handlers (429,
404 of unknown paths, /readyz).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import msgspec

from app.cluster.tls_failures import from_tls, is_wrong_name
from app.errors import JumpdeckError, NotFoundError, Recovery, RefusedError, RouteError
from app.records import Record, field
from app.routes.failures import from_os_error
from app.text import clean, prose

__all__ = [
    "closed", "closed_here", "deadline", "from_exception", "from_status", "from_tls", "from_watch_error",
    "is_wrong_name", "json_object", "mapped", "not_http", "not_kubernetes", "too_large", "truncated",
]  # fmt: skip

MAX_RETRY_AFTER = 300.0
"""Seconds of Retry-After that are obeyed; more would look like a hang, and the operator can retry at once anyway."""

LEAST_HIDDEN = 8
"""Characters from which on a credential is looked for in what a server says; a shorter one stands in any word."""

_FORBIDDEN = re.compile(
    r'User "(?P<who>[^"]*)" cannot (?P<verb>\S+) (?:resource "(?P<what>[^"]*)"|path "(?P<path>[^"]*)")'
    r'(?: in API group "[^"]*")?(?: in the namespace "(?P<namespace>[^"]*)"| at the cluster scope)?'
)
"""The sentence of the API server's authorizer (k8s.io/apiserver handlers/responsewriters/errors.go)."""

_TRANSIENT, _PERMANENT, _PERSON = Recovery.TRANSIENT, Recovery.PERMANENT, Recovery.NEEDS_PERSON


class _Answer(Record):
    """A refusal as it came: the Status object's fields, or the plain body as its message."""

    status: int
    message: str
    reason: str
    retry_after: float | None
    is_status: bool
    html: bool
    what: str
    details: Mapping[str, Any] = field(default_factory=dict)


class _Rule(Record):
    """One row: when (status, words of the message, shape), and what to say then."""

    statuses: tuple[int, ...]
    code: str
    title: str
    hint: str
    words: str = ""
    html: bool | None = None
    plain: bool | None = None
    kind: type[JumpdeckError] = JumpdeckError
    layer: str = "api"
    recovery: Recovery = _PERMANENT

    def fits(self, answer: _Answer) -> bool:
        return (
            (answer.status in self.statuses or not self.statuses)
            and (self.html is None or self.html == answer.html)
            and (self.plain is None or self.plain != answer.is_status)
            and (not self.words or re.search(self.words, answer.message, re.IGNORECASE) is not None)
        )


_CHECK_ADDRESS = "Check the server's address: a web page, portal or proxy answers there."
_NODE_HINT = "The API server cannot reach the node's kubelet; look at the node. It is tried again."

_RULES: tuple[_Rule, ...] = (
    _Rule((), "JD-PROXY-BLOCKED", "A proxy or firewall answered in place of the cluster",
          "Sign in to the network's portal, or ask for this address to be let through.",
          html=True, words="captive|zscaler|blocked|squid|netskope|forcepoint|bluecoat", kind=RouteError,
          layer="proxy"),
    _Rule((502, 503, 504), "JD-API-NO-BACKEND", "A gateway answers, but no API server behind it",
          "It is tried again; if it lasts, the cluster may be stopped.", html=True, kind=RouteError,
          recovery=_TRANSIENT),
    _Rule((407,), "JD-PROXY-SIGN-IN", "The proxy wants a sign-in",
          "Set a proxy that needs none, or add its credentials.", kind=RouteError, layer="proxy", recovery=_PERSON),
    _Rule((400,), "JD-TLS-EXPECTED", "The server expects TLS", "Write https:// in the server's address.",
          words="HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS", kind=RouteError, layer="tls"),
    _Rule((301, 302, 303, 307, 308), "JD-API-REDIRECT", "The server sends us elsewhere", _CHECK_ADDRESS,
          kind=RouteError),
    _Rule((), "JD-API-NOT-KUBERNETES", "What answers is not a Kubernetes API", _CHECK_ADDRESS, html=True,
          kind=RouteError),
    _Rule((401,), "JD-API-TOKEN-EXPIRED", "The token has expired", "Get a new one and try again.",
          words="expired", kind=RefusedError, layer="token", recovery=_PERSON),
    _Rule((401,), "JD-API-UNAUTHORIZED", "The cluster does not accept the credential",
          "Check that the token or certificate is of this cluster and still valid.",
          kind=RefusedError, layer="token", recovery=_PERSON),
    _Rule((403,), "JD-API-ANONYMOUS", "The cluster does not know who we are",
          "The kubeconfig user carries no credential that the cluster accepts.",
          words='User "system:anonymous"', kind=RefusedError, layer="rbac"),
    _Rule((403,), "JD-API-FORBIDDEN", "The cluster refused it", "Ask an administrator for a role that allows it.",
          kind=RefusedError, layer="rbac"),
    _Rule((404,), "JD-API-NO-NODE-LOG", "The log is not there", "The container may be gone from its node.",
          words="containerLogs|log file", kind=NotFoundError, layer="log"),
    _Rule((404,), "JD-API-NO-PATH", "The server does not have this part of the API",
          "Check the server's address (a path may be missing), or the cluster is too old for it.",
          words="^404 page not found|could not find the requested resource|^$", kind=NotFoundError),
    _Rule((404,), "JD-API-NOT-FOUND", "Not found", "Check the name and the namespace.", kind=NotFoundError),
    _Rule((405,), "JD-API-METHOD", "The server does not allow this request", ""),
    _Rule((406, 415), "JD-API-NOT-ACCEPTABLE", "The server does not offer this format", "The cluster may be too old."),
    _Rule((410,), "JD-API-GONE", "The position in the list is too old", "The list is read again.", recovery=_TRANSIENT),
    _Rule((409,), "JD-API-CONFLICT", "The object has changed meanwhile", "Try again.", recovery=_TRANSIENT),
    _Rule((429,), "JD-API-BUSY", "The API server is busy", "It is tried again after the wait that it asks for.",
          recovery=_TRANSIENT),
    _Rule((400,), "JD-LOG-WAITING", "The container has not started yet", "Its log begins when it starts.",
          words="is waiting to start|is terminated$|ContainerCreating|PodInitializing", layer="log",
          recovery=_TRANSIENT),
    _Rule((400,), "JD-LOG-NO-PREVIOUS", "There is no previous container", "It has not restarted, or its log is gone.",
          words="previous terminated container", kind=NotFoundError, layer="log"),
    _Rule((400,), "JD-LOG-CONTAINER", "Which container?", "Name one with -c.",
          words="a container name must be specified", layer="log"),
    _Rule((400,), "JD-LOG-NO-CONTAINER", "The pod has no such container", "Look at its containers with describe.",
          words="container \\S+ is not valid for pod", kind=NotFoundError, layer="log"),
    _Rule((400, 422), "JD-API-BAD-REQUEST", "The server does not understand the request",
          "Check selectors and other options."),
    _Rule((500, 503, 504), "JD-API-ETCD", "The cluster's database does not answer",
          "The control plane is in trouble (etcd). It is tried again.",
          words=r"etcdserver|\[-\]etcd|etcd.*(failed|timeout|unavailable)|storage is \(re\)initializing",
          recovery=_TRANSIENT),
    _Rule((500,), "JD-LOG-NODE", "The node does not answer", _NODE_HINT,
          words=r'^Get "https?://[^"]*/(containerLogs|pods)|no preferred addresses|No agent available|dialing backend',
          layer="log", recovery=_TRANSIENT),
    _Rule((504,), "JD-API-TIMEOUT", "The API server gave up", "It is tried again.", recovery=_TRANSIENT),
    _Rule((500, 503), "JD-API-STARTING", "The API server is not ready",
          "It is starting or stopping; it is tried again.",
          words=r"\[-\]\S+ failed|not ready|apiserver is shutting down|starting", recovery=_TRANSIENT),
    _Rule((502, 503), "JD-API-UNAVAILABLE", "The API server is not available", "It is tried again.",
          recovery=_TRANSIENT),
    _Rule((500, 501, 505, 507, 508, 520, 521, 522, 523, 524, 525, 526, 530), "JD-API-SERVER-ERROR",
          "The API server failed", "It is tried again; the cause is in the API server's own log.", recovery=_TRANSIENT),
    _Rule((), "JD-API-UNEXPECTED", "Unexpected answer", _CHECK_ADDRESS),
)  # fmt: skip


def from_status(
    http_status: int,
    body: bytes,
    headers: Mapping[str, str],
    what: str,
    *,
    sent: Mapping[str, str] | None = None,
    expires_at: float | None = None,
) -> JumpdeckError:
    """The error that an HTTP status other than success means. `expires_at`: when our token ends, if it says so.

    `sent`: the headers of the request; its credential is hidden where the answer repeats it.
    """
    answer = _read(http_status, _unrepeated(body, sent or {}), headers, what)
    return _from_answer(answer, expires_at)


def _unrepeated(body: bytes, sent: Mapping[str, str]) -> bytes:
    """The body of a refusal without our credential: some gateways send a request's headers back."""
    value = sent.get("Authorization", "").partition(" ")[2].encode()
    return body.replace(value, b"***") if len(value) >= LEAST_HIDDEN else body


def from_watch_error(obj: bytes | Mapping[str, Any], what: str = "watch") -> JumpdeckError:
    """The error that a watch's ERROR event carries: a Status object, or a whole event with one inside."""
    data: Any = obj
    if isinstance(obj, bytes | bytearray | memoryview):
        try:
            data = msgspec.json.decode(obj)
        except (msgspec.DecodeError, RecursionError, ValueError):
            data = {}
    if isinstance(data, Mapping) and isinstance(data.get("object"), Mapping):
        data = data["object"]
    if not isinstance(data, Mapping):
        data = {}
    code = data.get("code")
    return from_status(code if isinstance(code, int) else 500, msgspec.json.encode(dict(data)), {}, what)


def _from_answer(answer: _Answer, expires_at: float | None) -> JumpdeckError:
    rule = next(rule for rule in _RULES if rule.fits(answer))
    title, hint = rule.title, rule.hint
    said = prose(answer.message)
    detail = f"{answer.what}: HTTP {answer.status}" + (f", from server: {said}" if said and not answer.html else "")
    if rule.code == "JD-API-UNAUTHORIZED" and expires_at is not None and expires_at < time.time():
        rule = next(rule for rule in _RULES if rule.code == "JD-API-TOKEN-EXPIRED")
        title, hint = rule.title, rule.hint
        detail += f"; it ended {time.strftime('%Y-%m-%d %H:%M', time.gmtime(expires_at))} UTC"
    if rule.code == "JD-API-FORBIDDEN":
        title, hint = _forbidden(answer, title, hint)
    if rule.code == "JD-API-NOT-FOUND" and (name := answer.details.get("name")):
        title = f"{clean(str(answer.details.get('kind') or 'object'))} {clean(str(name))} does not exist"
    return rule.kind(
        title, detail, hint, code=rule.code, layer=rule.layer, recovery=rule.recovery, retry_after=answer.retry_after
    )


def _forbidden(answer: _Answer, title: str, hint: str) -> tuple[str, str]:
    """Who may not do what, and where: the sentence an administrator needs."""
    found = _FORBIDDEN.search(answer.message)
    if found is None:
        return title, hint
    who, verb, thing = clean(found["who"]), clean(found["verb"]), clean(found["what"] or found["path"] or "")
    namespace = found["namespace"]
    if found["path"]:
        return f"{who} may not {verb} {thing}", hint
    if namespace:
        where = f"in namespace {clean(namespace)}"
        hint = f'Ask for a role in {clean(namespace)} with verb "{verb}" on "{thing}".'
    else:
        where = "in the whole cluster"
        if verb in ("list", "watch"):
            hint = f'Name namespaces with -n or in the profile, or ask for a cluster role with "{verb}" on "{thing}".'
        else:
            hint = f'Ask for a cluster role with verb "{verb}" on "{thing}".'
    return f"{who} may not {verb} {thing} {where}", hint


def _read(status: int, body: bytes, headers: Mapping[str, str], what: str) -> _Answer:
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    head = body[:256].lstrip().lower()
    html = "html" in kind.lower() or head.startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))
    parsed: Any = None
    if not html and head[:1] == b"{":
        with contextlib.suppress(msgspec.DecodeError, ValueError, RecursionError):
            parsed = msgspec.json.decode(body)
    is_status = isinstance(parsed, dict) and parsed.get("kind") == "Status"
    fields: dict[str, Any] = parsed if is_status else {}
    details = fields.get("details")
    details = details if isinstance(details, dict) else {}
    message = str(fields.get("message") or "") if is_status else body[:8192].decode("utf-8", "replace")
    return _Answer(
        status, message, str(fields.get("reason") or ""), _retry_after(headers, details), is_status, html, clean(what),
        details,
    )  # fmt: skip


def _retry_after(headers: Mapping[str, str], details: Mapping[str, Any]) -> float | None:
    """Seconds from Retry-After (RFC 9110 §10.2.3; the API server sends whole seconds) or the Status details."""
    raw = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if raw is None:
        raw = details.get("retryAfterSeconds")
    try:
        seconds = float(raw) if raw is not None else 0.0
    except (TypeError, ValueError):
        return None
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None


def not_kubernetes(status: int, body: bytes, what: str) -> JumpdeckError:
    """A successful answer that is not the API's."""
    detail = f"{clean(what)}: HTTP {status}, it begins with {prose(body[:80])!r}"
    return RouteError("What answers is not a Kubernetes API", detail, _CHECK_ADDRESS,
                      code="JD-API-NOT-KUBERNETES", layer="api")  # fmt: skip


def json_object(raw: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `raw`. Raises RouteError (JD-API-NOT-KUBERNETES) when it is none."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise not_kubernetes(200, raw, what)
    return found


def too_large(what: str, limit: int) -> JumpdeckError:
    """A body beyond its limit."""
    return JumpdeckError("The answer is too large", f"{clean(what)}: more than {limit >> 20} MiB",
                         "Narrow it: a namespace or a selector.", code="JD-API-TOO-LARGE", layer="api")  # fmt: skip


def truncated(what: str) -> JumpdeckError:
    """A body that ended early."""
    return RouteError("The connection ended in the middle of the answer", clean(what), "It is tried again.",
                      code="JD-API-TRUNCATED", layer="api", recovery=_TRANSIENT)  # fmt: skip


class deadline:
    """`async with deadline(seconds, what)`: at most so long for all inside, then RouteError JD-API-NO-ANSWER.

    `seconds` None sets no limit.
    """

    def __init__(self, seconds: float | None, what: str) -> None:
        self._seconds = seconds
        self._what = what
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as exc:
            raise RouteError(
                "No complete answer in time", f"{self._what}: {self._seconds:g} s have passed", "It is tried again.",
                code="JD-API-NO-ANSWER", layer="api", recovery=_TRANSIENT,
            ) from exc  # fmt: skip


@contextlib.contextmanager
def mapped(where: str, at: str = "") -> Iterator[None]:
    """Turn what ssl, the system and our HTTP client raise inside into JumpdeckError; `at` is `host:port`."""
    try:
        yield
    except (ssl.SSLError, OSError, ValueError, EOFError) as exc:
        raise from_exception(exc, clean(where), at or clean(where)) from exc


def from_exception(error: BaseException, where: str, at: str) -> JumpdeckError:
    """The error for an exception of what lies below a request, most specific first."""
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        return from_tls(error, at, at)
    if isinstance(error, EOFError):
        return closed(where)
    if isinstance(error, ValueError):
        return not_http(where, str(error))
    if isinstance(error, OSError):
        if "[SSL" in str(error):  # aiohttp wraps an alert that comes after the handshake (TLS 1.3)
            return from_tls(ssl.SSLError(str(error)), at, at)
        return from_os_error(error, at)
    return RouteError("The request failed", f"{where}: {prose(str(error) or type(error).__name__)}",
                      "It is tried again.", code="JD-API-FAILED", layer="api", recovery=_TRANSIENT)  # fmt: skip


def closed(where: str) -> JumpdeckError:
    """The far end closed the connection before it answered."""
    return RouteError("The server closed the connection", clean(where), "It is tried again.", code="JD-API-CLOSED",
                      layer="api", recovery=_TRANSIENT)  # fmt: skip


def not_http(where: str, why: str) -> JumpdeckError:
    """An answer that breaks the rules of HTTP."""
    return RouteError("What answers does not speak HTTP as it should", f"{clean(where)}: {prose(why)}",
                      _CHECK_ADDRESS, code="JD-API-NOT-HTTP", layer="api")  # fmt: skip


def closed_here(where: str) -> JumpdeckError:
    """A request on a client that we have closed. Another may take its place: the session tells who waits for it."""
    return RouteError("The session has been closed", clean(where), "", code="JD-SESSION-CLOSED", layer="local",
                      recovery=_TRANSIENT)  # fmt: skip
