"""az's own token cache, read for tokens that are bound to a key: `az account get-access-token` gives none.

az keeps it in `$AZURE_CONFIG_DIR`: `msal_token_cache.json`, or `.bin` under Windows' data protection. It is opened for
reading only, lives here for one call, and is never written back: a refresh token stays good after its use. Access
tokens in it are not used, for MSAL may answer with one of another kind.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import Recovery, SignInError
from app.files import complaint, shown
from app.identity.azure_cli import config_folder
from app.identity.identity import AccessToken
from app.identity.pop import AZURE_CLI_APP, unable
from app.identity.source import About
from app.text import clean

if TYPE_CHECKING:
    from msal import SerializableTokenCache

WINDOWS = sys.platform == "win32"
CACHE_LIMIT = 32 << 20
"""Bytes of the cache; each account and audience adds about five KiB."""
_PROFILE_LIMIT = 16 << 20
"""Bytes of azureProfile.json: a subscription has 500, and some accounts see thousands of them."""
_BOM = "utf-8-sig"


def acquire(
    about: About, authority: str, options: dict[str, Any], scope: str, data: dict[str, str], tenant: str
) -> AccessToken:
    """The token, for who is signed in to az. Blocks. `options` are those of `app.identity.transport`.

    Raises SignInError, PopUnable where az keeps the sign-in so that only az can use it, and what
    `app.identity.failures.failure_of` reads.
    """
    from azure.identity._internal.msal_client import MsalClient  # MSAL over our connections: held by a test
    from msal import PublicClientApplication

    from app.identity.key_bound import from_app

    folder = config_folder()
    name = about.account or _default_user(about, folder)
    cache = _read_cache(about, folder)
    with MsalClient(**options) as client:
        app = PublicClientApplication(
            AZURE_CLI_APP, authority=f"{authority}/{tenant or about.tenant or 'organizations'}", token_cache=cache,
            http_client=client, instance_discovery=False,
        )  # fmt: skip
        accounts = app.get_accounts()
        found = [one for one in accounts if not name or str(one.get("username", "")).lower() == name.lower()]
        if not found or (not name and len(found) > 1):
            raise _not_signed_in(about, name, len(accounts))
        account = str(found[0]["home_account_id"])
        if not list(cache.search(cache.CredentialType.REFRESH_TOKEN, query={"home_account_id": account})):
            raise unable(about.label, "az keeps this sign-in in Windows' account broker", az_may=True)
        return from_app(app, about, scope, data, account, None)


def _default_user(about: About, folder: Path) -> str:
    """Whom az's default subscription belongs to; empty when it does not say."""
    chosen: dict[str, Any] = next((one for one in subscriptions(folder) if one.get("isDefault")), {})
    user = chosen.get("user")
    if not isinstance(user, dict):
        return ""
    kind, name = str(user.get("type") or ""), str(user.get("name") or "")
    if user.get("cloudShellID") or user.get("assignedIdentityInfo"):
        raise unable(about.label, "az is signed in as a managed identity or in Cloud Shell", az_may=False)
    if kind.lower() == "serviceprincipal":
        raise unable(about.label, "az is signed in as an application, whose secret az keeps", az_may=True)
    return name


def subscriptions(folder: Path) -> tuple[dict[str, Any], ...]:
    """The subscriptions that az knows in this folder of its own, each with who is signed in for it. Blocks.

    Empty where there are none, or the file is none of az's. Raises SignInError (JD-SIGN-IN-AZ) when it is not safe.
    """
    raw = read_file(folder / "azureProfile.json", _PROFILE_LIMIT)
    try:
        found = json.loads((raw or b"").decode(_BOM, "replace"))
    except (ValueError, RecursionError):
        return ()
    listed = found.get("subscriptions") if isinstance(found, dict) else None
    return tuple(one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()


def _read_cache(about: About, folder: Path) -> SerializableTokenCache:
    from msal import SerializableTokenCache

    plain, encrypted = folder / "msal_token_cache.json", folder / "msal_token_cache.bin"
    newest = max((plain, encrypted), key=_changed)
    text: str | None
    if newest == encrypted and _changed(encrypted) > 0:
        if not WINDOWS:
            raise unable(about.label, f"az keeps its tokens encrypted ({clean(encrypted.name)})", az_may=True)
        text = _decrypted(about, encrypted)
    else:
        raw = read_file(plain, CACHE_LIMIT)
        text = None if raw is None else raw.decode("utf-8", "replace")
    if text is None:
        raise _not_signed_in(about, "", 0)
    try:
        held = json.loads(text)
        held.pop("AccessToken", None)
        cache = SerializableTokenCache()
        cache.deserialize(json.dumps(held))
    except (ValueError, TypeError, AttributeError, RecursionError):  # without its words: they may quote the file
        raise unable(about.label, f"az's token cache cannot be read ({shown(newest)})", az_may=True) from None
    return cache


def _decrypted(about: About, path: Path) -> str:
    from msal_extensions import FilePersistenceWithDataProtection  # type: ignore[import-untyped]

    try:
        found: str = FilePersistenceWithDataProtection(str(path)).load()
    except Exception:  # its own failures and Windows'; without words, which may quote the file
        raise unable(about.label, f"az's token cache cannot be decrypted ({shown(path)})", az_may=True) from None
    return found


def _changed(path: Path) -> float:
    """POSIX seconds of the last change; 0 when there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def read_file(path: Path, limit: int) -> bytes | None:
    """The bytes of a file of az's; None when it does not exist. Raises SignInError (JD-SIGN-IN-AZ) when it is not safe.

    Its folder may be the group's, as az makes it; the file may not.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            wrong = None if stat.S_ISREG(found.st_mode) else "it is no regular file"
            if sys.platform != "win32" and wrong is None:
                wrong = complaint(found.st_uid, found.st_mode, os.getuid())
            data = b"" if wrong else file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        wrong, data = clean(error.strerror or str(error)), b""
    if wrong or len(data) > limit:
        raise SignInError(
            "The Azure CLI's files cannot be used", f"{shown(path)}: {wrong or f'more than {limit} bytes'}",
            "Check its folder: az account show", code="JD-SIGN-IN-AZ",
        )  # fmt: skip
    return data


def _not_signed_in(about: About, name: str, others: int) -> SignInError:
    several = "as one person: name the account in the sign-in"
    who = f"as {clean(name)}" if name else several if others > 1 else "at all"
    login = f"az login --tenant {clean(about.tenant)}" if about.tenant else "az login"
    return SignInError(
        "The Azure CLI is not signed in", f"{about.label}: not {who}, in {shown(config_folder())}", f"Run: {login}",
        code="JD-SIGN-IN-AZ-LOGIN", recovery=Recovery.NEEDS_PERSON,
    )  # fmt: skip
