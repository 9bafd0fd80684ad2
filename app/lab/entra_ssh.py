"""SSH certificates as Entra gives them out in place of a token: one hour for one RSA key, in the name of the person."""

from __future__ import annotations

import base64
import json
from asyncio import to_thread

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicNumbers, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

from app.lab.azure_names import DISPLAY_NAME, OBJECT_ID, TENANT, UPN
from app.lab.entra_errors import EntraError

BEFORE, AFTER = 300, 3_600
"""Seconds that a certificate is good for before and after now, as measured: 65 minutes in all."""

_PERMITS = ("X11-forwarding", "agent-forwarding", "port-forwarding", "pty", "user-rc")


class SshAuthority:
    """Signs certificates; its key is made when the first one is asked for."""

    def __init__(self) -> None:
        self.public = ""
        """`ssh-rsa AAAA…` of the key that signs; empty as long as there is no certificate."""
        self._key: RSAPrivateKey | None = None

    async def certificate(self, req_cnf: str, now: float) -> str:
        """The body (base64) of a certificate for the key that `req_cnf` names. Raises EntraError."""
        try:
            asked = json.loads(req_cnf)
            numbers = RSAPublicNumbers(_number(asked["e"]), _number(asked["n"]))
            if asked["kty"] != "RSA" or not asked["kid"]:
                raise ValueError("no RSA key")
            key = numbers.public_key()
        except (ValueError, KeyError, TypeError) as error:
            text = "The request body must contain a valid 'req_cnf' for token_type 'ssh-cert'."
            raise EntraError("invalid_request", 900144, text) from error
        if self._key is None:
            self._key = await to_thread(generate_private_key, 65_537, 2_048)
            self.public = self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        builder = (
            SSHCertificateBuilder()
            .public_key(key)
            .serial(0)
            .type(SSHCertificateType.USER)
            .key_id(f"{OBJECT_ID}@{TENANT}".encode())
            .valid_principals([UPN.encode()])
            .valid_after(int(now) - BEFORE)
            .valid_before(int(now) + AFTER)
        )
        for permit in _PERMITS:
            builder = builder.add_extension(f"permit-{permit}".encode(), b"")
        for name, value in (("displayname", DISPLAY_NAME), ("oid", OBJECT_ID), ("tid", TENANT)):
            builder = builder.add_extension(f"{name}@sshservice.azure.net".encode(), value.encode())
        return builder.sign(self._key).public_bytes().split()[1].decode()


def _number(text: str) -> int:
    """A number from the base64url of its big-endian bytes, with or without padding and leading zeros."""
    return int.from_bytes(base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)), "big")
