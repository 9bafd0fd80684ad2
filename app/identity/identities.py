"""The identities of one process: equal sign-in and cloud share one, whose tokens are kept and renewed ahead of time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from app import audit
from app.errors import Recovery, SignInError
from app.identity.attending import attending
from app.identity.clouds import profile_endpoints
from app.identity.identity import AccessToken
from app.identity.source import About, Obtained, PersonNeeded, TokenSource, principal
from app.identity.ssh_certificate import UNABLE, SshCertificates, unable
from app.identity.waiting import Waiting
from app.records import Record
from app.tasks import TaskOwner, spawn
from app.text import clean

if TYPE_CHECKING:
    from app.asking import Asker
    from app.identity.clouds import CloudEndpoints
    from app.profiles.model import Profile, SignIn
    from app.secrets.secret import SecretSource

T = TypeVar("T")

LEAST_LIFE = 300.0
"""Seconds that a token handed out has to live, as azure-identity renews them: longer than any request, and enough for
two tries when Entra is slow. Of a token that lives shorter altogether, half its life."""
JITTER = 60.0
"""Seconds by which renewals ahead of time are spread: tokens made together are not renewed together."""
LAST_LIFE = 30.0
"""Seconds that an old token must have left to serve while a newer one cannot be had."""
RETRY_PAUSE = 30.0
"""Seconds before a renewal ahead of time is tried again after it failed."""
SETTLED = 5.0
"""Seconds within which a second 401 asks for no other token: requests that failed together renew once."""

_log = logging.getLogger(__name__)


class _Kept(Record):
    token: AccessToken
    claims: str | None
    at: float
    """POSIX seconds at which it was obtained."""
    refresh_at: float

    def usable(self, now: float) -> bool:
        """Whether it lives long enough to be handed out."""
        life = self.token.expires_at - self.at
        return self.token.expires_at - now > min(LEAST_LIFE, life / 2)


class _Flight:
    """One request for a token, and how many wait for it."""

    def __init__(self, task: asyncio.Task[AccessToken]) -> None:
        self.task, self.callers = task, 0


class SharedIdentity:
    """An `Identity` over one source of tokens: one sign-in at a time, the same request once for all who wait."""

    def __init__(
        self,
        source: TokenSource,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 (jitter is no secret)
        self._kept: dict[str, _Kept] = {}
        self._pauses: dict[str, float] = {}
        self._flights: dict[tuple[str, str | None, bool], _Flight] = {}
        self._lock = asyncio.Lock()
        self._waiting = Waiting()
        self._owner = TaskOwner(f"identity {source.about.label}")
        self._principal = ""
        self.ssh_certificates = SshCertificates(self._ssh_certificate, source.about.label)
        """Of Entra, for VMs; where this kind of sign-in gets them."""

    def __repr__(self) -> str:
        return f"SharedIdentity({self.label})"

    @property
    def about(self) -> About:
        """Which sign-in it is."""
        return self._source.about

    @property
    def label(self) -> str:
        """Who it is, for the screen."""
        return self._principal or self.about.label

    def expires_at(self) -> float | None:
        """POSIX seconds at which the first of its tokens ends; None without any."""
        return min((kept.token.expires_at for kept in self._kept.values()), default=None)

    async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> AccessToken:
        """As `Identity.token`. Asks a person only where somebody attends (`app.identity.attending`)."""
        now, kept = self._clock(), self._kept.get(scope)
        if kept is None:
            return await self._fly(scope, claims, fresh)
        if fresh or claims is not None:
            if now - kept.at < SETTLED and claims in (None, kept.claims):
                return kept.token
            return await self._fly(scope, claims, True)
        if kept.usable(now):
            if now >= kept.refresh_at:
                self._renew_behind(scope)
            return kept.token
        lives = kept.token.expires_at - now > LAST_LIFE
        if lives and now < self._pauses.get(scope, 0.0):
            return kept.token
        try:
            return await self._fly(scope, None, False)
        except SignInError as error:
            if not lives:
                raise
            _log.info("%s: the present token serves to its end: %s", self.about.label, error)
            self._pauses[scope] = now + RETRY_PAUSE
            return kept.token

    async def _ssh_certificate(self, scope: str, data: dict[str, str]) -> str:
        """The body of a certificate. Raises SignInError."""
        if self.about.kind in UNABLE:
            raise unable(self.about.label)
        return (await self.key_bound(scope, data)).value.reveal()

    async def key_bound(
        self, scope: str, data: dict[str, str], *, tenant: str = "", ask: bool = True
    ) -> AccessToken:
        """A new token that is bound to a key (`app.identity.key_bound`), never kept here, for who is signed in already.

        `tenant` is the one of the other tokens; `ask`: whoever attends may be asked. Raises SignInError.
        """
        get = getattr(self._source, "key_bound", None)
        if get is None:
            raise SignInError("This kind of sign-in gets no token for a key", self.about.label,
                              "Sign in another way: browser, device-code.", code="JD-SIGN-IN-KIND")  # fmt: skip
        asker = attending() if ask else None
        self._waiting.join(asker)
        try:
            async with self._lock:
                asks = ask and self._waiting.anybody
                getting = get(scope, data, self._waiting.show if asks else None, tenant)
                token: AccessToken = await (self._by_person(getting) if asks else getting)
                return token
        finally:
            self._waiting.leave(asker)

    async def forget(self) -> bool:
        """Sign out: no token, refresh token or record of ours stays; whether there was any. Raises SignInError."""
        had = bool(self._kept)
        self._kept.clear()
        self._principal = ""
        return await self._source.forget() or had

    async def aclose(self) -> None:
        """End what is under way."""
        flights = [flight.task for flight in self._flights.values()]
        for task in flights:
            task.cancel()
        if flights:
            await asyncio.wait(flights)
        await self._waiting.aclose()
        await self._owner.aclose()
        self._source.close()

    # -- one request -------------------------------------------------------------------------------------------------

    async def _fly(self, scope: str, claims: str | None, fresh: bool) -> AccessToken:
        """Wait for the request, which all who want the same wait for; it ends when nobody waits any more."""
        key = scope, claims, fresh
        if (flight := self._flights.get(key)) is None:
            task = spawn(self._obtain(scope, claims, fresh), name=f"token of {self.about.label}")
            flight = self._flights[key] = _Flight(task)
            task.add_done_callback(lambda done: self._landed(key, done))
        asker = attending()
        flight.callers += 1
        self._waiting.join(asker)
        try:
            await asyncio.wait({flight.task})
            if flight.task.cancelled():  # by `aclose`: who waits here was not cancelled
                raise SignInError("The sign-in was ended", self.about.label, code="JD-SIGN-IN-CLOSED")
            return flight.task.result()
        finally:
            flight.callers -= 1
            self._waiting.leave(asker)
            if not flight.callers and not flight.task.done():
                self._flights.pop(key, None)
                flight.task.cancel()

    def _landed(self, key: tuple[str, str | None, bool], task: asyncio.Task[AccessToken]) -> None:
        if (flight := self._flights.get(key)) is not None and flight.task is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # those who waited have it

    async def _obtain(self, scope: str, claims: str | None, fresh: bool) -> AccessToken:
        began = self._clock()
        async with self._lock:
            kept = self._kept.get(scope)
            if kept is not None and kept.at >= began and claims in (None, kept.claims) and kept.usable(self._clock()):
                return kept.token  # another request brought it while this one waited
            try:
                got = await self._source.silent(scope, claims, fresh)
            except PersonNeeded:
                if not self._waiting.anybody:
                    raise
                got = await self._by_person(self._source.ask(scope, claims, self._waiting.show))
            self._keep(scope, claims, got)
            return got.token

    async def _by_person(self, ask: Coroutine[Any, Any, T]) -> T:
        """What a person helps to get, who may give up on it. Nothing of it is shown afterwards."""
        asking = spawn(ask, name=f"sign in {self.about.label}")
        given_up = spawn(self._waiting.given_up(), name="given up")
        try:
            await asyncio.wait({asking, given_up}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            raise SignInError(
                "The sign-in was given up", self.about.label,
                f"Sign in when you are ready: jumpdeck sign-in {clean(self.about.profile)}",
                code="JD-SIGN-IN-GIVEN-UP", recovery=Recovery.NEEDS_PERSON,
            )  # fmt: skip
        finally:
            for task in (asking, given_up):
                task.cancel()
            await self._waiting.hide()
            await asyncio.wait({asking, given_up})

    def _keep(self, scope: str, claims: str | None, got: Obtained) -> None:
        now = self._clock()
        ahead = got.token.expires_at - LEAST_LIFE - self._rng.uniform(0.0, JITTER)
        refresh_at = min(ahead, got.refresh_on) if got.refresh_on else ahead
        self._kept[scope] = _Kept(got.token, claims, now, refresh_at)
        self._pauses.pop(scope, None)
        who = principal(got.token.value)
        if who and who != self._principal:
            self._principal = who
            audit.record("sign-in", kind=self.about.kind, principal=who)

    def _renew_behind(self, scope: str) -> None:
        """Renew a token that is still good, without anybody waiting for it; whoever must be asked is not asked."""
        now = self._clock()
        if now < self._pauses.get(scope, 0.0):
            return
        self._pauses[scope] = now + RETRY_PAUSE

        async def renew() -> None:
            from app.identity.attending import attend

            attend(None)
            with suppress(SignInError):
                await self._fly(scope, None, False)

        self._owner.spawn(renew(), name="renew")


class Identities:
    """The identities of one process."""

    def __init__(self, asker: Asker | None, secrets: SecretSource) -> None:
        self._asker = asker
        self._secrets = secrets
        self._known: dict[tuple[object, ...], SharedIdentity] = {}

    def for_profile(self, profile: Profile) -> SharedIdentity:
        """The identity that a profile names. Raises SignInError when it names none that can be used here."""
        from app.outbound import choose_proxy

        sign_in = profile.sign_in
        if sign_in is None:
            raise no_sign_in(profile)
        endpoints = profile_endpoints(profile)
        host = urlsplit(endpoints.authority).hostname or ""
        proxy = choose_proxy(host, profile.proxy)
        key = (*_same(sign_in), endpoints.authority, endpoints.ca_file, proxy)
        if key not in self._known:
            from app.identity.kinds import make_source

            about = _about(sign_in, profile.name, endpoints)
            source = make_source(about, endpoints, proxy=proxy, secrets=self._secrets, asker=self._asker)
            self._known[key] = SharedIdentity(source)
        return self._known[key]

    async def aclose(self) -> None:
        """End all of them."""
        known = list(self._known.values())
        self._known.clear()
        await asyncio.gather(*(identity.aclose() for identity in known))


def no_sign_in(profile: Profile) -> SignInError:
    """The failure of a profile that needs Azure and does not say how to sign in. Nothing is guessed."""
    return SignInError(
        "The profile does not say how to sign in to Azure", f"profile {clean(profile.name)} has no sign-in",
        f'Add sign-in = "azure-cli" (or another kind) to [profile.{clean(profile.name)}], or to [defaults].',
        code="JD-SIGN-IN-KIND",
    )  # fmt: skip


def _same(sign_in: SignIn) -> tuple[object, ...]:
    """What makes two sign-ins one: not the name of its table, not the case of a domain."""
    return (
        sign_in.kind, (sign_in.account or "").lower(), (sign_in.tenant or "").lower(), (sign_in.client_id or "").lower()
    )  # fmt: skip


def _about(sign_in: SignIn, profile: str, endpoints: CloudEndpoints) -> About:
    return About(
        sign_in.kind, sign_in.name, profile, sign_in.account or "", sign_in.tenant or "", sign_in.client_id or "",
        endpoints.authority,
    )  # fmt: skip
