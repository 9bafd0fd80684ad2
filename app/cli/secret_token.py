"""A bearer token as it comes out of a pipe or the clipboard: white space off, kubectl's base64 form decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.errors import SignInError
    from app.secrets.secret import Secret


def token_from(given: Secret, profile: str) -> Secret:
    """The token for a profile's cluster. Raises SignInError (JD-SIGN-IN-TOKEN-FORM) for what is none.

    `kubectl get secret … -o jsonpath={.data.token}` prints it in base64 (RFC 4648 §4), as it stands in the Secret. Only
    what decodes to a JWT is taken for that form: any other text may be a token as it is.
    """
    from app.profiles.model import ArcCluster
    from app.profiles.store import load
    from app.secrets.secret import Secret

    value = given.reveal().strip()
    if "-----BEGIN" in value:
        return given  # the store says better what is wrong with a key
    if (inner := _decoded(value)) and _claims(inner) is not None:
        value = inner
    if not value.isascii() or not value.isprintable() or " " in value:
        raise _no_token("it has white space or signs in it that no token has")
    claims = _claims(value)
    found = load().profiles.get(profile)
    if claims is None and found is not None and isinstance(found.cluster, ArcCluster):
        raise _no_token("a service account's token is a JWT: three parts with dots between")
    if claims is not None:
        _check_end(claims)
    return Secret(value)


def _decoded(value: str) -> str:
    """The text that base64 hides; empty when it hides none."""
    import base64
    import binascii

    try:  # some shells break long lines
        return base64.b64decode("".join(value.split()), validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        return ""


def _claims(value: str) -> dict[str, object] | None:
    from app.identity.source import token_claims
    from app.secrets.secret import Secret

    return token_claims(Secret(value)) or None


def _check_end(claims: dict[str, object]) -> None:
    import time

    from app.identity.source import end_of

    end = end_of(claims)
    if end is not None and end <= time.time():
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(end))
        raise _no_token(f"it has ended ({when})", title="The token has ended")


def _no_token(why: str, *, title: str = "This is no token") -> SignInError:
    from app.errors import SignInError

    return SignInError(
        title, f"{why}; nothing was kept", "Take it from the Secret's data.token: jumpdeck whoami PROFILE "
        "--for service-account:NAME shows the whole pipe.", code="JD-SIGN-IN-TOKEN-FORM", layer="token",
    )  # fmt: skip
