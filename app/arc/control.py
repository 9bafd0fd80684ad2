"""The three calls by which the local proxy is told who we are and which relay to use (reference: azure-arc.md §2.4).

Only to 127.0.0.1, never through a web proxy, each with a limit and its status checked. The program makes its own
certificate when it starts, so TLS proves nothing here: whose process listens on the port does. That is looked at before
every connection, and again once it is made and nothing has been sent: who listened both times has it.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import aiohttp

from app.arc.credential import RelayCredential
from app.arc.ports import HOST
from app.arc.program import LAYER
from app.arc.redaction import redacted
from app.errors import JumpdeckError, Recovery, RouteError
from app.identity.pop import SERVER_APP
from app.secrets.secret import Secret

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

CALL_LIMIT = 15.0
"""Seconds for one call: it stays on this computer, but taking an identity may make the program ask Entra for keys."""
ANSWER_LIMIT = 1 << 20
"""Bytes of an answer: a kubeconfig has a few thousand."""
REGISTER_VERSION = "2020-10-01"
_OTHER = "If it lasts, another version of arcProxy may help (arc-proxy in the profile)."
_KEY_LIMIT = 200
"""Characters of the name of a key; it is a thumbprint of 43."""


class KeyExpired(RouteError):
    """The program has made itself another key meanwhile; what was made for the one before is worth nothing."""


class Control:
    """The control side of one running program. Make it inside the running loop; raises JumpdeckError only.

    `check` raises when the listener on a port is not the program. `correlation_id` goes with every call.
    """

    def __init__(
        self, http_port: int, https_port: int, check: Callable[[int], Awaitable[None]], correlation_id: str, *,
        limit: float = CALL_LIMIT,
    ) -> None:  # fmt: skip
        self._http, self._https, self._check, self._limit = http_port, https_port, check, limit
        self._headers = {"x-ms-correlation-request-id": correlation_id, "User-Agent": "jumpdeck"}
        self._session: aiohttp.ClientSession | None = None

    async def public_key(self, *, limit: float | None = None) -> str:
        """The name (`kid`) of the key pair with which the program signs. Also shows that it answers at all."""
        found = await self._ask("GET", self._https, "/identity/poppublickey", {}, limit=limit)
        key = found.get("publicKey")
        kid = key.get("kid") if isinstance(key, dict) else None
        if not isinstance(kid, str) or not kid or len(kid) > _KEY_LIMIT or not kid.isascii() or not kid.isprintable():
            raise _unusable("GET /identity/poppublickey", "it names no key")
        return kid

    async def hand_identity(self, token: Secret, kid: str, tenant: str) -> None:
        """Hand over a token that is bound to the program's key. Raises KeyExpired when it has another key now."""
        body = {"accessToken": token.reveal(), "serverId": SERVER_APP, "tenantID": tenant, "kid": kid}
        await self._ask("POST", self._https, "/identity/at", body, answers=False)

    async def register(self, arc_id: str, offer: RelayCredential) -> bytes:
        """Tell the relay's way to the cluster; returns the kubeconfig that the program answers with.

        Of ARM's answer only the fields are handed on that az hands on.
        """
        body = {
            "kubeconfigs": [{"name": "Kubeconfig", "value": base64.b64encode(offer.kubeconfig).decode()}],
            "hybridConnectionConfig": {
                "relay": offer.relay, "hybridConnectionName": offer.hybrid_connection, "token": offer.token.reveal(),
                "expirationTime": int(offer.expires_at),
            },
        }  # fmt: skip
        path = f"{arc_id}/register?api-version={REGISTER_VERSION}"
        return _kubeconfig(await self._ask("POST", self._http, path, body))

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(
        self, method: str, port: int, path: str, body: dict[str, Any], *, limit: float | None = None,
        answers: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """One call and its JSON object; empty when none is wanted (`answers`)."""
        what = f"{method} {path.partition('?')[0].rpartition('/connectedClusters/')[2] or path}"
        url = f"{'https' if port == self._https else 'http'}://{HOST}:{port}{path}"
        try:
            async with self._opened().request(
                method, url, json=body, headers=self._headers, allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._limit if limit is None else limit),
            ) as response:  # fmt: skip
                status, raw = response.status, await _read(response)
        except TimeoutError as exc:
            raise _silent(what, self._limit if limit is None else limit) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _cut(what, exc) from exc
        if status != 200:
            raise _refused(what, status, raw)
        return _object(what, raw) if answers else {}

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
            # Neither cookies nor environment: HTTPS_PROXY must not carry these calls away from this computer.
            self._session = aiohttp.ClientSession(
                connector=_Checked(self._check, ssl=trust, force_close=True), cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )  # fmt: skip
        return self._session


