"""The lab's Azure Bastion: the data plane of its native client tunnel, over TLS on loopback.

Emulates what `az network bastion tunnel` talks to: a token exchange over HTTPS, one WebSocket a stream, the deletion
of the session. The wire is that of the published clients. What no source says about the service is chosen here, and
a comment says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from app.lab.bastion_sessions import Counters, Session, Sessions
from app.lab.bastion_tunnel import Tunnel
from app.lab.door import HOST, Door, Reach
from app.lab.upgraded import Answered, RawConnection, take_over
from app.lab.websocket import is_websocket, proof

Accepts = Callable[[str], str | None]
"""Says whose an ARM access token is; None when it is not (or no longer) good."""

Ports = Mapping[int, Reach]
"""The open ports of a target, and what connects a protocol with each."""

NATIVE_CLIENT = ("Standard", "Premium")
DEVELOPER = ("Developer", "QuickConnect")
"""SKUs with the tunnel; the second kind has an endpoint of its own for it."""

BODY_MOST = 64 * 1024
"""Bytes of a request's body: access tokens have a few thousand."""

FIELDS_MOST = 20
"""Fields of a form; the service knows six."""

SLOW = 0.7
"""Seconds that the fault `slow-token` takes, as measured in public reports."""

SHUTDOWN_LIMIT = 1.0
"""Seconds that answers under way get when the host ends; its door has reset them all before."""

INTERNAL_ERROR = "Unexpected internal error"
"""The service's words for a target that it cannot reach, and for a request in another encoding."""

_BAD_GATEWAY = """<html>
<head><title>502 Bad Gateway</title></head>
<body>
<center><h1>502 Bad Gateway</h1></center>
<hr><center>Microsoft-Azure-Application-Gateway/v2</center>
</body>
</html>
"""
_HTTP_400 = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BY_ADDRESS = re.compile(
    r"/subscriptions/[^/]+/resourcegroups/[^/]+/providers/microsoft\.network/bh-hostconnect/([^/]+)"
)

_log = logging.getLogger("app.lab.bastion")
_log.addHandler(logging.NullHandler())  # else Python prints what nobody takes on standard error

Answer = web.StreamResponse


def _error(status: int, text: str) -> web.Response:
    """An error as the service writes it: JSON with a message."""
    return web.json_response({"message": text}, status=status)


