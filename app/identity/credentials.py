"""Sources over azure-identity's blocking classes, each call in a thread of its own with a limit.

A call cannot be cancelled: it is abandoned, and its connections are made to fail so that its thread ends soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from app.asking import DeviceCode
from app.errors import Recovery, SignInError
from app.identity import token_cache
from app.identity.failures import failure_of, needs_person, too_slow
from app.identity.identity import AccessToken
from app.identity.source import About, Obtained, Show
from app.outbound import make_trust
from app.secrets.secret import Secret
from app.tasks import in_own_thread
from app.text import clean

if TYPE_CHECKING:
    from datetime import datetime

    from azure.core.credentials import AccessTokenInfo
    from azure.identity import AuthenticationRecord
    from msal import TokenCache

    from app.identity.clouds import CloudEndpoints
    from app.identity.transport import Transport

T = TypeVar("T")

SILENT_LIMIT = 45.0
"""Seconds for a token that nobody is asked for: two tries of a slow answer."""
PERSON_LIMIT = 1_000.0
"""Seconds for a sign-in with a person: a device code lives 900."""


Make = Callable[[dict[str, Any]], Any]
"""Builds a credential out of keyword arguments; runs in a thread, where it loads azure-identity."""


class Proof(Protocol):
    """What an application proves itself with."""

    async def get(self) -> dict[str, Any]:
        """As keyword arguments. Raises SignInError."""
        ...

    def refused(self, error: SignInError) -> None:
        """The service said no."""
        ...


class Credential(Protocol):
    """What azure-identity's classes have in common."""

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo: ...


class PersonCredential(Credential, Protocol):
    """A class that signs a person in."""

    def authenticate(self, *, scopes: Any = None) -> AuthenticationRecord: ...


class Threads:
    """Runs the blocking calls of one sign-in over transports of its own."""

    def __init__(self, about: About, endpoints: CloudEndpoints, proxy: str | None) -> None:
        self.about, self._endpoints, self._proxy = about, endpoints, proxy
        self._transport: Transport | None = None

    async def transport(self) -> Transport:
        """The connections of this sign-in; a new set after one was abandoned. Raises SignInError."""
        if self._transport is None:
            self._transport = await self._run(self._new_transport, SILENT_LIMIT)
        return self._transport

    def _new_transport(self) -> Transport:
        from app.identity.transport import Transport  # loads requests and azure-core: in the thread, not in the loop

        return Transport(make_trust(self._endpoints.ca_file), self._proxy)

    async def call(self, call: Callable[[], T], limit: float) -> T:
        """The result of a blocking call. Raises SignInError only."""
        try:
            return await self._run(call, limit)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """What still runs is left to end by itself."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    async def _run(self, call: Callable[[], T], limit: float) -> T:
        try:
            async with asyncio.timeout(limit):
                return await in_own_thread(call, name=f"sign-in {self.about.kind}")
        except TimeoutError as error:
            raise too_slow(self.about, limit) from error
        except Exception as error:
            last = None if self._transport is None else self._transport.last
            raise failure_of(error, self.about, last) from error


class Shown:
    """Shows codes while their sign-in lasts: a thread that was abandoned may still bring one, which nobody awaits."""

    def __init__(self, show: Show) -> None:
        self._show: Show | None = show

    def __call__(self, code: DeviceCode) -> None:
        if self._show is not None:
            self._show(code)

    def end(self) -> None:
        """Show nothing more."""
        self._show = None


def obtained(info: AccessTokenInfo) -> Obtained:
    """A library's token as ours."""
    token = AccessToken(Secret(info.token), float(info.expires_on))
    return Obtained(token, float(info.refresh_on) if info.refresh_on else None)


def _options(claims: str | None) -> dict[str, Any]:
    return {"claims": claims} if claims else {}


