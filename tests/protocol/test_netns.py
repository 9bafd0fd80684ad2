"""The client's own address is replaced while a session is UP (R-01, R-04): found out, and back, with every line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.peers import require, require_namespaces

LIMIT = 75.0
"""Seconds for the whole of it, of which finding out may take thirty."""


async def test_a_replaced_address_costs_no_line(tmp_path: Path) -> None:
    require("sshd", "ssh-keygen")
    require_namespaces()
    process = await asyncio.create_subprocess_exec(
        "unshare", "-n", sys.executable, "-m", "tests.netns_world", str(tmp_path),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode == 0, told.decode()
