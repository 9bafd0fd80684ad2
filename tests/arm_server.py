"""Azure Resource Manager as a test's peer: TLS on loopback, prepared answers, a record of what was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from app.azure.arm import Arm
from app.azure.context import Azure
from app.identity.clouds import CloudEndpoints
from tests.fakes import FakeIdentity
from tests.tls_servers import api_server, authority

SCOPE = "https://arm.test//.default"
GROUP = "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/rg"
AKS = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/aks-prod"

Reply = web.Response | Callable[[web.Request], Awaitable[web.StreamResponse]]


class ArmServer:
    """Answers each path by the next of its prepared replies; the last one stays."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}

    def on(self, path: str, *replies: Reply | dict[str, Any], method: str = "GET") -> None:
        """Prepare the replies of a path, or of a path with query."""
        made = [reply if not isinstance(reply, dict) else good(reply) for reply in replies]
        self._replies[method, path.lower()] = made

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        found = self._replies.get((request.method, request.path_qs.lower()))
        found = found or self._replies.get((request.method, request.path.lower()))
        if not found:
            return refusal(404, "ResourceNotFound", f"The Resource '{request.path}' was not found.")
        reply = found.pop(0) if len(found) > 1 else found[0]
        if not isinstance(reply, web.Response):
            return await reply(request)
        again = web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        again.headers["x-ms-correlation-request-id"] = request.headers.get("x-ms-correlation-request-id", "none")
        return again


def good(body: dict[str, Any], status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.json_response(body, status=status)


def refusal(status: int, code: str, message: str, **headers: str) -> web.Response:
    """An error body as ARM makes it; `Retry_After="1"` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=named)


def cloud(port: int, *, ca_file: Path | None = None, host: str = "localhost") -> CloudEndpoints:
    """A cloud whose ARM is on loopback."""
    return CloudEndpoints("here", "https://login.test", f"https://{host}:{port}", SCOPE, ca_file=ca_file)


@asynccontextmanager
async def arm_server() -> AsyncIterator[ArmServer]:
    """A running stand-in."""
    server = ArmServer()
    async with api_server(server.answer) as port:
        server.port = port
        yield server


@asynccontextmanager
async def arm_to(
    server: ArmServer, folder: Path, identity: FakeIdentity | None = None, *, proxy: str | None = None,
    host: str = "localhost", trusted: bool = True,
) -> AsyncIterator[Arm]:  # fmt: skip
    """An Arm that trusts the tests' CA, closed in the end."""
    async with azure_at(server, folder, identity, proxy=proxy, host=host, trusted=trusted) as azure:
        yield azure.arm


@asynccontextmanager
async def azure_at(
    server: ArmServer, folder: Path, identity: FakeIdentity | None = None, *, proxy: str | None = None,
    host: str = "localhost", trusted: bool = True,
) -> AsyncIterator[Azure]:  # fmt: skip
    """Azure as a profile sees it."""
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(authority().pem)
    ca_file.chmod(0o600)
    identity = identity or FakeIdentity()
    endpoints = cloud(server.port, ca_file=ca_file if trusted else None, host=host)
    arm = Arm(identity, endpoints, proxy=proxy)
    try:
        yield Azure(identity, endpoints, arm)
    finally:
        await arm.aclose()
