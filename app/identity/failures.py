"""The seam to azure-identity, msal and az: what they raise becomes a SignInError with its cause and a next step."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from app.errors import JumpdeckError, Recovery, SignInError
from app.identity.aadsts import Answer, answer_to
from app.identity.source import About, LastAnswer, PersonNeeded
from app.text import clean, prose

DETAIL_LIMIT = 400
"""Characters of a sign-in server's words; the rest is trace ids."""
SKEW = 300.0
"""Seconds by which this computer's clock may differ before it is said; Entra tolerates five minutes."""
RETRY_AFTER_MAX = 300.0
"""Seconds of Retry-After that are passed on; more would look like a hang."""
_CAUSES = 12
"""Exceptions that are looked at behind one; the libraries nest six."""
_AADSTS = re.compile(r"AADSTS(\d{4,7})")
_SAID = re.compile(r"AADSTS\d{4,7}[^\"]*")
"""From the code on, to the end of the string in the JSON that some messages quote."""
_TRACE = re.compile(r"\s*(Trace ID|Correlation ID|Timestamp|https://aka\.ms/\S+|To mitigate this issue).*", re.S)
_OAUTH = {
    "authorization_declined": "declined", "access_denied": "declined", "expired_token": "expired",
    "code_expired": "expired", "bad_verification_code": "expired",
}  # fmt: skip


def failure_of(error: BaseException, about: About, last: LastAnswer | None = None) -> SignInError:
    """The error to raise from `error`, most specific first; `last` is what the server answered before it."""
    if isinstance(error, SignInError):
        return error
    if isinstance(error, JumpdeckError):  # a CA file that cannot be read
        return SignInError(error.title, error.detail, error.hint, code=error.code, recovery=error.recovery)
    chain = list(_chain(error))
    found = _network(chain, about) or _answered(chain, about, last) or _by_class(chain, about)
    return found or SignInError(
        "The sign-in failed", f"{about.label}: {words(str(error))}", _again(about), code="JD-SIGN-IN-FAILED"
    )


def words(text: str) -> str:
    """A sign-in server's or program's words, cleaned, without trace ids."""
    found = _SAID.search(text)
    said = found.group() if found else text.removeprefix("Authentication failed: ").removeprefix("ERROR: ")
    said = _TRACE.sub("", said)
    return prose(said, DETAIL_LIMIT) or "it gave no reason"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what lies behind it: causes, and the exceptions that libraries keep as arguments."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _CAUSES:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        behind = (found.__cause__, getattr(found, "inner_exception", None), getattr(found, "reason", None))
        waiting += [*behind, *found.args[:2], found.__context__]


def _names(chain: list[BaseException]) -> set[str]:
    return {kind.__name__ for error in chain for kind in type(error).__mro__}


# -- the network ------------------------------------------------------------------------------------------------------


def _network(chain: list[BaseException], about: About) -> SignInError | None:
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    if not any(isinstance(error, ServiceRequestError | ServiceResponseError) for error in chain):
        return None
    host = clean(urlsplit(about.authority).netloc)
    for error in chain:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _untrusted(error, host)
    names = _names(chain)
    if "ProxyError" in names:
        why = prose(str(chain[-1]), DETAIL_LIMIT)
        return _unreached(
            "The web proxy does not let us sign in", f"on the way to {host}: {why}", "Check proxy, or HTTPS_PROXY.",
            "JD-SIGN-IN-PROXY",
        )  # fmt: skip
    if names & {"NameResolutionError"} or any(isinstance(error, socket.gaierror) for error in chain):
        return _unreached(
            "The sign-in server's name is not known here", host, "Check the network; on a private one, name its proxy.",
            "JD-SIGN-IN-DNS",
        )  # fmt: skip
    if any(isinstance(error, ssl.SSLError) for error in chain) or "SSLError" in names:
        return _unreached(
            "The secure connection to the sign-in server broke off", host, "Is a proxy or firewall in between?",
            "JD-SIGN-IN-TLS",
        )  # fmt: skip
    if any(isinstance(error, ConnectionRefusedError) for error in chain):
        return _unreached(
            "The sign-in server refuses the connection", host, "Check the network, and the proxy if there is one.",
            "JD-SIGN-IN-NO-SERVER",
        )  # fmt: skip
    why = next((error.strerror for error in chain if isinstance(error, OSError) and error.strerror), "")
    if not why and names & {"ConnectTimeoutError", "ReadTimeoutError", "Timeout", "TimeoutError"}:
        return too_slow(about)
    return _unreached(
        "The sign-in server is not reached", f"{host}: {clean(why) or 'no connection'}",
        "Check the network, and the proxy if there is one.", "JD-SIGN-IN-NETWORK",
    )  # fmt: skip


def _unreached(title: str, detail: str, hint: str, code: str) -> SignInError:
    return SignInError(title, detail, hint, code=code, recovery=Recovery.TRANSIENT)


def _untrusted(error: ssl.SSLCertVerificationError, host: str) -> SignInError:
    why = clean(error.verify_message or "its certificate cannot be verified")
    hint = "If a proxy inspects TLS here, name its CA: ca-file in the profile, or in [cloud.NAME]."
    if "expired" in why or "not yet valid" in why:
        hint = f"Check this computer's clock: it says {time.strftime('%Y-%m-%d %H:%M %Z')}."
    return SignInError("The sign-in server's certificate is not trusted", f"{host}: {why}", hint,
                       code="JD-SIGN-IN-CA")  # fmt: skip


