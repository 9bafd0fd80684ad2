"""Where the tokens of one kind of sign-in come from: without a person, or with one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from app.errors import Recovery, SignInError
from app.identity.identity import AccessToken
from app.records import Record
from app.secrets.secret import Secret
from app.text import clean

if TYPE_CHECKING:
    from app.asking import DeviceCode

NAME_LIMIT = 128
"""Characters of a principal's name that are shown; a UPN has at most 113."""
_END_OF_TIME = 253_402_214_400
"""The last day of the year 9999, in POSIX seconds: beyond it no calendar of Python's goes, in any time zone."""


class About(Record):
    """What errors need to know of a sign-in."""

    kind: str
    name: str = ""
    """Of its table, or empty."""
    profile: str = "PROFILE"
    """The profile that needed it first, for commands to run."""
    account: str = ""
    tenant: str = ""
    client_id: str = ""
    authority: str = ""

    @property
    def label(self) -> str:
        """`device-code`, or `adm (device-code)`; cleaned."""
        return clean(f"{self.name} ({self.kind})" if self.name else self.kind)


class LastAnswer(Record):
    """What is worth knowing of the last HTTP answer of a sign-in server; libraries lose it on the way."""

    status: int
    date: str = ""
    retry_after: str = ""


class Obtained(Record):
    """A token as a source gives it."""

    token: AccessToken
    refresh_on: float | None = None
    """POSIX seconds from which the service wants it renewed."""


class PersonNeeded(SignInError):
    """Only a person can sign in now (NEEDS_PERSON, phase NEEDS_SIGN_IN)."""

    def __init__(self, title: str, detail: str = "", hint: str = "", *, code: str = "JD-SIGN-IN-NEEDED") -> None:
        super().__init__(title, detail, hint, code=code, recovery=Recovery.NEEDS_PERSON)


Show = Callable[["DeviceCode"], None]
"""Shows a person what to do; called in the loop."""


class TokenSource(Protocol):
    """One kind of sign-in. Called by one identity, one call at a time."""

    about: About

    async def silent(self, scope: str, claims: str | None, fresh: bool) -> Obtained:
        """A token without asking anybody. Raises SignInError, PersonNeeded when `ask` would help."""
        ...

    async def ask(self, scope: str, claims: str | None, show: Show) -> Obtained:
        """A token with a person's help. Cancelling abandons it. Raises SignInError."""
        ...

    async def forget(self) -> bool:
        """Forget what is kept of this sign-in; whether there was anything. Raises SignInError."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def token_claims(token: Secret) -> dict[str, object]:
    """The claims of a JWT (RFC 7519), read without checking them: for display only. Empty when it is none."""
    parts = token.reveal().split(".")
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def end_of(claims: Mapping[str, object]) -> float | None:
    """When a token ends by its claims (`exp`, RFC 7519 §4.1.4), in POSIX seconds; None without a real one."""
    end = claims.get("exp")
    if isinstance(end, bool) or not isinstance(end, int | float) or not 0 < end < _END_OF_TIME:
        return None
    return float(end)


def principal(token: Secret) -> str:
    """Who a token speaks for: UPN of a person, `app NAME-OR-ID` of an application; cleaned, "" when it does not say."""
    claims = token_claims(token)
    for name, form in (
        ("upn", "{}"), ("preferred_username", "{}"), ("unique_name", "{}"), ("email", "{}"),
        ("app_displayname", "app {}"), ("appid", "app {}"), ("azp", "app {}"), ("oid", "{}"),
    ):  # fmt: skip
        value = claims.get(name)
        if isinstance(value, str) and value:
            return form.format(clean(value)[:NAME_LIMIT])
    return ""
