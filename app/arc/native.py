"""The vendor's proxy driven by us: told who we are and which relay to use, and kept so until it really ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from app.arc import clocks
from app.arc.clocks import Clock, Patience
from app.arc.control import Control, KeyExpired
from app.arc.credential import RelayCredential
from app.arc.ports import HOST
from app.arc.program import LAYER
from app.errors import JumpdeckError, Recovery, RouteError
from app.identity.attending import attend, attending
from app.identity.identity import AccessToken
from app.records import Record, replace
from app.restricted_yaml import load_yaml
from app.secrets.secret import Secret
from app.socket_owner import PeerOwner, Verdict
from app.tasks import TaskOwner
from app.text import clean

NEWS_LIMIT = 0.5
"""Seconds within which the system tells that a program has ended whose port is shut already."""


class Running(Protocol):
    """What is needed of the program's process (`app.arc.process.ArcProcess`)."""

    http_port: int
    https_port: int

    @property
    def pid(self) -> int: ...

    async def check_owner(self, port: int) -> PeerOwner: ...

    async def wait_end(self) -> JumpdeckError: ...

    async def aclose(self) -> None: ...


class Source(Record):
    """Where what a tunnel lives by comes from. Neither asks anybody when `attend(None)` holds."""

    arc_id: str
    relay: Callable[[], Awaitable[RelayCredential]]
    """A new credential of the relay."""
    identity: Callable[[str], Awaitable[AccessToken]] | None
    """A token bound to the key of this name; None: requests bring a service account's token of their own."""
    tenant: str
    token: Secret | None = None
    """That token, which the kubeconfig names too (as az does it)."""
    correlation_id: str = ""
    relay_patience: Patience = clocks.RELAY
    token_patience: Patience = clocks.TOKEN


