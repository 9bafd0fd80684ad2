"""P-15: from a dial through a Bastion to the first byte of the API, when each of its HTTP answers takes 300 ms more."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.bastions import Client, certificates, plain_tls, secured, trust
from bench.harness import server_process
from bench.rows import Row, at_most
from bench.tunnels import Count, Dial

ADDED = 0.3
"""Seconds that every HTTP answer takes longer: token, upgrade, deletion."""
RUNS = 7
WITHOUT = 2 * ADDED
"""Seconds that no client can save: one token call, then one upgrade with what it brought."""


def run() -> list[Row]:
    """The first stream of a hop, and one dialled while the session of another is being deleted."""
    return asyncio.run(_run())


async def first_byte(dial: Dial) -> tuple[float, asyncio.Transport]:
    """Seconds from the dial to the first byte of an answer, and the stream, which stands."""
    protocol = Count()
    started = time.perf_counter()
    transport = await dial(lambda: protocol)
    came = protocol.expect(1)
    transport.write(b"web\nGET /version\n")
    await came
    return time.perf_counter() - started, transport


async def _run() -> list[Row]:
    with certificates() as folder, server_process("bench.byte_server", "--tls", folder) as far:
        words = ("--certificates", folder, "--cluster", far, "--milliseconds", ADDED * 1000)
        with server_process("bench.bastion_server", *words) as port:
            context = trust(folder)
            plain, alone, after = [], [], []
            for number in range(RUNS + 1):  # the first loads what is loaded once in the life of the console
                seconds, transport = await first_byte(plain_tls(far, context))
                transport.abort()
                async with Client(folder, port).to_cluster() as bare:
                    dial = secured(bare, context)
                    cold, transport = await first_byte(dial)
                    transport.abort()  # its session is being deleted when the next one is asked for
                    warm, transport = await first_byte(dial)
                    transport.abort()
                if number:
                    plain.append(seconds)
                    alone.append(cold)
                    after.append(warm)
    least = WITHOUT + statistics.median(plain)
    what = "Bastion, dial to first API byte against token call + upgrade + TLS"
    return [
        at_most("P-15", f"{what}: first", statistics.median(alone) / least, 1.15),
        at_most("P-15", f"{what}: next, amid a DELETE", statistics.median(after) / least, 1.15),
    ]
