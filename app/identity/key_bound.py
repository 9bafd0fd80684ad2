"""Tokens that are bound to a key: asked for with form fields that azure-identity cannot pass, by its MSAL application.

`token_type` (ssh-cert, pop), `req_cnf` and `key_id` go with an ordinary token request over the same client, account,
authority and connections; nothing is shared with az.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.errors import Recovery, SignInError
from app.identity.identity import AccessToken
from app.secrets.secret import Secret
from app.text import clean, prose

if TYPE_CHECKING:
    from app.asking import DeviceCode
    from app.identity.source import About

INTERACTIVE_LIMIT = 300
"""Seconds for a person in a browser window."""
_PERSON = ("interaction_required", "invalid_grant", "consent_required", "login_required")


class BearerCache:
    """A cache of MSAL's that keeps no PoP token.

    MSAL keeps them under the same key as bearer tokens of the scope, and answers whoever asks for one of those with
    them: here nobody finds them, and each request goes to the service. Refresh tokens and accounts are kept.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def add(self, event: dict[str, Any], **named: Any) -> None:
        """As `TokenCache.add`."""
        if (event.get("data") or {}).get("token_type") == "pop":
            answered = {name: value for name, value in (event.get("response") or {}).items() if name != "access_token"}
            event = {**event, "response": answered}
        self._cache.add(event, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def acquire(
    credential: Any, about: About, scope: str, data: dict[str, str], account: str | None,
    show: Callable[[DeviceCode], None] | None,
) -> AccessToken:  # fmt: skip
    """The token. Blocks. `account` is the home account id of a person, None for an application; `show` asks a person.

    Raises what `app.identity.failures.failure_of` reads, and SignInError when a person is needed.
    """
    app = getattr(credential, "_credential", credential)._get_app()  # private: held by a test
    return from_app(app, about, scope, data, account, show)


def from_app(
    app: Any, about: About, scope: str, data: dict[str, str], account: str | None,
    show: Callable[[DeviceCode], None] | None,
) -> AccessToken:  # fmt: skip
    """As `acquire`, from an application of MSAL's."""
    if not isinstance(app.token_cache, BearerCache):
        app.token_cache = BearerCache(app.token_cache)
    if account is None:
        return _token(app.acquire_token_for_client([scope], data=data), data)
    known = next((one for one in app.get_accounts() if one.get("home_account_id") == account), None)
    found = app.acquire_token_silent_with_error([scope], known, data=data) if known else None
    if found is not None and ("access_token" in found or found.get("error") not in _PERSON):
        return _token(found, data)
    if show is None or about.kind in ("broker", "azure-cli"):
        raise _person(about, found)
    if about.kind == "device-code":
        from app.asking import DeviceCode

        flow = app.initiate_device_flow([scope])
        if "user_code" not in flow:
            return _token(flow, data)
        ends = time.time() + float(flow.get("expires_in", 900))
        show(DeviceCode(about.label, clean(str(flow["verification_uri"])), clean(str(flow["user_code"])), ends))
        return _token(app.acquire_token_by_device_flow(flow, data=data), data)
    hint = (known or {}).get("username") or about.account or None
    return _token(app.acquire_token_interactive([scope], login_hint=hint, data=data, timeout=INTERACTIVE_LIMIT), data)


def _token(found: dict[str, Any] | None, data: dict[str, str]) -> AccessToken:
    from azure.core.exceptions import ClientAuthenticationError

    found = found or {}
    if "access_token" not in found:
        said = str(found.get("error_description") or found.get("error") or "it gave no reason")
        raise ClientAuthenticationError(message=f"Authentication failed: {said}")
    wanted, kind = data["token_type"], str(found.get("token_type", data["token_type"]))
    if kind.lower() != wanted:
        raise not_bound(wanted, kind)
    return AccessToken(Secret(str(found["access_token"])), time.time() + float(found.get("expires_in") or 0))


def not_bound(wanted: str, kind: str) -> SignInError:
    """The failure of an answer with another type of token."""
    said = f"token type {prose(kind, 40)}"
    if wanted == "ssh-cert":
        return SignInError(
            "Entra's answer holds no SSH certificate", said,
            "The VM's Entra SSH login may not be offered in this tenant.", code="JD-SIGN-IN-CERTIFICATE",
        )  # fmt: skip
    return SignInError(
        "Entra's answer holds no proof-of-possession token", said,
        "Sign in another way (browser, device-code, service-principal), or use a service-account token: "
        'auth = "token".', code="JD-SIGN-IN-POP",
    )  # fmt: skip


def _person(about: About, found: dict[str, Any] | None) -> SignInError:
    said = prose(str((found or {}).get("error_description") or "no account is signed in"), 400)
    again = f"jumpdeck sign-in {clean(about.profile)}"
    if about.kind == "azure-cli":
        again = f"az login --tenant {clean(about.tenant)}" if about.tenant else "az login"
    return SignInError(
        "Entra wants a person before it gives this token", f"{about.label}: {said}", f"Sign in again: {again}",
        code="JD-SIGN-IN-NEEDED", recovery=Recovery.NEEDS_PERSON,
    )  # fmt: skip
