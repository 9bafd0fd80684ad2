"""Who a credential speaks for, read out of the credential itself; nothing is checked and nobody is asked.

Claims: Entra's access tokens (learn.microsoft.com, access-token-claims-reference; overage: access-token-claims), tokens
of Kubernetes service accounts (bound: `kubernetes.io`; long-lived: `kubernetes.io/serviceaccount/…`), RFC 7519.
Certificates: the API server takes CN as the user and O as the groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from app.errors import SignInError
from app.identity.source import NAME_LIMIT, end_of, token_claims
from app.records import Record
from app.secrets.secret import Secret
from app.text import clean

MAX_GROUPS = 1_000
"""Groups that are taken from one credential; Entra puts 200 at most into a token."""
SERVICE_ACCOUNT = "system:serviceaccount:"
"""Before the namespace and name of a service account, where it stands as a user."""
_LONG_LIVED = "kubernetes.io/serviceaccount/"


class Kind(Enum):
    """What kind of principal a credential speaks for."""

    PERSON = "person"
    APPLICATION = "application"
    MANAGED_IDENTITY = "managed identity"
    SERVICE_ACCOUNT = "service account"
    CERTIFICATE = "client certificate"
    ADMIN = "local administrator"
    OTHER = "token of another issuer"
    OPAQUE = "opaque token"
    NOBODY = "nobody"


class Who(Record):
    """A principal as its credential names it; all text is cleaned, what is not said is empty."""

    kind: Kind
    name: str = ""
    """UPN of a person, name or client id of an application, `system:serviceaccount:NS:NAME`, CN of a certificate."""
    upn: str = ""
    object_id: str = ""
    tenant: str = ""
    client_id: str = ""
    """Of the application that an application or managed identity is."""
    issuer: str = ""
    """Of tokens that are not Entra's."""
    groups: tuple[str, ...] = ()
    """Object ids (Entra), or names."""
    overage: bool = False
    """There are more groups than the token holds, so it holds none: it only says that there are."""
    expires_at: float | None = None
    """POSIX seconds; None: it does not say, or does not end."""
    read_from: str = ""
    """What was read: `token for the API server`."""

    @property
    def entra(self) -> bool:
        """Whether Entra knows it."""
        return self.kind in (Kind.PERSON, Kind.APPLICATION, Kind.MANAGED_IDENTITY)

    @property
    def account(self) -> tuple[str, str]:
        """Namespace and name of a service account; empty texts of anybody else."""
        if self.kind is not Kind.SERVICE_ACCOUNT:
            return "", ""
        namespace, _, name = self.name.removeprefix(SERVICE_ACCOUNT).partition(":")
        return namespace, name


def of_token(token: Secret, *, read_from: str = "", expires_at: float | None = None) -> Who:
    """Whom a bearer token speaks for. `expires_at` counts where the token itself does not say."""
    claims = token_claims(token)
    if not claims:
        return Who(Kind.OPAQUE, expires_at=expires_at, read_from=read_from)
    end = end_of(claims)
    until = expires_at if end is None else end
    subject = _text(claims, "sub")
    if subject.startswith(SERVICE_ACCOUNT):
        return Who(Kind.SERVICE_ACCOUNT, subject, issuer=_text(claims, "iss"), expires_at=until, read_from=read_from)
    if account := _text(claims, f"{_LONG_LIVED}service-account.name"):
        name = f"{SERVICE_ACCOUNT}{_text(claims, f'{_LONG_LIVED}namespace')}:{account}"
        return Who(Kind.SERVICE_ACCOUNT, name, expires_at=until, read_from=read_from)
    if "tid" not in claims:
        name = _first(claims, "preferred_username", "email", "name", "sub")
        return Who(Kind.OTHER, name, issuer=_text(claims, "iss"), groups=_groups(claims), expires_at=until,
                   read_from=read_from)  # fmt: skip
    upn = _first(claims, "upn", "preferred_username", "unique_name", "email")
    kind = _entra_kind(claims, upn)
    client = _first(claims, "appid", "azp")
    person = kind is Kind.PERSON
    name = upn if person else _first(claims, "app_displayname") or client
    return Who(
        kind, name or _text(claims, "oid"), upn=upn if person else "", object_id=_text(claims, "oid"),
        tenant=_text(claims, "tid"), client_id="" if person else client, groups=_groups(claims),
        overage=_overage(claims), expires_at=until, read_from=read_from,
    )  # fmt: skip


def of_certificate(chain: bytes, *, read_from: str = "") -> Who:
    """Whom the first certificate of a PEM chain speaks for. Blocks for milliseconds. Raises SignInError."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        found = x509.load_pem_x509_certificates(chain)[0]
        names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        groups = found.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    except (ValueError, IndexError):
        raise SignInError("The client certificate cannot be read", read_from, "Get a new kubeconfig for this cluster.",
                          code="JD-CLIENT-CERT") from None  # fmt: skip
    return Who(
        Kind.CERTIFICATE, clean(str(names[-1].value))[:NAME_LIMIT] if names else "",
        groups=tuple(clean(str(group.value))[:NAME_LIMIT] for group in groups[:MAX_GROUPS]),
        expires_at=found.not_valid_after_utc.timestamp(), read_from=read_from,
    )  # fmt: skip


def _entra_kind(claims: Mapping[str, object], upn: str) -> Kind:
    if "xms_mirid" in claims:  # the ARM id of a managed identity
        return Kind.MANAGED_IDENTITY
    said = claims.get("idtyp")
    if said == "app" or (said is None and not upn and "scp" not in claims):
        return Kind.APPLICATION
    return Kind.PERSON


def _overage(claims: Mapping[str, object]) -> bool:
    elsewhere = claims.get("_claim_names")
    return claims.get("hasgroups") in (True, "true") or (isinstance(elsewhere, dict) and "groups" in elsewhere)


def _groups(claims: Mapping[str, object]) -> tuple[str, ...]:
    found = claims.get("groups")
    if not isinstance(found, list):
        return ()
    return tuple(clean(group)[:NAME_LIMIT] for group in found[:MAX_GROUPS] if isinstance(group, str))


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    return clean(value)[: 2 * NAME_LIMIT] if isinstance(value, str) else ""


def _first(claims: Mapping[str, object], *names: str) -> str:
    return next((found for name in names if (found := _text(claims, name))), "")
