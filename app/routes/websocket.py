"""The client side of a WebSocket (RFC 6455) that carries bytes, over any asyncio transport. Sockets of no library here.

Azure Bastion's answers are not always a legal handshake, and libraries refuse them. Here status 101 alone is agreement;
what is missing beside it is noted. What follows may be no WebSocket at all: `HTTP/` as first bytes is a gateway's
refusal that comes too late.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
from collections import deque
from typing import Protocol

from app.records import Record
from app.routes.websocket_frames import FRAME_SIZE, FRAME_SIZE_MAX, FrameReader, Op, close_code, frame, frames, quicken
from app.text import prose

HEAD_LIMIT = 32 << 10
"""Bytes of the answer's head; the service's own has a few hundred, a gateway in between adds cookies."""
REFUSAL_LIMIT = 16 << 10
"""Bytes of a refusal's body that are kept for the error."""
REFUSAL_WAIT = 1.0
"""Seconds that a refusal's body may take after its head; the status says enough without it."""
WRITE_HIGH = 256 << 10
"""Bytes waiting to be sent at which the writer is told to pause; it resumes at a quarter."""
CLOSE_WAIT = 1.0
"""Seconds for the server's own CLOSE after ours, before the connection is dropped; nobody waits for it."""
FLUSH_LIMIT = 3.0
"""Seconds for what was sent before a CLOSE to be taken, as for every clean end."""
MUCH = 1 << 20
"""Bytes sent on one stream after which masking is worth the loading of something faster."""
NORMAL, GOING_AWAY, NO_CODE, ABNORMAL, PROTOCOL_ERROR = 1000, 1001, 1005, 1006, 1002

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?:[ \r\n]|$)")
_HTTP = b"HTTP/"


