"""TLS towards the API server: what is trusted, and the client certificate that a kubeconfig may carry.

Contexts are made off the loop (reading a trust store takes tens of milliseconds) and kept by the connector.
"""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

from app.errors import ProfileError, SignInError
from app.outbound import trusting, trusting_the_system
from app.records import Record
from app.secrets.secret import Secret
from app.text import prose

_PREFIX = "jumpdeck-key-"


class ClientCertificate(Record):
    """A certificate chain and its key, both PEM, in memory."""

    chain: bytes
    key: Secret
    origin: str = "kubeconfig"
    """Where it comes from, for errors."""


def make_context(ca_pem: bytes | None, certificate: ClientCertificate | None, *, ca_from: str = "") -> ssl.SSLContext:
    """A context that verifies the server: against `ca_pem`, or the operating system's trust store when it is None.

    Blocks; run it in a thread. Raises ProfileError (JD-TLS-CA, JD-CLIENT-CERT) or SignInError (expired certificate).
    """
    context = trusting(ca_pem, ca_from) if ca_pem is not None else trusting_the_system()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        check_dates(certificate)
        _load(context, certificate)
    return context


def check_dates(certificate: ClientCertificate) -> None:
    """Raise SignInError when the client certificate is not valid now, before a server says it less clearly."""
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(certificate.chain)
    except ValueError as exc:
        raise _unusable(certificate, "it is not a PEM certificate") from exc
    now = time.time()
    if leaf.not_valid_after_utc.timestamp() < now:
        raise SignInError(
            "The client certificate has expired",
            f"{certificate.origin}: valid until {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            "Get a new certificate or kubeconfig from whoever issued it.", code="JD-CLIENT-CERT-EXPIRED",
        )  # fmt: skip
    if leaf.not_valid_before_utc.timestamp() > now:
        raise SignInError(
            "The client certificate is not valid yet",
            f"{certificate.origin}: valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, "
            f"now {time.strftime('%Y-%m-%d %H:%M', time.gmtime(now))} UTC",
            "Check the clock of this computer.", code="JD-CLIENT-CERT-EARLY",
        )  # fmt: skip


def _load(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """OpenSSL's interface in Python reads files only: they exist in a private folder for the time of one call."""
    key = certificate.key.reveal().encode()
    if b"ENCRYPTED" in key:
        raise _unusable(certificate, "the key is encrypted with a passphrase, which is not supported")
    import shutil  # with its compressors it takes longer to load than all the rest here
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_memory_folder()))  # 0700, and a private ACL on Windows
    try:
        chain_file, key_file = folder / "chain", folder / "key"
        for path, data in ((chain_file, certificate.chain), (key_file, key)):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "wb") as file:
                file.write(data)
        # A password that is always given keeps OpenSSL from asking on the terminal.
        context.load_cert_chain(chain_file, key_file, password="")
    except ssl.SSLError as exc:
        raise _unusable(certificate, prose(exc.reason or str(exc))) from exc
    except OSError as exc:
        raise _unusable(certificate, f"no private place to load it from: {prose(exc.strerror or str(exc))}") from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _memory_folder() -> str | None:
    """The session's folder in memory where there is one, so that the key does not reach a disk."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and hasattr(os, "getuid"):
        try:
            found = os.stat(runtime)
        except OSError:
            return None
        if found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return runtime
    return None


def _unusable(certificate: ClientCertificate, why: str) -> ProfileError:
    return ProfileError(
        "The client certificate cannot be used", f"{certificate.origin}: {why}",
        "client-certificate(-data) and client-key(-data) must be a PEM pair that belongs together.",
        code="JD-CLIENT-CERT",
    )  # fmt: skip
