"""The client side of a WebSocket (RFC 6455) that carries bytes, over any asyncio transport. Sockets of no library here.

It begins behind the handshake (`app.routes.websocket_handshake`). What follows that may be no WebSocket at all: `HTTP/`
as first bytes is a gateway's refusal that comes too late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from app.routes.websocket_frames import (
    FRAME_SIZE,
    FRAME_SIZE_MAX,
    FrameReader,
    Op,
    close_code,
    frame,
    frames,
    quicken,
)
from app.text import prose

WRITE_HIGH = 256 << 10
"""Bytes waiting to be sent at which the writer is told to pause; it resumes at a quarter."""
FLUSH_AT = 64 << 10
"""Bytes of one turn of the loop that go out at once: a writer hears that it must pause while it still writes."""
INBOX = 128 << 10
"""Bytes taken at once."""
CLOSE_WAIT = 1.0
"""Seconds for the server's own CLOSE after ours, before the connection is dropped; nobody waits for it."""
FLUSH_LIMIT = 3.0
"""Seconds for what was sent before a CLOSE to be taken, as for every clean end."""
MUCH = 1 << 20
"""Bytes sent on one stream after which masking is worth the loading of something faster."""
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_CODE, ABNORMAL = 1000, 1001, 1002, 1005, 1006

_HTTP = b"HTTP/"
_LINE_LIMIT = 200
"""Bytes of the line that a late refusal begins with."""


class NotAWebSocket(ConnectionResetError):
    """After its 101 the server went on in HTTP; the text is the line that it said."""


class Closed(ConnectionResetError):
    """The server closed the WebSocket for a reason, or broke it off."""

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.code = code


class Sink(Protocol):
    """Whom a WebSocket tells. Called from the loop; `ended` once, and nothing after it."""

    def received(self, data: bytes) -> None:
        """Bytes of the stream."""

    def ended(self, exc: Exception | None) -> None:
        """The stream is over: in good order, or why not."""

    def full(self, full: bool) -> None:
        """More bytes than wanted wait to be sent, or no longer so."""


class _Inbox(asyncio.BufferedProtocol):
    """Takes what comes in a buffer of its own: asyncio's TLS else allots its largest piece anew for each record."""

    def __init__(self) -> None:
        self._inbox = memoryview(bytearray(INBOX))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._inbox

    def buffer_updated(self, nbytes: int) -> None:
        self.feed(self._inbox[:nbytes])

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes, which are the caller's again afterwards."""
        raise NotImplementedError


