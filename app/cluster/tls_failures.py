"""What can go wrong with TLS towards the API server, most telling first. Seam for ssl and for start_tls."""

from __future__ import annotations

import ssl

from app.errors import JumpdeckError, Recovery, RouteError
from app.routes.failures import StreamFailed, from_os_error
from app.text import clean, prose

_MAX_NAMES = 6
"""Names of a certificate that an error lists; shared ones hold hundreds."""

_WRONG_NAME = (62, 63, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_, _IP_ADDRESS_ (OpenSSL x509_vfy.h)
_NO_KNOWN_CA = (2, 18, 19, 20, 21)  # issuer or self-signed certificate not among the trusted ones

_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH")
_NO_COMMON = ("UNSUPPORTED_PROTOCOL", "ALERT_PROTOCOL_VERSION", "HANDSHAKE_FAILURE", "NO_PROTOCOLS", "VERSION_TOO_LOW")
_CLIENT_CERTIFICATE = ("CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE", "ALERT_UNKNOWN_CA", "CERTIFICATE_EXPIRED",
                       "CERTIFICATE_UNKNOWN", "CERTIFICATE_REVOKED", "ACCESS_DENIED", "DECRYPT_ERROR")  # fmt: skip


def is_wrong_name(error: ssl.SSLCertVerificationError) -> bool:
    """Whether the certificate is good but for another name."""
    return getattr(error, "verify_code", 0) in _WRONG_NAME or "mismatch" in str(error).lower()


def from_tls(error: Exception, at: str, name: str, names: tuple[str, ...] = ()) -> JumpdeckError:
    """The error of a handshake with `at`, verified as `name`; `names` are those of the certificate when known."""
    if isinstance(error, StreamFailed):
        return from_os_error(error, at)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _from_certificate(error, at, name, names)
    if isinstance(error, ssl.SSLError):
        return _from_protocol(error, at)
    if isinstance(error, ConnectionAbortedError) and "handshake" in str(error):
        return _error("JD-TLS-TIMEOUT", "TLS handshake not finished in time", f"{at}: it connects, then says nothing",
                      "A proxy or firewall may hold TLS back; it is tried again.", Recovery.TRANSIENT)  # fmt: skip
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return _error("JD-TLS-CLOSED", "Closed during the TLS handshake", f"{at}: {_said(error)}",
                      "A balancer without a backend, a firewall or the wrong port does this; it is tried again.",
                      Recovery.TRANSIENT)  # fmt: skip
    if isinstance(error, OSError):
        return from_os_error(error, at)
    return _error("JD-TLS-FAILED", "TLS cannot start", f"{at}: {_said(error)}", "", Recovery.PERMANENT)


def _from_certificate(
    error: ssl.SSLCertVerificationError, at: str, name: str, names: tuple[str, ...]
) -> JumpdeckError:
    reason = prose(getattr(error, "verify_message", "") or str(error))
    code = getattr(error, "verify_code", 0)  # the systems' own verifiers set none
    if is_wrong_name(error):
        shown = ", ".join(clean(entry) for entry in names[:_MAX_NAMES]) or "other names"
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        return _error("JD-TLS-WRONG-NAME", "The server's certificate is for another name",
                      f"{at}: expected {clean(name)}, the certificate says {shown}{more}",
                      "Use one of its names as server or tls-server-name, or check that the address is right.",
                      Recovery.PERMANENT)  # fmt: skip
    if code == 10 or "expired" in reason:
        return _error("JD-TLS-EXPIRED", "The server's certificate has expired", f"{at}: {reason}",
                      "Whoever runs the cluster must renew it; check this computer's clock too.",
                      Recovery.PERMANENT)  # fmt: skip
    if code == 9 or "not yet valid" in reason:
        return _error("JD-TLS-EARLY", "The server's certificate is not valid yet", f"{at}: {reason}",
                      "Check the clock of this computer.", Recovery.PERMANENT)  # fmt: skip
    if code in _NO_KNOWN_CA or "self" in reason or "issuer" in reason or "trust" in reason:
        return _error("JD-TLS-UNKNOWN-CA", "The server's certificate is from an unknown CA", f"{at}: {reason}",
                      "Name the cluster's CA: ca-file in the profile, or certificate-authority in the kubeconfig.",
                      Recovery.PERMANENT)  # fmt: skip
    return _error("JD-TLS-CERTIFICATE", "The server's certificate is not accepted", f"{at}: {reason}",
                  "Check the CA file and the certificate of the server.", Recovery.PERMANENT)  # fmt: skip


def _from_protocol(error: ssl.SSLError, at: str) -> JumpdeckError:
    reason = getattr(error, "reason", None) or str(error)  # an error made by hand has no reason
    told = f"{at}: {prose(reason)}"
    if any(word in reason for word in _NOT_TLS):
        return _error("JD-TLS-NOT-TLS", "The server does not speak TLS", f"{told} (an HTTP or SSH port answers so)",
                      "Check the port in the server's address.", Recovery.PERMANENT)  # fmt: skip
    if any(word in reason for word in _CLIENT_CERTIFICATE):
        return _error("JD-TLS-CLIENT-CERT", "The server refuses the client certificate", told,
                      "Check that client-certificate belongs to this cluster and is still valid.",
                      Recovery.PERMANENT)  # fmt: skip
    if any(word in reason for word in _NO_COMMON):
        return _error("JD-TLS-VERSION", "No TLS version or cipher in common", told,
                      "TLS 1.2 or 1.3 is needed; an old proxy may stand in between.", Recovery.PERMANENT)  # fmt: skip
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "EOF" in reason:
        return _error("JD-TLS-CLOSED", "Closed during the TLS handshake", told,
                      "A balancer without a backend, a firewall or the wrong port does this; it is tried again.",
                      Recovery.TRANSIENT)  # fmt: skip
    return _error("JD-TLS-BROKEN", "The TLS connection broke", told, "It is tried again.", Recovery.TRANSIENT)


def _error(code: str, title: str, detail: str, hint: str, recovery: Recovery) -> RouteError:
    return RouteError(title, detail, hint, code=code, layer="tls", recovery=recovery)


def _said(error: Exception) -> str:
    return prose(str(error) or type(error).__name__)
