"""A TCP proxy that misbehaves on command: what stands between a client and its server when links are cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from tests.ports import bound

PIECE = 1 << 16


class _Pair:
    """One connection through the proxy: both ends, and a pump for each direction."""

    def __init__(self, chaos: Chaos, client: socket.socket, server: socket.socket) -> None:
        self._chaos = chaos
        self.client, self.server = client, server
        self.flowing = chaos.flowing
        self.pumps = [
            asyncio.ensure_future(self._pump(client, server, to_server=True)),
            asyncio.ensure_future(self._pump(server, client, to_server=False)),
        ]

    async def _pump(self, source: socket.socket, sink: socket.socket, *, to_server: bool) -> None:
        loop = asyncio.get_running_loop()
        chaos = self._chaos
        try:
            while data := await loop.sock_recv(source, chaos.piece):
                await self.flowing.wait()
                if chaos.pause:
                    await asyncio.sleep(chaos.pause)
                if chaos.corrupting and not to_server:
                    data = bytes([data[0] ^ 0xFF]) + data[1:]
                await loop.sock_sendall(sink, data)
            await self.flowing.wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # one end was reset: the other hears of it
            await self.flowing.wait()
            self.reset()

    def reset(self) -> None:
        """RST to both sides, at once."""
        for pump in self.pumps:
            pump.cancel()
        for end in (self.client, self.server):
            if end.fileno() >= 0:
                _forget(end)
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()


def _forget(sock: socket.socket) -> None:
    """Let the loop wait for it no more, before its number is another socket's."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(sock)
    loop.remove_writer(sock)


class Chaos:
    """Passes connections to a loopback port, until told otherwise. `async with Chaos(port) as chaos`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.came = asyncio.Event()
        """Set by the first connection."""
        self.pause = 0.0
        self.piece = PIECE
        self.corrupting = False
        self.accepted = 0
        """Connections taken so far."""
        self._pairs: list[_Pair] = []
        self._joining: list[asyncio.Task[None]] = []
        self._sock = bound()
        """Has the port, whether it listens or not: a busy machine gives free ports to others within seconds."""
        self._listens = False

    async def __aenter__(self) -> Chaos:
        self.port = self._sock.getsockname()[1]
        self.let_in()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        self._sock.close()
        await asyncio.gather(*self._joining)
        self.reset()
        await asyncio.gather(*(pump for pair in self._pairs for pump in pair.pumps), return_exceptions=True)

    def let_in(self) -> None:
        """Listen (again), on the same port as before."""
        if not self._listens:
            self._listens = True
            self._sock.listen(100)
            self._sock.setblocking(False)
            asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def refuse(self) -> None:
        """Refuse new connections; those there are go on."""
        if self._listens:
            self._listens = False
            _forget(self._sock)
            self._sock.close()
            self._sock = bound(self.port)

    def reset(self) -> None:
        """Cut every connection with RST."""
        for pair in self._pairs:
            pair.reset()

    def freeze(self) -> None:
        """Pass nothing on, in both directions, and close nothing; connections made meanwhile freeze too."""
        self.flowing.clear()

    def thaw(self) -> None:
        """Pass on again, also what was held back."""
        self.flowing.set()

    def reroute(self) -> None:
        """New connections pass; those there are stay frozen for good, as after a change of network."""
        self.flowing = asyncio.Event()
        self.flowing.set()

    def slow(self, seconds: float, piece: int = 512) -> None:
        """Wait before each piece of so many bytes."""
        self.pause, self.piece = seconds, piece

    def corrupt(self) -> None:
        """Damage every piece that the server sends from now on."""
        self.corrupting = True

    def heal(self) -> None:
        """Be a good proxy again."""
        self.pause, self.piece, self.corrupting = 0.0, PIECE, False
        self.thaw()
        self.let_in()

    def half_close(self) -> None:
        """Tell every client that the server sends no more, and keep the other direction open."""
        for pair in self._pairs:
            pair.pumps[1].cancel()
            with contextlib.suppress(OSError):
                pair.client.shutdown(socket.SHUT_WR)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):  # it has gone again
            client, _ = self._sock.accept()
            client.setblocking(False)
            self.accepted += 1
            self.came.set()
            self._joining.append(asyncio.ensure_future(self._join(client)))

    async def _join(self, client: socket.socket) -> None:
        server = socket.socket()
        server.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", self.target))
        except OSError:  # the server is away: its refusal reaches the client as a reset
            server.close()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        self._pairs.append(_Pair(self, client, server))
