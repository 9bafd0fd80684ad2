"""The listener against real sockets: exact bytes both ways, held back both ways, half-closes, cuts, other users."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dialer import ProtocolFactory
from app.errors import ExitCode, JumpdeckError, Recovery, RouteError
from app.routes.direct import DirectDialer
from app.routes.listener import HELD_BYTES, HOST, MAX_OPEN, Listener, listening_socket
from app.socket_owner import Address, PeerOwner, Verdict, look_up, owner_of_peer, owner_of_port
from tests.fakes import FakeLink
from tests.peers import require_root
from tests.tls_servers import echo

LIMIT = 30.0
READ = 256 << 10
"""Bytes that one read of a socket brings at most (asyncio's selector transports)."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """Answers each connection with `serve`; counts them."""

    def __init__(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> None:
        self.port = 0
        self.connections = 0
        self._serve = serve

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            await self._serve(reader, writer)  # type: ignore[misc]
        writer.close()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._one, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def dial(self, factory: ProtocolFactory) -> asyncio.Transport:
        return await DirectDialer().dial(HOST, self.port, factory)


class MemoryTransport(asyncio.Transport):
    """A far end that only remembers; the test speaks for it through `protocol`."""

    def __init__(self, protocol: asyncio.Protocol, *, greedy: int | None = None) -> None:
        super().__init__()
        self.protocol, self.greedy = protocol, greedy
        self.written = bytearray()
        self.paused = self.aborted = self.closed = self.full = False
        self.moved = asyncio.Event()
        """Set whenever something has changed."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if self.greedy is not None and len(self.written) >= self.greedy and not self.full:
            self.full = True
            self.protocol.pause_writing()
        self.moved.set()

    def drain(self) -> None:
        self.full, self.greedy = False, None
        self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self.paused = True
        self.moved.set()

    def resume_reading(self) -> None:
        self.paused = False
        self.moved.set()

    def abort(self) -> None:
        self.aborted = True
        self.moved.set()

    def close(self) -> None:
        self.closed = True
        self.moved.set()

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.moved.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    async def until(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not fact():
                self.moved.clear()
                await self.moved.wait()


class MemoryDialer:
    """Dials far ends of memory."""

    def __init__(self, *, greedy: int | None = None) -> None:
        self.greedy = greedy
        self._made: asyncio.Queue[MemoryTransport] = asyncio.Queue()

    async def dial(self, factory: ProtocolFactory) -> asyncio.Transport:
        protocol = factory()
        assert isinstance(protocol, asyncio.Protocol)
        transport = MemoryTransport(protocol, greedy=self.greedy)
        protocol.connection_made(transport)
        self._made.put_nowait(transport)
        return transport

    async def asked(self, text: bytes) -> MemoryTransport:
        """The next far end, once it has got `text`."""
        async with asyncio.timeout(LIMIT):
            far = await self._made.get()
        await far.until(lambda: far.written.startswith(text))
        return far


class WaitedLink(FakeLink):
    """Down; tells when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = asyncio.Event()
        self.go_down()

    async def wait_up(self) -> None:
        self.waited.set()
        await super().wait_up()


async def refuses(_: ProtocolFactory) -> asyncio.Transport:
    raise RouteError("The jump box cannot reach it", "connection refused", code="JD-SSH-REFUSED")


@asynccontextmanager
async def connected(listener: Listener) -> AsyncIterator[Streams]:
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(HOST, listener.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def end_of(reader: asyncio.StreamReader) -> bytes | None:
    """All that still comes; None when the connection was reset."""
    async with asyncio.timeout(LIMIT):
        try:
            return await reader.read()
        except ConnectionError:
            return None


# -- bytes -------------------------------------------------------------------------------------------------------------


async def test_a_big_transfer_both_ways_is_exact_and_a_half_close_passes_on() -> None:
    size = (1 << 30) if os.environ.get("SOAK") else (48 << 20)
    piece = os.urandom(1 << 20)
    async with Server(echo) as server, Listener(server.dial) as listener, connected(listener) as (reader, writer):
        sent, got = hashlib.sha256(), hashlib.sha256()

        async def send() -> None:
            for _ in range(size // len(piece)):
                sent.update(piece)
                writer.write(piece)
                await writer.drain()
            writer.write_eof()

        task = asyncio.get_running_loop().create_task(send())
        total = 0
        while data := await reader.read(1 << 20):  # ends when the half-close has gone there and back
            got.update(data)
            total += len(data)
        await task
        assert (total, got.digest()) == (size, sent.digest())
        assert listener.facts.served == 1


async def test_the_server_may_speak_first_and_close_first() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")

    async with Server(greet) as server, Listener(server.dial) as listener, connected(listener) as (reader, _):
        assert await end_of(reader) == b"hello"


async def test_many_at_once_stay_apart() -> None:
    async with Server(echo) as server, Listener(server.dial) as listener:

        async def one(number: int) -> None:
            async with connected(listener) as (reader, writer):
                text = f"{number},".encode() * 10_000
                writer.write(text)
                writer.write_eof()
                assert await end_of(reader) == text

        await asyncio.gather(*(one(number) for number in range(40)))
        assert (server.connections, listener.facts.served) == (40, 40)


async def test_a_far_end_that_takes_nothing_holds_the_program_back() -> None:
    dialer = MemoryDialer(greedy=1)
    async with Listener(dialer.dial) as listener, connected(listener) as (_, writer):
        writer.write(b"x" * (16 << 20))
        far = await dialer.asked(b"x")
        await far.until(lambda: far.full)
        for _ in range(50):  # rounds of the loop, in which more would come if it were read
            await asyncio.sleep(0)
        assert len(far.written) <= HELD_BYTES + 2 * READ  # what came before there was a far end, and one read
        far.drain()
        await far.until(lambda: len(far.written) == 16 << 20)


async def test_a_program_that_reads_nothing_holds_the_far_end_back() -> None:
    dialer = MemoryDialer()
    async with Listener(dialer.dial) as listener:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            await asyncio.to_thread(client.connect, (HOST, listener.port))
            client.send(b"!")
            far = await dialer.asked(b"!")
            sent = 0
            while not far.paused:
                far.protocol.data_received(b"y" * (1 << 16))
                sent += 1 << 16
                await asyncio.sleep(0)
            (local,) = [end for end in listener._ends if end.transport is not far]
            assert local.transport is not None
            assert local.transport.get_write_buffer_size() <= HELD_BYTES + (1 << 16)
            got = 0
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            while got < sent:
                got += len(await loop.sock_recv(client, 1 << 20))
            await far.until(lambda: not far.paused)


async def test_a_lost_link_resets_the_program_and_a_lost_program_resets_the_stream() -> None:
    dialer = MemoryDialer()
    async with Listener(dialer.dial) as listener:
        async with connected(listener) as (reader, writer):
            writer.write(b"ask")
            far = await dialer.asked(b"ask")
            far.protocol.connection_lost(ConnectionResetError())
            assert await end_of(reader) is None
        async with connected(listener) as (_, writer):
            writer.write(b"ask")
            far = await dialer.asked(b"ask")
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
            await far.until(far.is_closing)


# -- the route is not there --------------------------------------------------------------------------------------------


async def test_while_the_route_is_down_a_connection_waits() -> None:
    link = WaitedLink()
    async with (
        Server(echo) as server,
        Listener(server.dial, link=link) as listener,
        connected(listener) as (reader, writer),
    ):
        writer.write(b"early")
        writer.write_eof()
        async with asyncio.timeout(LIMIT):
            await link.waited.wait()
        assert server.connections == 0
        link.come_up()
        assert await end_of(reader) == b"early"


async def test_a_connection_that_waited_in_vain_is_reset_and_it_is_told() -> None:
    told = list[JumpdeckError]()
    async with (
        Server(echo) as server,
        Listener(server.dial, link=WaitedLink(), on_failed=told.append, up_limit=0.05) as listener,
    ):
        async with connected(listener) as (reader, writer):
            writer.write(b"early")
            assert await end_of(reader) is None
        assert [error.code for error in told] == ["JD-LISTENER-DOWN"]
        assert (server.connections, listener.facts.failed) == (0, 1)


async def test_a_program_that_goes_while_it_waits_leaves_nothing() -> None:
    link = WaitedLink()
    async with Server(echo) as server, Listener(server.dial, link=link) as listener:
        async with connected(listener) as (_, writer):
            writer.write(b"early")
            async with asyncio.timeout(LIMIT):
                await link.waited.wait()
            (local,) = listener._ends
            gone = asyncio.Event()
            local.when_lost = _both(local.when_lost, gone.set)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
            async with asyncio.timeout(LIMIT):
                await gone.wait()
        link.come_up()
        assert (listener.facts.open, server.connections) == (0, 0)


def _both(first: Callable[[], object] | None, second: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        assert first is not None
        first()
        second()

    return call


async def test_a_refused_destination_is_told_and_the_program_is_reset() -> None:
    told = list[JumpdeckError]()
    link = FakeLink()
    async with Listener(refuses, link=link, on_failed=told.append) as listener:
        async with connected(listener) as (reader, _):
            assert await end_of(reader) is None
        assert [error.code for error in told] == ["JD-SSH-REFUSED"]
        assert link.reports == []  # the link is well: nothing is to be looked into, nothing tried again


async def test_a_stream_that_fails_with_the_link_is_tried_once_more_when_it_is_back() -> None:
    link, tries = FakeLink(), 0
    async with Server(echo) as server:

        async def dial(factory: ProtocolFactory) -> asyncio.Transport:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise RouteError("The link is lost", code="JD-SSH-LOST", recovery=Recovery.TRANSIENT)
            return await server.dial(factory)

        async with Listener(dial, link=link) as listener, connected(listener) as (reader, writer):
            writer.write(b"ask")
            writer.write_eof()
            assert await end_of(reader) == b"ask"
            assert [error.code for error in link.reports] == ["JD-SSH-LOST"]


async def test_streams_end_with_the_listener_and_the_port_is_free() -> None:
    async with Server(echo) as server:
        listener = Listener(server.dial)
        await listener.start(await listening_socket())
        async with connected(listener) as (reader, writer):
            writer.write(b"ask")
            async with asyncio.timeout(LIMIT):
                assert await reader.readexactly(3) == b"ask"
            await listener.aclose()
            assert await end_of(reader) is None
        again = Listener(server.dial)
        await again.start(await listening_socket(listener.port))
        assert again.port == listener.port
        await again.aclose()


async def test_one_connection_too_many_is_reset() -> None:
    told = list[JumpdeckError]()
    async with Listener(MemoryDialer().dial, on_failed=told.append) as listener:
        listener._open = MAX_OPEN
        async with connected(listener) as (reader, _):
            assert await end_of(reader) is None
        assert [error.code for error in told] == ["JD-LISTENER-FULL"]


# -- where it listens --------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(port=st.one_of(st.just(0), st.integers(10_000, 19_999)))
def test_only_the_loopback_address_is_ever_bound(port: int) -> None:
    try:
        sock = asyncio.run(listening_socket(port))
    except RouteError:
        return  # something else has it
    with sock:
        address, bound = sock.getsockname()
        assert address == "127.0.0.1"
        assert port in (0, bound)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", bound), timeout=5).close()  # 0.0.0.0 would answer here too
        assert not sock.get_inheritable()


async def test_a_port_that_is_taken_names_its_owner() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RouteError) as caught:
            await listening_socket(port)
        assert (caught.value.code, caught.value.exit_code) == ("JD-LISTENER-PORT", ExitCode.ROUTE)
        assert "--port" in caught.value.hint
        if sys.platform == "linux":
            assert f"process {os.getpid()}" in caught.value.detail
            assert owner_of_port(port).startswith(f"process {os.getpid()} (")


# -- whose connection --------------------------------------------------------------------------------------------------


async def test_an_own_connection_is_found_over_both_families() -> None:
    if sys.platform != "linux":
        return  # the tables of other systems are asked for on them
    with socket.create_server((HOST, 0)) as server:
        ours = server.getsockname()
        for family, host in ((socket.AF_INET, HOST), (socket.AF_INET6, f"::ffff:{HOST}")):
            if family == socket.AF_INET6 and not socket.has_ipv6:
                continue
            with socket.socket(family) as client:
                try:
                    client.connect((host, ours[1]))
                except OSError:
                    continue  # a machine without IPv6
                accepted, peer = server.accept()
                with accepted:
                    assert look_up(peer, ours) == PeerOwner(Verdict.OURS, f"uid {os.getuid()}")
                    assert look_up((peer[0], peer[1] ^ 1), ours).verdict is Verdict.GONE
                    assert look_up(peer, ("127.0.0.2", ours[1])).verdict is Verdict.GONE


async def test_a_row_that_is_missed_is_looked_for_again_but_not_for_ever() -> None:
    looks = 0

    def seen_late(_: Address, __: Address) -> PeerOwner:
        nonlocal looks
        looks += 1
        return PeerOwner(Verdict.OURS) if looks == 3 else PeerOwner(Verdict.GONE)

    assert (await owner_of_peer((HOST, 1), (HOST, 2), seen_late)).served
    looks = 10
    found = await owner_of_peer((HOST, 1), (HOST, 2), seen_late)
    assert (found.served, looks) == (False, 14)


@pytest.mark.parametrize("verdict", [Verdict.FOREIGN, Verdict.GONE])
async def test_a_foreign_connection_gets_nothing_and_is_told(verdict: Verdict) -> None:
    async def owner_of(_: Address, __: Address) -> PeerOwner:
        return PeerOwner(verdict, "uid 1001")

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"secret")

    told = list[PeerOwner]()
    async with Server(greet) as server, Listener(server.dial, on_refused=told.append, owner_of=owner_of) as listener:
        async with connected(listener) as (reader, writer):
            writer.write(b"let me in")
            assert await end_of(reader) in (None, b"")
        assert [owner.who for owner in told] == ["uid 1001"]
        assert (server.connections, listener.facts.refused, listener.facts.served) == (0, 1, 0)


TRY = """
import os, socket, sys
user = int(sys.argv[2])
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
with socket.socket() as s:  # no more modules: that user may not read where they are
    s.settimeout(30)
    try:
        s.connect(("127.0.0.1", int(sys.argv[1])))
        s.sendall(b"let me in")
        s.shutdown(1)
        print(os.getuid(), len(s.recv(100)))
    except ConnectionError:
        print(os.getuid(), "reset")
"""


async def test_another_user_of_this_computer_gets_nothing() -> None:
    require_root()
    told = list[PeerOwner]()
    async with Server(echo) as server, Listener(server.dial, on_refused=told.append) as listener:

        async def run(user: int) -> str:
            command = [sys.executable, "-I", "-S", "-c", TRY, str(listener.port), str(user)]
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, timeout=LIMIT, check=False
            )
            assert done.returncode == 0, done.stderr
            return str(done.stdout).strip()

        assert await run(65534) in ("65534 0", "65534 reset")
        assert (server.connections, [owner.who for owner in told]) == (0, ["uid 65534"])
        assert await run(0) == "0 9"