class AppSource:
    """Tokens of an application: a service principal, a managed identity, or what the environment names.

    Each call of a credential's is by itself; what proves it is asked for when the credential is made.
    """

    def __init__(self, threads: Threads, make: Make, *, proof: Proof | None = None) -> None:
        self.about = threads.about
        self._threads, self._make, self._proof = threads, make, proof
        self._credential: Credential | None = None

    async def silent(self, scope: str, claims: str | None, fresh: bool) -> Obtained:
        """As `TokenSource.silent`. `fresh` makes a new credential, since each caches its own tokens."""
        if fresh:
            self._credential = None
        try:
            credential = self._credential or await self._new()
            got = await self._threads.call(
                lambda: credential.get_token_info(scope, options=_options(claims)), SILENT_LIMIT
            )
        except BaseException as error:
            self._credential = None
            if isinstance(error, SignInError) and self._proof is not None:
                self._proof.refused(error)
            raise
        return obtained(got)

    async def _new(self) -> Credential:
        proof = {} if self._proof is None else await self._proof.get()
        options = {**(await self._threads.transport()).options, **proof}
        made: Credential = await self._threads.call(lambda: self._make(options), SILENT_LIMIT)
        self._credential = made
        return made

    async def key_bound(self, scope: str, data: dict[str, str], show: Show | None, tenant: str = "") -> AccessToken:
        """A token that is bound to a key (`app.identity.key_bound`). Raises SignInError."""
        from app.identity.key_bound import acquire

        try:
            credential = self._credential or await self._new()
            return await self._threads.call(
                lambda: acquire(credential, self.about, scope, data, None, None), SILENT_LIMIT
            )
        except BaseException as error:
            self._credential = None  # its connections are abandoned, and MSAL repeats a refusal for a minute
            if isinstance(error, SignInError) and self._proof is not None:
                self._proof.refused(error)
            raise

    async def ask(self, scope: str, claims: str | None, show: Show) -> Obtained:
        """Applications ask nobody."""
        return await self.silent(scope, claims, False)

    async def forget(self) -> bool:
        """Drop what is in memory."""
        had, self._credential = self._credential is not None, None
        return had

    def close(self) -> None:
        self._threads.abandon()


