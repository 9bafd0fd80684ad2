"""P-9: our SSH channels against `ssh -L`, same cipher, same server, same run."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time

from bench.harness import server_process
from bench.rows import Row, at_least, at_most, missing
from bench.tunnels import direct, download, jump_box, openssh, our_tunnel, round_trip, upload

BYTES = 200_000_000
RUNS = 5
ECHOES = 500


def run() -> list[Row]:
    """Bulk both ways, the echo of a byte, and the time to the first echo."""
    if shutil.which("ssh") is None or shutil.which("sshd") is None:
        return [missing("P-9", "SSH channels against `ssh -L`", "OpenSSH")]
    return asyncio.run(_run())


async def _run() -> list[Row]:
    ours: dict[str, list[float]] = {"down": [], "up": [], "echo": [], "connect": []}
    theirs: dict[str, list[float]] = {"down": [], "up": [], "echo": [], "connect": []}
    with server_process("bench.byte_server") as port:
        async with jump_box() as (server, key):
            async with our_tunnel(server, key) as to:  # what is loaded once in the life of the console is loaded
                await round_trip(to(port), b"echo", b"x", 1, 1)
            for _ in range(RUNS):
                started = time.perf_counter()
                async with openssh(server, key, port) as local:
                    dial = direct(local)
                    await round_trip(dial, b"echo", b"x", 1, 1)
                    theirs["connect"].append(time.perf_counter() - started)
                    theirs["down"].append(await download(dial, BYTES))
                    theirs["up"].append(await upload(dial, BYTES))
                    theirs["echo"].append(await round_trip(dial, b"echo", b"x", 1, ECHOES))
                started = time.perf_counter()
                async with our_tunnel(server, key) as to:
                    await round_trip(to(port), b"echo", b"x", 1, 1)
                    ours["connect"].append(time.perf_counter() - started)
                    ours["down"].append(await download(to(port), BYTES))
                    ours["up"].append(await upload(to(port), BYTES))
                    ours["echo"].append(await round_trip(to(port), b"echo", b"x", 1, ECHOES))

    def ratio(what: str) -> float:
        return statistics.median(ours[what]) / statistics.median(theirs[what])

    return [
        at_least("P-9", "SSH channel, bulk down against `ssh -L`, same cipher", ratio("down"), 0.9),
        at_least("P-9", "SSH channel, bulk up against `ssh -L`, same cipher", ratio("up"), 0.9),
        at_most("P-9", "SSH channel, echo of one byte against `ssh -L`", ratio("echo"), 1.3),
        at_most("P-9", "SSH hop, from nothing to the first echo against `ssh -L`", ratio("connect"), 0.5),
    ]