class Refused(Exception):
    """The server did not agree to a WebSocket. `status` 0: what came was no answer of HTTP."""

    def __init__(self, why: str, status: int = 0, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        super().__init__(why)
        self.status, self.headers, self.body = status, headers or {}, body


class NotAWebSocket(ConnectionResetError):
    """After its 101 the server went on in HTTP; the text is the line that it said."""


class Closed(ConnectionResetError):
    """The server closed the WebSocket for a reason, or broke it off."""

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.code = code


class Agreed(Record):
    """A WebSocket that stands."""

    notes: tuple[str, ...] = ()
    """What was wrong with the handshake and is let pass; cleaned text."""


class Sink(Protocol):
    """Whom a WebSocket tells. Called from the loop; `ended` once, and nothing after it."""

    def received(self, data: bytes) -> None:
        """Bytes of the stream."""

    def ended(self, exc: Exception | None) -> None:
        """The stream is over: in good order, or why not."""

    def full(self, full: bool) -> None:
        """More bytes than wanted wait to be sent, or no longer so."""


class WebSocket(asyncio.Protocol):
    """Give it to a dialer as protocol, `await agree(…)`, then `attach` a sink. Bytes wait, bounded, until then."""

    def __init__(self, *, frame_size: int = FRAME_SIZE) -> None:
        self._frame_size = min(max(frame_size, 1), FRAME_SIZE_MAX)
        loop = self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[None] = loop.create_future()
        self._held = bytearray()
        """Bytes before the frames: the answer's head, a refusal, the first bytes after the head."""
        self._head: bytes | None = None
        self._reader: FrameReader | None = None
        self._events: deque[tuple[Op, bytes]] = deque()
        self._sink: Sink | None = None
        self._reading, self._lower_paused, self._full = True, False, False
        self._began = False
        """Whether the first bytes after the handshake were seen to be no HTTP."""
        self._lost: OSError | None = None
        self._closing = self._over = False
        self._end: tuple[Exception | None] | None = None
        """How the stream ended, once it has; told after the bytes before it."""
        self._pending: list[bytes] = []
        self._sent = 0
        self._closing_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.first: asyncio.Future[None] = loop.create_future()
        """Done with the first byte of the stream, or with its end."""
        self.spoke = False
        """Whether a byte of the stream has come."""

    # -- the handshake -------------------------------------------------------------------------------------------------

    async def agree(self, host: str, path: str) -> Agreed:
        """Ask for a WebSocket at `path`. Put a limit around it. Raises Refused and OSError."""
        assert self._transport is not None, "the dialer has called connection_made"
        key = base64.b64encode(os.urandom(16))
        lines = (f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key.decode()}", "Sec-WebSocket-Version: 13",
                 f"Origin: https://{host}")  # fmt: skip
        if not all(line.isascii() and line.isprintable() for line in lines):
            raise ValueError("a request that cannot be sent")
        self._transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        await self._answer
        if self._head is None:
            raise self._lost or ConnectionResetError("closed without an answer")
        status, headers = _read_head(self._head)
        if status != 101:
            await self._refusal(headers)
            raise Refused(f"it answered {status}", status, headers, bytes(self._held[:REFUSAL_LIMIT]))
        notes = _judge(headers, key)
        self._reader = FrameReader()
        rest = bytes(self._held)
        self._held.clear()
        if rest:
            self._opened(rest)
        return Agreed(notes)

    async def _refusal(self, headers: dict[str, str]) -> None:
        """Wait a moment for the body of a refusal."""
        length = headers.get("content-length", "")
        wanted = min(int(length), REFUSAL_LIMIT) if length.isascii() and length.isdigit() else REFUSAL_LIMIT
        try:
            async with asyncio.timeout(REFUSAL_WAIT):
                while len(self._held) < wanted and self._end is None:
                    self._answer = self._loop.create_future()
                    await self._answer
        except TimeoutError:
            return

    # -- asyncio's side ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._before_frames(data)
        elif not self._began:
            self._opened(data)
        else:
            self._take(self._reader.feed(data))

    def eof_received(self) -> bool:
        return False  # asyncio closes the transport then; connection_lost follows

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        if isinstance(exc, OSError):
            self._lost = exc
        if self._held and self._reader is not None:
            self._not_a_websocket()
        self._finish(None if self._closing else self._lost or Closed("it ended without a CLOSE", ABNORMAL))
        if not self._answer.done():
            self._answer.set_result(None)

    def pause_writing(self) -> None:
        self._tell_full(True)

    def resume_writing(self) -> None:
        self._tell_full(False)

    def _tell_full(self, full: bool) -> None:
        self._full = full
        if self._sink is not None:
            self._sink.full(full)

    def _before_frames(self, data: bytes) -> None:
        if len(self._held) < HEAD_LIMIT * 2:
            self._held += data
        if self._head is None:
            end = re.search(rb"\r?\n\r?\n", self._held)
            if end is None and len(self._held) < HEAD_LIMIT and _HTTP.startswith(bytes(self._held[:5])):
                return
            self._head = bytes(self._held[: end.start()]) if end is not None else b""
            del self._held[: end.end() if end is not None else 0]
        if not self._answer.done():
            self._answer.set_result(None)

    def _opened(self, data: bytes) -> None:
        """The first bytes after the handshake: frames, unless they are an answer of HTTP."""
        self._held += data
        held = bytes(self._held)
        if held[:5] == _HTTP[: len(held)]:
            if len(held) >= 5 and (b"\n" in held or len(held) > 200):
                self._not_a_websocket()
            return
        self._held.clear()
        self._began = True
        assert self._reader is not None
        self._take(self._reader.feed(held))

    def _not_a_websocket(self) -> None:
        line = prose(bytes(self._held[:200]).split(b"\n", 1)[0], 200)
        self._held.clear()
        self._finish(NotAWebSocket(line))
        self.abort()

    # -- the stream ----------------------------------------------------------------------------------------------------

    def attach(self, sink: Sink) -> None:
        """Tell `sink` from now on; what waits is handed on from the loop."""
        self._sink = sink
        if self._full:
            sink.full(True)
        self._loop.call_soon(self._hand_on)

    def send(self, data: bytes) -> None:
        """Send bytes of the stream; those of one turn of the loop go out together."""
        if self._closing or self._over or not data:
            return
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)
        if self._sent < MUCH <= self._sent + len(data):
            self._loop.run_in_executor(None, quicken)
        self._sent += len(data)

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        waiting = sum(map(len, self._pending))
        return waiting + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    def pause_reading(self) -> None:
        """Leave bytes where they are; the server waits when enough have come."""
        self._reading = False
        self._throttle()

    def resume_reading(self) -> None:
        """Hand bytes on again, from the loop."""
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._hand_on)

    def close(self) -> None:
        """Send what waits and a CLOSE; the connection ends when the server agrees, or a little later."""
        self._events.clear()  # nobody reads any more
        self._reading = True
        self._say_goodbye(NORMAL)

    def _say_goodbye(self, code: int) -> None:
        if self._closing or self._over:
            return
        self._flush()
        self._closing = True
        if self._reader is None or self._transport is None:
            self.abort()
            return
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

    def abort(self) -> None:
        """Drop the connection."""
        self._closing = True
        self._pending.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        data, self._pending = b"".join(self._pending), []
        if data and self._transport is not None and not self._over and not self._closing:
            self._transport.write(frames(data, self._frame_size))

    def _take(self, events: list[tuple[Op, bytes]]) -> None:
        for op, payload in events:
            if op is Op.BINARY:
                self.spoke = True
                self._said()
                if not self._closing:
                    self._events.append((op, payload))
            elif op is Op.PING:
                self._write(frame(payload, Op.PONG))
            elif op is not Op.PONG:
                self._over_by(op, payload)
        self._hand_on()

    def _said(self) -> None:
        if not self.first.done():
            self.first.set_result(None)

    def _over_by(self, op: Op, payload: bytes) -> None:
        """The server ends the stream, or breaks it."""
        if op is Op.EMPTY:
            self._finish(None)
            self._say_goodbye(NORMAL)
            return
        if op is Op.BROKEN:
            self._finish(Closed(prose(payload), PROTOCOL_ERROR))
            self._say_goodbye(PROTOCOL_ERROR)
            return
        code, reason = close_code(payload)
        good = code in (NORMAL, GOING_AWAY, NO_CODE)
        words = f"the server closed it with code {code}" + (f": {prose(reason, 200)}" if reason else "")
        self._finish(None if good else Closed(words, code))
        if not self._closing:
            self._write(frame(payload[:2], Op.CLOSE))
        self._closing = True
        if self._transport is not None:
            self._transport.close()
            self._timer = self._loop.call_later(CLOSE_WAIT, self.abort)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._over and not self._transport.is_closing():
            self._transport.write(data)

    def _finish(self, exc: Exception | None) -> None:
        if self._end is None:
            self._end = (exc,)
            self._said()
            self._loop.call_soon(self._hand_on)
        if self._over and self._timer is not None:
            self._timer.cancel()

    def _hand_on(self) -> None:
        """Give the sink what waits, while it reads."""
        sink = self._sink
        while sink is not None and self._events and self._reading:
            sink.received(self._events.popleft()[1])
        if sink is not None and self._end is not None and not self._events:
            self._sink = None
            sink.ended(self._end[0])
            return
        self._throttle()

    def _throttle(self) -> None:
        """Pause the connection below while bytes wait here."""
        if self._transport is None or self._over:
            return
        paused = not self._closing and self._reader is not None and (not self._reading or bool(self._events))
        if paused != self._lower_paused:
            self._lower_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    @property
    def end(self) -> Exception | None:
        """Why the stream is over before anybody was told; None while it stands, or in good order."""
        return self._end[0] if self._end is not None else None

    @property
    def over(self) -> bool:
        """Whether the stream has ended."""
        return self._end is not None


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, read as leniently as can be. Raises Refused when it is no HTTP."""
    first, *lines = re.split(rb"\r?\n", head)
    found = _STATUS.match(first + b"\n")
    if found is None:
        raise Refused("it does not answer in HTTP")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.strip().decode("latin-1").lower(), value.strip().decode("latin-1"))
    return int(found[1]), headers


def _judge(headers: dict[str, str], key: bytes) -> tuple[str, ...]:
    """What is wrong with a 101 and let pass. Raises Refused when it answers another request than ours."""
    notes: list[str] = []
    if headers.get("upgrade", "").lower() != "websocket":
        notes.append("no Upgrade: websocket")
    if "upgrade" not in headers.get("connection", "").lower():
        notes.append("no Connection: Upgrade")
    accept = headers.get("sec-websocket-accept")
    wanted = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    if accept is None:
        notes.append("no Sec-WebSocket-Accept")
    elif accept != wanted:
        raise Refused("its 101 answers another request than ours", 101)
    notes += [f"{name} though none was asked for" for name in ("Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol")
              if headers.get(name.lower())]  # fmt: skip
    return tuple(notes)
