"""Entra's SSH certificates for a login: asked for anew at each connect, read, and offered before any other key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh

from app.errors import SignInError
from app.identity.ssh_certificate import entra_key
from app.routes import ssh_certificates
from app.routes.ssh_certificates import Certificate
from app.routes.ssh_keys import KeyFile
from app.routes.ssh_wire import WireError
from app.text import clean

if TYPE_CHECKING:
    from app.routes.context import RouteContext

NAME = "the certificate of Entra"


async def entra_certificate(context: RouteContext, profile: str) -> tuple[KeyFile, Certificate]:
    """A key in memory and its certificate, valid now. Raises SignInError (sign-in; JD-SSH-CERTIFICATE)."""
    if context.azure is None:
        raise SignInError("Azure is not at hand here", f"profile {clean(profile)} wants an SSH certificate of Entra",
                          code="JD-SIGN-IN-CERTIFICATE")  # fmt: skip
    azure = await context.azure()
    await azure.identity.token(azure.endpoints.arm_scope)  # signs in, where nobody has
    found = await entra_key(azure.identity, azure.endpoints.ssh_scope, azure.endpoints.name)
    key = asyncssh.import_private_key(_pem(found.private))
    try:
        certificate = ssh_certificates.parse(found.certificate, NAME)
    except WireError as error:
        raise SignInError("Entra's answer holds no SSH certificate", str(error), "Try again.",
                          code="JD-SIGN-IN-CERTIFICATE") from error  # fmt: skip
    file = KeyFile.in_memory(NAME, key)
    ssh_certificates.check(certificate, file.public)
    return file, certificate


def _pem(private: object) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    assert isinstance(private, RSAPrivateKey)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
