"""Port-forward in the lab as kubectl uses it: SPDY in a WebSocket, and SPDY alone."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from app.lab.exec_files import BLOCK, big
from app.lab.practice import Lab
from app.lab.spdy_frames import Control, Data, FrameReader, FrameWriter, Kind
from app.lab.store import Store
from tests.kubectl import Kubectl
from tests.peers import require
from tests.protocol.lab_streams import LIMIT, WEBSOCKET, Conversation, stream_server

MIB = 1024 if os.environ.get("SOAK") else 16
"""MiB of the large file that are read through the forward."""

FORWARD = "/api/v1/namespaces/default/pods/clock-0/portforward"
SPDY = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "portforward.k8s.io"))
POD = {"metadata": {"name": "clock-0"}, "spec": {"containers": [{"name": "clock"}]}}


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as running:
        running.cluster.add_pod(POD)
        yield running


@pytest.fixture(params=["true", "false"], ids=["websocket", "spdy"])
def kubectl(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Kubectl:
    return Kubectl(lab, require("kubectl"), tmp_path, KUBECTL_PORT_FORWARD_WEBSOCKETS=request.param)


@asynccontextmanager
async def forwarded(kubectl: Kubectl, port: int) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The URL at which a port of the pod can be reached, while the block runs."""
    async with kubectl.started("port-forward", "--address=127.0.0.1", "clock-0", f":{port}") as process:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), LIMIT)).decode()
        found = re.match(rf"Forwarding from 127\.0\.0\.1:(\d+) -> {port}", line)
        assert found, line
        yield f"http://127.0.0.1:{found[1]}", process


async def test_a_page_again_and_at_once(kubectl: Kubectl) -> None:
    limit = aiohttp.ClientTimeout(total=LIMIT)
    async with forwarded(kubectl, 8080) as (url, _), aiohttp.ClientSession(timeout=limit) as session:

        async def page(path: str) -> str:
            async with session.get(url + path) as response:
                assert response.status == 200
                return await response.text()

        assert await page("/one") == "Hello from default/clock-0\nGET /one\n"
        pages = await asyncio.gather(*(page(f"/{number}") for number in range(12)))
        assert pages == [f"Hello from default/clock-0\nGET /{number}\n" for number in range(12)]
        async with session.post(f"{url}/form", data=b"x" * 100_000) as response:
            assert await response.text() == "Hello from default/clock-0\nPOST /form\n"


async def test_a_large_file_arrives_whole(kubectl: Kubectl) -> None:
    wanted, found = hashlib.sha256(), hashlib.sha256()
    for piece in big(MIB * BLOCK):
        wanted.update(piece)
    left = MIB * BLOCK
    limit = aiohttp.ClientTimeout(total=None, sock_read=LIMIT)
    async with forwarded(kubectl, 8080) as (url, _), aiohttp.ClientSession(timeout=limit) as session:
        async with session.get(f"{url}/data/big") as response:
            while left:
                data = await response.content.read(min(left, 2**18))
                assert data
                found.update(data)
                left -= len(data)
            response.close()  # in the middle of the file: the pair ends, the session stays
        async with session.get(f"{url}/after") as response:
            assert response.status == 200
    assert found.hexdigest() == wanted.hexdigest()


async def test_a_port_at_which_nobody_listens(kubectl: Kubectl) -> None:
    async with forwarded(kubectl, 9999) as (url, process), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            async with session.get(url):
                pass
        _, error = await asyncio.wait_for(process.communicate(), LIMIT)
        assert process.returncode == 1
    assert b"an error occurred forwarding" in error
    assert b"dial tcp4 127.0.0.1:9999: connect: connection refused" in error


async def test_a_finished_pod_is_refused(lab: Lab, kubectl: Kubectl) -> None:
    lab.cluster.add_pod({"metadata": {"name": "done"}, "spec": {"restartPolicy": "Never"}})
    lab.cluster.end_container("default", "done", "app", exit_code=0)
    ran = await kubectl.run("port-forward", "done", ":8080")
    assert ran.code == 1
    assert "pod is not running" in ran.err


