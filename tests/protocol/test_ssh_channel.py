"""A channel of a real sshd as an asyncio transport: exact bytes, TLS, back-pressure, half-closes, ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.errors import RouteError
from app.routes.ssh_channel import WINDOW
from app.routes.ssh_dialer import SshDialer
from app.routes.stream_transport import WRITE_HIGH, WRITE_MAX
from app.tasks import spawn
from tests.hops import WAIT, Ground, Keep, keep
from tests.sshd import sshd
from tests.tls_servers import Authority, authority, echo, raw_server, server_context, server_pair, unused_port

SIZE = 24 << 20
"""Bytes of the bulk tests: three windows."""


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[SshDialer]:
    """An open hop to a new sshd."""
    async with sshd(folder / "sshd") as there:
        ground = Ground(folder, there)
        async with ground.opened(ground.dial(there.port)) as dialer:
            yield dialer


async def alive(dialer: SshDialer) -> None:
    """The connection still carries streams."""
    async with raw_server(echo) as port:
        transport, stream = await keep(dialer, port)
        transport.write(b"alive")
        assert await stream.until(5) == b"alive"
        transport.close()
        assert await asyncio.wait_for(stream.ended, WAIT) is None


async def tls(dialer: SshDialer, port: int, *, ca: bytes, name: str) -> tuple[asyncio.Transport, Keep]:
    """TLS end to end on a stream of the hop."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(cadata=ca.decode())
    raw, _ = await keep(dialer, port)
    protocol = Keep(half_open=False)
    secure = await loop.start_tls(raw, protocol, context, server_hostname=name)
    assert secure is not None
    return secure, protocol


async def test_tls_runs_end_to_end_and_its_failures_leave_the_connection_alive(tmp_path: Path) -> None:
    async with server(tmp_path) as dialer, raw_server(echo, server_context(server_pair())) as port:
        transport, stream = await tls(dialer, port, ca=authority().pem, name="api.test")
        assert transport.get_extra_info("peername") == ("127.0.0.1", port)
        data = os.urandom(1 << 20)
        transport.write(data)
        assert await stream.until(len(data)) == data
        transport.close()
        with pytest.raises(ssl.SSLCertVerificationError, match="local issuer"):
            await tls(dialer, port, ca=Authority("Another CA").pem, name="api.test")
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await tls(dialer, port, ca=authority().pem, name="other.test")
        with pytest.raises(RouteError) as caught:
            await keep(dialer, unused_port())
        assert caught.value.code == "JD-SSH-TARGET"
        await alive(dialer)


async def test_fifty_streams_at_once_on_one_connection(tmp_path: Path) -> None:
    async with server(tmp_path) as dialer, raw_server(echo) as port:

        async def one(number: int) -> None:
            transport, stream = await keep(dialer, port)
            data = number.to_bytes(2, "big") * 50_000
            transport.write(data)
            assert await stream.until(len(data)) == data
            transport.close()

        await asyncio.gather(*(one(number) for number in range(50)))
        assert dialer.facts().received == dialer.facts().sent == 50 * 100_000
        assert not dialer._streams


