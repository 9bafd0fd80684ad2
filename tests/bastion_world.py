"""A bastion host of the lab with targets that echo, and the published az client in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import websocket

from app.lab.bastion import BastionPlane
from app.lab.bastion_sessions import Counters
from app.lab.certificates import Certificates, make_certificates
from app.lab.door import ProtocolFactory, Reach
from tests.az_client import LIMIT, AzClient, Tokens

GROUP = "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/lab/providers"
VM = f"{GROUP}/Microsoft.Compute/virtualMachines/jump"
AKS = f"{GROUP}/Microsoft.ContainerService/managedClusters/lab-aks"
BASTION = f"{GROUP}/Microsoft.Network/bastionHosts/lab-bastion"
TOKEN = "lab-arm-token"

THREADS = 50

T = TypeVar("T")


@dataclass
class World:
    """A bastion host with three kinds of ports: 22 echoes, 23 says a word and closes, 24 takes nothing."""

    plane: BastionPlane
    certificates: Certificates
    pool: ThreadPoolExecutor
    echoes: list[asyncio.StreamWriter]

    def put(self, resource: str, port: int, at: int) -> None:
        """What listens at this loopback port is the target's port from now on."""

        async def reach(factory: ProtocolFactory) -> None:
            await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", at)

        self.plane._targets[resource.lower()] = {port: reach}

    @property
    def az(self) -> AzClient:
        return AzClient(self.plane.host, self.certificates.ca, TOKEN)

    async def run(self, call: Callable[..., T], *args: object, **how: object) -> T:
        """Call what blocks, while the host is served."""
        async with asyncio.timeout(2 * LIMIT):
            return await asyncio.get_running_loop().run_in_executor(self.pool, lambda: call(*args, **how))

    async def until(self, seen: Callable[[Counters], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            await self.plane.counters.until(seen)

    async def session(self, resource: str = VM, port: int = 22) -> Tokens:
        return await self.run(self.az.exchange, resource, port)

    async def opened(self, port: int = 22) -> tuple[Tokens, websocket.WebSocket]:
        tokens = await self.session(port=port)
        return tokens, await self.run(self.az.open, tokens)


def echoed(socket_: websocket.WebSocket, data: bytes) -> object:
    """Say something and hear it again."""
    socket_.send_binary(data)
    return socket_.recv()


@asynccontextmanager
async def bastion_world(folder: Path) -> AsyncIterator[World]:
    """A host with its certificates in `folder`."""
    echoes: list[asyncio.StreamWriter] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        echoes.append(writer)
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def word(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"word")
        writer.close()

    async def closed(_: ProtocolFactory) -> None:
        raise ConnectionRefusedError

    def to(server: asyncio.Server) -> Reach:
        async def reach(factory: ProtocolFactory) -> None:
            await asyncio.get_running_loop().create_connection(factory, *server.sockets[0].getsockname())

        return reach

    certificates = make_certificates(folder)
    async with (
        await asyncio.start_server(echo, "127.0.0.1", 0) as one,
        await asyncio.start_server(word, "127.0.0.1", 0) as other,
    ):
        ports: dict[int, Reach] = {22: to(one), 23: to(other), 24: closed}
        plane = BastionPlane(
            certificates.server_context(), {TOKEN: "somebody"}.get, {VM: ports, AKS: {443: to(one)}},
            addresses={"10.0.0.4": ports},
        )  # fmt: skip
        with ThreadPoolExecutor(THREADS) as pool:
            async with plane:
                yield World(plane, certificates, pool, echoes)
