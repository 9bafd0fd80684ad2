"""P-12: 200,000 log lines a second through SSH and TLS into the console's log pane, the loop awake all the time."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack

from bench.harness import server_process
from bench.rows import Row, at_least, at_most, missing
from bench.tunnels import console_environment, in_console, jump_box

RATE = 200_000
SECONDS = 10


def run() -> list[Row]:
    """Lines that arrived against lines that were sent, and how late the loop's wake-ups come."""
    what = "log lines into the pane through SSH and TLS"
    if shutil.which("sshd") is None:
        return [missing("P-12", what, "OpenSSH")]
    found = asyncio.run(_run())
    return [
        at_least("P-12", f"{what}: received of {RATE:,} a second", found["rate"] / RATE, 0.95),
        at_most("P-12", f"{what}: 99 of 100 loop wake-ups are late by at most", found["lag"], 50, " ms"),
    ]


async def _run() -> dict[str, float]:
    async with AsyncExitStack() as stack:
        box = await stack.enter_async_context(jump_box())
        home, folder = stack.enter_context(console_environment([box]))
        words = ("--lines", 1_000_000, "--rate", RATE, "--tls", folder)
        port = stack.enter_context(server_process("bench.log_server", *words))
        return await in_console(home.variables, SECONDS, home.add(port))