class WebSocket(_Inbox):
    """One that was agreed on. Until a sink is attached, bytes wait here, and soon the server waits too."""

    def __init__(
        self, transport: asyncio.Transport, *, frame_size: int = FRAME_SIZE, notes: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.notes = notes
        """What was wrong with the handshake and was let pass; cleaned text."""
        self._transport, self._frame_size = transport, min(max(frame_size, 1), FRAME_SIZE_MAX)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._opening: bytes | None = b""
        """The first bytes, as long as they may be those of HTTP."""
        self._events: deque[bytes] = deque()
        self._sink: Sink | None = None
        self._reading, self._lower_paused, self._full = True, False, False
        self._closing = self._over = False
        self._end: tuple[Exception | None] | None = None
        """How the stream ended, once it has; told after the bytes before it."""
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._sent = 0
        self._closing_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.first: asyncio.Future[None] = self._loop.create_future()
        """Done with the first byte of the stream, or with its end."""
        self.spoke = False
        """Whether a byte of the stream has come."""

    # -- asyncio's side ------------------------------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview) -> None:
        if self._opening is not None:
            data = opening = self._opening = self._opening + data
            if opening[:5] == _HTTP[: len(opening)]:
                if len(opening) >= 5 and (b"\n" in opening or len(opening) > _LINE_LIMIT):
                    self._not_a_websocket(opening)
                return
            self._opening = None
        for op, payload in self._reader.feed(data):
            if op is Op.BINARY:
                self.spoke = True
                self._tell_first()
                if not self._closing:
                    self._events.append(payload)
            elif op is Op.PING:
                self._answer(payload)
            elif op is not Op.PONG:
                self._over_by(op, payload)
        self._hand_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._opening:
            self._not_a_websocket(self._opening)
        lost = exc if isinstance(exc, OSError) else Closed("it ended without a CLOSE", ABNORMAL)
        self._finish(None if self._closing else lost)

    def pause_writing(self) -> None:
        self._full = True
        if self._sink is not None:
            self._sink.full(True)

    def resume_writing(self) -> None:
        self._full = False
        if self._sink is not None:
            self._sink.full(False)

    # -- the stream ----------------------------------------------------------------------------------------------------

    def attach(self, sink: Sink) -> None:
        """Tell `sink` from now on; what waits is handed on from the loop."""
        self._sink = sink
        if self._full:
            sink.full(True)
        self._loop.call_soon(self._hand_on)

    @property
    def end(self) -> Exception | None:
        """Why the stream is over, before anybody was told; None while it stands, or in good order."""
        return self._end[0] if self._end is not None else None

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return self._pending_size + self._transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        """Send bytes of the stream; those of one turn of the loop go out together, unless they are many."""
        if self._closing or self._over or not data:
            return
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= FLUSH_AT:
            self._flush()
        if self._sent < MUCH <= self._sent + len(data):
            self._loop.run_in_executor(None, quicken)
        self._sent += len(data)

    def read_on(self, reading: bool) -> None:
        """Hand bytes on as they come, or leave them: the server waits when enough have come."""
        if reading and not self._reading:
            self._loop.call_soon(self._hand_on)  # never while the caller still runs
        self._reading = reading
        if not reading:
            self._throttle()

    def close(self) -> None:
        """Send what waits and a CLOSE; the connection ends when the server agrees, or a little later."""
        self._events.clear()  # nobody reads any more
        self._reading = True
        self._say_goodbye(NORMAL)

    def abort(self) -> None:
        """Drop the connection."""
        self._closing = True
        self._pending, self._pending_size = [], 0
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    def _flush(self) -> None:
        data, self._pending, self._pending_size = b"".join(self._pending), [], 0
        if data and not self._over and not self._closing:
            self._transport.write(frames(data, self._frame_size))

    def _answer(self, ping: bytes) -> None:
        """Who takes no answers gets none: else they would wait here without limit (RFC 6455 §5.5.3 lets us)."""
        if not self._transport.is_closing() and self._transport.get_write_buffer_size() < WRITE_HIGH:
            self._write(frame(ping, Op.PONG))

    def _write(self, data: bytes) -> None:
        if not self._over and not self._transport.is_closing():
            self._transport.write(data)

    def _say_goodbye(self, code: int) -> None:
        if self._closing or self._over:
            return
        self._flush()
        self._closing = True
        self._write(frame(code.to_bytes(2, "big"), Op.CLOSE))
        self._closing_since = self._loop.time()
        self._timer = self._loop.call_later(CLOSE_WAIT, self._give_up)
        self._throttle()

    def _give_up(self) -> None:
        """The server has said nothing to our CLOSE. It has longer while it still takes what we sent before."""
        if self.unsent and self._loop.time() < self._closing_since + FLUSH_LIMIT:
            self._timer = self._loop.call_later(CLOSE_WAIT, self._give_up)
        else:
            self.abort()

    # -- how it ends ---------------------------------------------------------------------------------------------------

    def _over_by(self, op: Op, payload: bytes) -> None:
        """The server ends the stream, or breaks it."""
        if op is Op.EMPTY:
            self._finish(None)
            self._say_goodbye(NORMAL)
        elif op is Op.BROKEN:
            self._finish(Closed(prose(payload), PROTOCOL_ERROR))
            self._say_goodbye(PROTOCOL_ERROR)
        else:
            code, reason = close_code(payload)
            words = f"the server closed it with code {code}" + (f": {prose(reason, 200)}" if reason else "")
            self._finish(None if code in (NORMAL, GOING_AWAY, NO_CODE) else Closed(words, code))
            if not self._closing:
                self._write(frame(payload[:2], Op.CLOSE))
            self._closing = True
            if not self._transport.is_closing():  # asyncio's TLS forgets its connection when it is closed twice
                self._transport.close()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(CLOSE_WAIT, self.abort)

    def _not_a_websocket(self, data: bytes) -> None:
        self._opening = b""
        self._finish(NotAWebSocket(prose(data[:_LINE_LIMIT].split(b"\n", 1)[0], _LINE_LIMIT)))
        self.abort()

    def _tell_first(self) -> None:
        if not self.first.done():
            self.first.set_result(None)

    def _finish(self, exc: Exception | None) -> None:
        if self._end is None:
            self._end = (exc,)
            self._tell_first()
            self._loop.call_soon(self._hand_on)

    def _hand_on(self) -> None:
        """Give the sink what waits, while it reads."""
        sink = self._sink
        while sink is not None and self._events and self._reading:
            sink.received(self._events.popleft())
        if sink is not None and self._end is not None and not self._events:
            self._sink = None
            sink.ended(self._end[0])
            return
        self._throttle()

    def _throttle(self) -> None:
        """Pause the connection below while bytes wait here."""
        paused = not self._over and not self._closing and (not self._reading or bool(self._events))
        if paused != self._lower_paused and not self._over:
            self._lower_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
