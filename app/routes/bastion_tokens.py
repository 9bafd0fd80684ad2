"""The token exchange of a Bastion's data plane: one session for each stream, and its deletion.

The wire is that of the published clients: a form, never JSON; no Authorization header; never the token of an earlier
session nor a node id, with which the service would join sessions that are not ours to join.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlencode

from app.errors import JumpdeckError
from app.identity.identity import AccessToken
from app.records import Record, field
from app.routes import bastion_failures
from app.routes.bastion_failures import Where
from app.routes.bastion_http import BastionHttp
from app.secrets.secret import Secret

EXCHANGE_LIMIT = 30.0
"""Seconds for a token exchange, as Microsoft's own Go client has it; 700 ms are usual."""
DELETE_LIMIT = 30.0
"""Seconds for a deletion, from the same source; nobody waits for it."""
FIELD_MAX = 16 << 10
"""Characters of a token; access tokens have a few thousand."""

_log = logging.getLogger(__name__)
AccessTokens = Callable[[bool], Awaitable[AccessToken]]
"""An ARM access token; True: not from the cache."""


class Target(Record):
    """What a stream goes to."""

    resource: str
    """The ARM id, or the pseudo id of IP connect."""
    port: int
    name: str
    """Cleaned text."""
    hostname: str = ""
    """The IP address, for IP connect."""


class Grant(Record):
    """A session that the Bastion has made for one stream. It stands until it is deleted."""

    auth_token: Secret = field(repr=False)
    websocket_token: Secret = field(repr=False)
    node_id: str

    def path(self) -> str:
        """Of the WebSocket (Standard and Premium). Holds the token."""
        return f"/webtunnelv2/{_segment(self.websocket_token.reveal())}?X-Node-Id={_segment(self.node_id)}"


class Exchange:
    """How far a token exchange is."""

    def __init__(self) -> None:
        self.sent = False
        """Whether it must run to its end: it was sent, and a session that nobody knows of is never deleted."""


def by_address(bastion_id: str, address: str, port: int) -> Target:
    """The target of IP connect: a pseudo resource in the Bastion's own subscription and group."""
    parts = bastion_id.split("/")
    ip = str(ipaddress.ip_address(address))
    resource = f"/subscriptions/{parts[2]}/resourceGroups/{parts[4]}/providers/Microsoft.Network/bh-hostConnect/{ip}"
    return Target(resource, port, ip, ip)


class BastionTokens:
    """Exchanges and deletes. All methods raise JumpdeckError only."""

    def __init__(self, http: BastionHttp, access_token: AccessTokens) -> None:
        self._http, self._access_token = http, access_token

    async def exchange(
        self, target: Target, where: Where, exchange: Exchange, *, unusable: Callable[[Grant], None]
    ) -> Grant:
        """A session for one stream. Must not be cancelled while `exchange` says that it was sent.

        `unusable` takes a session whose answer lacks what a stream needs. A 401 is asked once more with a new access
        token, for the cached one may have been revoked.
        """
        try:
            return await self._exchange(target, where, exchange, unusable, fresh=False)
        except JumpdeckError as error:
            if error.code != "JD-SIGN-IN-BASTION":
                raise
        return await self._exchange(target, where, exchange, unusable, fresh=True)

    async def _exchange(
        self, target: Target, where: Where, exchange: Exchange, unusable: Callable[[Grant], None], *, fresh: bool
    ) -> Grant:
        token = (await self._access_token(fresh)).value.reveal()
        form = {"resourceId": target.resource, "protocol": "tcptunnel", "workloadHostPort": str(target.port),
                "aztoken": token}  # fmt: skip
        if target.hostname:
            form["hostname"] = target.hostname
        exchange.sent = True
        answer = await self._http.request(
            "POST", "/api/tokens", {"Content-Type": "application/x-www-form-urlencoded"},
            urlencode(form).encode("ascii"), limit=EXCHANGE_LIMIT,
        )  # fmt: skip
        if answer.status != 200:
            exchange.sent = False
            raise bastion_failures.from_exchange(answer, where, (token,))
        auth, node, websocket = _read(answer.body)
        grant = Grant(Secret(auth), Secret(websocket), node)
        if auth and node and websocket:
            return grant
        if auth:
            unusable(grant)
        missing = [name for name, value in (("authToken", auth), ("nodeId", node), ("websocketToken", websocket))
                   if not value]  # fmt: skip
        raise bastion_failures.odd_answer(where, f"it lacks {', '.join(missing)}")

    async def delete(self, grant: Grant, limit: float = DELETE_LIMIT) -> bool:
        """Delete a session; whether it is gone (also when it was before)."""
        headers = {"X-Node-Id": _header(grant.node_id)} if grant.node_id else {}
        path = f"/api/tokens/{_segment(grant.auth_token.reveal())}"
        try:
            answer = await self._http.request("DELETE", path, headers, limit=limit)
        except JumpdeckError as error:
            _log.debug("deleting a Bastion session: %s", error.code)
            return False
        _log.debug("deleting a Bastion session: HTTP %d", answer.status)
        return answer.status in (200, 202, 204, 404)


def _read(body: bytes) -> tuple[str, str, str]:
    """authToken, nodeId, websocketToken; empty where there is no usable text."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    found = document if isinstance(document, dict) else {}
    auth, node, websocket = (_plain(found.get(name)) for name in ("authToken", "nodeId", "websocketToken"))
    return auth, node, websocket


def _plain(value: object) -> str:
    """A token as text: a string, or a number as some serialisers write ids."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if len(text) <= FIELD_MAX and text.isprintable() else ""


def _header(value: str) -> str:
    return value if value.isascii() else quote(value)


def _segment(value: str) -> str:
    return quote(value, safe="")