class PersonSource:
    """Tokens of a person: device code, browser, or the Windows broker. `make` builds the credential.

    Silently it uses the refresh token of the account that signed in last, which the system's store keeps.
    """

    def __init__(
        self,
        threads: Threads,
        make: Make,
        *,
        says: str = "",
        note: Callable[[str], None] = lambda _: None,
        open_cache: Callable[[], Awaitable[tuple[TokenCache, bool]]] = token_cache.open_cache,
    ) -> None:
        self.about = threads.about
        self._open_cache = open_cache
        self._threads, self._make, self._says, self._note = threads, make, says, note
        self._cache: TokenCache | None = None
        self._lasting = False
        self._record: AuthenticationRecord | None = None
        self._credential: PersonCredential | None = None

    async def silent(self, scope: str, claims: str | None, fresh: bool) -> Obtained:
        """As `TokenSource.silent`."""
        cache = await self._opened()
        if self._record is None:
            raise needs_person(self.about)
        if fresh:
            await self._threads.call(lambda: token_cache.drop_access_tokens(cache, scope), SILENT_LIMIT)
        credential = self._credential or await self._new(self._record)
        try:
            call = lambda: credential.get_token_info(scope, options=_options(claims))  # noqa: E731
            return obtained(await self._threads.call(call, SILENT_LIMIT))
        except BaseException:
            self._credential = None  # its connections are abandoned
            raise

    async def ask(self, scope: str, claims: str | None, show: Show) -> Obtained:
        """As `TokenSource.ask`."""
        cache = await self._opened()
        loop, told = asyncio.get_running_loop(), Shown(show)

        def prompt(url: str, code: str, expires: datetime) -> None:  # in the thread of the call
            shown = DeviceCode(self.about.label, clean(url), clean(code), expires.timestamp())
            loop.call_soon_threadsafe(told, shown)

        if self._says:
            show(DeviceCode(self.about.label, "", "", _now() + PERSON_LIMIT, self._says))
        credential = await self._new(None, prompt)

        def sign_in() -> tuple[AccessTokenInfo, AuthenticationRecord]:
            info = credential.get_token_info(scope, options=_options(claims))
            return info, credential.authenticate(scopes=[scope])  # silent by now: it only tells who it was

        try:
            info, record = await self._threads.call(sign_in, PERSON_LIMIT)
        finally:
            told.end()
            self._credential = None  # the next one is made with the record, and asks nobody
        await self._check_account(record, cache)
        if not self._lasting:
            self._note(token_cache.MEMORY_ONLY)
        self._record = token_cache.with_authority(record, self.about)
        if self._lasting:
            await self._threads.call(lambda: token_cache.save_record(record, self.about), SILENT_LIMIT)
        return obtained(info)

    async def key_bound(self, scope: str, data: dict[str, str], show: Show | None, tenant: str = "") -> AccessToken:
        """A token for who has signed in that is bound to a key (`app.identity.key_bound`). Raises SignInError."""
        from app.identity.key_bound import acquire

        await self._opened()
        if self._record is None:
            raise needs_person(self.about)
        account = self._record.home_account_id
        credential = self._credential or await self._new(self._record)
        loop, told = asyncio.get_running_loop(), Shown(show) if show else None

        def shown(code: DeviceCode) -> None:  # in the thread of the call
            if told is not None:
                loop.call_soon_threadsafe(told, code)

        try:
            return await self._threads.call(
                lambda: acquire(credential, self.about, scope, data, account, shown if told else None),
                PERSON_LIMIT if told else SILENT_LIMIT,
            )
        except BaseException:
            self._credential = None  # its connections are abandoned
            raise
        finally:
            if told is not None:
                told.end()

    async def forget(self) -> bool:
        """Remove the account with its tokens from the cache, and its record."""
        cache = await self._opened()
        record, self._record, self._credential = self._record, None, None

        def remove() -> bool:
            had = record is not None and token_cache.drop_account(cache, record.home_account_id)
            return token_cache.remove_record(self.about) or had

        return await self._threads.call(remove, SILENT_LIMIT)

    def close(self) -> None:
        self._threads.abandon()

    async def _opened(self) -> TokenCache:
        if self._cache is None:
            self._cache, self._lasting = await self._open_cache()
            if self._lasting:
                self._record = await self._threads.call(lambda: token_cache.load_record(self.about), SILENT_LIMIT)
        return self._cache

    async def _new(self, record: AuthenticationRecord | None, prompt: Any = None) -> PersonCredential:
        options: dict[str, Any] = {
            **(await self._threads.transport()).options,
            "_cache": self._cache,  # ours, so that signing out and a refusal can remove what is in it
            "disable_automatic_authentication": record is not None,
        }
        if record is not None:
            options["authentication_record"] = record
        if prompt is not None:
            options["prompt_callback"] = prompt
        made: PersonCredential = await self._threads.call(lambda: self._make(options), SILENT_LIMIT)
        if record is not None:
            self._credential = made
        return made

    async def _check_account(self, record: AuthenticationRecord, cache: TokenCache) -> None:
        """Another account than the profile's is refused: which one acts is never left to chance."""
        wanted = self.about.account
        if not wanted or record.username.lower() == wanted.lower():
            return
        await self._threads.call(lambda: token_cache.drop_account(cache, record.home_account_id), SILENT_LIMIT)
        raise SignInError(
            "Somebody else signed in", f"{self.about.label}: {clean(record.username)}, not {clean(wanted)}",
            f"Sign in as {clean(wanted)}: jumpdeck sign-in {clean(self.about.profile)}",
            code="JD-SIGN-IN-ACCOUNT", recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip


def _now() -> float:
    import time

    return time.time()
