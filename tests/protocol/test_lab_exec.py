"""Exec and attach in the lab as kubectl uses them, over WebSockets and over SPDY; and what only raw bytes can show."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.lab.exec_files import BIG_SHA256, BIG_SIZE, BLOCK, big
from app.lab.practice import Lab
from app.lab.store import Store
from tests.kubectl import Kubectl
from tests.peers import require
from tests.protocol.lab_streams import LIMIT, WEBSOCKET, Server, stream_server
from tests.terminal import Terminal

MIB = 1024 if os.environ.get("SOAK") else 32
"""MiB that pass through kubectl."""


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as running:
        running.cluster.add_pod({"metadata": {"name": "clock-0"}, "spec": {"containers": [{"name": "clock"}]}})
        two = {"containers": [{"name": "app"}, {"name": "proxy"}]}
        running.cluster.add_pod({"metadata": {"name": "two", "namespace": "team-a"}, "spec": two})
        yield running


@pytest.fixture(params=["true", "false"], ids=["websocket", "spdy"])
def kubectl(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Kubectl:
    return Kubectl(lab, require("kubectl"), tmp_path, KUBECTL_REMOTE_COMMAND_WEBSOCKETS=request.param)


async def test_output_errors_and_exit_codes(kubectl: Kubectl) -> None:
    ran = await kubectl.run("exec", "clock-0", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ran.code, ran.out, ran.err) == (3, b"out\n", "err\ncommand terminated with exit code 3\n")
    good = await kubectl.run("exec", "clock-0", "-c", "clock", "--", "cat", "/etc/hostname")
    assert (good.code, good.out, good.err) == (0, b"clock-0\n", "")


async def test_standard_input_reaches_the_program_and_ends(kubectl: Kubectl) -> None:
    short = await kubectl.run("exec", "-i", "clock-0", "--", "cat", stdin=b"hi\n")
    assert (short.code, short.out) == (0, b"hi\n")
    many = bytes(range(256)) * 8_192
    digest = await kubectl.run("exec", "-i", "clock-0", "--", "sha256sum", stdin=many)
    assert digest.out.decode() == f"{hashlib.sha256(many).hexdigest()}  -\n"
    early = await kubectl.run("exec", "-i", "clock-0", "--", "head", "-c", "3", stdin=many)
    assert (early.code, early.out) == (0, many[:3])


async def test_a_large_file_arrives_whole(kubectl: Kubectl) -> None:
    size = MIB * BLOCK
    read, digest = 0, hashlib.sha256()
    async with kubectl.started("exec", "clock-0", "--", "head", "-c", f"{MIB}m", "/data/big") as process:
        assert process.stdout is not None
        while data := await asyncio.wait_for(process.stdout.read(2**20), LIMIT):
            read += len(data)
            digest.update(data)
        assert await asyncio.wait_for(process.wait(), LIMIT) == 0
    assert read == size
    if size == BIG_SIZE:
        assert digest.hexdigest() == BIG_SHA256
    else:
        wanted = hashlib.sha256()
        for piece in big(size):
            wanted.update(piece)
        assert digest.hexdigest() == wanted.hexdigest()


async def test_what_cannot_be_run_is_told_as_kubectl_tells_it(kubectl: Kubectl) -> None:
    nosuch = await kubectl.run("exec", "clock-0", "--", "nosuch")
    assert (nosuch.code, nosuch.out) == (1, b"")
    assert nosuch.err.startswith("error: Internal error occurred: ")
    assert 'exec: "nosuch": executable file not found in $PATH: unknown' in nosuch.err
    missing = await kubectl.run("exec", "nosuch", "--", "ls")
    assert (missing.code, missing.err) == (1, 'Error from server (NotFound): pods "nosuch" not found\n')
    container = await kubectl.run("exec", "clock-0", "-c", "nosuch", "--", "ls")
    assert "container nosuch is not valid for pod clock-0" in container.err
    first = await kubectl.run("exec", "-n", "team-a", "two", "--", "hostname")
    assert (first.out, first.err) == (b"two\n", 'Defaulted container "app" out of: app, proxy\n')


async def test_those_who_may_not_are_refused(kubectl: Kubectl) -> None:
    ran = await kubectl.run("--context", "lab-restricted", "exec", "-n", "team-a", "two", "-c", "app", "--", "ls")
    assert ran.code == 1
    assert 'User "restricted" cannot create resource "pods/exec"' in ran.err or "cannot get resource" in ran.err


async def test_a_finished_pod_is_refused(lab: Lab, kubectl: Kubectl) -> None:
    spec = {"containers": [{"name": "app"}], "restartPolicy": "Never"}
    lab.cluster.add_pod({"metadata": {"name": "done"}, "spec": spec})
    lab.cluster.end_container("default", "done", "app", exit_code=0)
    ran = await kubectl.run("exec", "done", "--", "ls")
    assert (ran.code, ran.out) == (1, b"")
    assert "completed pod" in ran.err


async def test_a_shell_in_a_terminal(kubectl: Kubectl) -> None:
    names = ("KUBECONFIG", "HOME", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS")
    script = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    environment = {name: kubectl.environment[name] for name in names}
    words = (kubectl.program, "exec", "-it", "clock-0", "--", "sh")
    terminal = Terminal(*words, script=script, columns=99, rows=33, **environment)
    try:
        await terminal.until(lambda seen: seen.endswith(b"/ # "))
        terminal.type(b"echo on; sleep 1000\r")
        await terminal.until(lambda seen: b"\non\r\n" in seen)
        terminal.type(b"\x03")
        await terminal.until(lambda seen: seen.endswith(b"^C\r\n/ # "))
        terminal.type(b"stty size\r")
        await terminal.until(lambda seen: b"\n33 99\r\n" in seen)
        terminal.type(b"exit 5\r")
        assert await terminal.ended() == 5
        assert terminal.modes() == terminal.modes_before
    finally:
        terminal.close()


async def test_attach_shows_the_lines_that_come(lab: Lab, kubectl: Kubectl) -> None:
    async with kubectl.started("attach", "clock-0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        opened = asyncio.wait_for(process.stderr.readline(), LIMIT)
        assert b"If you don't see a command prompt" in await opened
        log = lab.cluster.log("default", "clock-0", "clock")
        async with asyncio.timeout(LIMIT):
            line = asyncio.ensure_future(process.stdout.readline())
            while not line.done():  # until the stream is open nothing is shown; attach has no history
                log.write(b"tick\n", 1)
                await asyncio.wait({line}, timeout=0.1)
        assert line.result() == b"tick\n"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with stream_server(Store()) as running:
        running.cluster.add_pod({"metadata": {"name": "ticker", "namespace": "real"}})
        yield running


async def test_base64_messages_go_both_ways(server: Server) -> None:
    async with server.exec("command=head&command=-c&command=5&stdin=1&stdout=1", "v4.base64.channel.k8s.io") as got:
        got.send(b"0" + base64.b64encode(b"hello world"), op=1)
        assert await got.message() == (0x81, b"1")
        assert await got.message() == (0x81, b"1" + base64.b64encode(b"hello"))
        first, status = await got.message()
        assert (first, status[:1]) == (0x81, b"3")
        assert json.loads(base64.b64decode(status[1:])) == {"metadata": {}, "status": "Success"}


async def test_a_message_in_pieces_a_ping_and_a_close(server: Server) -> None:
    async with server.exec("command=cat&stdin=1&stdout=1") as got:
        assert await got.message() == (0x82, b"\x01")
        got.writer.write(b"\x02\x83" + bytes(4) + b"\x00he" + b"\x80\x83" + bytes(4) + b"llo")
        assert await got.message() == (0x82, b"\x01hello")
        got.send(b"are you there", op=9)
        assert await got.message() == (0x8A, b"are you there")
        got.send((1000).to_bytes(2, "big"), op=8)
        assert await got.rest() == b"\x88\x02\x03\xe8"


async def test_only_v5_can_end_standard_input(server: Server) -> None:
    async with server.exec("command=cat&stdin=1&stdout=1", "v4.channel.k8s.io") as got:
        assert await got.message() == (0x82, b"\x01")
        got.send(b"\xff\x00")
        got.send(b"\x00more")
        assert await got.message() == (0x82, b"\x01more")


async def test_a_client_that_breaks_the_protocol_is_told(server: Server) -> None:
    async with server.exec("command=cat&stdin=1&stdout=1") as got:
        assert await got.message() == (0x82, b"\x01")
        got.writer.write(b"\x82\x01x")
        assert await got.rest() == b"\x88\x02\x03\xea"


async def test_a_handshake_without_a_key_is_refused(server: Server) -> None:
    headers = tuple(pair for pair in WEBSOCKET if pair[0] != "Sec-WebSocket-Key")
    async with server.ask("/api/v1/namespaces/real/pods/ticker/exec?command=ls&stdout=1", headers) as got:
        assert (got.status_line, await got.rest()) == ("HTTP/1.1 400 Bad Request", b"")


def _running() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("lab exec")}


async def test_a_client_that_goes_ends_its_program(server: Server) -> None:
    async with server.exec("command=sleep&command=1000&stdout=1") as got:
        assert await got.message() == (0x82, b"\x01")
        tasks = _running()
        assert tasks
    async with asyncio.timeout(LIMIT):
        await asyncio.wait(tasks)


async def test_a_client_that_does_not_read_holds_its_program_and_nobody_else(server: Server) -> None:
    size = 64 * BLOCK  # far more than the sockets of both ends hold
    async with server.exec(f"command=head&command=-c&command={size}&command=/data/big&stdout=1") as slow:
        for _ in range(40):  # more turns of the loop than the program needs when nothing holds it
            async with server.exec("command=echo&command=x&stdout=1") as other:
                assert (await other.channels())[1] == b"x\n"
        assert any(task.get_name() == "lab exec: head" for task in _running())
        assert len((await slow.channels())[1]) == size


async def test_bytes_that_are_no_text_do_no_harm(server: Server) -> None:
    async with server.exec("command=echo&command=%ff%00%0a&stdout=1") as got:
        assert (await got.channels())[1].endswith(b"\n")
    async with server.exec("command=%ff&stdout=1") as got:
        status = (await got.channels())[3]
    assert json.loads(status)["code"] == 500
    async with server.exec("command=sh&stdin=1&stdout=1&stderr=1&tty=1") as got:
        got.send(b"\x00\xff\xfe\rexit 4\r")
        got.send(b"\x04no size")
        assert json.loads((await got.channels())[3])["details"]["causes"][0]["message"] == "4"


async def test_a_server_that_stops_ends_its_streams() -> None:
    async with stream_server(Store()) as running:
        running.cluster.add_pod({"metadata": {"name": "ticker", "namespace": "real"}})
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        lines = [*WEBSOCKET, ("Host", "lab"), ("Authorization", "Bearer token-of-admin")]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        target = "/api/v1/namespaces/real/pods/ticker/exec?command=sleep&command=9999&stdout=1"
        writer.write(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
        await reader.readuntil(b"\x82\x01\x01")
    async with asyncio.timeout(LIMIT):
        with suppress(ConnectionError):  # a reset says the same as an end
            assert await reader.read() == b""
    writer.close()
    assert not _running()


async def test_a_pod_without_a_node_and_a_method_that_is_none(server: Server) -> None:
    waiting = {"metadata": {"name": "waiting", "namespace": "real"}, "spec": {}, "status": {"phase": "Pending"}}
    server.cluster.add_pod(waiting)
    async with server.exec("command=ls&stdout=1", pod="waiting") as got:
        assert got.status == 400
        assert json.loads(await got.body())["message"] == "pod waiting does not have a host assigned"
    async with server.exec("command=ls&stdout=1", method="PUT") as got:
        assert got.status == 405
