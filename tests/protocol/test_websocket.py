"""Our WebSocket against servers that say exactly what a test tells them, over TCP and over TLS."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from app.routes.websocket import Closed, NotAWebSocket
from app.routes.websocket_frames import Op
from app.routes.websocket_handshake import Handshake, Refused
from app.tasks import spawn
from tests.tls_servers import authority, raw_server, server_context, server_pair
from tests.unit.test_websocket_frames import served, unmasked

WAIT = 20.0
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.end: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.fulls: list[bool] = []
        self.news = asyncio.Event()

    def received(self, data: bytes) -> None:
        assert not self.end.done()
        self.data += data
        self.news.set()

    def ended(self, exc: Exception | None) -> None:
        self.end.set_result(exc)
        self.news.set()

    def full(self, full: bool) -> None:
        self.fulls.append(full)
        self.news.set()

    async def until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT):
            while not seen():
                self.news.clear()
                await self.news.wait()


def proof(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


def good(key: str) -> bytes:
    return ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {proof(key)}\r\n\r\n").encode()  # fmt: skip


@asynccontextmanager
async def peer(script: Script, *, tls: bool = False) -> AsyncIterator[tuple[Handshake, list[str]]]:
    """A handshake that is connected with a server that runs `script` after the request."""
    requests: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        requests.append(request)
        found = re.search(r"Sec-WebSocket-Key: (\S+)", request)
        assert found is not None
        await script(reader, writer, found[1])

    async with raw_server(talk, server_context(server_pair()) if tls else None) as port:
        trust = ssl.create_default_context(cadata=authority().pem.decode()) if tls else None
        shake = Handshake()
        await asyncio.get_running_loop().create_connection(
            lambda: shake, "127.0.0.1", port, ssl=trust, server_hostname="api.test" if tls else None
        )
        try:
            async with asyncio.timeout(WAIT):
                yield shake, requests
        finally:
            shake.abort()


def says(*parts: bytes | Callable[[str], bytes], stay: bool = True) -> Script:
    """Say these, each when the one before has gone, then wait for the client to go, or not."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        for part in parts:
            writer.write(part if isinstance(part, bytes) else part(key))
            await writer.drain()
        while stay and await reader.read(1 << 16):
            pass

    return script


async def takes_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
    """Agrees, and reads nothing."""
    writer.write(good(key))
    await asyncio.Event().wait()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
    """Sends every frame back unmasked; answers CLOSE."""
    writer.write(good(key))
    held = b""
    while data := await reader.read(1 << 16):
        held += data
        while (size := _whole(held)) and size <= len(held):
            op, _, payload = unmasked(held[:size])[0]
            held = held[size:]
            writer.write(served(payload, op))
            if op == Op.CLOSE:
                await writer.drain()
                return
        await writer.drain()


def _whole(held: bytes) -> int:
    """Bytes of the first frame; 0 while its head is not there."""
    if len(held) < 4:
        return 0
    length = held[1] & 0x7F
    return 8 + int.from_bytes(held[2:4], "big") if length == 126 else 6 + length


@pytest.mark.parametrize("tls", [False, True])
async def test_bytes_there_and_back(tls: bool) -> None:
    async with peer(echo, tls=tls) as (shake, requests):
        socket = await shake.agree("localhost:1", "/webtunnelv2/t?X-Node-Id=n")
        assert socket.notes == ()
        kept = Kept()
        socket.attach(kept)
        data = bytes(range(256)) * 1000
        socket.send(data[:100])
        socket.send(data[100:])
        await kept.until(lambda: len(kept.data) >= len(data))
        assert kept.data == data
        socket.close()
        assert await kept.end is None
    head = requests[0].split("\r\n")
    assert head[0] == "GET /webtunnelv2/t?X-Node-Id=n HTTP/1.1"
    assert {"Host: localhost:1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"} <= set(head)
    assert not re.search("extension|protocol:|authorization|cookie", requests[0], re.IGNORECASE)


@pytest.mark.parametrize(
    ("head", "notes"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 3),
        (b"HTTP/1.1 101\r\n\r\n", 3),
        (b"HTTP/1.0 101 Whatever\nUpgrade:websocket\n\n", 2),
        (b"HTTP/1.1 101 X\r\nUPGRADE: WebSocket\r\nconnection: keep-alive, Upgrade\r\n\r\n", 1),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Extensions: permessage-deflate"
         b"\r\nbroken line\r\n\r\n", 2),
    ],
)  # fmt: skip
async def test_status_101_alone_is_agreement(head: bytes, notes: int) -> None:
    async with peer(says(head, served(b"SSH-2.0-x\r\n", reserved=0x40))) as (shake, _):
        socket = await shake.agree("h", "/")
        assert len(socket.notes) == notes
        kept = Kept()
        socket.attach(kept)
        await kept.until(lambda: len(kept.data) == 11)


