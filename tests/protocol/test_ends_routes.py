"""Every way to end `exec` and `connect` over a jump box: no program, no port, no file is left (R-15, R-16)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.leftovers import Temp, listening
from tests.peers import require_linux
from tests.running import jumpdeck
from tests.ssh_world import World, ssh_world
from tests.sshd import USER
from tests.terminal import Terminal

require_linux("needs /proc and pseudo-terminals")

TIMES = 50 if os.environ.get("SOAK") else 1
CHILD = """sed -n 's/.*"server": ".*:\\([0-9]*\\)".*/listens at \\1/p' $KUBECONFIG; echo started; exec sleep 300"""
WORDS = {"exec": ("exec", "far", "--", "sh", "-c", CHILD), "connect": ("connect", "far")}


@pytest.fixture
def temp() -> Iterator[Temp]:
    """Short, as a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="jd-") as folder:
        yield Temp(Path(folder))


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with ssh_world(tmp_path / "world") as opened:
        configure(opened, opened.servers[0].port)
        yield opened


def configure(world: World, port: int) -> dict[str, str]:
    hop = f"{{ ssh = '{USER}@127.0.0.1:{port}', key = '{world.key}', host-key = '{world.servers[0].fingerprint}' }}"
    return world.configure(f"[profile.far]\ncluster = {{cluster}}\nvia = [{hop}]\n")


def environment(world: World, temp: Temp) -> dict[str, str]:
    return {**temp.environment, "JUMPDECK_CONFIG_DIR": str(world.folder / "config")}


def port_in(written: bytes) -> int:
    """The listener's port: printed by the child of `exec`, or by `connect` itself."""
    found = re.search(rb"(?:listens at |is UP; 127\.0\.0\.1:)(\d+)", written)
    assert found is not None
    return int(found.group(1))


def end(terminal: Terminal, how: str) -> None:
    if how == "ctrl-c":
        terminal.type(b"\x03")
    elif how == "hang-up":
        terminal.hang_up()
    else:
        terminal.process.send_signal(getattr(signal, f"SIG{how}"))


@pytest.mark.parametrize(
    ("which", "how", "code"),
    [
        ("exec", "TERM", 143), ("exec", "HUP", 129), ("exec", "ctrl-c", 130), ("exec", "hang-up", None),
        ("connect", "TERM", 143), ("connect", "HUP", 143), ("connect", "INT", 130), ("connect", "ctrl-c", 130),
        ("connect", "hang-up", None),
    ],
)  # fmt: skip
async def test_a_lent_route_ends_clean(world: World, temp: Temp, which: str, how: str, code: int | None) -> None:
    for _ in range(TIMES):
        terminal = Terminal(*WORDS[which], **environment(world, temp))
        try:
            seen = b"started" if which == "exec" else b"export KUBECONFIG="
            await terminal.until(lambda written, seen=seen: seen in written and written.endswith(b"\n"))
            port = port_in(terminal.written)
            assert len(listening(terminal.process.pid)) == 1
            end(terminal, how)
            ended = await terminal.ended()
            if code is not None:
                assert ended == code, terminal.written
                assert terminal.modes() == terminal.modes_before
            assert b"Traceback" not in terminal.written
            await temp.all_gone()
            assert temp.left() == []
            assert refused(port)
        finally:
            terminal.close()


@pytest.mark.parametrize("which", ["exec", "connect"])
async def test_what_a_killed_one_leaves_goes_with_the_next(world: World, temp: Temp, which: str) -> None:
    for _ in range(TIMES):
        terminal = Terminal(*WORDS[which], **environment(world, temp))
        try:
            seen = b"started" if which == "exec" else b"export KUBECONFIG="
            await terminal.until(lambda written, seen=seen: seen in written and written.endswith(b"\n"))
            port = port_in(terminal.written)
            terminal.process.kill()
            assert await terminal.ended() == -signal.SIGKILL
            await temp.all_gone()  # the program has ended with us
            assert refused(port)
        finally:
            terminal.close()
    done = await jumpdeck("exec", "far", "--", "true", **environment(world, temp))
    assert done.code == 0, done.err
    assert temp.left() == []


@pytest.mark.parametrize("which", ["exec", "connect"])
@pytest.mark.parametrize(("how", "code"), [("TERM", 143), ("INT", 130), ("HUP", None), ("KILL", -9)])
async def test_one_that_still_connects_ends_clean(
    world: World, temp: Temp, which: str, how: str, code: int | None
) -> None:
    reached = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    configure(world, server.sockets[0].getsockname()[1])
    try:
        for _ in range(TIMES):
            reached.clear()
            terminal = Terminal(*WORDS[which], **environment(world, temp))
            try:
                async with asyncio.timeout(60):
                    await reached.wait()
                end(terminal, how)
                ended = await terminal.ended()
                assert code in (ended, None), terminal.written
                assert b"Traceback" not in terminal.written
                assert b"started" not in terminal.written
                await temp.all_gone()
                assert temp.left() == []
            finally:
                terminal.close()
    finally:
        server.close()


def refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
