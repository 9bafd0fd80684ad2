"""One stream through a Bastion as an asyncio transport: TLS and SSH run on it without a port.

Until the target's first byte has come, what was written is kept, so that the stream can move to another WebSocket when
the first one turns out to be one of those that lead nowhere: nobody has seen a TLS hello or an SSH version line then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.dialer import ProtocolFactory
from app.routes.bastion_sessions import Carriage
from app.routes.feeding import Guarded, Traffic
from app.routes.stream_transport import StreamTransport

KEPT_MAX = 64 << 10
"""Bytes written before the first answer that are kept to be sent again: a TLS hello has at most a few thousand."""
_GREETINGS = (b"\x16\x03", b"SSH-2.0-", b"SSH-1.99-")
"""First bytes that do nothing at the far end (TLS handshake, SSH version). Others are never sent twice."""


class FirstWords:
    """What a stream says before the target's first byte, and the wait for that byte; `silent` is called at its end."""

    def __init__(self, silent: Callable[[], None]) -> None:
        self.kept: bytearray | None = bytearray()
        """What was written; None once it was too much for it to be said again."""
        self._silent = silent
        self._timer: asyncio.TimerHandle | None = None

    @property
    def repeatable(self) -> bool:
        """Whether they can be sent again over another carriage."""
        return self.kept is not None and (not self.kept or self.kept.startswith(_GREETINGS))

    def keep(self, piece: bytes) -> bool:
        """Keep this with what was written; False when it is too much."""
        if self.kept is not None:
            self.kept += piece
            if len(self.kept) > KEPT_MAX:
                self.kept = None
        return self.kept is not None

    def wait(self, seconds: float) -> None:
        """Wait for an answer from now on, unless that was begun, or said too much to be said again."""
        if self._timer is None and self.kept is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._silent)

    def rest(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class BastionStream(StreamTransport):
    """What the protocol writes to. A Bastion's streams cannot be half closed.

    `unanswered(stream, why)` is asked when a carriage ends, or is silent, before its first byte; True: another one
    comes, or `fail` will be called.
    """

    def __init__(
        self, target: tuple[str, int], traffic: Traffic, *, first_byte: float,
        unanswered: Callable[[BastionStream, Exception | None], bool],
        ended: Callable[[BastionStream], None],
    ) -> None:  # fmt: skip
        super().__init__(Guarded("a Bastion stream", traffic, self.abort), target)
        self._traffic, self._unanswered, self._ended = traffic, unanswered, ended
        self._first_byte = first_byte
        self._first: FirstWords | None = FirstWords(self._silent)
        """None once the target's first byte has come."""
        self._over = False
        self.carriage: Carriage | None = None
        """The one that carries it now; None before the first and between two."""
        self.tries = 0
        """Carriages that were asked for."""

    # -- for the dialer ------------------------------------------------------------------------------------------------

    def open(self, factory: ProtocolFactory) -> None:
        """The stream stands: make its protocol. Raises what that raises."""
        protocol = self._above.protocol = factory()
        self._attach()
        protocol.connection_made(self)

    def carry(self, carriage: Carriage, first_byte: float) -> None:
        """Go on over this carriage, beginning with what is kept."""
        if self._closing:
            carriage.release()
            return
        self.carriage, self._first_byte = carriage, first_byte
        if self._above.protocol is not None:
            self._attach()

    def _attach(self) -> None:
        """Take what the carriage has, from now on."""
        carriage = self.carriage
        if carriage is None:
            return
        if not self._reading:
            carriage.socket.read_on(False)
        carriage.socket.attach(_Carried(self, self._above, carriage))
        if self._first is not None and self._first.kept:
            carriage.socket.send(bytes(self._first.kept))
            self._first.wait(self._first_byte)

    @property
    def may_move(self) -> bool:
        """Whether what was written can be sent again over another carriage."""
        return not self._closing and self._first is not None and self._first.repeatable

    def fail(self, exc: Exception) -> None:
        """No carriage came: end the stream."""
        self._force_close(exc)

    # -- what the carriage tells ---------------------------------------------------------------------------------------

    def answered(self) -> None:
        """The target's first byte has come."""
        self._rest()
        self._first = None

    def dropped(self, carriage: Carriage, exc: Exception | None) -> None:
        """A carriage has ended."""
        carriage.release()
        if carriage is self.carriage:
            self.carriage = None
            self._lost(exc)

    def _silent(self) -> None:
        """Nothing has come from the target in time."""
        self._rest()
        carriage, self.carriage = self.carriage, None
        if carriage is not None:
            carriage.release()
            self._lost(TimeoutError(f"no byte within {self._first_byte:g} s"))

    def _lost(self, exc: Exception | None) -> None:
        self._rest()
        self._above.pause(False)
        again = not self._closing and self._first is not None and self._first.kept is not None
        if again and self._unanswered(self, exc):
            return
        if exc is None and not self._closing:
            self._above.eof_received()  # whatever it answers: there is no half of a stream here
        self._end(exc)

    def _rest(self) -> None:
        if self._first is not None:
            self._first.rest()

    def _end(self, exc: Exception | None) -> None:
        """Once."""
        self._closing = True
        if self._over:
            return
        self._over = True
        self._rest()
        self._above.lost(exc)
        self._ended(self)

    # -- as a transport ------------------------------------------------------------------------------------------------

    def _read_on(self, reading: bool) -> None:
        if self.carriage is not None:
            self.carriage.socket.read_on(reading)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send. What the Bastion does not take yet waits here; the protocol is told to pause."""
        if self._closing or not data:
            return
        piece = bytes(data)
        self._traffic.sent += len(piece)
        first, carriage = self._first, self.carriage
        if first is not None and not first.keep(piece) and carriage is None:
            self._force_close(ConnectionAbortedError("too much was said before an answer"))
            return
        if carriage is not None:
            carriage.socket.send(piece)
            if first is not None:
                first.wait(self._first_byte)
        self._bound(self.get_write_buffer_size())

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        if self.carriage is not None:
            return self.carriage.socket.unsent
        return len(self._first.kept or b"") if self._first is not None else 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Kept by the connection below, whose measure of a full buffer holds for all that stands on it."""

    def can_write_eof(self) -> bool:
        """When either side of a Bastion's stream ends, both do."""
        return False

    def write_eof(self) -> None:
        """Not possible here."""
        raise NotImplementedError("a Bastion's stream has no half")

    def close(self) -> None:
        """Send what waits, then end."""
        if self._closing:
            return
        self._closing = True
        self._rest()
        carriage = self.carriage
        if carriage is None:
            self._end(None)
            return
        waiting = carriage.socket.unsent
        carriage.socket.close()
        if not waiting:
            self._end(None)  # nobody has to wait for the goodbyes

    def _force_close(self, exc: Exception | None) -> None:
        self._closing = True
        carriage, self.carriage = self.carriage, None
        if carriage is not None:
            carriage.release()
        self._end(exc)


class _Carried:
    """What one carriage tells its stream; after another has taken its place, only that it has ended."""

    def __init__(self, stream: BastionStream, above: Guarded, carriage: Carriage) -> None:
        self._stream, self._above, self._carriage = stream, above, carriage
        self._answered = False

    def received(self, data: bytes) -> None:
        if self._stream.carriage is self._carriage:
            if not self._answered:
                self._answered = True
                self._stream.answered()
            self._above.received(data)

    def ended(self, exc: Exception | None) -> None:
        self._stream.dropped(self._carriage, exc)

    def full(self, full: bool) -> None:
        if self._stream.carriage is self._carriage:
            self._above.pause(full)
