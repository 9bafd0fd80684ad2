"""What stands between an SSH connection and the stream that carries it: fewer system calls, and a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import asyncssh

from app.routes import ssh_failures

CARRIER_HIGH = 1 << 20
"""Bytes waiting to be sent on the stream below at which all channels pause; above what one round trip needs."""
FIRST_BYTES = 256
"""Bytes kept of what comes before the version line, to say what answered."""


class Batch(asyncio.Transport):
    """Sends together what one step of the SSH library writes: it puts a packet of nothing before each packet.

    Between `begin` and `end` writes are kept; at the last `end` they go out as one. Otherwise they go out at once.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._depth = 0
        self._parts: list[bytes] = []

    def begin(self) -> None:
        """A step begins; steps may stand inside one another."""
        self._depth += 1

    def end(self) -> None:
        """A step has ended."""
        self._depth -= 1
        if not self._depth and self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts) if len(parts) > 1 else parts[0])

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._depth:
            self._parts.append(bytes(data))
        else:
            self._transport.write(data)

    def abort(self) -> None:
        self._parts.clear()
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


class Carrier(asyncio.Protocol):
    """The protocol of the stream below; hands on to the SSH library, which pays no heed to a full stream."""

    def __init__(self, factory: Callable[[], asyncssh.SSHClientConnection]) -> None:
        self._factory = factory
        self.conn: asyncssh.SSHClientConnection | None = None
        self.batch: Batch | None = None
        self.peer = ""
        """`address:port` of the other end of the stream; cleaned text."""
        self.first = b""
        self.received = 0
        """Bytes that came, of any kind: proof of life."""
        self.full = False
        self.on_full: Callable[[bool], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        stream.set_write_buffer_limits(CARRIER_HIGH)
        if peer := transport.get_extra_info("peername"):
            self.peer = ssh_failures.place(str(peer[0]), int(peer[1]))
        self.batch = Batch(stream)
        self.conn = self._factory()
        self.conn.connection_made(self.batch)

    def data_received(self, data: bytes) -> None:
        if len(self.first) < FIRST_BYTES:
            self.first += data[: FIRST_BYTES - len(self.first)]
        self.received += len(data)
        assert self.conn is not None and self.batch is not None
        self.batch.begin()
        try:
            self.conn.data_received(data)
        finally:
            self.batch.end()

    def eof_received(self) -> None:
        assert self.conn is not None
        self.conn.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.conn is not None:
            self.conn.connection_lost(exc)

    def pause_writing(self) -> None:
        self._set(True)

    def resume_writing(self) -> None:
        self._set(False)

    def _set(self, full: bool) -> None:
        self.full = full
        if self.on_full is not None:
            self.on_full(full)
