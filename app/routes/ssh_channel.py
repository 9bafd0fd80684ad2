"""An SSH channel (RFC 4254 §7.2, direct-tcpip) as an asyncio transport, so that TLS and HTTP run on it without a port.

Every callback that the library makes into us is guarded: an exception that escaped would end the whole SSH connection
and every other stream on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import asyncssh

from app.dialer import ProtocolFactory
from app.routes.feeding import feed

if TYPE_CHECKING:
    from app.routes.ssh_carrier import Batch

WINDOW = 8 << 20
"""Bytes that the server may send ahead on one channel: at 40 ms round trip the library's 2 MiB give a third of it."""
WRITE_HIGH = 256 << 10
"""Bytes waiting for the server's window at which the writer is told to pause; it resumes at a quarter."""
WRITE_MAX = 64 << 20
"""Bytes waiting at which a writer that does not pause loses its stream; nothing here sends that much at once."""
FLUSH_LIMIT = 3.0
"""Seconds for the rest of a closed stream to be taken by the server, as for every clean end."""


class Traffic:
    """Bytes of all streams of one connection."""

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


class Stream(asyncssh.SSHTCPSession[bytes]):
    """The side of a channel that the SSH library calls; feeds the protocol and counts.

    `ended` is called once, when the channel needs no more care.
    """

    def __init__(
        self, factory: ProtocolFactory, target: tuple[str, int], traffic: Traffic, batch: Batch,
        ended: Callable[[Stream], None],
    ) -> None:  # fmt: skip
        self._factory, self._target, self._ended = factory, target, ended
        self.traffic, self.batch = traffic, batch
        self.transport: ChannelTransport | None = None
        self.protocol: asyncio.BaseProtocol | None = None
        self._abandoned = False
        self._channel_full = self._carrier_full = self._told_to_pause = False
        self._loop = asyncio.get_running_loop()

    def abandon(self) -> None:
        """Nobody waits for this channel any more: should it open, it is closed at once."""
        self._abandoned = True
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """The server has connected."""
        if self._abandoned:
            chan.abort()
            return
        try:
            chan.set_write_buffer_limits(WRITE_HIGH)
            self.transport = ChannelTransport(chan, self, self._target)
            self.protocol = self._factory()
            self.protocol.connection_made(self.transport)
        except Exception as defect:
            self._failed(defect, "connection_made")

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes from the far end."""
        self.traffic.received += len(data)
        protocol = self.protocol
        try:
            if isinstance(protocol, asyncio.BufferedProtocol):
                feed(protocol, data)
            elif isinstance(protocol, asyncio.Protocol):
                protocol.data_received(data)
        except Exception as defect:
            self._failed(defect, "data_received")

    def eof_received(self) -> bool:
        """The far end sends no more. True: the library leaves our direction open; we close it by asyncio's rule."""
        protocol = self.protocol
        try:
            keep_open = isinstance(protocol, (asyncio.Protocol, asyncio.BufferedProtocol)) and protocol.eof_received()
        except Exception as defect:
            self._failed(defect, "eof_received")
            return True
        if not keep_open and self.transport is not None:
            self.transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel has ended, or the connection that carried it."""
        self.end(exc)

    def pause_writing(self) -> None:
        """The server's window is used up."""
        self._channel_full = True
        self._tell()

    def resume_writing(self) -> None:
        """The server takes more."""
        self._channel_full = False
        self._tell()

    def hold(self, full: bool) -> None:
        """The connection below takes no more for now, or again."""
        self._carrier_full = full
        self._tell()

    def _tell(self) -> None:
        pause = self._channel_full or self._carrier_full
        if pause is self._told_to_pause or self.protocol is None:
            return
        self._told_to_pause = pause
        try:
            if pause:
                self.protocol.pause_writing()
            else:
                self.protocol.resume_writing()
        except Exception as defect:
            self._failed(defect, "pause_writing")

    def end(self, exc: Exception | None) -> None:
        """Tell the protocol, once and from the loop, that its stream has ended."""
        protocol, self.protocol = self.protocol, None
        if self.transport is not None:
            self.transport.mark_closed()
        if protocol is not None:
            self._loop.call_soon(protocol.connection_lost, _as_os_error(exc))
        self._ended(self)

    def _failed(self, defect: Exception, where: str) -> None:
        """A protocol raised: report it as asyncio does, and end this one stream."""
        message = f"protocol.{where}() call failed on an SSH channel"
        self._loop.call_exception_handler({"message": message, "exception": defect, "protocol": self.protocol})
        if self.transport is not None:
            self.transport.abort()


