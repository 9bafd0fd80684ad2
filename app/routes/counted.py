"""A stream over this computer's own network whose bytes are counted, for a hop whose carrier is another program."""

from __future__ import annotations

import asyncio
from typing import Any

from app.dialer import ProtocolFactory

_BUFFER = 64 << 10
"""Bytes that are read at once for a protocol that brings no buffer of its own."""


class Traffic:
    """Bytes of all streams of one hop."""

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


class CountedStream(asyncio.Transport):
    """Between a protocol and the system's transport: counts what passes. `loop.start_tls` accepts it.

    `below` is the protocol that the system's transport is made with.
    """

    _start_tls_compatible = True

    def __init__(self, factory: ProtocolFactory, traffic: Traffic) -> None:
        super().__init__()
        self.below = _Below(self, traffic)
        self._factory, self._traffic = factory, traffic
        self._protocol: asyncio.BaseProtocol | None = None
        self._under: Any = None

    def begin(self, under: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._under = under
        self._protocol = self._factory()
        self._protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the stream over, e.g. to TLS."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whom the stream feeds."""
        assert self._protocol is not None, "the stream has begun"
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, and count."""
        if not self._under.is_closing():
            self._traffic.sent += len(data)
        self._under.write(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the system's transport has it."""
        return self._under.get_extra_info(name, default)

    def is_reading(self) -> bool:
        """Whether bytes are handed on as they come."""
        return bool(self._under.is_reading())

    def pause_reading(self) -> None:
        """Leave bytes in the system's buffer."""
        self._under.pause_reading()

    def resume_reading(self) -> None:
        """Hand bytes on again."""
        self._under.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return int(self._under.get_write_buffer_size())

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water."""
        low, high = self._under.get_write_buffer_limits()
        return low, high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Bytes waiting at which the protocol pauses and resumes."""
        self._under.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        """Whether the stream can be half closed."""
        return bool(self._under.can_write_eof())

    def write_eof(self) -> None:
        """Say that nothing more is sent."""
        self._under.write_eof()

    def is_closing(self) -> bool:
        """Whether it ends, or has ended."""
        return bool(self._under.is_closing())

    def close(self) -> None:
        """Send what waits, then end."""
        self._under.close()

    def abort(self) -> None:
        """End at once."""
        self._under.abort()

    def _force_close(self, exc: Exception | None) -> None:
        """As `abort`, with a reason for the protocol (asyncio's TLS calls this)."""
        self._under._force_close(exc)


class _Below(asyncio.BufferedProtocol):
    """Hands on what the system's transport tells; TLS brings its buffer, so nothing is copied for it."""

    def __init__(self, stream: CountedStream, traffic: Traffic) -> None:
        self._stream, self._traffic = stream, traffic
        self._own = bytearray()
        self._filled: asyncio.BufferedProtocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream.begin(transport)

    def get_buffer(self, sizehint: int) -> Any:
        protocol = self._stream.get_protocol()
        self._filled = protocol if isinstance(protocol, asyncio.BufferedProtocol) else None
        if self._filled is not None:
            return self._filled.get_buffer(sizehint)
        self._own = self._own or bytearray(_BUFFER)
        return self._own

    def buffer_updated(self, nbytes: int) -> None:
        self._traffic.received += nbytes
        protocol = self._stream.get_protocol()
        if self._filled is not None:
            self._filled.buffer_updated(nbytes)
        elif isinstance(protocol, asyncio.Protocol):
            protocol.data_received(bytes(memoryview(self._own)[:nbytes]))

    def eof_received(self) -> bool | None:
        protocol = self._stream.get_protocol()
        if isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol):
            return protocol.eof_received()
        return None

    def pause_writing(self) -> None:
        self._stream.get_protocol().pause_writing()

    def resume_writing(self) -> None:
        self._stream.get_protocol().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream.get_protocol().connection_lost(exc)
