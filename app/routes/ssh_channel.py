"""An SSH channel (RFC 4254 §7.2, direct-tcpip) as an asyncio transport, so that TLS and HTTP run on it without a port.

Of the callbacks that the library makes into us none lets an exception of a protocol escape: it would end the whole SSH
connection and every other stream on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import asyncssh

from app.dialer import ProtocolFactory
from app.routes.feeding import Guarded, Traffic
from app.routes.stream_transport import WRITE_HIGH, StreamTransport

if TYPE_CHECKING:
    from app.routes.ssh_carrier import Batch

WINDOW = 8 << 20
"""Bytes that the server may send ahead on one channel: at 40 ms round trip the library's 2 MiB give a third of it."""
FLUSH_LIMIT = 3.0
"""Seconds for the rest of a closed stream to be taken by the server, as for every clean end."""


class Stream(asyncssh.SSHTCPSession[bytes]):
    """The side of a channel that the SSH library calls.

    `ended` is called when the channel needs no more care.
    """

    def __init__(
        self, factory: ProtocolFactory, target: tuple[str, int], traffic: Traffic, batch: Batch,
        ended: Callable[[Stream], None],
    ) -> None:  # fmt: skip
        self._factory, self._target, self._ended = factory, target, ended
        self.traffic, self.batch = traffic, batch
        self.transport: ChannelTransport | None = None
        self.above = Guarded("an SSH channel", traffic, self.abandon)
        self._abandoned = False
        self._channel_full = self._carrier_full = False

    def abandon(self) -> None:
        """Nobody wants this channel any more: it is closed at once, also when it is still to open."""
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
            self.above.protocol = self._factory()
            self.above.protocol.connection_made(self.transport)
        except Exception as defect:
            self.above.failed(defect, "connection_made")

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes from the far end."""
        self.above.received(data)

    def eof_received(self) -> bool:
        """The far end sends no more. True: the library leaves our direction open; we close it by asyncio's rule."""
        if not self.above.eof_received() and self.transport is not None:
            self.transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel has ended, or the connection that carried it."""
        self.end(exc)

    def pause_writing(self) -> None:
        """The server's window is used up."""
        self._channel_full = True
        self.above.pause(True)

    def resume_writing(self) -> None:
        """The server takes more."""
        self._channel_full = False
        self.above.pause(self._carrier_full)

    def hold(self, full: bool) -> None:
        """The connection below takes no more for now, or again."""
        self._carrier_full = full
        self.above.pause(full or self._channel_full)

    def end(self, exc: Exception | None) -> None:
        """The stream has ended."""
        if self.transport is not None:
            self.transport.mark_closed()
        self.above.lost(_as_os_error(exc))
        self._ended(self)


class ChannelTransport(StreamTransport):
    """What the protocol writes to."""

    def __init__(self, chan: asyncssh.SSHTCPChannel[bytes], stream: Stream, target: tuple[str, int]) -> None:
        super().__init__(stream.above, target)
        self._chan, self._stream = chan, stream
        self._loop = asyncio.get_running_loop()
        self._eof = False
        self._flush: asyncio.TimerHandle | None = None

    def _read_on(self, reading: bool) -> None:
        """Paused, bytes stay in the channel; when its window is full the far end waits."""
        if reading:
            self._loop.call_soon(self._resume)
        else:
            self._chan.pause_reading()

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
        self._bound(self._chan.get_write_buffer_size())

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the server's window."""
        return self._chan.get_write_buffer_size()

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

    def _force_close(self, exc: Exception | None) -> None:
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
