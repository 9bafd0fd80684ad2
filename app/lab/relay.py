"""The lab's Azure Relay: senders' WebSockets to the agents of the lab's Arc clusters, over TLS on loopback.

The open protocol (Azure Relay, Hybrid Connections protocol, sender's side): `GET /$hc/NAME?sb-hc-action=connect&
sb-hc-token=SAS`, 401 for a token that is not good, 403 for one of another path, 404 for an unknown name or one without
a listener; then bytes both ways, and close codes 1000 (the listener has closed), 1001 (deleted), 1008 (the token has
expired), 1011 (something else). Behind it the agent speaks HTTP/1.1 in the clear to us and TLS to its API server.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote, unquote

from aiohttp import web

from app.lab.bastion_tunnel import Tunnel
from app.lab.door import HOST, Door, ProtocolFactory, Reach
from app.lab.tls_service import behind_door
from app.lab.upgraded import LINGER, Answered, take_over
from app.lab.websocket import is_websocket, proof

NAMESPACE = "lab-relay"
"""The relay's name; its host is `lab-relay.SUFFIX`."""
SUFFIX = "servicebus.localhost"
"""Names below `localhost` are this machine (RFC 6761, 6.3); the port follows."""
KEY_NAME = "lab-send"
DELETED, POLICY_VIOLATED = 1001, 1008

NOTIFICATION_VERSION = "2020-01-01"

_GATEWAYS = ("localhost", HOST, "localhost")
"""What stands for the relays of a region: names that every machine knows; one twice, as in the service's own list."""


class RelayServer:
    """One relay namespace. Serve with `async with relay.serve(tls)`. `names` are its hybrid connections.

    `clock` is POSIX seconds; `reach` connects with the agent of every one of them.
    """

    def __init__(self, names: Collection[str], reach: Reach, clock: Callable[[], float] = time.time) -> None:
        self.door: Door
        self.online: Callable[[], bool] = lambda: True
        """Whether the agents listen."""
        self.opened = 0
        """Streams that were let in."""
        self.refusals: list[int] = []
        """The statuses of those that were not, for tests."""
        self.closed: list[int] = []
        """The codes with which the relay itself has ended streams."""
        self.clock = clock
        """POSIX seconds; tests set it."""
        self._names, self._reach = set(names), reach
        self._key = secrets.token_bytes(32)
        self._tunnels: dict[Tunnel, str] = {}

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext) -> AsyncIterator[RelayServer]:
        """Listen while the context lasts."""
        async with behind_door(self.handle, tls) as self.door:
            yield self

    @property
    def suffix(self) -> str:
        """What follows the namespace and a dot, port included."""
        return f"{SUFFIX}:{self.door.port}"

    @property
    def url(self) -> str:
        """Where the list of gateways is read, without a slash at the end."""
        return f"https://{HOST}:{self.door.port}"

    @property
    def open(self) -> int:
        """Streams that are open now."""
        return len(self._tunnels)

    def token(self, name: str, expires_at: int) -> str:
        """A token with the right to send to this hybrid connection (Service Bus, shared access signatures)."""
        resource = quote(f"http://{NAMESPACE}.{SUFFIX}/{name}", safe="").lower()
        signature = quote(self._signature(resource, str(expires_at)), safe="")
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={expires_at}&skn={KEY_NAME}"

    def _signature(self, resource: str, expires: str) -> str:
        return base64.b64encode(hmac.digest(self._key, f"{resource}\n{expires}".encode(), hashlib.sha256)).decode()

    def delete(self, name: str) -> None:
        """Remove a hybrid connection; its streams end."""
        self._names.discard(name)
        for tunnel, of in list(self._tunnels.items()):
            if of == name:
                self._end(tunnel, DELETED)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        if request.path == "/urls/allowlist":  # of the guest notification service
            version, region = request.query.get("api-version"), request.query.get("location", "")
            if version != NOTIFICATION_VERSION or not region.islower():
                return web.json_response({"message": "api-version or location is not valid"}, status=400)
            return web.json_response([f"{name}:{self.door.port}" for name in _GATEWAYS])
        name = request.path.removeprefix("/$hc/")
        if name == request.path or not is_websocket(request) or not request.headers.get("Sec-WebSocket-Key"):
            return self._no(404 if name == request.path else 400, "BadRequest: this is no WebSocket to a connection")
        found = self._admit(name, request)
        if isinstance(found, web.Response):
            return found
        upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
        accept = [("Sec-WebSocket-Accept", proof(request.headers["Sec-WebSocket-Key"]))]
        raw = await take_over(request, [*upgrade, *accept])
        try:
            if not await self._carry(Tunnel(raw, frozenset()), name, found):
                with suppress(TimeoutError):  # what we said comes right after the handshake: leave time to read it
                    async with asyncio.timeout(LINGER):
                        await raw.read()
        finally:
            raw.close()
        return Answered()

    def _admit(self, name: str, request: web.Request) -> float | web.Response:
        """When the sender's right ends, or the refusal."""
        if request.query.get("sb-hc-action") != "connect":
            return self._no(400, "BadRequest: sb-hc-action has to be connect")
        found = self._read(request.query.get("sb-hc-token", ""))
        if found is None:
            return self._no(401, "InvalidSignature: The token has an invalid signature or has expired.")
        resource, ends = found
        if name not in self._names:
            return self._no(404, "EndpointNotFound: The specified relay path does not exist.")
        if resource != f"http://{NAMESPACE}.{SUFFIX}/{name}".lower():
            return self._no(403, "Forbidden: The token gives no right to Send on this path.")
        if not self.online():
            return self._no(404, "EndpointNotFound: There are no listeners connected for the endpoint.")
        return ends

    def _read(self, token: str) -> tuple[str, float] | None:
        """The resource and the end of a good token."""
        scheme, _, rest = token.partition(" ")
        fields = dict(word.split("=", 1) for word in rest.split("&") if "=" in word)
        resource, expires = fields.get("sr", ""), fields.get("se", "")
        wanted = self._signature(resource, expires).encode()
        given = unquote(fields.get("sig", "")).encode()
        if scheme != "SharedAccessSignature" or not expires.isdigit() or not hmac.compare_digest(wanted, given):
            return None
        return (unquote(resource), float(expires)) if float(expires) > self.clock() else None

    def _no(self, status: int, text: str) -> web.Response:
        self.refusals.append(status)
        return web.Response(status=status, reason=text.partition(":")[0], text=text)

    async def _carry(self, tunnel: Tunnel, name: str, ends: float) -> bool:
        """Pass on until the end; False when the agent could not be reached."""
        reached = False

        async def reach(factory: ProtocolFactory) -> None:
            nonlocal reached
            await self._reach(factory)
            reached = True

        self.opened += 1
        self._tunnels[tunnel] = name
        end = asyncio.get_running_loop().call_later(ends - self.clock(), self._end, tunnel, POLICY_VIOLATED)
        try:
            await tunnel.run(reach)
        finally:
            end.cancel()
            del self._tunnels[tunnel]
        return reached

    def _end(self, tunnel: Tunnel, code: int) -> None:
        self.closed.append(code)
        tunnel.end(code)


def agent(door: Door, tls: ssl.SSLContext, name: str) -> Reach:
    """The way of the agents to the API server `name`, through its door."""

    async def reach(factory: ProtocolFactory) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _WithoutHalves(factory()), HOST, door.port, ssl=tls, server_hostname=name)

    return reach


class _WithoutHalves(asyncio.Protocol):
    """A protocol over TLS, which knows no half-open streams: asyncio warns of one that asks for them."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool:
        self._inner.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
