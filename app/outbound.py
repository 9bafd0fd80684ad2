"""The way out of this computer for requests of our own: the web proxy of its environment, and whose CA is trusted."""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING

from app.errors import ProfileError
from app.files import read_private, shown
from app.text import prose

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

CA_LIMIT = 1 << 20
"""Bytes of a CA bundle; the Mozilla one has 250 KiB."""


def is_loopback(host: str) -> bool:
    """Whether a host is this computer, so that no proxy is used and plain HTTP stays inside."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def choose_proxy(host: str, named: str | None, *, secure: bool = True) -> str | None:
    """The proxy for a host: the named one, else the environment's; never for this computer."""
    return None if is_loopback(host) else named or environment_proxy(host, secure=secure)


def environment_proxy(host: str, *, secure: bool = True) -> str | None:
    """HTTPS_PROXY (or HTTP_PROXY), unless NO_PROXY names the host; lower case wins, as in curl."""
    name = "https_proxy" if secure else "http_proxy"
    found = os.environ.get(name) or os.environ.get(name.upper()) or ""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if not found or exempt(host.lower().rstrip("."), listed.lower()):
        return None
    return found if "://" in found else f"http://{found}"


def exempt(host: str, listed: str) -> bool:
    """Whether NO_PROXY (`listed`) names a host; both in lower case."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for raw in listed.split(","):
        entry = raw.strip().lstrip(".").removeprefix("*.")
        if not entry:
            continue
        if entry == "*" or host == entry or host.endswith(f".{entry}"):
            return True
        if address is not None and "/" in entry:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
    return False


def make_trust(ca_file: Path | None) -> ssl.SSLContext:
    """A context that verifies servers against `ca_file`, or the operating system's trust store when it is None.

    Blocks; run it in a thread. Raises ProfileError (JD-TLS-CA, or as `app.files.read_private`).
    """
    import ssl

    context = trusting_the_system() if ca_file is None else trusting(
        read_private(ca_file.expanduser(), limit=CA_LIMIT, what="CA file", shared=True), shown(ca_file)
    )  # fmt: skip
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def trusting(ca_pem: bytes, ca_from: str) -> ssl.SSLContext:
    """A client's context that trusts these PEM certificates. Raises ProfileError (JD-TLS-CA)."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # As Go does it: any certificate of the bundle is an anchor, so an intermediate or the server's own may be pinned.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as exc:
        raise ProfileError(
            "The CA certificate cannot be read", f"{ca_from or 'certificate-authority'}: {prose(str(exc))}",
            "It must be one or more PEM certificates (-----BEGIN CERTIFICATE-----).", code="JD-TLS-CA",
        ) from exc  # fmt: skip
    return context


def trusting_the_system() -> ssl.SSLContext:
    """A client's context that trusts what the operating system trusts."""
    import ssl

    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
