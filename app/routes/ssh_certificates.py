"""OpenSSH user certificates: reading them, and whether they will do, before a server says only `denied`.

The format is OpenSSH's PROTOCOL.certkeys. The signature of the authority is not checked here: the server does that.
"""

from __future__ import annotations

import base64
import binascii
import time
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path

from app.ages import human_duration
from app.errors import ProfileError, SignInError
from app.records import Record
from app.routes.ssh_wire import WireError, WireReader, algorithm_of, fingerprint_of, kind_of, put_string
from app.text import clean

MAX_CERTIFICATE_FILE = 64 * 1024
"""Bytes of a certificate file; ssh-keygen makes 2 KiB, a long list of principals a few more."""
_SUFFIX = "-cert-v01@openssh.com"
_KEY_FIELDS = {
    "ssh-ed25519": 1, "ssh-rsa": 2, "ssh-dss": 4, "ecdsa-sha2-nistp256": 2, "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2, "sk-ssh-ed25519@openssh.com": 2, "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}  # fmt: skip
"""How many fields of the public key stand in the certificate, by the key's algorithm."""
_SHOWN_PRINCIPALS = 8
_END_OF_TIME = 2**64 - 1
"""`valid before` of a certificate that never ends."""


class Kind(IntEnum):
    """Whom a certificate is for."""

    USER = 1
    HOST = 2


class Certificate(Record):
    """What stands in an OpenSSH certificate. Text is as it came; `facts` cleans it."""

    name: str
    """The file, or the agent, that it came from; cleaned text."""
    blob: bytes
    algorithm: str
    key_algorithm: str
    key_blob: bytes
    """The public key that it certifies, as such a key stands on its own."""
    serial: int
    kind: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    """Seconds since 1970, as `valid_before`, which is the first second in which it does not count any more."""
    valid_before: int
    critical: tuple[str, ...]
    """Names of critical options: `force-command`, `source-address`, `verify-required`."""
    extensions: tuple[str, ...]
    authority: bytes
    """The public key that signed it."""

    @property
    def facts(self) -> str:
        """What tells this certificate from others: its ID, serial and end."""
        return f"ID {clean(self.key_id)[:128]!r}, serial {self.serial}, valid until {moment(self.valid_before)}"

    @property
    def signed_by(self) -> str:
        """The authority: type and fingerprint."""
        return f"{kind_of(algorithm_of(self.authority))} {fingerprint_of(self.authority)}"


def moment(seconds: int) -> str:
    """A time of a certificate for people, in UTC; `the end of time` for one that never ends."""
    if seconds >= _END_OF_TIME:
        return "the end of time"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "a time beyond the calendar"


def is_certificate(blob: bytes) -> bool:
    """Whether a public key, e.g. of an agent, is really a certificate."""
    try:
        return WireReader(blob).string().endswith(_SUFFIX.encode())
    except WireError:
        return False


def parse(blob: bytes, name: str) -> Certificate:
    """A certificate from its bytes. Raises WireError when it is none or is damaged."""
    reader = WireReader(blob)
    algorithm = reader.string().decode("ascii", "replace")
    key_algorithm = algorithm.removesuffix(_SUFFIX)
    if algorithm.startswith("sk-"):
        key_algorithm += "@openssh.com"
    if not algorithm.endswith(_SUFFIX) or key_algorithm not in _KEY_FIELDS:
        raise WireError(f"{clean(algorithm)[:60]!r} is not a kind of OpenSSH certificate")
    reader.string()  # the nonce
    fields = [reader.string() for _ in range(_KEY_FIELDS[key_algorithm])]
    serial, kind = reader.number(8), reader.number()
    key_id = reader.string().decode("utf-8", "replace")
    principals = tuple(one.decode("utf-8", "replace") for one in WireReader(reader.string()).strings())
    after, before = reader.number(8), reader.number(8)
    critical, extensions = _option_names(reader.string()), _option_names(reader.string())
    reader.string()  # reserved
    authority = reader.string()
    reader.string()  # the signature
    if reader or not algorithm_of(authority):
        raise WireError("there is more after its end")
    return Certificate(
        name, blob, algorithm, key_algorithm, b"".join(map(put_string, [key_algorithm.encode(), *fields])),
        serial, kind, key_id, principals, after, before, critical, extensions, authority,
    )  # fmt: skip


def _option_names(data: bytes) -> tuple[str, ...]:
    return tuple(name.decode("utf-8", "replace") for name in WireReader(data).strings()[::2])


