"""The private parts of azure-identity that we lean on (docs/decisions/0018): a release that moves them fails here."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest
from azure.identity import (
    CertificateCredential,
    ClientSecretCredential,
    DeviceCodeCredential,
    InteractiveBrowserCredential,
    TokenCachePersistenceOptions,
)
from azure.identity._persistent_cache import _load_persistent_cache
from msal import TokenCache

TENANT = "00000000-0000-0000-0000-00000000001a"


def test_a_persistent_cache_is_opened_and_can_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert next(iter(inspect.signature(_load_persistent_cache).parameters)) == "options"
    if not sys.platform.startswith("linux"):
        return  # elsewhere the cache is the person's own
    monkeypatch.setenv("HOME", str(tmp_path))
    # A plain file only here, in a folder of the test: production says allow_unencrypted_storage=False.
    cache = _load_persistent_cache(TokenCachePersistenceOptions(name="seam", allow_unencrypted_storage=True))
    assert isinstance(cache, TokenCache)
    assert list(cache.search(cache.CredentialType.ACCOUNT)) == []
    for name in ("remove_at", "remove_rt", "remove_idt", "remove_account"):
        assert callable(getattr(cache, name))


@pytest.mark.parametrize("kind", [DeviceCodeCredential, InteractiveBrowserCredential])
def test_a_persons_credential_takes_our_cache(kind: type[DeviceCodeCredential]) -> None:
    cache = TokenCache()
    credential = kind(tenant_id=TENANT, _cache=cache)
    assert getattr(credential, "_cache") is cache  # noqa: B009 (private)


@pytest.mark.parametrize(
    "kind", [DeviceCodeCredential, InteractiveBrowserCredential, ClientSecretCredential, CertificateCredential]
)
def test_a_credential_has_its_msal_application(kind: type) -> None:
    assert callable(getattr(kind, "_get_app", None))
    assert not hasattr(kind, "_credential")
