"""SSH certificates of Entra for VMs with its SSH login: asked for like a token, for an RSA key that stays in memory.

Wire: an ordinary token request with `token_type=ssh-cert`, `req_cnf` (the public key as a JWK) and `key_id`; the access
token of the answer is the certificate's body (`app.identity.key_bound`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.errors import SignInError
from app.records import Record, field
from app.tasks import spawn
from app.text import clean

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from app.identity.identity import Identity

KEY_BITS = 2048
"""What the Azure CLI uses; a certificate lives one hour."""
ABLE = ("browser", "device-code", "broker", "service-principal")
"""Kinds of sign-in that can get one."""
UNABLE = frozenset({"azure-cli", "managed-identity", "environment", "lab"})


class EntraKey(Record):
    """A key pair in memory, and the certificate that Entra has just given for it."""

    private: RSAPrivateKey = field(repr=False)
    certificate: bytes = field(repr=False)
    """The certificate's blob (OpenSSH PROTOCOL.certkeys)."""


class SshCertificates:
    """One identity's key for SSH, made when first needed; certificates for it are asked for at each connect."""

    def __init__(self, get: Callable[[str, dict[str, str]], Any], label: str) -> None:
        self._get, self._label = get, label
        self._making: asyncio.Task[RSAPrivateKey] | None = None

    async def current(self, scope: str) -> EntraKey:
        """A certificate that was valid a moment ago. Raises SignInError."""
        private = await self._key()
        body = str(await self._get(scope, request_data(private)))
        try:
            blob = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise SignInError(
                "Entra's answer holds no SSH certificate", f"{self._label}: {len(body)} characters that are no base64",
                "Is the scope right for this cloud? (ssh-scope)", code="JD-SIGN-IN-CERTIFICATE",
            ) from None  # fmt: skip
        return EntraKey(private, blob)

    async def _key(self) -> RSAPrivateKey:
        """One key for all, also for two logins that need the first one at once: a certificate is good for one key."""
        if self._making is None:
            self._making = spawn(asyncio.to_thread(_new_key), name="make a key")
        return await asyncio.shield(self._making)


def _new_key() -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(65_537, KEY_BITS)


def request_data(private: RSAPrivateKey) -> dict[str, str]:
    """The form fields that ask for a certificate of this key, as the Azure CLI's ssh extension builds them.

    n and e are the bytes of SSH's mpint (a leading zero where the top bit is set), base64url with padding; the key id
    is the SHA-256 of their texts.
    """
    numbers = private.public_key().public_numbers()
    n, e = _mpint(numbers.n), _mpint(numbers.e)
    kid = hashlib.sha256((n + e).encode()).hexdigest()
    return {"token_type": "ssh-cert", "req_cnf": json.dumps({"kty": "RSA", "n": n, "e": e, "kid": kid}), "key_id": kid}


def _mpint(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(number.bit_length() // 8 + 1, "big")).decode()


async def entra_key(identity: Identity, scope: str | None, cloud: str) -> EntraKey:
    """A key with its certificate for this identity. Raises SignInError, also where cloud or kind have none."""
    if scope is None:
        raise SignInError(
            "This cloud has no SSH certificates", f"cloud {clean(cloud)} names no scope for them",
            "Set ssh-scope in [cloud.NAME], or use a key.", code="JD-SIGN-IN-CERTIFICATE",
        )  # fmt: skip
    certificates = getattr(identity, "ssh_certificates", None)
    if not isinstance(certificates, SshCertificates):
        raise unable(identity.label)
    return await certificates.current(scope)


def unable(label: str) -> SignInError:
    """The failure of a kind of sign-in that gets no certificates."""
    return SignInError(
        "This kind of sign-in gets no SSH certificate", label,
        f"Sign in with one of {', '.join(ABLE)}; or get one with `az ssh cert` and name it: key and certificate.",
        code="JD-SIGN-IN-CERTIFICATE",
    )  # fmt: skip
