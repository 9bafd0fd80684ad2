"""One stream through a Bastion as an asyncio transport: TLS and SSH run on it without a port.

Until the target's first byte has come, what was written is kept, so that the stream can move to another WebSocket when
the first one turns out to be one of those that lead nowhere: nobody has seen a TLS hello or an SSH version line then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from app.dialer import ProtocolFactory
from app.routes.bastion_sessions import Carriage
from app.routes.feeding import feed
from app.routes.websocket import WRITE_HIGH

WRITE_MAX = 64 << 20
"""Bytes waiting at which a writer that does not pause loses its stream; nothing here sends that much at once."""
KEPT_MAX = 64 << 10
"""Bytes written before the first answer that are kept to be sent again: a TLS hello has at most a few thousand."""
_GREETINGS = (b"\x16\x03", b"SSH-2.0-", b"SSH-1.99-")
"""First bytes that do nothing at the far end (TLS handshake, SSH version). Others are never sent twice."""


class Traffic:
    """Bytes of all streams of one hop."""

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


class BastionStream(asyncio.Transport):
    """What the protocol writes to. `loop.start_tls` accepts it. A Bastion's streams cannot be half closed.

    `unanswered(stream, why)` is asked when a carriage ends, or is silent, before its first byte; True: another one
    comes, or `fail` will be called.
    """

    _start_tls_compatible = True

    def __init__(
        self, target: tuple[str, int], traffic: Traffic, *, first_byte: float,
        unanswered: Callable[[BastionStream, Exception | None], bool],
        ended: Callable[[BastionStream], None],
    ) -> None:  # fmt: skip
        super().__init__({"peername": target})
        self._traffic, self._unanswered, self._ended = traffic, unanswered, ended
        self._loop = asyncio.get_running_loop()
        self._first_byte = first_byte
        self._protocol: asyncio.BaseProtocol | None = None
        self._carriage: Carriage | None = None
        self._closing = self._over = False
        self._reading, self._paused = True, False
        self._limits = (WRITE_HIGH // 4, WRITE_HIGH)
        self._timer: asyncio.TimerHandle | None = None
        self._kept: bytearray | None = bytearray()
        """What was written before the first answer; None once that has come."""
        self.tries = 0
        """Carriages that were asked for."""

    # -- for the dialer ------------------------------------------------------------------------------------------------

    def open(self, factory: ProtocolFactory) -> None:
        """The stream stands: make its protocol."""
        self._protocol = factory()
        self._attach()
        self._protocol.connection_made(self)

    def carry(self, carriage: Carriage, first_byte: float) -> None:
        """Go on over this carriage, beginning with what is kept."""
        if self._closing:
            carriage.release()
            return
        self._carriage, self._first_byte = carriage, first_byte
        if self._protocol is not None:
            self._attach()

    def _attach(self) -> None:
        """Take what the carriage has, from now on."""
        carriage = self._carriage
        if carriage is None:
            return
        if not self._reading:
            carriage.socket.read_on(False)
        carriage.socket.attach(_Carried(self, carriage))
        if self._kept:
            carriage.socket.send(bytes(self._kept))
            self._watch()

    @property
    def may_move(self) -> bool:
        """Whether what was written can be sent again over another carriage."""
        kept = self._kept
        return not self._closing and kept is not None and (not kept or kept.startswith(_GREETINGS))

    def fail(self, exc: Exception) -> None:
        """No carriage came: end the stream."""
        self._force_close(exc)

    # -- what the carriage tells ---------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes from the target."""
        self._kept = None
        self._stop_watch()
        self._traffic.received += len(data)
        protocol = self._protocol
        try:
            if isinstance(protocol, asyncio.BufferedProtocol):
                feed(protocol, data)
            elif isinstance(protocol, asyncio.Protocol):
                protocol.data_received(data)
        except Exception as defect:
            self._failed(defect, "data_received")

    def dropped(self, carriage: Carriage, exc: Exception | None) -> None:
        """A carriage has ended."""
        carriage.release()
        if carriage is self._carriage:
            self._carriage = None
            self._lost(exc)

    def full(self, full: bool) -> None:
        """The carriage takes no more for now, or again."""
        if full is self._paused or self._protocol is None or self._over:
            return
        self._paused = full
        try:
            if full:
                self._protocol.pause_writing()
            else:
                self._protocol.resume_writing()
        except Exception as defect:
            self._failed(defect, "pause_writing")

    def _lost(self, exc: Exception | None) -> None:
        self._stop_watch()
        self.full(False)
        if not self._closing and self._kept is not None and self._unanswered(self, exc):
            return
        if exc is None and not self._closing:
            self._eof()
        self._end(exc)

    def _eof(self) -> None:
        protocol = self._protocol
        try:
            if isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol):
                protocol.eof_received()  # whatever it answers: there is no half of a stream here
        except Exception as defect:
            self._failed(defect, "eof_received")

    def _silent(self) -> None:
        """Nothing has come from the target in time."""
        self._timer = None
        carriage, self._carriage = self._carriage, None
        if carriage is not None:
            carriage.release()
            self._lost(TimeoutError(f"no byte within {self._first_byte:g} s"))

    def _watch(self) -> None:
        if self._timer is None and self._kept is not None and self._carriage is not None:
            self._timer = self._loop.call_later(self._first_byte, self._silent)

    def _stop_watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, exc: Exception | None) -> None:
        """Tell the protocol, once and from the loop, that its stream has ended."""
        self._closing = True
        if self._over:
            return
        self._over = True
        self._stop_watch()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._loop.call_soon(protocol.connection_lost, exc)
        self._ended(self)

    def _failed(self, defect: Exception, where: str) -> None:
        """A protocol raised: report it as asyncio does, and end this one stream."""
        message = f"protocol.{where}() call failed on a Bastion stream"
        self._loop.call_exception_handler({"message": message, "exception": defect, "protocol": self._protocol})
        self.abort()

    # -- as a transport ------------------------------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the stream over, e.g. to TLS."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that the stream feeds."""
        assert self._protocol is not None, "the stream has ended"
        return self._protocol

    def is_reading(self) -> bool:
        """Whether bytes are handed on as they come."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Leave bytes where they are; the Bastion waits when enough have come."""
        if self._reading and not self._closing:
            self._reading = False
            if self._carriage is not None:
                self._carriage.socket.read_on(False)

    def resume_reading(self) -> None:
        """Hand bytes on again, from the loop."""
        if not self._reading and not self._closing:
            self._reading = True
            if self._carriage is not None:
                self._carriage.socket.read_on(True)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send. What the Bastion does not take yet waits here; the protocol is told to pause."""
        if self._closing or not data:
            return
        piece = bytes(data)
        self._traffic.sent += len(piece)
        if self._kept is not None:
            self._kept += piece
            if len(self._kept) > KEPT_MAX:
                self._kept = None  # too much has been said for it to be said again
                if self._carriage is None:
                    self._force_close(ConnectionAbortedError("too much was said before an answer"))
                    return
        if self._carriage is not None:
            self._carriage.socket.send(piece)
            self._watch()
        if self.get_write_buffer_size() > WRITE_MAX:
            self._force_close(ConnectionAbortedError(f"more than {WRITE_MAX >> 20} MiB wait to be sent"))

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return self._carriage.socket.unsent if self._carriage is not None else len(self._kept or b"")

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water."""
        return self._limits

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Kept by the connection below, whose measure of a full buffer holds for all that stands on it."""

    def can_write_eof(self) -> bool:
        """When either side of a Bastion's stream ends, both do."""
        return False

    def write_eof(self) -> None:
        """Not possible here."""
        raise NotImplementedError("a Bastion's stream has no half")

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the stream has ended."""
        return self._closing

    def close(self) -> None:
        """Send what waits, then end."""
        if self._closing:
            return
        self._closing = True
        self._stop_watch()
        carriage = self._carriage
        if carriage is None:
            self._end(None)
            return
        waiting = carriage.socket.unsent
        carriage.socket.close()
        if not waiting:
            self._end(None)  # nobody has to wait for the goodbyes

    def abort(self) -> None:
        """End at once; what waits is lost."""
        self._force_close(None)

    def _force_close(self, exc: Exception | None) -> None:
        """As `abort`, with a reason for the protocol (asyncio's TLS calls this)."""
        self._closing = True
        carriage, self._carriage = self._carriage, None
        if carriage is not None:
            carriage.release()
        self._end(exc)


class _Carried:
    """What one carriage tells its stream."""

    def __init__(self, stream: BastionStream, carriage: Carriage) -> None:
        self._stream: Any = stream
        self._carriage = carriage

    def received(self, data: bytes) -> None:
        if self._stream._carriage is self._carriage:
            self._stream.received(data)

    def ended(self, exc: Exception | None) -> None:
        self._stream.dropped(self._carriage, exc)

    def full(self, full: bool) -> None:
        if self._stream._carriage is self._carriage:
            self._stream.full(full)
