"""The protocol above a stream that we carry: fed, paused and told of its end, and guarded.

Whoever calls into a protocol here carries other streams too (an SSH library, a WebSocket's reader): an exception that
escaped would end all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Traffic:
    """Bytes of all streams of one hop."""

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


def feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Give bytes to a protocol that brings its own buffer, as asyncio's TLS does, in as many parts as that takes."""
    rest = memoryview(data)
    while rest:
        buffer: Any = protocol.get_buffer(len(rest))
        size = min(len(buffer), len(rest))
        if not size:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:size] = rest[:size]
        protocol.buffer_updated(size)
        rest = rest[size:]


class Guarded:
    """The protocol above one stream. What it raises is reported as asyncio does, and ends this one stream.

    `abort` ends the stream. `protocol` is None before it is made and after the stream's end; whatever comes then is
    for nobody.
    """

    def __init__(self, where: str, traffic: Traffic, abort: Callable[[], None]) -> None:
        self.protocol: asyncio.BaseProtocol | None = None
        self._where, self._traffic, self._abort = where, traffic, abort
        self._paused = False
        self._loop = asyncio.get_running_loop()

    def received(self, data: bytes) -> None:
        """Bytes from the far end: count them and hand them on."""
        self._traffic.received += len(data)
        protocol = self.protocol
        try:
            if isinstance(protocol, asyncio.BufferedProtocol):
                feed(protocol, data)
            elif isinstance(protocol, asyncio.Protocol):
                protocol.data_received(data)
        except Exception as defect:
            self.failed(defect, "data_received")

    def eof_received(self) -> bool:
        """The far end sends no more. Whether the protocol wants to go on sending; also True when it has raised."""
        protocol = self.protocol
        try:
            return isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol) and bool(protocol.eof_received())
        except Exception as defect:
            self.failed(defect, "eof_received")
            return True

    def pause(self, full: bool) -> None:
        """More bytes than wanted wait to be sent, or no longer so. Tells the protocol when that is news."""
        if full is self._paused or self.protocol is None:
            return
        self._paused = full
        try:
            if full:
                self.protocol.pause_writing()
            else:
                self.protocol.resume_writing()
        except Exception as defect:
            self.failed(defect, "pause_writing" if full else "resume_writing")

    def lost(self, exc: Exception | None) -> None:
        """The stream has ended: tell the protocol, once and from the loop, never while its own call still runs."""
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            self._loop.call_soon(protocol.connection_lost, exc)

    def failed(self, defect: Exception, call: str) -> None:
        """The protocol raised in this call: report it, and end the stream."""
        message = f"protocol.{call}() call failed on {self._where}"
        self._loop.call_exception_handler({"message": message, "exception": defect, "protocol": self.protocol})
        self._abort()