class NativeTunnel:
    """A `Tunnel` over a running program. `identify`, `register` and `keep`, in this order, make it whole."""

    def __init__(self, process: Running, source: Source, label: str, notes: tuple[str, ...] = ()) -> None:
        self.kubeconfig = b""
        self.label = label
        self.correlation_id = source.correlation_id
        self.port, self.pid = process.https_port, process.pid
        self._process, self._source, self._said = process, source, notes
        self._control = Control(process.http_port, process.https_port, self._check, source.correlation_id)
        self._relay: Clock | None = None
        self._token: Clock | None = None
        self._token_ends: float | None = None
        self._relay_ends = 0.0
        self._turn = asyncio.Lock()
        """One control call at a time."""
        self._owner = TaskOwner(label)
        self._lost: asyncio.Future[JumpdeckError] = asyncio.get_running_loop().create_future()
        self._owner.spawn(self._lose_by(process.wait_end), name="watch the program")
        self._closed = False

    # -- how it is -----------------------------------------------------------------------------------------------------

    @property
    def relay_ends(self) -> float | None:
        return self._relay_ends or None

    @property
    def token_ends(self) -> float | None:
        return self._token_ends

    @property
    def notes(self) -> tuple[str, ...]:
        told = [*self._said]
        for clock, what in ((self._relay, "tunnel"), (self._token, "identity")):
            if clock is not None and clock.trouble is not None:
                told.append(_trouble(clock, what))
        return tuple(told)

    # -- made whole ----------------------------------------------------------------------------------------------------

    async def identify(self) -> None:
        """Have the program take an identity, if it needs one. Raises JumpdeckError (KeyExpired: start it anew)."""
        async with self._turn, self._ended():
            if self._source.identity is not None:
                self._token_ends = await self._hand_identity(self._source.identity)
            else:
                await self._control.public_key()  # shows that it answers, and as we expect it

    async def register(self, offer: RelayCredential) -> None:
        """Have the program take the relay's credential. Raises JumpdeckError."""
        async with self._turn, self._ended():
            kubeconfig = await self._control.register(self._source.arc_id, _with_token(offer, self._source.token))
        self.kubeconfig = self.kubeconfig or kubeconfig  # ports and certificate stay as they are, so the way in does
        self._relay_ends = offer.expires_at

    def keep(self) -> None:
        """From now on renew what ends."""
        source = self._source
        self._relay = Clock(f"{self.label}: relay", self._relay_ends, self._renew_relay, source.relay_patience)
        self._owner.spawn(self._lose_by(self._relay.run), name="relay")
        if self._token_ends is not None:
            self._token = Clock(f"{self.label}: identity", self._token_ends, self._renew_token, source.token_patience)
            self._owner.spawn(self._lose_by(self._token.run), name="identity")

    async def renew(self) -> None:
        """Register anew now, on the same ports: that may mend what is wrong with the relay. Raises JumpdeckError."""
        if self._relay is None or self._closed:
            return
        asker = attending()
        attend(None)  # of the tunnel that stands, nobody is asked: the next try to open one asks
        try:
            await self._relay.renew_now()
        finally:
            attend(asker)

    # -- as a Tunnel ---------------------------------------------------------------------------------------------------

    async def check_listener(self) -> None:
        await self._check(self.port)

    async def wait_lost(self) -> JumpdeckError:
        return await asyncio.shield(self._lost)

    async def verify(self, limit: float) -> None:
        try:
            async with self._ended():
                await self._control.public_key(limit=limit)
        except JumpdeckError as error:
            self._lose(error)
            raise

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._lose(RouteError("The tunnel was closed", code="JD-ARC-CLOSED", layer=LAYER))
        try:  # whoever is cancelled at any point has ended the program all the same
            await self._owner.aclose()
        finally:
            try:
                await self._control.aclose()
            finally:
                await self._process.aclose()

    # -- inside --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _ended(self) -> AsyncIterator[None]:
        """A call that finds nobody fails by the program's end, when that is why: it has an exit code and last words."""
        try:
            yield
        except JumpdeckError as error:
            if error.code != "JD-ARC-UNREACHABLE":
                raise
            await asyncio.wait({self._lost}, timeout=NEWS_LIMIT)
            if self._lost.done():
                raise self._lost.result() from error
            raise

    async def _check(self, port: int) -> None:
        """Raise RouteError when what listens there is not the program."""
        found = await self._process.check_owner(port)
        if found.verdict is Verdict.GONE:
            raise RouteError(
                "The local Arc proxy does not listen", f"nothing is at {HOST}:{port}", "It is started again.",
                code="JD-ARC-UNREACHABLE", layer=LAYER, recovery=Recovery.TRANSIENT,
            )  # fmt: skip

    async def _hand_identity(self, identity: Callable[[str], Awaitable[AccessToken]]) -> float:
        """Returns the identity's end. A key that the program has changed meanwhile is asked for once more."""
        for last in (False, True):
            kid = await self._control.public_key()
            token = await identity(kid)
            try:
                await self._control.hand_identity(token.value, kid, self._source.tenant)
            except KeyExpired:
                if last:
                    raise
            else:
                return token.expires_at
        raise AssertionError("the second try returns or raises")

    async def _renew_token(self) -> float:
        assert self._source.identity is not None, "there is a clock for it"
        try:
            async with self._turn, self._ended():
                self._token_ends = await self._hand_identity(self._source.identity)
        except KeyExpired as error:
            self._lose(error)  # it changes its key all the time: a new process is what helps
            raise
        return self._token_ends

    async def _renew_relay(self) -> float:
        offer = await self._source.relay()
        await self.register(offer)
        return offer.expires_at

    async def _lose_by(self, end: Callable[[], Awaitable[JumpdeckError]]) -> None:
        attend(None)  # no browser opens hours later
        self._lose(await end())

    def _lose(self, error: JumpdeckError) -> None:
        if not self._lost.done():
            self._lost.set_result(error)


def _with_token(offer: RelayCredential, token: Secret | None) -> RelayCredential:
    """The kubeconfig with the service account's token in its user, in memory, as az makes it."""
    return offer if token is None else replace(offer, kubeconfig=with_token(offer.kubeconfig, token))


def with_token(kubeconfig: bytes, token: Secret) -> bytes:
    """The kubeconfig whose first user has this token. Raises ProfileError and RouteError (JD-ARC-KUBECONFIG)."""
    import yaml

    found = load_yaml(kubeconfig, "kubeconfig of the connected cluster from Azure")
    users = found.get("users") if isinstance(found, dict) else None
    first = users[0] if isinstance(users, list) and users else None
    if not isinstance(first, dict):
        raise RouteError("Azure's kubeconfig has no user", "there is no place for the token",
                         "Ask whoever runs the cluster.", code="JD-ARC-KUBECONFIG", layer=LAYER)  # fmt: skip
    user = first.get("user")
    first["user"] = {**(user if isinstance(user, dict) else {}), "token": token.reveal()}
    return yaml.safe_dump(found, sort_keys=False).encode()


def _trouble(clock: Clock, what: str) -> str:
    error = clock.trouble
    assert error is not None, "the caller has looked"
    left = f"{what.capitalize()} valid for {minutes(clock.ends - time.time())} more"
    if error.recovery is Recovery.NEEDS_PERSON:
        return f"{left}; sign-in needed: {clean(error.hint or error.title)}"
    return f"{left}; {clean(error.title)}, retrying."


def minutes(seconds: float) -> str:
    """`mm:ss`, or `h:mm:ss`."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"
