"""Times as the API server prints them in tables."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

UNKNOWN = "<unknown>"
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3_600, 86_400, 365 * 86_400

_STEPS: tuple[tuple[int, int, str, int, str], ...] = (
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)
"""Below so many seconds: the unit and its letter, then the smaller unit that follows when it is not zero (0: none)."""


@lru_cache(maxsize=4_096)
def seconds_of(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def duration(seconds: float) -> str:
    """A duration as Kubernetes' HumanDuration prints it: `119s`, `2m`, `9m59s`, `3h`, `2d1h`, `2y1d`."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    for below, unit, letter, smaller, small_letter in _STEPS:
        if whole < below:
            rest = whole % unit // smaller if smaller else 0
            return f"{whole // unit}{letter}" + (f"{rest}{small_letter}" if rest else "")
    return f"{whole // _YEAR}y"


def since(text: str | None, now: float) -> str:
    """How long ago an RFC 3339 time is, at `now`; `<unknown>` when there is none."""
    return duration(now - seconds_of(text)) if text else UNKNOWN
