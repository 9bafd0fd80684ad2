"""An open Bastion hop: each stream is a token exchange and a WebSocket, each session is deleted with its stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from app.dialer import Dialer, ProtocolFactory
from app.errors import JumpdeckError
from app.profiles.hops import ADDRESS_PORTS
from app.records import Record
from app.routes import bastion_failures
from app.routes.bastion_failures import Where
from app.routes.bastion_http import BastionHttp
from app.routes.bastion_sessions import Carriage, Sessions
from app.routes.bastion_stream import BastionStream
from app.routes.bastion_tokens import BastionTokens, Exchange, Grant, Target
from app.routes.failures import StreamFailed
from app.routes.feeding import Traffic
from app.routes.websocket import NotAWebSocket, WebSocket
from app.routes.websocket_frames import FRAME_SIZE
from app.routes.websocket_handshake import Handshake, Refused
from app.rows import HopState, StepState
from app.tasks import Backoff, TaskOwner, spawn, to_its_end

WAIT_MAX = 10.0
"""Seconds that a stream waits on the Bastion's word (Retry-After) before its next try; more is an error."""

_log = logging.getLogger(__name__)


class BastionLimits(Record):
    """Seconds for each part of a stream's opening, and how often it is tried."""

    dial: float = 15.0
    """For the connection to the Bastion, and for its 101 (the token exchange has its own 30 s)."""
    first_byte: float = 5.0
    """For the target's first byte. One round trip is enough for a stream that works; one that has none after this is
    one of those that stay silent for ever, and a new one answers at once."""
    last_first_byte: float = 15.0
    """The same on the last try: the target may truly be slow."""
    stream: float = 45.0
    """For all tries together."""
    close: float = 3.0
    """For the last deletions, as for every clean end."""
    tries: int = 3


class BastionWay(Record):
    """Where the streams of a hop go."""

    bastion: str
    """The name of the Bastion; cleaned text."""
    bastion_id: str
    targets: tuple[Target, ...]
    """Alternatives; port 0: the port that is asked for."""
    speaks_first: bool
    """Whether the target speaks first, as SSH servers do: a stream then counts as open with its first byte."""


class _Fruitless(Exception):
    """One of the failures that a new session cures. `error` says it after so many tries."""

    def __init__(self, error: Callable[[int], JumpdeckError], wait: float | None = None) -> None:
        super().__init__("a try without fruit")
        self.error, self.wait = error, wait


