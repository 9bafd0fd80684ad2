"""An SSH connection that stands: streams through it, how it is, and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncssh

from app.dialer import ProtocolFactory
from app.errors import JumpdeckError
from app.routes import ssh_failures
from app.routes.feeding import Traffic
from app.routes.ssh_channel import WINDOW, Stream
from app.rows import HopState, StepState
from app.tasks import TaskOwner
from app.text import clean

if TYPE_CHECKING:
    from app.routes.ssh import Endpoint, SshLimits
    from app.routes.ssh_carrier import Carrier

CURE_LIMIT = 10.0
"""Seconds for `true` to run at the server; nothing waits for it."""
PATIENCE = 3
"""How many limits long `verify` waits for an answer that stands behind bytes which keep coming."""


class SshDialer:
    """A `Connection`: dials through one SSH server. Made by `ssh_connect.connect`."""

    def __init__(
        self, conn: asyncssh.SSHClientConnection, carrier: Carrier, lost: asyncio.Future[Exception | None],
        server: Endpoint, limits: SshLimits, *, note: str = "", banner: str = "",
    ) -> None:  # fmt: skip
        self.server = server
        self._conn, self._carrier, self._limits, self._note, self._banner = conn, carrier, limits, note, banner
        self._owner = TaskOwner(f"ssh {server.at}")
        assert carrier.batch is not None, "it carries a connection that stands"
        self._batch = carrier.batch
        self._streams: set[Stream] = set()
        self._traffic = Traffic()
        self._since = time.time()
        self._round_trip: float | None = None
        self._closing = False
        self._reason: JumpdeckError | None = None
        """Why we ended it ourselves."""
        self._lost: asyncio.Future[JumpdeckError] = asyncio.get_running_loop().create_future()
        carrier.on_full = self._hold
        lost.add_done_callback(self._ended)
        self._measure_with_keepalive()
        self._owner.spawn(self._cure_delays(), name="cure delays")

    # -- streams -------------------------------------------------------------------------------------------------------

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        """A stream to `host:port` as the server names and reaches it. Raises RouteError."""
        if self._lost.done():
            raise self._lost.result()
        stream = Stream(factory, (host, port), self._traffic, self._batch, self._streams.discard)
        opening = self._owner.spawn(self._open(stream, host, port), name=f"open {host}:{port}")
        try:
            async with asyncio.timeout(self._limits.stream):
                opened = await asyncio.shield(opening)
        except TimeoutError as exc:
            stream.abandon()
            raise ssh_failures.stream_timed_out(
                ssh_failures.place(host, port), clean(self.server.host), self._limits.stream
            ) from exc
        except asyncio.CancelledError:
            stream.abandon()
            raise
        if opened is not None:
            raise opened
        assert stream.transport is not None
        return stream.transport

    async def _open(self, stream: Stream, host: str, port: int) -> JumpdeckError | None:
        """Runs to its end also when nobody waits any more, so that a channel that opens late is closed."""
        target, server = ssh_failures.place(host, port), clean(self.server.host)
        self._streams.add(stream)
        if self._carrier.full:
            stream.hold(True)
        try:
            await self._conn.create_connection(lambda: stream, host, port, window=WINDOW)
        except asyncssh.ChannelOpenError as exc:
            self._streams.discard(stream)
            if self._lost.done() or self._conn.is_closed():
                return self._lost.result() if self._lost.done() else ssh_failures.from_loss(None, self.server.at)
            error = ssh_failures.from_channel(exc, target, server)
            error.__cause__ = exc
            return error
        except (asyncssh.Error, OSError) as exc:
            self._streams.discard(stream)
            return ssh_failures.from_loss(exc, self.server.at)
        return None

    def _hold(self, full: bool) -> None:
        for stream in tuple(self._streams):
            stream.hold(full)

    # -- how it is -----------------------------------------------------------------------------------------------------

    def facts(self) -> HopState:
        """How it stands now; sends nothing."""
        return HopState(
            label=f"{clean(self.server.host)} (SSH)",
            state=StepState.FAILED if self._lost.done() else StepState.DONE,
            since=self._since, round_trip=self._round_trip, received=self._traffic.received,
            sent=self._traffic.sent, note=self._note, banner=self._banner,
        )  # fmt: skip

    @property
    def lost(self) -> bool:
        """Whether it has ended otherwise than by `aclose`."""
        return self._lost.done() and not self._closing

    async def wait_lost(self) -> JumpdeckError:
        """Return, with the reason, when the connection has gone."""
        return await asyncio.shield(self._lost)

    async def verify(self, limit: float) -> None:
        """Have the server answer within `limit` seconds. Raises RouteError and ends the connection when it does not.

        An answer that stands behind bytes on a slow line counts as coming while bytes come, for a few limits.
        """
        if self._lost.done():
            raise self._lost.result()
        answer = self._owner.spawn(self._ping(), name="verify")
        try:
            for _ in range(PATIENCE):
                before = self._carrier.received
                waits: set[asyncio.Future[Any]] = {answer, self._lost}
                await asyncio.wait(waits, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                if self._lost.done():
                    raise self._lost.result()
                if answer.done():
                    return
                if self._carrier.received == before:
                    break
        finally:
            answer.cancel()
        self._reason = ssh_failures.dead(self.server.at, limit)
        self._conn.abort()
        raise self._reason

    async def _ping(self) -> None:
        """Ask for a sign of life, as OpenSSH's keepalive does (any answer will do), and take the time.

        Private: asyncssh has no public global request. docs/decisions/0010 names it, and a test fails when it changes.
        """
        await self._timed(lambda: self._conn._make_global_request(b"keepalive@openssh.com"))

    def _measure_with_keepalive(self) -> None:
        """Take the time of the library's own keepalive, so that measuring costs no packet of its own."""
        usual = self._conn._make_keepalive_request
        setattr(self._conn, "_make_keepalive_request", lambda: self._timed(usual))  # noqa: B010

    async def _timed(self, ask: Callable[[], Awaitable[object]]) -> None:
        began = time.monotonic()
        await ask()
        if not self._conn.is_closed():
            self._round_trip = time.monotonic() - began

    async def _cure_delays(self) -> None:
        """Run `true` once. OpenSSH's sshd sets TCP_NODELAY only when a session starts; without one, every reply
        written in two parts waits 40 ms for our delayed acknowledgement. A server that refuses is left as it is.
        """
        await self._ping()
        with suppress(TimeoutError, asyncssh.Error, OSError):
            async with asyncio.timeout(CURE_LIMIT):
                chan, _ = await self._conn.create_session(_Discard, "true", encoding=None, request_pty=False)
                try:
                    chan.write_eof()
                    await chan.wait_closed()
                finally:
                    chan.abort()

    # -- its end -------------------------------------------------------------------------------------------------------

    def _ended(self, lost: asyncio.Future[Exception | None]) -> None:
        if self._lost.done():
            return
        if self._reason is None:
            closed = self._closing
            self._reason = (
                ssh_failures.closed(self.server.at) if closed else ssh_failures.from_loss(lost.result(), self.server.at)
            )
        self._lost.set_result(self._reason)

    async def aclose(self) -> None:
        """End the connection in good order, and without it when that takes too long."""
        self._closing = self._closing or not self._lost.done()
        self._conn.close()
        try:
            async with asyncio.timeout(self._limits.close):
                await self._conn.wait_closed()
        except TimeoutError:
            self._conn.abort()
        await self._owner.aclose()


class _Discard(asyncssh.SSHClientSession[bytes]):
    """Takes what the server prints, and keeps nothing."""