def too_slow(about: About, limit: float | None = None) -> SignInError:
    """The failure of a sign-in that did not end in time."""
    within = f" within {limit:g} s" if limit else ""
    return _unreached(
        "The sign-in took too long", f"{about.label}: no answer{within} from {clean(urlsplit(about.authority).netloc)}",
        "Check the network, and the proxy if there is one.", "JD-SIGN-IN-TIMEOUT",
    )  # fmt: skip


# -- what the server answered -----------------------------------------------------------------------------------------


def _answered(chain: list[BaseException], about: About, last: LastAnswer | None) -> SignInError | None:
    """By AADSTS code, OAuth error or HTTP status."""
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import AuthenticationRequiredError, CredentialUnavailableError

    text = " ".join(str(error) for error in chain if isinstance(error, ClientAuthenticationError | ValueError))
    response = next((found for error in chain if (found := getattr(error, "response", None)) is not None), None)
    if code := _AADSTS.search(text):
        found = from_aadsts(int(code.group(1)), words(text), about, skew_of(last))
        if not isinstance(chain[0], AuthenticationRequiredError):
            return found
        return PersonNeeded(found.title, found.detail, _again(about), code=found.code)
    if "get authority configuration" in text:
        return SignInError("The tenant is not found", f"{about.label}: {clean(about.tenant) or 'organizations'}",
                           "Check tenant and cloud of the profile.", code="JD-SIGN-IN-TENANT")  # fmt: skip
    oauth = _oauth_error(response, text)
    if oauth == "declined":
        return SignInError("The sign-in was declined", f"{about.label}: {words(text)}", _again(about),
                           code="JD-SIGN-IN-DECLINED", recovery=Recovery.NEEDS_PERSON)  # fmt: skip
    if oauth == "expired" or "Timed out" in text:
        return SignInError("Nobody signed in in time", about.label, _again(about), code="JD-SIGN-IN-CODE-EXPIRED",
                           recovery=Recovery.NEEDS_PERSON)  # fmt: skip
    return None if isinstance(chain[0], CredentialUnavailableError) else _by_status(last, about)


def _oauth_error(response: Any, text: str) -> str | None:
    """The meaning of the `error` of an OAuth answer (RFC 6749 §5.2, RFC 8628 §3.5)."""
    name = ""
    try:
        name = str(response.json().get("error", "")) if response is not None else ""
    except Exception:  # a body that is no JSON, or was read already; then the words must do
        name = ""
    return next((meaning for error, meaning in _OAUTH.items() if error in (name, text) or error in text), None)


def _by_status(last: LastAnswer | None, about: About) -> SignInError | None:
    if last is None or (last.status != 429 and last.status < 500):
        return None
    title = "The sign-in server asks us to wait" if last.status == 429 else "The sign-in server has a problem"
    wait = min(float(last.retry_after), RETRY_AFTER_MAX) if last.retry_after.isdecimal() else None
    return SignInError(
        title, f"{about.label}: HTTP {last.status}", "It is tried again.", code="JD-SIGN-IN-BUSY",
        recovery=Recovery.TRANSIENT, retry_after=wait,
    )  # fmt: skip


def from_aadsts(code: int, said: str, about: About, skew: str = "") -> SignInError:
    """The failure that an AADSTS code means; `said` is cleaned."""
    known = answer_to(code)
    detail = f"{about.label}: {said}" if f"AADSTS{code}" in said else f"{about.label}: AADSTS{code}: {said}"
    detail = f"{detail} ({skew})" if skew else detail
    if known is None:
        return SignInError("Azure refuses the sign-in", detail, _again(about), code="JD-SIGN-IN-REFUSED")
    return _of_answer(known, detail, about)


def _of_answer(known: Answer, detail: str, about: About) -> SignInError:
    hint = known.hint.replace("SIGN_IN", _command(about)).replace("CLIENT_ID", clean(about.client_id) or "CLIENT_ID")
    return SignInError(known.title, detail, hint, code=f"JD-SIGN-IN-{known.code}", recovery=known.recovery)


def _by_class(chain: list[BaseException], about: About) -> SignInError | None:
    from azure.identity import AuthenticationRequiredError, CredentialUnavailableError

    if isinstance(chain[0], AuthenticationRequiredError):
        return needs_person(about)
    for error in chain:
        if isinstance(error, CredentialUnavailableError):
            return SignInError(
                f"{about.label} cannot sign in here", words(str(error)),
                "Choose another kind of sign-in, or run it where this one works.", code="JD-SIGN-IN-UNAVAILABLE",
            )  # fmt: skip
    return None


def needs_person(about: About, why: str = "") -> PersonNeeded:
    """The failure to sign in without a person."""
    return PersonNeeded("A person must sign in", f"{about.label}: {why or 'there is no valid sign-in'}", _again(about))


def _again(about: About) -> str:
    return f"Run: {_command(about)}"


def _command(about: About) -> str:
    if about.kind == "azure-cli":
        return f"az login --tenant {clean(about.tenant)}" if about.tenant else "az login"
    return f"jumpdeck sign-in {clean(about.profile)}"


def skew_of(last: LastAnswer | None) -> str:
    """`this computer's clock is 12 min ahead`, when the server's Date says so; else empty (R-20)."""
    try:
        ahead = time.time() - parsedate_to_datetime(last.date if last else "").timestamp()
    except (ValueError, TypeError):
        return ""
    if abs(ahead) <= SKEW:
        return ""
    return f"this computer's clock is {abs(ahead) / 60:.0f} min {'ahead' if ahead > 0 else 'behind'}"
