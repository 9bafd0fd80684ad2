"""Dates of HTTP (RFC 9110 §5.6.7), the one form that is still made; the mail library's reader takes long to load."""

from __future__ import annotations

import datetime as dt

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def seconds_of(date: str) -> float | None:
    """POSIX seconds of `Sun, 06 Nov 1994 08:49:37 GMT`; None for anything else."""
    parts = date.split()
    if len(parts) != 6 or parts[5] != "GMT":
        return None
    try:
        hour, minute, second = (int(part) for part in parts[4].split(":"))
        moment = dt.datetime(int(parts[3]), _MONTHS.index(parts[2]) + 1, int(parts[1]), hour, minute, tzinfo=dt.UTC)
        return moment.timestamp() + second  # 60 stands for a leap second
    except (ValueError, OverflowError):
        return None
