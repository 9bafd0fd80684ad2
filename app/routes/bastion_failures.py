"""What a Bastion's data plane says and does wrong, as errors with a next step.

Its bodies are JSON with a message, plain text, or a gateway's HTML, so every one is read with doubt. No error holds a
token: they are cut out of what the far end says.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from app.errors import JumpdeckError, Recovery, RouteError, SignInError
from app.records import Record
from app.routes.bastion_http import HttpAnswer
from app.text import clean, prose

SAID_LIMIT = 300
"""Characters of a server's words in an error."""
RETRY_AFTER_MAX = 600.0
"""Seconds that a Retry-After may ask for; more is a fault of whoever says it."""

_ROLES = "Reader on the Bastion, on the target, on its network card and on a peered network"


class Where(Record):
    """Whose failure it is. Names are cleaned text."""

    bastion: str
    """`hub`."""
    bastion_id: str
    target: str
    """`jump01 port 22`."""

    def __str__(self) -> str:
        return f"{self.bastion} to {self.target}"


def said(body: bytes, secrets: tuple[str, ...] = ()) -> str:
    """What a body says, as one cleaned sentence without the secrets; empty when it says nothing."""
    text = body[: 64 << 10].decode("utf-8", "replace").strip()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        inner = document.get("error")
        holder = inner if isinstance(inner, dict) else document
        found = holder.get("message") or holder.get("Message") or holder.get("code") or inner or ""
        text = found if isinstance(found, str) else ""
    elif text[:1] == "<":
        title = re.search(r"<title>([^<]*)</title>", text, re.IGNORECASE)
        text = f"a web page: {title[1]}" if title else "a web page"
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")  # bare, and as in the URL
    return prose(text, SAID_LIMIT)


