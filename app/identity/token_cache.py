"""Where refresh tokens and the names of signed-in accounts are kept between runs: encrypted by the system, or nowhere.

Windows: a file under DPAPI; macOS: the Keychain; Linux: the Secret Service. Without one of them tokens live in this
process's memory. The record of an account (no secret) lies in the state folder, 0600.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import ProfileError
from app.files import private_dir, read_private, write_private
from app.folders import state_dir
from app.identity.source import About
from app.program_log import keep_from_terminal
from app.tasks import in_own_thread

if TYPE_CHECKING:
    from azure.identity import AuthenticationRecord
    from msal import TokenCache

CACHE_NAME = "jumpdeck"
"""The name of our own cache: never the one that Microsoft's tools share."""
PROBE_LIMIT = 5.0
"""Seconds for the system's store to answer; a Secret Service may wait for a person to unlock it."""
RECORD_LIMIT = 16 << 10
"""Bytes of a saved record; one has 400."""
MEMORY_ONLY = "this sign-in is kept in memory only: this system has no encrypted place for it"

_log = logging.getLogger(__name__)


async def open_cache() -> tuple[TokenCache, bool]:
    """A cache, and whether it outlives this process."""
    import asyncio

    from msal import TokenCache

    keep_from_terminal("azure", "msal", "msal_extensions", "keyring")  # they warn of what is missing for encryption
    try:
        async with asyncio.timeout(PROBE_LIMIT):
            return await in_own_thread(_persistent, name="token cache"), True
    except Exception as error:  # each platform's library has failures of its own, and all of them mean the same
        _log.info("no encrypted token cache here: %s", type(error).__name__)
        return TokenCache(), False


def _persistent() -> TokenCache:
    """Opens and reads it, so that one that cannot be read counts as none."""
    from azure.identity import TokenCachePersistenceOptions
    from azure.identity._persistent_cache import _load_persistent_cache  # the handle is needed to sign out

    options = TokenCachePersistenceOptions(name=CACHE_NAME, allow_unencrypted_storage=False)
    cache: Any = _load_persistent_cache(options)
    list(cache.search(cache.CredentialType.ACCOUNT))
    return cache


def drop_access_tokens(cache: TokenCache, scope: str) -> None:
    """Make the next silent request ask the service: what is cached for the scope was refused."""
    for entry in list(cache.search(cache.CredentialType.ACCESS_TOKEN)):
        if scope in str(entry.get("target", "")).split():
            cache.remove_at(entry)


def drop_account(cache: TokenCache, home_account_id: str) -> bool:
    """Remove an account with all of its tokens; whether there was one."""
    kinds = cache.CredentialType
    mine = {"home_account_id": home_account_id}
    found = False
    for kind, remove in (
        (kinds.ACCESS_TOKEN, cache.remove_at), (kinds.REFRESH_TOKEN, cache.remove_rt),
        (kinds.ID_TOKEN, cache.remove_idt), (kinds.ACCOUNT, cache.remove_account),
    ):  # fmt: skip
        for entry in list(cache.search(kind, query=mine)):
            remove(entry)
            found = True
    return found


def record_path(about: About) -> Path:
    """Where the record of a sign-in is: named by what makes it the same sign-in."""
    told = "\n".join((about.kind, about.authority, about.tenant, about.account, about.client_id)).lower()
    return state_dir() / "sign-ins" / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.json"


def load_record(about: About) -> AuthenticationRecord | None:
    """The account that signed in last; None when there is none, or what is there cannot be trusted.

    The authority is always the profile's own: a record never says where tokens are sent.
    """
    from azure.identity import AuthenticationRecord

    with suppress(ProfileError, ValueError, KeyError, TypeError):
        data = read_private(record_path(about), limit=RECORD_LIMIT, what="sign-in record")
        return with_authority(AuthenticationRecord.deserialize(data.decode()), about)
    return None


def with_authority(record: AuthenticationRecord, about: About) -> AuthenticationRecord:
    """The record with the profile's authority: China's tokens name an issuer that is no sign-in server."""
    from azure.identity import AuthenticationRecord

    return AuthenticationRecord(
        record.tenant_id, record.client_id, about.authority, record.home_account_id, record.username
    )


def save_record(record: AuthenticationRecord, about: About) -> None:
    """Keep the record; when that fails the person signs in once more next time."""
    path = record_path(about)
    try:
        private_dir(path.parent)
        write_private(path, json.dumps(json.loads(record.serialize())).encode())
    except (ProfileError, ValueError) as error:
        _log.warning("the sign-in record could not be saved: %s", error)


def remove_record(about: About) -> bool:
    """Remove the record; whether there was one."""
    try:
        record_path(about).unlink()
    except OSError:
        return False
    return True
