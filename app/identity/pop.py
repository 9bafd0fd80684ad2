"""Proof-of-possession tokens of Entra for an Arc cluster's local proxy, which holds the key that they are bound to.

Wire: a token request with `token_type=pop`, `key_id` and `req_cnf` (`app.identity.key_bound`); the answer is a JWT with
a `cnf` claim, which the proxy signs its requests to the cluster with.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from app.errors import SignInError
from app.identity.source import token_claims
from app.text import clean

if TYPE_CHECKING:
    from app.identity.identities import SharedIdentity
    from app.identity.identity import AccessToken, Identity
    from app.identity.source import About

SERVER_APP = "6256c85f-0aad-4d50-b960-e6e9b21efe35"
"""The application id of every connected cluster, the same in all clouds (az connectedk8s: KAP_1P_Server_AppId)."""
SCOPE = f"{SERVER_APP}/.default"
AZURE_CLI_APP = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
"""The client id of people's sign-ins: azure-identity's own default, which is the Azure CLI's."""
KID_LIMIT = 512
"""Characters of a key's id; a thumbprint (RFC 7638) has 43."""
ABLE = ("browser", "device-code", "azure-cli", "service-principal")
"""Kinds of sign-in that get one here."""
_WITHOUT: dict[str, tuple[str, bool]] = {
    "broker": ("Windows' account broker signs such tokens with keys of its own only", True),
    "managed-identity": ("a managed identity's endpoint gives bearer tokens only", False),
    "environment": ("this kind takes its tokens from a class that cannot ask for them", True),
}
"""Kinds that get none: why, and whether `az connectedk8s proxy` may get one."""


class PopUnable(SignInError):
    """This sign-in gets no proof-of-possession token here (exit 4, PERMANENT).

    `az_may`: whether `az connectedk8s proxy` may work with it.
    """

    def __init__(self, title: str, detail: str, hint: str, *, az_may: bool) -> None:
        super().__init__(title, detail, hint, code="JD-SIGN-IN-POP")
        self.az_may = az_may


def refusal(kind: str, label: str = "") -> PopUnable | None:
    """Why a kind of sign-in gets none, known before anybody signs in; None when it may."""
    found = _WITHOUT.get(kind)
    return None if found is None else unable(label or kind, *found)


def unable(label: str, why: str, az_may: bool) -> PopUnable:
    """The failure of a sign-in that gets no such token."""
    others = ", ".join(ABLE)
    hint = f'Sign in with one of {others}; or use a service-account token: auth = "token" in the cluster.'
    if az_may:
        hint = f"az connectedk8s proxy may do it in its place. {hint}"
    return PopUnable("This sign-in gets no proof-of-possession token", f"{clean(label)}: {why}", hint, az_may=az_may)


def client_id(about: About) -> str:
    """The application that tokens are given to, for the local proxy's configuration."""
    return about.client_id or AZURE_CLI_APP


def request_data(kid: str) -> dict[str, str]:
    """The form fields that ask for a token bound to the key `kid`. Raises ValueError for what can be no key's id."""
    if not kid or len(kid) > KID_LIMIT or not kid.isascii() or not kid.isprintable() or " " in kid:
        raise ValueError("that is no key id")
    confirmed = json.dumps({"kid": kid, "xms_ksl": "sw"}).encode()
    return {
        "token_type": "pop", "key_id": kid,
        "req_cnf": base64.urlsafe_b64encode(confirmed).decode().rstrip("="),  # all of it; az takes off one
    }  # fmt: skip


async def pop_token(identity: Identity, kid: str, tenant: str, *, ask: bool = True) -> AccessToken:
    """A new token bound to the key `kid`, of `tenant` (that of the ARM token; empty: not compared).

    Nothing is kept: each call asks Entra. `ask` False (renewals in the background): nobody is asked, no browser opens.
    Raises SignInError (exit 4) only; PopUnable when this sign-in never gets one.
    """
    about: About | None = getattr(identity, "about", None)
    if about is not None and (refused := refusal(about.kind, about.label)) is not None:
        raise refused
    shared: SharedIdentity = identity  # type: ignore[assignment]  # by its shape: tests have their own
    if getattr(identity, "key_bound", None) is None:
        raise unable(identity.label, "it cannot ask for one", False)
    try:
        data = request_data(kid)
    except ValueError:
        raise SignInError("The local proxy names no key", f"{len(kid)} characters that can be no key's id",
                          "Its version may be too new or too old.", code="JD-SIGN-IN-POP") from None  # fmt: skip
    try:
        token = await shared.key_bound(SCOPE, data, tenant=tenant, ask=ask)
    except SignInError as error:
        raise _told(error) from error
    found = str(token_claims(token.value).get("tid") or "")
    if found and tenant and found.lower() != tenant.lower():
        raise SignInError(
            "The proof-of-possession token is of another tenant", f"of {clean(found[:80])}, not {clean(tenant[:80])}",
            "Set `tenant` in the profile's sign-in, then sign in again.", code="JD-SIGN-IN-TENANT",
        )  # fmt: skip
    return token


def _told(error: SignInError) -> SignInError:
    """Entra's refusal of this token in its own words; what has a better cause and next step stays as it is."""
    if error.code not in ("JD-SIGN-IN-REFUSED", "JD-SIGN-IN-FAILED"):
        return error
    return SignInError(
        "Entra refused the proof-of-possession token", error.detail,
        'Managed identity and Cloud Shell sign-in do not work here. Sign in another way, or use auth = "token".',
        code="JD-SIGN-IN-POP", recovery=error.recovery, retry_after=error.retry_after,
    )  # fmt: skip
