"""What a WebSocket client sends (RFC 6455 §5): bytes of the stream in masked frames, pongs, and a CLOSE at its end."""

from __future__ import annotations

import asyncio

from app.routes.stream_transport import WRITE_HIGH
from app.routes.websocket_frames import FRAME_SIZE_MAX, Op, frame, frames, quicken

FLUSH_AT = 64 << 10
"""Bytes of one turn of the loop that go out at once: a writer hears that it must pause while it still writes."""
CLOSE_WAIT = 1.0
"""Seconds for the server's own CLOSE after ours, before the connection is dropped; nobody waits for it."""
FLUSH_LIMIT = 3.0
"""Seconds for what was sent before a CLOSE to be taken, as for every clean end."""
MUCH = 1 << 20
"""Bytes sent on one stream after which masking is worth the loading of something faster."""


class Outbox:
    """The sending half of one WebSocket. `closing`: nothing more is sent; `over`: the connection has ended."""

    def __init__(self, transport: asyncio.Transport, frame_size: int) -> None:
        self.closing = self.over = False
        self._transport, self._frame_size = transport, min(max(frame_size, 1), FRAME_SIZE_MAX)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._sent = 0
        self._closing_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return self._pending_size + self._transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        """Send bytes of the stream; those of one turn of the loop go out together, unless they are many."""
        if self.closing or self.over or not data:
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

    def pong(self, ping: bytes) -> None:
        """Answer a ping. Who takes no answers gets none: else they would wait here without limit (§5.5.3 lets us)."""
        if not self._transport.is_closing() and self._transport.get_write_buffer_size() < WRITE_HIGH:
            self._write(frame(ping, Op.PONG))

    def close(self, code: int) -> None:
        """Send what waits and a CLOSE; the connection is dropped when the server does not agree in time."""
        if self.closing or self.over:
            return
        self._flush()
        self.closing = True
        self._write(frame(code.to_bytes(2, "big"), Op.CLOSE))
        self._closing_since = self._loop.time()
        self._timer = self._loop.call_later(CLOSE_WAIT, self._give_up)

    def agree(self, close: bytes) -> None:
        """The server has sent this CLOSE: answer it unless it is an answer itself, and end the connection."""
        if not self.closing:
            self._write(frame(close[:2], Op.CLOSE))
        self.closing = True
        if not self._transport.is_closing():  # asyncio's TLS forgets its connection when it is closed twice
            self._transport.close()
        self._rest()
        self._timer = self._loop.call_later(CLOSE_WAIT, self.abort)

    def abort(self) -> None:
        """Drop the connection."""
        self.closing = True
        self._pending, self._pending_size = [], 0
        self._rest()
        self._transport.abort()

    def lost(self) -> None:
        """The connection has ended."""
        self.over = True
        self._rest()

    def _flush(self) -> None:
        data, self._pending, self._pending_size = b"".join(self._pending), [], 0
        if data and not self.over and not self.closing:
            self._transport.write(frames(data, self._frame_size))

    def _write(self, data: bytes) -> None:
        if not self.over and not self._transport.is_closing():
            self._transport.write(data)

    def _give_up(self) -> None:
        """The server has said nothing to our CLOSE. It has longer while it still takes what we sent before."""
        if self.unsent and self._loop.time() < self._closing_since + FLUSH_LIMIT:
            self._timer = self._loop.call_later(CLOSE_WAIT, self._give_up)
        else:
            self.abort()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
