"""The cells of a pod's row as `kubectl get pods` prints them; the command line and the console's table share them."""

from __future__ import annotations

from app.ages import age, human_duration
from app.rows import PodRow

HEADERS = ("NAME", "READY", "STATUS", "RESTARTS", "AGE")
WIDE_HEADERS = (*HEADERS, "IP", "NODE", "NOMINATED NODE", "READINESS GATES")

NONE = "<none>"
"""What kubectl prints for an empty wide cell."""


def restarts_cell(row: PodRow, now: float) -> str:
    """`3`, or `3 (2m ago)` when the time of the last one is known. `now` is POSIX seconds."""
    if row.restarts and row.restarted_at is not None:
        return f"{row.restarts} ({human_duration(now - row.restarted_at)} ago)"
    return str(row.restarts)


def cells(row: PodRow, now: float, *, wide: bool = False) -> tuple[str, ...]:
    """The cells under HEADERS, or WIDE_HEADERS with `wide`; ages are those at `now` (POSIX seconds)."""
    short = (row.name, f"{row.ready}/{row.total}", row.status, restarts_cell(row, now), age(row.created, now))
    if not wide:
        return short
    return (*short, row.ip or NONE, row.node or NONE, row.nominated_node or NONE, row.gates or NONE)