class BastionPlane:
    """One bastion host behind a door. An async context manager.

    `targets` has the ARM ids (in any case) that this host reaches, `addresses` the IP addresses for IP connect (None:
    that is switched off). `faults` are names of `app.lab.bastion_faults`; `door` cuts, freezes, slows and refuses.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        accepts: Accepts,
        targets: Mapping[str, Ports],
        *,
        addresses: Mapping[str, Ports] | None = None,
        sku: str = "Standard",
    ) -> None:
        self.sku = sku
        """Basic, Standard, Premium, Developer or QuickConnect; may be changed at any time."""
        self.faults: set[str] = set()
        self.passing: dict[str, int] = {}
        """Faults that happen so many times more and then no longer, for the intermittent ones: those of an answer, not
        those of a tunnel's frames."""
        self.counters = Counters()
        self.door: Door
        self._tls, self._accepts = tls, accepts
        self._targets = {name.lower(): ports for name, ports in targets.items()}
        self._addresses = None if addresses is None else dict(addresses)
        self._sessions = Sessions(self.counters)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> BastionPlane:
        app = web.Application(client_max_size=BODY_MOST)
        app.router.add_post("/api/tokens", self._exchange)
        app.router.add_delete("/api/tokens/{token}", self._delete)
        app.router.add_post("/api/connection", self._data_pod)
        app.router.add_get("/webtunnelv2/{token}", self._tunnel, allow_head=False)
        app.router.add_get("/omni/webtunnel/{token}", self._tunnel, allow_head=False)
        runner = web.AppRunner(
            app, access_log=None, logger=_log, handler_cancellation=True, shutdown_timeout=SHUTDOWN_LIMIT
        )
        async with AsyncExitStack() as stack:
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, HOST, 0, ssl_context=self._tls).start()
            self.door = await stack.enter_async_context(Door(int(runner.addresses[0][1])))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def port(self) -> int:
        """The loopback port of its door."""
        return self.door.port

    @property
    def host(self) -> str:
        """What ARM returns as `dnsName`. An address: `localhost` may first be one at which nothing listens."""
        return f"{HOST}:{self.port}"

    def _is_on(self, fault: str) -> bool:
        if (times := self.passing.get(fault, 0)) > 0:
            self.passing[fault] = times - 1
            return True
        return fault in self.faults

    @property
    def _one_session(self) -> bool:
        return self.sku in DEVELOPER or "one-session" in self.faults

    # the token exchange

    async def _exchange(self, request: web.Request) -> web.Response:
        answer = await self._exchanged(request)
        if isinstance(answer, web.Response):
            self.counters.refused += 1
            self.counters.changed()
            return answer
        body = {
            "authToken": answer.auth_token,
            "username": "lab",
            "dataSource": "default",
            "availableDataSources": ["default"],
            "nodeId": answer.node_id,
            "websocketToken": answer.websocket_token,
        }
        if self._is_on("no-node-id"):
            del body["nodeId"]
            answer.node_id = ""  # chosen here: who was told of no node can still end the session
        return web.json_response(body)

    async def _exchanged(self, request: web.Request) -> Session | web.Response:
        if self._is_on("slow-token"):
            await asyncio.sleep(SLOW)
        if (refusal := self._faulty()) is not None:
            return refusal
        # JSON and an Authorization header both have been seen to end in a 500
        if request.content_type != "application/x-www-form-urlencoded" or "Authorization" in request.headers:
            return _error(500, INTERNAL_ERROR)
        try:
            form = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True, max_num_fields=FIELDS_MOST))
        except ValueError:
            return _error(500, INTERNAL_ERROR)
        if form.get("token") or "X-Node-Id" in request.headers:
            self.counters.chained += 1
        return self._judge(form) or self._issue(form, request.headers.get("X-Node-Id", ""))

    def _faulty(self) -> web.Response | None:
        if self._is_on("bastion-502"):
            return web.Response(status=502, text=_BAD_GATEWAY, content_type="text/html")
        if self._is_on("bastion-401-text"):
            return web.Response(status=401, text="Unauthorized: the token could not be validated")
        if self._is_on("bastion-403"):
            return _error(403, "The client does not have authorization to perform action on the target resource")
        if self._is_on("tunneling-disabled") or self.sku not in (*NATIVE_CLIENT, *DEVELOPER):
            return _error(400, "Tunneling is disabled")  # the status is a guess; the words are the service's
        return None

    def _judge(self, form: Mapping[str, str]) -> web.Response | None:
        """What is wrong with a form, if anything is. The words and the 400s are chosen here."""
        for name in ("aztoken", "protocol", "resourceId", "workloadHostPort"):
            if not form.get(name):
                return _error(400, f"{name} is missing")
        if form["protocol"] != "tcptunnel":
            return _error(400, "protocol is not supported")
        if not re.fullmatch(r"[0-9]{1,5}", form["workloadHostPort"]) or not 0 < int(form["workloadHostPort"]) < 65_536:
            return _error(400, "workloadHostPort is not a port")
        if self._accepts(form["aztoken"]) is None:
            return _error(401, "The access token is invalid or has expired")
        if self._one_session and self.counters.open:
            return _error(400, "Another session is active. This host supports one session at a time")
        return None

    def _issue(self, form: Mapping[str, str], node_id: str) -> Session | web.Response:
        resource, port = form["resourceId"].lower().rstrip("/"), int(form["workloadHostPort"])
        if (by_address := _BY_ADDRESS.fullmatch(resource)) is not None:
            if self._addresses is None or form.get("hostname", "").lower() != by_address[1]:
                return _error(400, "IP connect is disabled, or hostname is not that of the resource")
            ports = self._addresses.get(by_address[1], {})  # nobody knows before the stream is opened
        elif (known := self._targets.get(resource)) is None:
            return _error(500, INTERNAL_ERROR)
        else:
            ports = known
        session = self._sessions.issue(f"{resource}:{port}", ports.get(port), node_id)
        return session or _error(503, "Too many sessions")

    async def _data_pod(self, request: web.Request) -> web.Response:
        """The host name at which a Developer host serves a target: here its own."""
        if self.sku not in DEVELOPER:
            return _error(404, "Not Found")
        try:
            asked: Any = json.loads(await request.read())
            words = {name: str(asked[name]) for name in ("resourceId", "bastionResourceId", "vmPort", "azToken")}
            kind = asked["connectionType"]
        except (ValueError, KeyError, TypeError):
            return _error(400, "The request is not valid")
        if self._accepts(words["azToken"]) is None:
            return _error(401, "The access token is invalid or has expired")
        if kind != "nativeclient" or words["resourceId"].lower() not in self._targets:
            return _error(403, "The target is not available through this host")
        return web.Response(text=self.host)

    # the end of a session

    async def _delete(self, request: web.Request) -> web.Response:
        if self._is_on("delete-hangs"):
            await asyncio.Event().wait()  # until the client has gone
        node_id = request.headers.get("X-Node-Id", "")
        if not node_id and not self._sessions.without_node(request.match_info["token"]):
            return _error(400, "X-Node-Id is missing")
        done = self._sessions.delete(request.match_info["token"], node_id)
        if not done or self._is_on("delete-404"):
            return _error(404, "No such token.")
        return web.Response(status=204)

    # the tunnel

    async def _tunnel(self, request: web.Request) -> Answer:
        refusal = self._refused(request)
        session: Session | None = None
        if refusal is None:
            # the endpoint of the Developer SKU knows no nodes
            node_id = None if self.sku in DEVELOPER else request.query.get("X-Node-Id", "")
            found = self._sessions.redeem(request.match_info["token"], node_id)
            if isinstance(found, Session):
                session = found
            else:
                refusal = _error(404 if found == "node" else 401, "The token is not valid")
        if session is None:
            self.counters.refused_upgrades += 1
            self.counters.changed()
            return refusal or _error(401, "The token is not valid")
        with_upgrade = not self._is_on("no-upgrade-headers")
        raw = await take_over(request, _handshake(request.headers["Sec-WebSocket-Key"], with_upgrade=with_upgrade))
        await self._counted(raw, self._serve(raw, session))
        return Answered()

    def _refused(self, request: web.Request) -> web.Response | None:
        if not is_websocket(request) or request.headers.get("Sec-WebSocket-Version") != "13":
            return _error(400, "This is not a WebSocket handshake")
        if not request.headers.get("Sec-WebSocket-Key"):
            return _error(400, "This is not a WebSocket handshake")
        if request.path.startswith("/omni/") != (self.sku in DEVELOPER):
            return _error(404, "Not Found")
        if self._one_session and self.counters.open:
            return _error(409, "Another session is active. This host supports one session at a time")
        return _error(401, "The token is not valid") if self._is_on("used-token") else None

    async def _counted(self, raw: RawConnection, serving: Awaitable[None]) -> None:
        self.counters.upgrades += 1
        self.counters.open += 1
        self.counters.changed()
        try:
            await serving
        finally:
            self.counters.open -= 1
            self.counters.changed()
            raw.close()

    async def _serve(self, raw: RawConnection, session: Session) -> None:
        if self._is_on("http-400-after-101"):
            await raw.write(_HTTP_400)
        elif self._is_on("silent-101"):
            while await raw.read():  # until the client has gone
                pass
        else:
            session.tunnel = Tunnel(raw, self.faults)
            await session.tunnel.run(session.reach)


def _handshake(key: str, *, with_upgrade: bool) -> list[tuple[str, str]]:
    upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade")] if with_upgrade else []
    return [*upgrade, ("Sec-WebSocket-Accept", proof(key))]
