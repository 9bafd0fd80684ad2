"""Asks the lab for exec, attach and port-forward as bytes on a socket, and with the real kubectl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

from app.lab.api import make_app
from app.lab.kubelet import Cluster
from app.lab.store import Store, Users
from tests.protocol.lab_api_server import TOKENS

LIMIT = 40.0
"""Seconds for one step on a busy machine."""

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
WEBSOCKET = (
    ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY),
)  # fmt: skip


@dataclass
class Conversation:
    """One connection after its answer's head was read."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status_line: str
    headers: list[list[str]]

    @property
    def status(self) -> int:
        return int(self.status_line.split()[1])

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(LIMIT):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(LIMIT):
            return await self.reader.read()

    async def body(self) -> bytes:
        """The body by its Content-Length."""
        lengths = [int(value) for name, value in self.headers if name == "Content-Length"]
        return await self.read(lengths[0]) if lengths else await self.rest()

    async def message(self) -> tuple[int, bytes]:
        """The next WebSocket frame: its first byte and its data."""
        first, size = await self.read(2)
        if size > 125:
            size = int.from_bytes(await self.read(2 if size == 126 else 8), "big")
        return first, await self.read(size)

    def send(self, data: bytes, op: int = 2) -> None:
        """Send one WebSocket frame; its mask is zero, so that the bytes are as they are."""
        length = len(data)
        size = bytes((0x80 | length,)) if length < 126 else bytes((0xFE,)) + length.to_bytes(2, "big")
        self.writer.write(bytes((0x80 | op,)) + size + bytes(4) + data)

    async def channels(self) -> dict[int, bytes]:
        """All data by channel until the close frame."""
        found: dict[int, list[bytes]] = {}
        while True:
            first, data = await self.message()
            if first == 0x88:
                return {channel: b"".join(pieces) for channel, pieces in found.items()}
            found.setdefault(data[0], []).append(data[1:])


class Server:
    """The lab's API server on a port of its own, without TLS."""

    def __init__(self, port: int, cluster: Cluster) -> None:
        self.port, self.cluster = port, cluster

    @asynccontextmanager
    async def ask(
        self,
        target: str,
        headers: tuple[tuple[str, str], ...] | list[list[str]],
        *,
        method: str = "GET",
        user: str | None = "admin",
    ) -> AsyncIterator[Conversation]:
        """Send one request and read the head of its answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
            if not any(name == "Host" for name, _ in headers):
                lines.append("Host: lab")
            if user:
                lines.append(f"Authorization: Bearer token-of-{user}")
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            async with asyncio.timeout(LIMIT):
                head = await reader.readuntil(b"\r\n\r\n")
            first, *rest = head.decode().rstrip("\r\n").split("\r\n")
            yield Conversation(reader, writer, first, [line.split(": ", 1) for line in rest])
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def exec(self, query: str, protocol: str = "v5.channel.k8s.io", pod: str = "ticker", **how: str):
        """Ask for an exec over a WebSocket."""
        headers = (*WEBSOCKET, ("Sec-WebSocket-Protocol", protocol))
        return self.ask(f"/api/v1/namespaces/real/pods/{pod}/exec?{query}", headers, **how)


@asynccontextmanager
async def stream_server(store: Store) -> AsyncIterator[Server]:
    """Serve a store."""
    cluster = Cluster(store)
    app = make_app(store, cluster.logs, Users(TOKENS))
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Server(int(runner.addresses[0][1]), cluster)
    finally:
        await runner.cleanup()