class _Checked(aiohttp.TCPConnector):
    """Connections to the program alone: one whose port a stranger has taken meanwhile carries nothing."""

    def __init__(self, check: Callable[[int], Awaitable[None]], **options: Any) -> None:
        super().__init__(**options)
        self._checked = check

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:  # fmt: skip
        """As its base does."""
        port = req.url.port or 0
        await self._checked(port)
        connection = await super().connect(req, traces, timeout)
        try:
            await self._checked(port)
        except BaseException:
            connection.close()
            raise
        return connection


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > ANSWER_LIMIT:
            raise ValueError("the answer is too long")
    return bytes(body)


def _object(what: str, raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _unusable(what, "it is no JSON object")
    return found


def _kubeconfig(found: dict[str, Any]) -> bytes:
    listed = found.get("kubeconfigs")
    first = listed[0] if isinstance(listed, list) and listed else None
    value = first.get("value") if isinstance(first, dict) else None
    if not isinstance(value, str) or not value:
        raise _unusable("POST register", "it holds no kubeconfig")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as exc:
        raise _unusable("POST register", "its kubeconfig is not base64") from exc


def _refused(what: str, status: int, raw: bytes) -> JumpdeckError:
    said = redacted(raw[:2_000].decode("utf-8", "replace"))
    detail = f"{what}: HTTP {status}" + (f", it says: {said}" if said else "")
    if "public key expired" in said.lower():
        return KeyExpired(
            "The local proxy has changed its key", detail, f"It is started again. {_OTHER}", code="JD-ARC-KEY",
            layer=LAYER, recovery=Recovery.TRANSIENT,
        )  # fmt: skip
    if status >= 500:
        return RouteError("The local proxy fails", detail, f"It is tried again. {_OTHER}", code="JD-ARC-REFUSED",
                          layer=LAYER, recovery=Recovery.TRANSIENT)  # fmt: skip
    return RouteError(
        "The local proxy refuses", detail,
        f"Not tried again by itself: check that the cluster and the sign-in are the right ones, try then. {_OTHER}",
        code="JD-ARC-REFUSED", layer=LAYER,
    )  # fmt: skip


def _unusable(what: str, why: str) -> RouteError:
    return RouteError(
        "The local proxy's answer cannot be used", f"{what}: {why}",
        "Its private interface may have changed: use another version of arcProxy (arc-proxy in the profile).",
        code="JD-ARC-ANSWER", layer=LAYER,
    )  # fmt: skip


def _silent(what: str, seconds: float) -> RouteError:
    return RouteError("The local proxy does not answer", f"{what}: nothing within {seconds:g} s", "It is tried again.",
                      code="JD-ARC-SILENT", layer=LAYER, recovery=Recovery.TRANSIENT)  # fmt: skip


def _cut(what: str, error: Exception) -> RouteError:
    return RouteError("The local proxy does not answer", f"{what}: {redacted(str(error) or type(error).__name__)}",
                      "It is tried again.", code="JD-ARC-UNREACHABLE", layer=LAYER,
                      recovery=Recovery.TRANSIENT)  # fmt: skip