class Peer:
    """A SPDY client as bytes."""

    def __init__(self, talk: Conversation) -> None:
        self._talk, self._writer, self._reader = talk, FrameWriter(), FrameReader()
        self._frames: list[Data | Control] = []

    def send(self, *frames: Data | Control) -> None:
        for frame in frames:
            made = self._writer.data(frame) if isinstance(frame, Data) else self._writer.control(frame)
            self._talk.writer.write(made)

    def open(self, number: int, **headers: str) -> None:
        self.send(Control(Kind.SYN_STREAM, number, headers))

    async def frame(self) -> Data | Control:
        while not self._frames:
            async with asyncio.timeout(LIMIT):
                data = await self._talk.reader.read(2**16)
            assert data
            self._frames = self._reader.feed(data)
        return self._frames.pop(0)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with stream_server(Store()) as running:
        running.cluster.add_pod(POD)
        async with running.ask(FORWARD, SPDY, method="POST") as talk:
            assert (talk.status, dict(talk.headers)["X-Stream-Protocol-Version"]) == (101, "portforward.k8s.io")
            yield Peer(talk)


async def test_a_pair_of_streams(peer: Peer) -> None:
    peer.open(1, streamtype="error", port="8080", requestid="0")
    peer.open(3, streamtype="data", port="8080", requestid="0")
    peer.send(Data(3, b"HEAD / HTTP/1.0\r\n\r\n"))
    assert [await peer.frame(), await peer.frame()] == [Control(Kind.SYN_REPLY, n, {}) for n in (1, 3)]
    answer = await peer.frame()
    assert isinstance(answer, Data)
    assert answer.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [await peer.frame(), await peer.frame()] == [Data(3, b"", fin=True), Data(1, b"", fin=True)]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"streamtype": "data", "port": "8080"}, id="no request"),
        pytest.param({"streamtype": "data", "requestid": "0"}, id="no port"),
        pytest.param({"streamtype": "data", "port": "65536", "requestid": "0"}, id="no such port"),
        pytest.param({"streamtype": "other", "port": "8080", "requestid": "0"}, id="no kind"),
    ],
)
async def test_streams_that_say_too_little_are_reset(peer: Peer, headers: dict[str, str]) -> None:
    peer.open(1, **headers)
    assert await peer.frame() == Control(Kind.RST_STREAM, 1, code=5)


async def test_two_streams_of_a_kind_are_no_pair(peer: Peer) -> None:
    peer.open(1, streamtype="data", port="8080", requestid="0")
    peer.open(3, streamtype="data", port="8080", requestid="0")
    assert [await peer.frame(), await peer.frame()] == [
        Control(Kind.SYN_REPLY, 1, {}), Control(Kind.RST_STREAM, 3, code=5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"rubbish\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"400 Bad Request"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411 Length Required"),
    ],
)
async def test_what_is_no_request_for_a_page(peer: Peer, request_bytes: bytes, status: bytes) -> None:
    peer.open(1, streamtype="error", port="8080", requestid="0")
    peer.open(3, streamtype="data", port="8080", requestid="0")
    peer.send(Data(3, request_bytes))
    assert [await peer.frame(), await peer.frame()] == [Control(Kind.SYN_REPLY, n, {}) for n in (1, 3)]
    answer = await peer.frame()
    assert isinstance(answer, Data)
    assert answer.data.startswith(b"HTTP/1.1 " + status + b"\r\n")


async def test_protocols_that_are_not_spoken() -> None:
    async with stream_server(Store()) as running:
        running.cluster.add_pod(POD)
        async with running.ask(FORWARD, (*SPDY[:2], ("X-Stream-Protocol-Version", "v9")), method="POST") as talk:
            assert talk.status == 403
            assert b"client supports [v9], server accepts [portforward.k8s.io]" in await talk.body()
        async with running.ask(FORWARD, (*WEBSOCKET, ("Sec-WebSocket-Protocol", "v4.channel.k8s.io"))) as talk:
            assert (talk.status, await talk.rest()) == (403, b"")
        async with running.ask(FORWARD, ()) as talk:
            assert talk.status == 400