async def test_a_proof_that_is_there_must_be_right() -> None:
    async with peer(says(lambda _: good("another key"))) as (shake, _):
        with pytest.raises(Refused) as caught:
            await shake.agree("h", "/")
        assert caught.value.status == 101


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b'HTTP/1.1 401 X\r\nContent-Length: 17\r\nRetry-After: 3\r\n\r\n{"message": "no"}', 401, b'{"message": "no"}'),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", 502, b"<html>"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", 0, b""),
    ],
)
async def test_anything_else_is_a_refusal(answer: bytes, status: int, body: bytes) -> None:
    async with peer(says(answer)) as (shake, _):
        with pytest.raises(Refused) as caught:
            await shake.agree("h", "/")
        assert (caught.value.status, caught.value.body) == (status, body)


async def test_a_refusal_of_an_endless_length_is_a_refusal() -> None:
    answer = b"HTTP/1.1 403 No\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\nbody"
    async with peer(says(answer, stay=False)) as (shake, _):
        with pytest.raises(Refused) as caught:
            await shake.agree("h", "/")
    assert (caught.value.status, caught.value.body) == (403, b"body")


async def test_bytes_that_cannot_be_held_are_never_left_out_in_silence() -> None:
    handshake, transport = Handshake(), _Closing()
    handshake.connection_made(transport)
    agreeing = spawn(handshake.agree("bastion.test", "/"), name="agree")
    await asyncio.sleep(0)
    handshake.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    for _ in range(5):  # as SSH gives what came in one turn of the loop
        handshake.data_received(bytes(32 << 10))
    with pytest.raises(ConnectionResetError):
        await agreeing


async def test_a_connection_that_comes_after_the_end_is_dropped() -> None:
    handshake, transport = Handshake(), _Closing()
    handshake.abort()
    handshake.connection_made(transport)
    assert transport.aborted


async def test_a_head_without_end_is_a_refusal() -> None:
    async with peer(says(b"HTTP/1.1 101 X\r\n" + b"X-Y: z\r\n" * 10_000)) as (shake, _):
        with pytest.raises(Refused):
            await shake.agree("h", "/")


async def test_a_server_that_closes_without_an_answer() -> None:
    async with peer(says(stay=False)) as (shake, _):
        with pytest.raises(OSError):
            await shake.agree("h", "/")


@pytest.mark.parametrize("parts", [
    (good, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    (lambda key: good(key) + b"HTTP/1.1 400 Bad Request\r\nX: y\r\n\r\n",),
    (lambda key: good(key) + b"HT", b"TP/1.1 400 Bad", b" Request\r\n\r\n"),
])  # fmt: skip
async def test_http_as_first_bytes_is_no_stream(parts: tuple[bytes | Callable[[str], bytes], ...]) -> None:
    async with peer(says(*parts)) as (shake, _):
        socket = await shake.agree("h", "/")
        await socket.first
        assert not socket.spoke
        assert isinstance(socket.end, NotAWebSocket)
        assert "400 Bad Request" in str(socket.end)


async def test_http_later_is_what_the_target_says() -> None:
    """A frame's head and its payload in two pieces: the payload is not taken for an answer of the gateway."""
    whole = served(b"HTTP/1.1 200 OK\r\n\r\n")
    async with peer(says(lambda key: good(key) + whole[:2])) as (shake, _):
        socket = await shake.agree("h", "/")
        kept = Kept()
        socket.attach(kept)
        socket.feed(whole[2:])
        await kept.until(lambda: bool(kept.data))
        assert kept.data == whole[2:]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (served((1000).to_bytes(2, "big"), Op.CLOSE), None),
        (served(b"", Op.CLOSE), None),
        (served(b""), None),
        (served((1011).to_bytes(2, "big") + b"kaputt\x1b[31m", Op.CLOSE), 1011),
        (bytes((0x8F, 0)), 1002),
    ],
)
async def test_how_a_stream_ends(frame: bytes, code: int | None) -> None:
    async with peer(says(good, served(b"last words") + frame)) as (shake, _):
        socket = await shake.agree("h", "/")
        kept = Kept()
        socket.attach(kept)
        exc = await kept.end
        assert kept.data == b"last words"
        assert (exc.code if isinstance(exc, Closed) else None) == code
        assert "\x1b" not in str(exc)


