"""P-11: sockets on which the console listens with five SSH routes open: none."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

from bench.harness import server_process
from bench.rows import Row, missing
from bench.tunnels import console_environment, in_console, jump_box

ROUTES = 5


def run() -> list[Row]:
    """Five profiles, each through a jump box of its own."""
    what = f"listening sockets of the console with {ROUTES} SSH routes open"
    if shutil.which("sshd") is None:
        return [missing("P-11", what, "OpenSSH")]
    if not Path("/proc/self/net/tcp").exists():
        return [missing("P-11", what, "/proc")]
    found = asyncio.run(_run())["listening"]
    return [Row("P-11", what, f"{found:.0f}", "0", found == 0)]


async def _run() -> dict[str, float]:
    async with AsyncExitStack() as stack:
        boxes = [await stack.enter_async_context(jump_box()) for _ in range(ROUTES)]
        home, folder = stack.enter_context(console_environment(boxes))
        port = stack.enter_context(server_process("bench.log_server", "--lines", 1000, "--tls", folder))
        return await in_console(home.variables, 0, home.add(port))