def from_exchange(answer: HttpAnswer, where: Where, secrets: tuple[str, ...] = ()) -> JumpdeckError:
    """The error of a token exchange that did not answer 200."""
    words = said(answer.body, secrets)
    detail = f"{where}: HTTP {answer.status}" + (f", it says: {words}" if words else "")
    status, lowered = answer.status, words.lower()
    if "tunneling is disabled" in lowered or "tunnelling is disabled" in lowered:
        return tunneling_disabled(where, detail)
    if ("session" in lowered and "one session" in lowered) or "another session" in lowered:
        return _route("JD-BASTION-BUSY", "The Bastion has a session already", detail,
                      "This one serves one session at a time; end the other one.", Recovery.TRANSIENT)  # fmt: skip
    if status == 401:
        return SignInError(
            "The Bastion does not accept the sign-in", detail,
            "Sign in again, in the tenant of the Bastion's subscription.", code="JD-SIGN-IN-BASTION",
            recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip
    if status == 403:
        return _route("JD-BASTION-FORBIDDEN", "The Bastion refuses you this target", detail,
                      f"Ask for the role {_ROLES}.")  # fmt: skip
    if status == 429:
        return _route("JD-BASTION-THROTTLED", "The Bastion asks to wait", detail, "It is tried again by itself.",
                      Recovery.TRANSIENT, retry_after(answer.headers))  # fmt: skip
    if "unexpected internal error" in lowered:
        return _route("JD-BASTION-TARGET", "The Bastion cannot serve this target", detail,
                      "Is it running, and in a network that the Bastion reaches? Else the service has a fault: it is "
                      "tried again.", Recovery.TRANSIENT)  # fmt: skip
    if status >= 500:
        return _route("JD-BASTION-SERVICE", "The Bastion has a fault", detail,
                      "A gateway or the service itself; it is tried again.", Recovery.TRANSIENT,
                      retry_after(answer.headers))  # fmt: skip
    if status == 404:
        return _route("JD-BASTION-TARGET", "The Bastion does not know this target", detail,
                      "Check target in the profile: it is the id of a virtual machine that exists.")  # fmt: skip
    return _route("JD-BASTION-REFUSED", "The Bastion refuses the session", detail,
                  "Check bastion, target and port in the profile.")  # fmt: skip


def tunneling_disabled(where: Where, detail: str) -> RouteError:
    """Native client support is off."""
    parts = where.bastion_id.split("/")
    of, group, name = (parts[2], parts[4], parts[-1]) if len(parts) > 4 else ("SUBSCRIPTION", "GROUP", where.bastion)
    return _route("JD-BASTION-TUNNELING", "Tunnelling is switched off at the Bastion", detail,
                  f"Have native client support switched on: az network bastion update --name {clean(name)} "
                  f"--resource-group {clean(group)} --subscription {clean(of)} --enable-tunneling true")  # fmt: skip


def odd_answer(where: Where, missing: str) -> RouteError:
    """A 200 without what it must hold."""
    return _route("JD-BASTION-ANSWER", "The Bastion's answer cannot be read", f"{where}: {missing}",
                  "Does a web proxy stand between? It is tried again.", Recovery.TRANSIENT)  # fmt: skip


def no_websocket(where: Where, why: str, body: bytes, secrets: tuple[str, ...], tries: int) -> RouteError:
    """No 101, again and again."""
    words = said(body, secrets)
    return _route("JD-BASTION-WEBSOCKET", "The Bastion does not open the stream",
                  f"{where}: {prose(why, SAID_LIMIT)}{f', it says: {words}' if words else ''}{_times(tries)}",
                  "Its token was used or its node has gone, or a web proxy forbids WebSockets; it is tried again.",
                  Recovery.TRANSIENT)  # fmt: skip


def late_refusal(where: Where, line: str, tries: int) -> RouteError:
    """101, and then HTTP."""
    return _route("JD-BASTION-UPGRADE", "The Bastion opened the stream and took it back",
                  f"{where}: after its 101 it said {prose(line, 200)}{_times(tries)}",
                  "Its inner gateway did not reach the node or the target; it is tried again.",
                  Recovery.TRANSIENT)  # fmt: skip


def no_first_byte(where: Where, seconds: float, tries: int) -> RouteError:
    """101, and then nothing."""
    return _route("JD-BASTION-NO-BYTE", "The Bastion opened the stream, and nothing comes from the target",
                  f"{where}: no byte within {seconds:g} s{_times(tries)}",
                  "Is the target running, does it listen at that port, and do its network's rules let the Bastion in? "
                  "It is tried again.", Recovery.TRANSIENT)  # fmt: skip


def cut_early(where: Where, why: str, tries: int) -> RouteError:
    """101, and then the end."""
    return _route("JD-BASTION-CLOSED", "The Bastion closed the stream before its first byte",
                  f"{where}: {prose(why, 200)}{_times(tries)}",
                  "Does the target listen at that port? It is tried again.", Recovery.TRANSIENT)  # fmt: skip


def wrong_port(where: Where) -> RouteError:
    """A port that IP connect does not have."""
    return _route("JD-BASTION-IP-PORT", "A Bastion connects to addresses at ports 22 and 3389 only", str(where),
                  "Name the VM's ARM id as target: then every port is open to you.")  # fmt: skip


def out_of_time(where: Where, seconds: float) -> RouteError:
    """All tries together took too long."""
    return _route("JD-BASTION-SLOW", "The Bastion takes too long to open a stream",
                  f"{where}: not done within {seconds:g} s", "It is tried again.", Recovery.TRANSIENT)  # fmt: skip


_ON_THE_WAY = {
    "JD-TCP-REFUSED": "The Bastion refuses the connection",
    "JD-TCP-RESET": "The connection to the Bastion broke off",
    "JD-TCP-TIMEOUT": "The Bastion does not answer",
    "JD-TLS-TIMEOUT": "The Bastion does not answer",
    "JD-BASTION-SILENT": "The Bastion does not answer",
    "JD-TCP-UNREACHABLE": "There is no way to the Bastion",
    "JD-DNS-UNKNOWN": "The Bastion's name does not resolve",
    "JD-DNS-NO-ANSWER": "No name server tells where the Bastion is",
}
"""Titles by code, for what keeps us from the Bastion itself."""


def on_the_way(error: JumpdeckError, where: Where | str) -> JumpdeckError:
    """An error of the connection to the Bastion, with the Bastion named; any other as it is."""
    own = error.code in ("JD-BASTION-SILENT", "JD-BASTION-ANSWER") and str(where) not in error.detail
    if not own and error.layer not in ("tcp", "dns", "tls", "proxy"):
        return error
    title, hint = _ON_THE_WAY.get(error.code), error.hint
    if title is not None and not error.code.startswith("JD-DNS"):
        hint = "Check the network, its proxy, and the Bastion in the Azure portal; it is tried again."
    return type(error)(
        title or f"{error.title} (at the Bastion)", f"{where}: {error.detail}", hint, code=error.code,
        exit_code=error.exit_code, layer=error.layer, recovery=error.recovery, retry_after=error.retry_after,
    )  # fmt: skip


def silent(bastion: str, at: str, seconds: float) -> JumpdeckError:
    """It takes no connection in time; `at` is its `host:port`."""
    return on_the_way(_route("JD-BASTION-SILENT", "", f"{at}: nothing within {seconds:g} s", "", Recovery.TRANSIENT),
                      bastion)  # fmt: skip


def closed(bastion: str) -> RouteError:
    """We ended it."""
    return _route("JD-BASTION-CLOSED-HERE", "The Bastion hop is closed", bastion, "", Recovery.TRANSIENT)


def retry_after(headers: dict[str, str]) -> float | None:
    """Seconds of a Retry-After (RFC 9110 §10.2.3); dates are not read."""
    text = headers.get("retry-after", "").strip()
    return min(float(text), RETRY_AFTER_MAX) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _times(tries: int) -> str:
    return f", {tries} times" if tries > 1 else ""


def _route(
    code: str, title: str, detail: str, hint: str, recovery: Recovery = Recovery.PERMANENT, wait: float | None = None
) -> RouteError:
    return RouteError(title, detail, hint, code=code, recovery=recovery, retry_after=wait)