async def test_bulk_is_exact_both_ways_and_a_writer_is_held_back(tmp_path: Path) -> None:
    async with server(tmp_path) as dialer, raw_server(echo) as port:
        transport, stream = await keep(dialer, port)
        sent, piece = hashlib.sha256(), os.urandom(1 << 18)
        highest = 0
        async with asyncio.timeout(60):
            for _ in range(SIZE // len(piece)):
                while stream.paused:
                    stream.news.clear()
                    await stream.news.wait()
                transport.write(piece)
                sent.update(piece)
                highest = max(highest, transport.get_write_buffer_size())
        transport.write_eof()
        assert hashlib.sha256(await stream.until(SIZE)).digest() == sent.digest()
        assert highest <= WRITE_HIGH + len(piece)
        await asyncio.wait_for(stream.eof, WAIT)
        transport.close()


async def test_a_reader_that_pauses_holds_the_far_end_back(tmp_path: Path) -> None:
    written = 0
    full = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while written < SIZE:
            writer.write(b"x" * (1 << 16))
            written += 1 << 16
            try:
                async with asyncio.timeout(1.0):
                    await writer.drain()
            except TimeoutError:
                full.set()
                await writer.drain()
        writer.write_eof()
        await reader.read()

    async with server(tmp_path) as dialer, raw_server(talk) as port:
        transport, stream = await keep(dialer, port)
        transport.pause_reading()
        assert not transport.is_reading()
        await asyncio.wait_for(full.wait(), WAIT)
        held, seen = written, len(stream.data)
        assert seen <= WINDOW
        assert held < SIZE
        await alive(dialer)  # other streams go on
        transport.resume_reading()
        assert len(stream.data) == seen  # never from within the call
        assert len(await stream.until(SIZE)) == SIZE
        transport.abort()


class Buffered(asyncio.BufferedProtocol):
    """Takes bytes in a buffer of seven."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = bytearray(7)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self._buffer[:nbytes]

    def eof_received(self) -> None:
        self.done.set_result(None)


async def test_a_protocol_with_its_own_buffer_is_fed_and_an_eof_closes_by_asyncios_rule(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(range(100)))
        writer.write_eof()
        await reader.read()

    async with server(tmp_path) as dialer, raw_server(talk) as port:
        protocol = Buffered()
        transport = await dialer.dial("127.0.0.1", port, lambda: protocol)
        await asyncio.wait_for(protocol.done, WAIT)
        assert protocol.data == bytes(range(100))
        assert transport.is_closing()


async def test_half_a_close_leaves_the_other_direction_open(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read()
        writer.write(b"got " + asked)
        writer.write_eof()
        await writer.drain()
        await reader.read()

    async with server(tmp_path) as dialer, raw_server(talk) as port:
        transport, stream = await keep(dialer, port)
        transport.write(b"question")
        transport.write_eof()
        with pytest.raises(RuntimeError):
            transport.write(b"more")
        assert await stream.until(12) == b"got question"
        await asyncio.wait_for(stream.eof, WAIT)
        transport.close()
        transport.close()
        transport.abort()
        assert await asyncio.wait_for(stream.ended, WAIT) is None


class Faulty(asyncio.Protocol):
    """Raises where it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.where == "connection_made":
            raise ZeroDivisionError

    def data_received(self, data: bytes) -> None:
        if self.where == "data_received":
            raise ZeroDivisionError

    def eof_received(self) -> None:
        if self.where == "eof_received":
            raise ZeroDivisionError

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
async def test_a_protocol_that_raises_ends_its_stream_and_no_other(tmp_path: Path, where: str) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        writer.write_eof()
        await reader.read()

    async with server(tmp_path) as dialer, raw_server(talk) as port:
        protocol = Faulty(where)
        transport = await dialer.dial("127.0.0.1", port, lambda: protocol)
        await asyncio.wait_for(protocol.ended, WAIT)
        assert transport.is_closing()
        assert [type(error) for error in reported] == [ZeroDivisionError]
        await alive(dialer)


async def test_a_stream_that_nobody_waits_for_is_closed_when_it_opens(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.set()

    async with server(tmp_path) as dialer, raw_server(talk) as port:
        opening = spawn(keep(dialer, port), name="opening")
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.wait_for(gone.wait(), WAIT)
        await alive(dialer)


async def test_a_writer_that_never_pauses_loses_its_stream_not_our_memory(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.get_running_loop().create_future()

    async with server(tmp_path) as dialer, raw_server(talk) as port:
        transport, stream = await keep(dialer, port)
        for _ in range((WRITE_MAX >> 20) + 64):
            transport.write(bytes(1 << 20))
        assert isinstance(await asyncio.wait_for(stream.ended, WAIT), ConnectionAbortedError)
        await alive(dialer)
