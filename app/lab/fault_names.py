"""The names of all faults with a sentence each. Light on imports: commands read it without starting anything."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from app.errors import UsageError
from app.text import clean

PLACES = ("api",)
"""Doors of the lab. Each later route brings its own."""

LONGEST = 86_400.0
"""Seconds that a fault lasts at most when a time is given: a day."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave. `lasting` is False for what happens once, at the moment it is asked for."""

    name: str
    sentence: str
    lasting: bool = True
    also: tuple[str, ...] = ()


FAULTS: tuple[Fault, ...] = (
    Fault("cut", "resets all streams and refuses new ones"),
    Fault("freeze", "accepts connections and lets not a byte pass, in either direction"),
    Fault("slow", "passes everything 150 ms late and at 256 KiB a second"),
    Fault("refuse", "refuses new connections; streams that are open go on"),
    Fault("expired-token", "answers 401 to every token", also=("401",)),
    Fault("forbidden-all", "answers 403 to whoever asks for all namespaces at once", also=("403",)),
    Fault("throttle", "answers 429 with Retry-After to all but logs and watches", also=("429",)),
    Fault("error-500", "answers 500 to every request", also=("500",)),
    Fault("gone", "ends all watches with 410 and forgets the history, once", lasting=False, also=("410",)),
    Fault("rotated-log", "starts a new log file for every container, once: earlier lines are gone", lasting=False),
    Fault("clean-end", "ends all log follows in good order while the containers run on, once", lasting=False),
)


def find_fault(name: str) -> Fault:
    """The fault with this name or number. Raises UsageError with near names."""
    for fault in FAULTS:
        if name == fault.name or name in fault.also:
            return fault
    near = difflib.get_close_matches(name, [fault.name for fault in FAULTS], n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`jumpdeck lab faults` lists them."
    raise UsageError(f"unknown fault {clean(name)!r}", "The lab has no such fault.", hint, code="JD-LAB-FAULT")


def find_place(place: str | None) -> None:
    """Raises UsageError unless the place is None (every door) or one that the lab has."""
    if place is not None and place not in PLACES:
        detail = f"The lab has: {', '.join(PLACES)}."
        raise UsageError(f"unknown place {clean(place)!r}", detail, "Leave it out for every door.", code="JD-LAB-PLACE")