class BastionDialer:
    """A `Connection`: dials through one Bastion. Nothing of it stands between streams."""

    dial_limit = 30.0
    """Seconds that a stream's opening may take beyond what a direct connection takes: for whoever limits both."""

    def __init__(
        self, way: BastionWay, through: Dialer, http: BastionHttp, tokens: BastionTokens, limits: BastionLimits,
        *, note: str = "", frame_size: int = FRAME_SIZE,
    ) -> None:  # fmt: skip
        self._way, self._through, self._http, self._tokens, self._limits = way, through, http, tokens, limits
        self._note, self._frame_size = note, frame_size
        self._owner = TaskOwner(f"bastion {way.bastion}")
        self._streams: set[BastionStream] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._traffic = Traffic()
        self._since = time.time()
        self._at = self._tried = 0
        self._sessions = Sessions(tokens, way.bastion)
        self._silence: tuple[int, Callable[[], JumpdeckError]] | None = None
        """The bytes that had come on all streams when the last one led nowhere, and what makes its error."""
        self._closed = False
        self._gone: asyncio.Future[JumpdeckError] = asyncio.get_running_loop().create_future()

    # -- streams -------------------------------------------------------------------------------------------------------

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        """A stream to the target, at `port` unless the hop names another. Raises RouteError and SignInError."""
        if self._closed:
            raise bastion_failures.closed(self._way.bastion)
        target = self._target(port)
        stream = BastionStream(
            (target.name, target.port), self._traffic, first_byte=self._limits.first_byte,
            unanswered=lambda stream, why: self._again(stream, target, why),
            ended=self._streams.discard,
        )  # fmt: skip
        self._streams.add(stream)
        opening = spawn(self._carry(stream, target), name=f"bastion {self._where(target)}: open")
        opening.add_done_callback(_take_note)
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        try:
            await asyncio.wait({opening})
            if opening.cancelled() or self._closed:
                raise bastion_failures.closed(self._way.bastion)
            opening.result()
            self._tried = 0
            stream.open(factory)
        except BaseException:
            opening.cancel()
            stream.abort()
            raise
        return stream

    def _target(self, port: int) -> Target:
        chosen = self._way.targets[self._at]
        target = chosen if chosen.port else Target(chosen.resource, port, chosen.name, chosen.hostname)
        if target.hostname and target.port not in ADDRESS_PORTS:
            raise bastion_failures.wrong_port(self._where(target))
        return target

    def _where(self, target: Target) -> Where:
        return Where(self._way.bastion, self._way.bastion_id, f"{target.name} port {target.port}")

    async def _carry(self, stream: BastionStream, target: Target) -> None:
        """Have a carriage for the stream, with a new session for each try. Raises JumpdeckError."""
        backoff = Backoff(base=0.3, cap=2.0)
        try:
            async with asyncio.timeout(self._limits.stream):
                while True:
                    stream.tries += 1
                    last = stream.tries >= self._limits.tries
                    limit = self._limits.last_first_byte if last else self._limits.first_byte
                    try:
                        carriage = await self._attempt(target, limit)
                    except _Fruitless as fruitless:
                        error, wait = fruitless.error(stream.tries), fruitless.wait
                        if last or (wait or 0.0) > WAIT_MAX:
                            raise error from fruitless.__cause__
                        _log.debug("%s: %s", self._where(target), error.code)
                        await asyncio.sleep(backoff.next(wait))
                    else:
                        stream.carry(carriage, limit)
                        return
        except TimeoutError as exc:
            raise bastion_failures.out_of_time(self._where(target), self._limits.stream) from exc

    async def _attempt(self, target: Target, first_byte: float) -> Carriage:
        """One session and its WebSocket; the connection for it is made while the session is asked for."""
        where = self._where(target)
        handshake = Handshake(frame_size=self._frame_size)
        connecting = spawn(self._http.connect(handshake), name=f"bastion {where}: connect")
        exchange = Exchange()
        issue = self._tokens.exchange(target, where, exchange, unusable=self._sessions.delete_soon)
        issuing = spawn(issue, name=f"bastion {where}: token")
        connecting.add_done_callback(_take_note)
        issuing.add_done_callback(_take_note)
        try:
            await asyncio.wait({connecting, issuing}, return_when=asyncio.FIRST_EXCEPTION)
            if issuing.done():
                issuing.result()
            connecting.result()
            grant = issuing.result()
            socket = await self._agree(handshake, grant, where)
            if self._way.speaks_first:
                await self._first_byte(socket, first_byte, where)
        except BaseException as failure:
            connecting.cancel()
            handshake.abort()
            self._sessions.forsake(issuing, exchange)
            if isinstance(failure, JumpdeckError) and failure.code == "JD-BASTION-THROTTLED":
                told = failure
                raise _Fruitless(lambda _: told, failure.retry_after) from failure
            if isinstance(failure, JumpdeckError):
                raise bastion_failures.on_the_way(failure, where) from failure.__cause__
            raise
        return self._sessions.carry(socket, grant)

    async def _agree(self, handshake: Handshake, grant: Grant, where: Where) -> WebSocket:
        hidden = (grant.websocket_token.reveal(), grant.auth_token.reveal())
        try:
            async with asyncio.timeout(self._limits.dial):
                socket = await handshake.agree(self._http.place.header, grant.path())
        except Refused as refused:
            why, body = str(refused), refused.body
            raise _Fruitless(
                lambda tries: bastion_failures.no_websocket(where, why, body, hidden, tries),
                bastion_failures.retry_after(refused.headers),
            ) from None
        except (TimeoutError, OSError) as exc:
            limit = f"no answer within {self._limits.dial:g} s"
            why = limit if isinstance(exc, TimeoutError) and not exc.args else "the connection broke off"
            raise _Fruitless(lambda tries: bastion_failures.no_websocket(where, why, b"", (), tries)) from exc
        if socket.notes:
            _log.info("%s: the 101 has %s", where, ", ".join(socket.notes))
        return socket

    async def _first_byte(self, socket: WebSocket, limit: float, where: Where) -> None:
        try:
            async with asyncio.timeout(limit):
                await asyncio.shield(socket.first)
        except TimeoutError as exc:
            raise _Fruitless(lambda tries: bastion_failures.no_first_byte(where, limit, tries)) from exc
        if not socket.spoke:
            self._judge(socket.end, where)

    def _judge(self, why: Exception | None, where: Where) -> None:
        """Raise what an end before the first byte means."""
        if isinstance(why, NotAWebSocket):
            line = str(why)
            raise _Fruitless(lambda tries: bastion_failures.late_refusal(where, line, tries)) from why
        if isinstance(why, TimeoutError) and why.errno is None:
            limit = self._limits.first_byte
            raise _Fruitless(lambda tries: bastion_failures.no_first_byte(where, limit, tries)) from why
        words = str(why) if why is not None else "in good order: the target refused the connection, or closed it"
        raise bastion_failures.cut_early(where, words, 1) from why

    def _again(self, stream: BastionStream, target: Target, why: Exception | None) -> bool:
        """A stream that its protocol has already has lost its carriage before the first byte: another one?"""
        where = self._where(target)
        try:
            self._judge(why, where)
        except JumpdeckError as error:
            failure: JumpdeckError | None = error
        except _Fruitless as fruitless:
            more = stream.tries < self._limits.tries and stream.may_move and not self._closed
            self._silence = self._traffic.received, partial(fruitless.error, stream.tries)
            failure = None if more else fruitless.error(stream.tries)
        if failure is None:
            self._owner.spawn(self._renew(stream, target), name="another session")
        else:
            asyncio.get_running_loop().call_soon(stream.fail, StreamFailed(failure))
        return True

    async def _renew(self, stream: BastionStream, target: Target) -> None:
        try:
            await self._carry(stream, target)
        except JumpdeckError as error:
            stream.fail(StreamFailed(error))

    # -- how it is -----------------------------------------------------------------------------------------------------

    @property
    def trusted_as(self) -> str:
        """The name under which the keys of the SSH server behind it are trusted: the target's, not an address."""
        target = self._way.targets[self._at]
        kind = "ip" if target.hostname else "vm"
        return f"{kind}:{target.resource.lower()}" if self._way.speaks_first else ""

    @property
    def target(self) -> Target:
        """Where streams go now."""
        return self._way.targets[self._at]

    def next_target(self) -> bool:
        """Go on to the next alternative; False when all were tried since the last stream that opened."""
        self._tried += 1
        self._at = (self._at + 1) % len(self._way.targets)
        return self._tried < len(self._way.targets)

    def facts(self) -> HopState:
        """How it stands now; sends nothing."""
        note = f"{self._note or self._way.targets[self._at].name}, {self._sessions.facts()}"
        return HopState(
            label=f"{self._way.bastion} (Bastion)", state=StepState.FAILED if self._gone.done() else StepState.DONE,
            since=self._since, received=self._traffic.received, sent=self._traffic.sent, note=note,
        )  # fmt: skip

    async def wait_lost(self) -> JumpdeckError:
        """Return when what is below it has gone, or when it was closed: between streams it holds nothing itself."""
        async with TaskOwner("bastion wait lost") as owner:
            below = owner.spawn(self._through.wait_lost(), name="below")
            await asyncio.wait({below, self._gone}, return_when=asyncio.FIRST_COMPLETED)
            if not self._gone.done() and not self._closed:
                self._gone.set_result(below.result())
            return self._gone.result()

    async def verify(self, limit: float) -> None:
        """Nothing to ask: streams tell their own ends, and a session spent on asking would cost one."""
        if self._gone.done():
            raise self._gone.result()

    async def reach(self, limit: float) -> None:
        """Have the Bastion take a connection within `limit` seconds; no session is spent on it. Raises RouteError.

        Where the Bastion does, it raises too when the last stream had no byte of its target and none came since.
        """
        try:
            async with asyncio.timeout(limit):
                await self._http.warm(anew=True)
        except TimeoutError as exc:
            raise bastion_failures.silent(self._way.bastion, self._http.place.at, limit) from exc
        except JumpdeckError as error:
            raise bastion_failures.on_the_way(error, self._way.bastion) from error.__cause__
        if self._silence is not None and self._silence[0] == self._traffic.received:
            raise self._silence[1]()

    async def aclose(self) -> None:
        """End every stream and delete every session, as far as the limit goes; also when the caller is cancelled."""
        self._closed = True
        await to_its_end(spawn(_close(self), name=f"bastion {self._way.bastion}: close"))


async def _close(self: BastionDialer) -> None:
    openings = tuple(self._opening)
    for opening in openings:
        opening.cancel()
    for stream in tuple(self._streams):
        stream.abort()
    self._sessions.release_all()
    await self._owner.aclose()
    if openings:
        await asyncio.wait(openings, timeout=self._limits.close)  # they hand over their sessions
    await self._sessions.settle(self._limits.close)
    self._http.close()
    if not self._gone.done():
        self._gone.set_result(bastion_failures.closed(self._way.bastion))


def _take_note(task: asyncio.Task[Any]) -> None:
    """A failure for which nobody waits any more is no defect."""
    if not task.cancelled():
        task.exception()
