"""Who we are at Azure: tokens for a scope, as one sign-in gives them. The kinds are in `app.identity.kinds`."""

from __future__ import annotations

from typing import Protocol

from app.records import Record, field
from app.secrets.secret import Secret


class AccessToken(Record):
    """A bearer token and its end."""

    value: Secret = field(repr=False)
    expires_at: float
    """POSIX seconds."""


class Identity(Protocol):
    """One sign-in of one cloud. Shared by all profiles that name the same sign-in; safe to call side by side."""

    @property
    def label(self) -> str:
        """Who it is, for the screen: the UPN once known, else the kind (`azure-cli`); cleaned text."""
        ...

    async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> AccessToken:
        """A token with at least five minutes to live, from the cache when it has one. `fresh`: not from the cache
        (after a 401; `claims` is the challenge that came with it). Raises SignInError (exit 4) only:
        NEEDS_PERSON → phase NEEDS_SIGN_IN, TRANSIENT for network and 5xx, PERMANENT for wrong tenant and the like.
        """
        ...
