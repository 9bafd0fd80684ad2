"""Our own HTTP client against servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from app.cluster.api import ApiClient
from app.cluster.http_unary import MAX_CONNECTIONS
from app.errors import JumpdeckError
from app.routes.direct import DirectDialer
from tests.tls_servers import access_to, api_server, raw_server

REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
JSON = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def client(port: int, scheme: str = "http") -> AsyncIterator[ApiClient]:
    api = ApiClient(access_to(port, scheme=scheme), DirectDialer())
    try:
        yield api
    finally:
        await api.aclose()


class Script:
    """Answers each request of each connection from a list per connection; counts both."""

    def __init__(self, *connections: list[bytes]) -> None:
        self._connections = list(connections)
        self.requests: list[bytes] = []
        self.opened = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        for answer in self._connections.pop(0):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            if b"Content-Length: " in head:
                await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))
            writer.write(answer)
            await writer.drain()


async def test_requests_one_after_the_other_share_a_connection() -> None:
    peers: set[object] = set()

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        status = 404 if request.path == "/no" else 200
        return web.json_response({"gitVersion": "v1", "body": await request.text()}, status=status)

    async with api_server(answer) as port, client(port, "https") as api:
        await api.probe()
        await api.get("/a")
        with pytest.raises(JumpdeckError):
            await api.get("/no")
        asked = await api.post_review(REVIEW, {"spec": {"x": "ü"}})
        assert json.loads(asked["body"]) == {"spec": {"x": "ü"}}
        assert len(peers) == 1
        await asyncio.gather(*(api.get("/a") for _ in range(20)))
        before = len(peers)
        await asyncio.gather(*(api.get("/a") for _ in range(4)))
        assert len(peers) == before


async def test_fifty_requests_at_once_share_few_connections_and_a_probe_waits_for_none() -> None:
    """Through a Bastion each connection is a session; whether the way is well is asked beside them all the same."""
    held, gate, peers, asked = asyncio.Event(), asyncio.Event(), set[object](), 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        if request.path != "/version":
            asked += 1
            if asked == MAX_CONNECTIONS:
                held.set()
            await gate.wait()
        return web.json_response({"gitVersion": "v1"})

    async with api_server(answer) as port, client(port, "https") as api:
        asking = asyncio.gather(*(api.get("/a") for _ in range(50)))
        await held.wait()
        assert (await api.probe()).version == "v1"
        assert (asked, len(peers)) == (MAX_CONNECTIONS, MAX_CONNECTIONS + 1)
        cut = asyncio.ensure_future(api.get("/a"))
        await asyncio.sleep(0)
        cut.cancel()
        gate.set()
        assert len(await asking) == 50
    assert (asked, len(peers)) == (50, MAX_CONNECTIONS + 1)


async def test_a_get_on_a_connection_that_was_closed_meanwhile_is_sent_anew() -> None:
    script = Script([JSON, b""], [JSON])
    async with raw_server(script.talk) as port, client(port) as api:
        assert await api.get("/1") == b"{}"
        assert await api.get("/2") == b"{}"
    assert (script.opened, len(script.requests)) == (2, 3)


async def test_a_review_is_never_sent_twice() -> None:
    script = Script([JSON, b""], [JSON])
    async with raw_server(script.talk) as port, client(port) as api:
        assert await api.get("/1") == b"{}"
        with pytest.raises(JumpdeckError) as caught:
            await api.post_review(REVIEW, {})
    assert caught.value.code in ("JD-API-CLOSED", "JD-TCP-RESET")
    assert len(script.requests) == 2


async def test_what_began_to_come_is_not_asked_for_again() -> None:
    script = Script([JSON, b"HTTP/1.1 200 OK\r\nContent-Le"], [JSON])
    async with raw_server(script.talk) as port, client(port) as api:
        assert await api.get("/1") == b"{}"
        with pytest.raises(JumpdeckError) as caught:
            await api.get("/2")
    assert caught.value.code in ("JD-API-CLOSED", "JD-TCP-RESET")
    assert len(script.requests) == 2


@pytest.mark.parametrize("first", [
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n{}",
    JSON + b"excess",
])  # fmt: skip
async def test_a_connection_that_cannot_be_used_again_is_not(first: bytes) -> None:
    script = Script([first], [JSON])
    async with raw_server(script.talk) as port, client(port) as api:
        assert await api.get("/1") == b"{}"
        assert await api.get("/2") == b"{}"
    assert (script.opened, len(script.requests)) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "JD-API-NOT-HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "JD-API-NOT-HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "JD-API-NOT-HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", "JD-API-NOT-HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", "JD-API-NOT-HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "JD-API-TRUNCATED"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "JD-API-TRUNCATED"),
        (b"", "JD-API-CLOSED"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 900\r\n\r\nhalf", "JD-API-UNAVAILABLE"),
    ],
)  # fmt: skip
async def test_a_malformed_answer_says_what_is_wrong(answer: bytes, code: str) -> None:
    async with raw_server(Script([answer]).talk) as port, client(port) as api:
        with pytest.raises(JumpdeckError) as caught:
            await api.get("/x")
    assert caught.value.code == code


async def test_a_closed_client_ends_what_waits_and_begins_nothing() -> None:
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()

    async with raw_server(talk) as port, client(port) as api:
        waiting = asyncio.ensure_future(api.get("/x"))
        await arrived.wait()
        await api.aclose()
        for ask in (waiting, api.get("/y")):
            with pytest.raises(JumpdeckError) as caught:
                await ask
            assert caught.value.code == "JD-SESSION-CLOSED"


async def test_only_reads_leave() -> None:
    async with raw_server(Script([JSON]).talk) as port, client(port) as api:
        with pytest.raises(JumpdeckError) as caught:
            await api.post_review("/api/v1/namespaces/a/pods", {})
    assert caught.value.code == "JD-API-READ-ONLY"


async def test_nothing_from_outside_begins_a_header_or_another_path() -> None:
    script = Script([JSON, JSON])
    async with raw_server(script.talk) as port, client(port) as api:
        await api.get("/a b\r\nX: y?z#", {"labelSelector": "a\r\nb=ü&c"})
        with pytest.raises(JumpdeckError):
            await api.get("/x", accept="a\r\nX: y")
    assert script.requests[0].startswith(
        b"GET /a%20b%0D%0AX:%20y%3Fz%23?labelSelector=a%0D%0Ab%3D%C3%BC%26c HTTP/1.1\r\n"
    )


def test_a_list_of_pods_needs_no_http_or_yaml_library() -> None:
    """What starts `jumpdeck pods` loads none of what made it slow; streams bring aiohttp when they begin."""
    script = (
        "import sys\nimport app.cli.pods, app.sessions.supervisor, app.cluster.access, app.cluster.api\n"
        "import app.cluster.reader, app.cluster.pod_table\n"
        "import app.cluster.pods, app.routes.build, app.routes.direct, app.profiles.store\n"
        "print(*sorted({'aiohttp', 'yarl', 'yaml', 'dataclasses', 'email', 'shutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
