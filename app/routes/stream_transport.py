"""The side of a stream that looks up: the asyncio transport that every stream carried by a hop is."""

from __future__ import annotations

import asyncio

from app.routes.feeding import Guarded

WRITE_HIGH = 256 << 10
"""Bytes waiting to be sent at which the writer is told to pause; it resumes at a quarter."""
WRITE_MAX = 64 << 20
"""Bytes waiting at which a writer that does not pause loses its stream; nothing here sends that much at once."""


class StreamTransport(asyncio.Transport):
    """What the protocol writes to. `loop.start_tls` accepts it.

    Whoever carries the stream says how bytes are sent, and in `_read_on` and `_force_close` how reading stops and how
    the stream ends; what asyncio asks beside that is the same on all of them.
    """

    _start_tls_compatible = True

    def __init__(self, above: Guarded, target: tuple[str, int]) -> None:
        super().__init__({"peername": target})
        self._above = above
        self._closing = False
        self._reading = True
        self._limits = (WRITE_HIGH // 4, WRITE_HIGH)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the stream over, e.g. to TLS."""
        self._above.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that the stream feeds."""
        assert self._above.protocol is not None, "the stream has ended"
        return self._above.protocol

    def is_reading(self) -> bool:
        """Whether bytes are handed on as they come."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Leave bytes where they are; the far end waits when enough have come."""
        if self._reading and not self._closing:
            self._reading = False
            self._read_on(False)

    def resume_reading(self) -> None:
        """Hand bytes on again, from the loop: never while the caller still runs."""
        if not self._reading and not self._closing:
            self._reading = True
            self._read_on(True)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water."""
        return self._limits

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the stream has ended."""
        return self._closing

    def abort(self) -> None:
        """End at once; what waits is lost."""
        self._force_close(None)

    def _bound(self, waiting: int) -> None:
        """So many bytes wait after a write: too many end the stream."""
        if waiting > WRITE_MAX:
            self._force_close(ConnectionAbortedError(f"more than {WRITE_MAX >> 20} MiB wait to be sent"))

    def _read_on(self, reading: bool) -> None:
        """Have bytes handed on, from the loop, or left where they are."""
        raise NotImplementedError

    def _force_close(self, exc: Exception | None) -> None:
        """As `abort`, with a reason for the protocol (asyncio's TLS calls this)."""
        raise NotImplementedError
