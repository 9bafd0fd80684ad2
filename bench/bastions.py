"""What P-14 and P-15 share: our way through a bastion host that runs in a process of its own."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from app.azure.context import Azure
from app.dialer import Dialer, ProtocolFactory
from app.identity.clouds import CloudEndpoints
from app.lab.certificates import make_certificates
from app.profiles.model import AksCluster, BastionHop, Profile, SshHop
from app.routes.bastion import BastionDial
from app.routes.bastion_dialer import BastionLimits
from app.routes.build import build_hops
from app.routes.context import RouteContext
from app.routes.direct import DirectDialer
from app.routes.host_keys import HostKeys
from app.routes.websocket_frames import FRAME_SIZE
from app.secrets.secret import SecretMemory, SecretSource
from bench.tunnels import Dial
from tests.bastion_client import FakeArm, FakeIdentity, bastion_document
from tests.bastion_world import AKS, BASTION, VM
from tests.sshd import USER, Sshd

NAME = "localhost"
"""In every server's certificate here."""
PATIENT = BastionLimits(first_byte=60.0, last_first_byte=60.0, stream=120.0)
"""An upload has its first byte from the other side when it is over."""


@contextmanager
def certificates() -> Iterator[Path]:
    """A folder with ca.pem, server.pem and server.key."""
    with tempfile.TemporaryDirectory(prefix="jumpdeck-bench-") as name:
        make_certificates(Path(name))
        (Path(name) / "ca.pem").chmod(0o600)
        yield Path(name)


@dataclass
class Client:
    """Who goes through the bastion host at `port`."""

    folder: Path
    port: int
    frame_size: int = FRAME_SIZE

    def _context(self) -> RouteContext:
        endpoints = CloudEndpoints(
            "bench", "https://localhost", "https://localhost", "arm", ca_file=self.folder / "ca.pem"
        )
        arm = FakeArm({BASTION: bastion_document(f"127.0.0.1:{self.port}")})

        async def azure() -> Azure:
            return Azure(FakeIdentity(), endpoints, cast("Any", arm))

        keys = HostKeys(own=self.folder / "known_hosts", others=())
        return RouteContext(None, SecretSource(None, SecretMemory()), keys, azure=azure)

    @asynccontextmanager
    async def opened(self, *hops: BastionHop | SshHop) -> AsyncIterator[Dialer]:
        """These hops, one in the other."""
        profile = Profile("bench", AksCluster(AKS), via=hops)
        dialer: Dialer = DirectDialer()
        async with AsyncExitStack() as stack:
            for hop in build_hops(profile, context=self._context()):
                if isinstance(hop, BastionDial):
                    hop.frame_size, hop.limits = self.frame_size, PATIENT
                dialer = await stack.enter_async_context(hop.open(dialer))
            yield dialer

    @asynccontextmanager
    async def to_cluster(self) -> AsyncIterator[Dial]:
        """Streams straight to the cluster behind the Bastion."""
        async with self.opened(BastionHop(BASTION)) as dialer:
            yield lambda factory: dialer.dial("cluster", 443, factory)

    @asynccontextmanager
    async def to_machine(self, server: Sshd, key: Path, port: int) -> AsyncIterator[Dial]:
        """Streams to a port behind the SSH server of the machine behind the Bastion."""
        ssh = SshHop((f"{USER}@vm",), key=key, host_key=server.fingerprint)
        async with self.opened(BastionHop(BASTION, (VM,)), ssh) as dialer:
            yield lambda factory: dialer.dial("127.0.0.1", port, factory)


def trust(folder: Path) -> ssl.SSLContext:
    """A client's."""
    return ssl.create_default_context(cafile=str(folder / "ca.pem"))


def secured(dial: Dial, context: ssl.SSLContext) -> Dial:
    """The same streams with TLS on top."""

    async def to(factory: ProtocolFactory) -> asyncio.Transport:
        lower = await dial(asyncio.Protocol)
        protocol = factory()
        transport = await asyncio.get_running_loop().start_tls(lower, protocol, context, server_hostname=NAME)
        assert transport is not None
        protocol.connection_made(transport)
        return transport

    return to


def plain_tls(port: int, context: ssl.SSLContext) -> Dial:
    """TLS streams to a port of this computer."""

    async def dial(factory: ProtocolFactory) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(factory, "127.0.0.1", port, ssl=context, server_hostname=NAME))[0]

    return dial
