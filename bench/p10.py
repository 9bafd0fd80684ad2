"""P-10: a jump box 40 ms away (bulk), and small requests whose answers come in two writes (Nagle), against `ssh -L`."""

from __future__ import annotations

import asyncio
import shutil
import statistics

from bench.byte_server import BODY, HEAD
from bench.harness import server_process
from bench.rows import Row, at_least, at_most, missing
from bench.tunnels import direct, download, jump_box, openssh, our_tunnel, round_trip

ONE_WAY = 20
"""Milliseconds in each direction."""
BYTES = 100_000_000
RUNS = 3
REQUESTS = 60


def run() -> list[Row]:
    """Bulk down over the long line; the median small request on a short one."""
    if shutil.which("ssh") is None or shutil.which("sshd") is None:
        return [missing("P-10", "a jump box far away, against `ssh -L`", "OpenSSH")]
    return asyncio.run(_run())


async def _run() -> list[Row]:
    ours, theirs, our_small, their_small = [], [], [], []
    with server_process("bench.byte_server") as port:
        async with jump_box() as (server, key):
            with server_process("bench.delay", "--to", server.port, "--milliseconds", ONE_WAY) as far:
                for _ in range(RUNS):
                    async with openssh(server, key, port, far) as local:
                        theirs.append(await download(direct(local), BYTES))
                    async with our_tunnel(server, key, far) as to:
                        ours.append(await download(to(port), BYTES))
            for _ in range(RUNS):
                size = len(HEAD) + len(BODY)
                async with openssh(server, key, port) as local:
                    their_small.append(await round_trip(direct(local), b"web", b"GET\n", size, REQUESTS))
                async with our_tunnel(server, key) as to:
                    our_small.append(await round_trip(to(port), b"web", b"GET\n", size, REQUESTS))
    bulk = statistics.median(ours) / statistics.median(theirs)
    small = statistics.median(our_small) / statistics.median(their_small)
    return [
        at_least("P-10", "bulk down at 40 ms round trip against `ssh -L`", bulk, 1.5),
        at_most("P-10", "small request, answered in two writes, against `ssh -N -L`", small, 0.1),
    ]
