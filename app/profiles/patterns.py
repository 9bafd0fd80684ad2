"""Shapes of values in a profile file: names, ARM ids, hosts, URLs. Each check returns what is wrong, or None."""

from __future__ import annotations

import re

# Patterns are texts: `re` compiles one when it is first used and remembers it, so that a start pays for what it needs.
NAME = r"[a-z0-9][a-z0-9-]{0,62}"
"""A name of a profile, hop, sign-in or cloud."""
TAG = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
NAMESPACE = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""A DNS label (RFC 1123), as Kubernetes names namespaces."""
_FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}=?"
_HOST = r"(?=.{1,253}\.?$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?"
_ADDRESS = r"(?:(?P<user>[^@\s:]+)@)?(?P<host>\[[0-9A-Fa-f:.%A-Za-z]+\]|[^\[\]:@\s]+)(?::(?P<port>[0-9]{1,5}))?"
GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ARM = rf"(?i)/subscriptions/{GUID}/resourceGroups/[^/\s]{{1,90}}/providers/(?P<type>[A-Za-z.]+/[^\s]+)"
_TELLING_FIELD = (
    r"(?i)pass(word|wd|phrase|code)?$|(^|[-_])(pass(word|wd|phrase)?|pwd|secret|secrets|credential|credentials|pat|sas)([-_]|$)"
    r"|token|client[-_]?secret|(api|account|access|private)[-_]?key|key[-_]data|connection[-_]?string"
)
_TELLING_VALUE = r"-----BEGIN [A-Z ]*PRIVATE KEY|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.|://[^/\s:@]+:[^/\s@]+@|[?&]sig=[A-Za-z0-9%+/]{20}"

AKS = ("Microsoft.ContainerService/managedClusters",)
ARC = ("Microsoft.Kubernetes/connectedClusters",)
BASTION = ("Microsoft.Network/bastionHosts",)
MACHINE = ("Microsoft.Compute/virtualMachines",)
TARGET = (
    "Microsoft.Compute/virtualMachines",
    "Microsoft.Compute/virtualMachineScaleSets",
    "Microsoft.Compute/virtualMachineScaleSets/*/virtualMachines",
)


def arm_id(value: str, types: tuple[str, ...]) -> str | None:
    """An Azure resource id of one of `types`; names in a type stand as `*`."""
    shape = f"/subscriptions/GUID/resourceGroups/GROUP/providers/{types[0]}/NAME"
    match = re.fullmatch(_ARM, value)
    if match is None:
        return f"not the id of a resource; it looks like {shape}"
    parts = match.group("type").split("/")
    if not all(parts):
        return f"not the id of a resource; it looks like {shape}"
    if len(parts) < 3 or len(parts) % 2 == 0:
        return f"the name at the end is missing; it looks like {shape}"
    found = "/*/".join(["/".join(parts[:2]), *parts[3::2]])  # without the names
    if found.lower() not in {kind.lower() for kind in types}:
        return f"the id of a {found}; expected {' or '.join(types)}"
    return None


def arm_remedy(value: str) -> str:
    """What to do about an id that is none."""
    if "/subscriptions/" in value and not value.startswith("/subscriptions/"):
        return "Begin at /subscriptions/."
    if value.lower().startswith("subscriptions/"):
        return "Put a / before it."
    if value.endswith("/"):
        return "Leave out the / at the end."
    return "Copy the resource id from the portal (JSON view) or from `az resource show --query id`."


def host(value: str) -> str | None:
    """A host name or IP address without port."""
    if re.fullmatch(_HOST, value):
        if re.fullmatch(r"[0-9.]+", value) and not _is_ip(value):
            return "not an IP address"
        return None
    return None if ":" in value and _is_ip(value) else "not a host name or IP address"


def ssh_server(value: str) -> str | None:
    """`[user@]host[:port]`; an IPv6 address with a port, or without, stands in brackets."""
    match = re.fullmatch(_ADDRESS, value)
    if match is None:
        if value.count(":") > 1 and "[" not in value:
            return "an IPv6 address stands in brackets: [fe80::1]:22"
        if re.match(r"[^@\s:]*:[^@\s]*@", value):
            return "a password has no place here, only [user@]host[:port]; password = true asks for it"
        return "not [user@]host[:port]"
    name = match.group("host")
    if name.startswith("["):
        if not _is_ip(name[1:-1]) or ":" not in name:
            return "what stands in brackets is not an IPv6 address"
    elif wrong := host(name):
        return wrong
    port = match.group("port")
    return "the port is not between 1 and 65535" if port is not None and not 1 <= int(port) <= 65535 else None


def ssh_user(value: str) -> str | None:
    """The user in `[user@]host[:port]`, or None."""
    match = re.fullmatch(_ADDRESS, value)
    return match.group("user") if match else None


def ssh_place(value: str) -> tuple[str, int]:
    """Host (without brackets) and port of a valid `[user@]host[:port]`; the port is 22 when it names none."""
    match = re.fullmatch(_ADDRESS, value)
    assert match is not None
    return match.group("host").strip("[]"), int(match.group("port") or 22)


def url(value: str, schemes: tuple[str, ...], *, path: bool = True) -> str | None:
    """A URL with a host, without user, query and fragment."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(value)
        port = parts.port
        name = parts.hostname
    except ValueError:
        return "not a URL"
    if parts.scheme not in schemes:
        return f"a URL that begins with {' or '.join(scheme + '://' for scheme in schemes)} is expected"
    if not name or host(name) or (port is not None and not port):
        return "the URL has no valid host and port"
    if parts.username is not None or parts.query or parts.fragment or (not path and parts.path not in ("", "/")):
        return "only scheme, host and port belong here" if not path else "a user, ? or # has no place here"
    return None


def network(value: str) -> str | None:
    """An address range in CIDR form."""
    import ipaddress

    if "/" not in value:
        return "an address range in the form 10.40.0.0/16 is expected"
    try:
        ipaddress.ip_network(value)
    except ValueError:
        try:
            return f"address bits are set behind the prefix; {ipaddress.ip_network(value, strict=False)} is the range"
        except ValueError:
            return "not an address range in the form 10.40.0.0/16"
    return None


def is_ipv4(value: str) -> bool:
    """A bare IPv4 address, the only kind that a Bastion connects to."""
    import ipaddress

    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return True


def fingerprint(value: str) -> str | None:
    """An OpenSSH SHA-256 fingerprint."""
    return (
        None if re.fullmatch(_FINGERPRINT, value) else "a fingerprint in the form SHA256:… (43 characters) is expected"
    )


def looks_secret(field: str) -> bool:
    """Whether a field's name says that its value is a secret."""
    return re.search(_TELLING_FIELD, field) is not None


def holds_secret(value: str) -> bool:
    """Whether a value is surely a secret: a private key, a signed token, a password in a URL."""
    hints = ("-----BEGIN", "eyJ", "://", "sig=")
    return any(hint in value for hint in hints) and re.search(_TELLING_VALUE, value) is not None


def _is_ip(value: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
