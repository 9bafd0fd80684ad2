"""Whom the cluster will see and what to ask for, as one page of text and as fields for JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence

from app.cluster.grants import Grant, Subject, SubjectKind, grants_for, parse_subject, subject_of
from app.cluster.who import Seen
from app.identity.claims import Kind, Who
from app.profiles.model import Profile

SHOWN_GROUPS = 5
"""Groups that are shown by id; JSON has all of them."""
_WIDTH = 11
"""Columns of the names of facts."""
_DAY = 86_400.0


def asked_for(profile: Profile, seen: Seen) -> tuple[Grant, ...]:
    """What whoever is seen needs."""
    opener = subject_of(seen.azure) if seen.azure is not None else None
    return grants_for(profile, subject_of(seen.cluster), opener)


def for_us(profile: Profile, seen: Seen, *, now: float | None = None) -> tuple[str, str]:
    """The whole page, and the part of it that is for an administrator; harmless text. `now` is POSIX seconds."""
    now = time.time() if now is None else now
    lines = [f"{profile.name}: the cluster will see", *who_lines(seen.cluster, now)]
    if seen.azure is not None and seen.azure != seen.cluster and not _same(seen.azure, seen.cluster):
        lines += ["", "Azure, on the way to it, will see", *who_lines(seen.azure, now)]
    for note in seen.notes:
        lines += ["", f"! {note}"]
    wanted = "\n".join(grant_lines(asked_for(profile, seen)))
    if wanted:
        lines += ["", "What it takes, to send to an administrator (nothing is applied):", "", wanted]
    return "\n".join(lines), wanted


def for_another(profile: Profile, text: str) -> tuple[str, str]:
    """As `for_us`, for the subject that `KIND:NAME` means. Raises UsageError."""
    wanted = "\n".join(grant_lines(another(profile, text)[1]))
    return wanted, wanted


def another(profile: Profile, text: str) -> tuple[Subject, tuple[Grant, ...]]:
    """The subject that `KIND:NAME` means, and what it needs. Raises UsageError."""
    subject = parse_subject(text, profile)
    return subject, grants_for(profile, subject, None if subject.kind is SubjectKind.SERVICE_ACCOUNT else subject)


def who_lines(who: Who, now: float) -> list[str]:
    """The facts of one principal, a line each."""
    facts = [
        ("kind", who.kind.value),
        ("UPN" if who.upn else "name", who.upn or who.name),
        ("object id", who.object_id),
        ("client id", who.client_id),
        ("tenant", who.tenant),
        ("issuer", who.issuer),
        ("groups", _groups(who)),
        ("token" if who.kind is not Kind.CERTIFICATE else "ends", _life(who, now)),
        ("read from", who.read_from),
    ]
    return [f"  {name:<{_WIDTH}} {value}" for name, value in facts if value]


def grant_lines(grants: Sequence[Grant]) -> list[str]:
    """What to ask for, numbered, as text to copy."""
    lines: list[str] = []
    number = 0
    for grant in grants:
        number += not grant.instead
        heading = f"# or, in place of {number}: " if grant.instead else f"# {number}. "
        lines += [heading + grant.title, grant.text, ""]
    return lines[:-1]


def fields(profile: Profile, seen: Seen, *, now: float | None = None) -> dict[str, object]:
    """For JSON."""
    now = time.time() if now is None else now
    return {
        "profile": profile.name,
        **_who_fields(seen.cluster, now),
        "azure": _who_fields(seen.azure, now) if seen.azure is not None else None,
        "notes": list(seen.notes),
        "ask-for": grant_fields(asked_for(profile, seen)),
    }


def subject_fields(profile: Profile, subject: Subject, grants: Sequence[Grant]) -> dict[str, object]:
    """For JSON of what somebody else needs."""
    named = {"kind": subject.kind.value, "name": subject.name, "object-id": subject.object_id,
             "namespace": subject.namespace}  # fmt: skip
    return {"profile": profile.name, "for": named, "ask-for": grant_fields(grants)}


def grant_fields(grants: Sequence[Grant]) -> list[dict[str, object]]:
    """What to ask for, as rows."""
    return [
        {"gate": grant.gate, "title": grant.title, "text": grant.text, "instead-of-the-one-before": grant.instead}
        for grant in grants
    ]


def _who_fields(who: Who, now: float) -> dict[str, object]:
    until = None if who.expires_at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(who.expires_at))
    return {
        "kind": who.kind.value,
        "name": who.name,
        "upn": who.upn,
        "object-id": who.object_id,
        "client-id": who.client_id,
        "tenant": who.tenant,
        "issuer": who.issuer,
        "groups": list(who.groups),
        "groups-overage": who.overage,
        "token-until": until,
        "token-seconds": None if who.expires_at is None else max(int(who.expires_at - now), 0),
        "read-from": who.read_from,
    }


def _same(one: Who, other: Who) -> bool:
    """Whether two tokens are one principal's."""
    return one.entra and (one.object_id, one.tenant, one.overage) == (other.object_id, other.tenant, other.overage)


def _groups(who: Who) -> str:
    if who.overage:
        return "more than the token holds (overage claim)"
    if not who.groups:
        return "none in the token" if who.entra else ""
    more = len(who.groups) - SHOWN_GROUPS
    shown = ", ".join(who.groups[:SHOWN_GROUPS]) + (f" and {more} more" if more > 0 else "")
    return f"{len(who.groups)}: {shown}" if len(who.groups) > 1 else shown


def _life(who: Who, now: float) -> str:
    if who.expires_at is None:
        return "does not say when it ends" if who.kind in (Kind.OPAQUE, Kind.OTHER) else ""
    left = who.expires_at - now
    if left <= 0:
        return f"has ended at {time.strftime('%Y-%m-%d %H:%M', time.localtime(who.expires_at))}"
    until = time.strftime("%H:%M" if left < _DAY else "%Y-%m-%d %H:%M", time.localtime(who.expires_at))
    return f"until {until} ({_length(left)})"


def _length(seconds: float) -> str:
    if seconds >= 2 * _DAY:
        return f"{int(seconds / _DAY)} days"
    return f"{max(round(seconds / 60), 1)} min"