class ChannelTransport(asyncio.Transport):
    """What the protocol writes to. `loop.start_tls` accepts it."""

    _start_tls_compatible = True

    def __init__(self, chan: asyncssh.SSHTCPChannel[bytes], stream: Stream, target: tuple[str, int]) -> None:
        super().__init__({"peername": target})
        self._chan, self._stream = chan, stream
        self._loop = asyncio.get_running_loop()
        self._closing = self._eof = False
        self._reading = True
        self._limits = (WRITE_HIGH // 4, WRITE_HIGH)
        self._flush: asyncio.TimerHandle | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the stream over, e.g. to TLS."""
        self._stream.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that the stream feeds."""
        assert self._stream.protocol is not None, "the stream has ended"
        return self._stream.protocol

    def is_reading(self) -> bool:
        """Whether bytes are handed on as they come."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Leave bytes in the channel; when its window is full the far end waits."""
        if self._reading and not self._closing:
            self._reading = False
            self._chan.pause_reading()

    def resume_reading(self) -> None:
        """Hand bytes on again, from the loop: never while the caller still runs."""
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._reading and not self._closing:
            self._chan.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send. What the server does not take yet waits here; the protocol is told to pause."""
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not data:
            return
        self._stream.batch.begin()
        try:
            self._chan.write(cast("bytes", data))  # it takes a copy, of anything that has bytes
        except OSError:
            return  # the far end has closed it; connection_lost follows
        finally:
            self._stream.batch.end()
        self._stream.traffic.sent += len(data)
        if self._chan.get_write_buffer_size() > WRITE_MAX:
            self._force_close(ConnectionAbortedError(f"more than {WRITE_MAX >> 20} MiB wait to be sent"))

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the server's window."""
        return self._chan.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water."""
        return self._limits

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Bytes waiting at which the protocol pauses (`high`) and resumes (`low`, a quarter of it)."""
        high = high if high is not None else (4 * low if low is not None else WRITE_HIGH)
        low = low if low is not None else high // 4
        self._limits = (low, high)
        self._chan.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        """A channel can be half closed."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more is sent; reading goes on."""
        if not self._eof and not self._closing:
            self._eof = True
            self._chan.write_eof()

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the channel has ended."""
        return self._closing

    def close(self) -> None:
        """Send what waits, then end. A server that takes nothing more has a few seconds."""
        if self._closing:
            return
        self._closing = True
        self._chan.close()
        if self._chan.get_write_buffer_size():
            self._flush = self._loop.call_later(FLUSH_LIMIT, self._give_up)
        else:
            self._stream.end(None)

    def _give_up(self) -> None:
        self._chan.abort()
        self._stream.end(None)

    def abort(self) -> None:
        """End at once; what waits is lost."""
        self._force_close(None)

    def _force_close(self, exc: Exception | None) -> None:
        """As `abort`, with a reason for the protocol (asyncio's TLS calls this)."""
        self._closing = True
        self._chan.abort()
        self._stream.end(exc)

    def mark_closed(self) -> None:
        """The channel has ended by itself."""
        self._closing = True
        if self._flush is not None:
            self._flush.cancel()


def _as_os_error(exc: Exception | None) -> Exception | None:
    """What a protocol can know of: the SSH library's own errors become a reset."""
    if exc is None or isinstance(exc, OSError):
        return exc
    reset = ConnectionResetError("the SSH connection that carried it has ended")
    reset.__cause__ = exc
    return reset
