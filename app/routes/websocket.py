"""The client side of a WebSocket (RFC 6455) that carries bytes, over any asyncio transport. Sockets of no library here.

It begins behind the handshake (`app.routes.websocket_handshake`). What follows that may be no WebSocket at all: `HTTP/`
as first bytes is a gateway's refusal that comes too late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from app.routes.websocket_frames import FRAME_SIZE, FrameReader, Op, close_code
from app.routes.websocket_outbox import Outbox
from app.text import prose

INBOX = 128 << 10
"""Bytes taken at once."""
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
        self._transport = transport
        self._out = Outbox(transport, frame_size)
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._opening: bytes | None = b""
        """The first bytes, as long as they may be those of HTTP."""
        self._events: deque[bytes] = deque()
        self._sink: Sink | None = None
        self._reading, self._lower_paused, self._full = True, False, False
        self._end: tuple[Exception | None] | None = None
        """How the stream ended, once it has; told after the bytes before it."""
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
                if not self._out.closing:
                    self._events.append(payload)
            elif op is Op.PING:
                self._out.pong(payload)
            elif op is not Op.PONG:
                self._over_by(op, payload)
        self._hand_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._out.lost()
        if self._opening:
            self._not_a_websocket(self._opening)
        lost = exc if isinstance(exc, OSError) else Closed("it ended without a CLOSE", ABNORMAL)
        self._finish(None if self._out.closing else lost)

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
        return self._out.unsent

    def send(self, data: bytes) -> None:
        """Send bytes of the stream; those of one turn of the loop go out together, unless they are many."""
        self._out.send(data)

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
        self._out.abort()

    def _say_goodbye(self, code: int) -> None:
        if not self._out.closing:
            self._out.close(code)
            self._throttle()

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
            self._out.agree(payload)

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
        paused = not self._out.over and not self._out.closing and (not self._reading or bool(self._events))
        if paused != self._lower_paused and not self._out.over:
            self._lower_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