async def test_an_end_without_close_is_an_error() -> None:
    async with peer(says(good, served(b"half")[:-2], stay=False)) as (shake, _):
        socket = await shake.agree("h", "/")
        kept = Kept()
        socket.attach(kept)
        assert isinstance(await kept.end, ConnectionResetError)
        assert kept.data == b"ha"


async def test_pings_are_answered() -> None:
    answers: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        writer.write(good(key) + served(b"are you there", Op.PING) + served(b"", Op.PONG))
        answers.set_result(await reader.readexactly(6 + 13))

    async with peer(script) as (shake, _):
        socket = await shake.agree("h", "/")
        assert unmasked(await answers) == [(Op.PONG, True, b"are you there")]
        assert not socket.spoke


async def test_a_server_that_pings_and_takes_no_answers_fills_no_memory() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        writer.write(good(key))
        for _ in range(16):
            writer.write(served(bytes(125), Op.PING) * 8_192)
            await writer.drain()
        writer.write(served(b"over"))
        await writer.drain()
        await asyncio.Event().wait()

    async with peer(script) as (shake, _):
        socket = await shake.agree("h", "/")
        kept = Kept()
        socket.attach(kept)
        await kept.until(lambda: kept.data == b"over")
        assert socket.unsent < 1 << 20


async def test_bytes_wait_while_nobody_reads_and_the_server_is_held_back() -> None:
    size, written = 64 << 20, 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        nonlocal written
        writer.write(good(key))
        while written < size:
            writer.write(served(bytes(1 << 16)))
            await writer.drain()
            written += 1 << 16
        writer.write(served(b"", Op.CLOSE))
        await reader.read(100)

    async with peer(script) as (shake, _):
        socket = await shake.agree("h", "/")
        kept = Kept()
        socket.attach(kept)
        await kept.until(lambda: bool(kept.data))
        socket.read_on(False)
        before = -1
        while before != written:  # until the server's own buffers are full
            before = written
            await asyncio.wait({kept.end}, timeout=0.2)
        assert written < size
        had = len(kept.data)
        socket.read_on(True)
        assert await kept.end is None
        assert had < len(kept.data) == size


async def test_a_server_that_takes_nothing_pauses_the_writer() -> None:
    async with peer(takes_nothing) as (shake, _):
        socket = await shake.agree("h", "/")
        kept = Kept()
        socket.attach(kept)
        while True not in kept.fulls:
            socket.send(bytes(1 << 20))
            await asyncio.sleep(0)
        assert socket.unsent > 1 << 18
        socket.abort()
        assert await kept.end is None


async def test_a_writer_that_does_not_let_the_loop_turn_is_paused_too() -> None:
    async with peer(takes_nothing) as (shake, _):
        socket = await shake.agree("h", "/")
        kept = Kept()
        socket.attach(kept)
        written = 0
        while True not in kept.fulls and written < 64:
            socket.send(bytes(1 << 20))
            written += 1
        assert True in kept.fulls
        socket.abort()
        assert await kept.end is None


async def test_a_server_that_ignores_our_close_is_dropped() -> None:
    async with peer(says(good)) as (shake, _):
        socket = await shake.agree("h", "/")
        kept = Kept()
        socket.attach(kept)
        socket.close()
        assert await kept.end is None  # within the limit of `peer`


async def test_a_path_with_a_line_end_is_not_sent() -> None:
    async with peer(says(good)) as (shake, _):
        with pytest.raises(ValueError):
            await shake.agree("h", "/x\r\nEvil: yes")


class _Closing(asyncio.Transport):
    """As asyncio's TLS transport once it was closed twice: it takes no other protocol."""

    aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent = bytes(data)

    def is_closing(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        raise AttributeError("'NoneType' object has no attribute '_set_app_protocol'")

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        pass


async def test_a_stream_that_closes_while_it_agrees_ends_the_socket() -> None:
    handshake, transport = Handshake(), _Closing()
    handshake.connection_made(transport)
    agreeing = spawn(handshake.agree("bastion.test", "/"), name="agree")
    await asyncio.sleep(0)
    handshake.data_received(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    socket = await agreeing
    assert socket.end is None
    handshake.connection_lost(ConnectionResetError("gone"))
    assert isinstance(socket.end, ConnectionResetError)
