"""P-14: what a WebSocket costs beside plain TLS, and what a whole Bastion costs beside the SSH channel behind it."""

from __future__ import annotations

import asyncio
import shutil
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.bastions import Client, certificates, plain_tls, secured, trust
from bench.harness import server_process
from bench.rows import Row, at_least, missing
from bench.tunnels import Dial, download, jump_box, our_tunnel, upload

BYTES = 100_000_000
RUNS = 5
FRAME = 32 << 10
WAYS: tuple[tuple[str, Callable[[Dial, int], Awaitable[float]]], ...] = (("down", download), ("up", upload))


def run() -> list[Row]:
    """Each both ways, in turn with its peer."""
    return asyncio.run(_run())


async def _run() -> list[Row]:
    with certificates() as folder:
        rows = await _websocket(folder)
        if shutil.which("sshd") is None:
            return [*rows, missing("P-14", "WebSocket, SSH, TLS stacked against the SSH channel", "OpenSSH")]
        return rows + await _stacked(folder)


async def _compared(what: str, ours: Dial, theirs: Dial, target: float) -> list[Row]:
    rows = []
    for way, move in WAYS:
        await move(ours, BYTES // 10)  # what is loaded once in the life of the console is loaded
        ratios = [1 / await move(theirs, BYTES) * await move(ours, BYTES) for _ in range(RUNS)]
        rows.append(at_least("P-14", f"{what}, {way}", statistics.median(ratios), target))
    return rows


async def _websocket(folder: Path) -> list[Row]:
    """Servers that cost little, so that the client is measured."""
    with (
        server_process("bench.byte_server", "--tls", folder) as plain,
        server_process("bench.frame_server", folder) as port,
    ):
        async with Client(folder, port, FRAME).to_cluster() as ours:
            what = "WebSocket over TLS, frames of 32 KiB, against plain TLS"
            return await _compared(what, ours, plain_tls(plain, trust(folder)), 0.6)


async def _stacked(folder: Path) -> list[Row]:
    """The lab's own bastion host, and the same sshd with and without it; TLS on top of both."""
    context = trust(folder)
    with server_process("bench.byte_server", "--tls", folder) as far:
        async with jump_box() as (server, key):
            words = ("--certificates", folder, "--machine", server.port)
            with server_process("bench.bastion_server", *words) as port:
                async with (
                    our_tunnel(server, key) as to,
                    Client(folder, port, FRAME).to_machine(server, key, far) as through,
                ):
                    what = "WebSocket, SSH, TLS stacked against the SSH channel with TLS"
                    return await _compared(what, secured(through, context), secured(to(far), context), 0.5)