def read(path: Path) -> Certificate:
    """The certificate in a file (`…-cert.pub`). Blocks. Raises OSError, and WireError for what is no certificate."""
    with path.open("rb") as file:
        data = file.read(MAX_CERTIFICATE_FILE + 1)
    if len(data) > MAX_CERTIFICATE_FILE:
        raise WireError(f"it is larger than {MAX_CERTIFICATE_FILE // 1024} KiB")
    words = data.split(None, 2)
    if b"PRIVATE KEY" in data or len(words) < 2:
        raise WireError("it is not a certificate as ssh-keygen writes them")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        raise WireError("it is not a certificate as ssh-keygen writes them") from None
    return parse(blob, clean(str(path)))


def read_named(path: Path) -> Certificate:
    """The certificate that a profile names. Blocks. Raises ProfileError (JD-SSH-CERTIFICATE)."""
    try:
        return read(path)
    except FileNotFoundError:
        why = "there is no such file"
    except OSError as error:
        why = error.strerror or type(error).__name__
    except WireError as error:
        why = str(error)
    raise ProfileError(
        "The SSH certificate cannot be used", f"{clean(str(path))}: {why}",
        "Correct `certificate` in the profile; ssh-keygen -L -f FILE shows what a certificate says.",
        code="JD-SSH-CERTIFICATE",
    ) from None  # fmt: skip


def time_problem(certificate: Certificate, now: float | None = None) -> str | None:
    """Why it does not count at `now` (seconds since 1970; this moment by default), or as a user's at all."""
    now = time.time() if now is None else now
    if certificate.kind != Kind.USER:
        return "it is a certificate for servers, not for users"
    if now < certificate.valid_after:
        wait = human_duration(certificate.valid_after - now)
        return f"it is valid only from {moment(certificate.valid_after)} on, in {wait} by this computer's clock"
    if now >= certificate.valid_before:
        return f"it expired at {moment(certificate.valid_before)}, {human_duration(now - certificate.valid_before)} ago"
    return None


def principal_problem(certificate: Certificate, user: str) -> str | None:
    """Why a server that goes by the certificate's principals would not let `user` in.

    Not final: a server can map other principals to the user (AuthorizedPrincipalsFile of sshd_config), so such a
    certificate is offered all the same, and this is said when it was refused.
    """
    if user in certificate.principals:
        return None
    names = ", ".join(clean(one)[:64] for one in certificate.principals[:_SHOWN_PRINCIPALS])
    more = len(certificate.principals) - _SHOWN_PRINCIPALS
    return f"it is for {names}{f' and {more} more' if more > 0 else ''}, not for user {clean(user)}" if names else (
        "it names no user (principal) that it is for")  # fmt: skip


def limits(certificate: Certificate) -> tuple[str, ...]:
    """What its options say that makes a hop fail although the login works."""
    notes = []
    if "permit-port-forwarding" not in certificate.extensions:
        notes.append("the certificate does not permit port forwarding, which a hop needs")
    if "source-address" in certificate.critical:
        notes.append("the certificate counts only from certain addresses (source-address)")
    if "force-command" in certificate.critical:
        notes.append("the certificate forces a command (force-command)")
    return tuple(notes)


def check(certificate: Certificate, key_blob: bytes | None, now: float | None = None) -> None:
    """Raise SignInError (JD-SSH-CERTIFICATE, with the facts) for one that no server can take."""
    now = time.time() if now is None else now
    if problem := time_problem(certificate, now):
        raise refusal(certificate, problem, now)
    if key_blob is not None and key_blob != certificate.key_blob:
        raise refusal(
            certificate,
            f"it is for another key: {kind_of(certificate.key_algorithm)} {fingerprint_of(certificate.key_blob)}, "
            f"while the profile's key is {fingerprint_of(key_blob)}",
            now,
        )


def refusal(certificate: Certificate, problem: str, now: float | None = None) -> SignInError:
    """The error for a certificate that will not do."""
    clock = moment(int(time.time() if now is None else now))
    return SignInError(
        "The SSH certificate is not valid for this",
        f"{certificate.name}: {problem} (ID {clean(certificate.key_id)[:128]!r}, serial {certificate.serial}, "
        f"signed by {certificate.signed_by}; this computer's clock says {clock})",
        "Get a new certificate from whoever issued this one, for this user and key; ssh-keygen -L -f FILE shows it.",
        code="JD-SSH-CERTIFICATE", layer="hop",
    )  # fmt: skip
