"""The names of all faults with a sentence each. Light on imports: commands read it without starting anything."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from app.errors import UsageError
from app.text import clean

PLACES = ("api", "jump", "inner")
"""Where a fault can happen: the API server, the jump box, the inner jump box. Each later route brings its own."""

OUTER = ("api", "jump")
"""The places whose doors a client outside sees: a fault without a place happens at these."""

LONGEST = 86_400.0
"""Seconds that a fault lasts at most when a time is given: a day."""


_API = ("api",)
_SSH = ("jump", "inner")


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave. `lasting` is False for what happens once, at the moment it is asked for."""

    name: str
    sentence: str
    places: tuple[str, ...] = _API
    lasting: bool = True
    also: tuple[str, ...] = ()

    def label(self, place: str) -> str:
        """How the fault at a place is written: `cut@jump`, or `throttle` where there is one place only."""
        return f"{self.name}@{place}" if len(self.places) > 1 else self.name


FAULTS: tuple[Fault, ...] = (
    Fault("cut", "resets all streams and refuses new ones", PLACES),
    Fault("freeze", "accepts connections and lets not a byte pass, in either direction", PLACES),
    Fault("slow", "passes everything 150 ms late and at 256 KiB a second", PLACES),
    Fault("refuse", "refuses new connections; streams that are open go on", PLACES),
    Fault("denied", "refuses every login, however right", _SSH),
    Fault("slow-login", "takes 5 seconds before it talks of a login", _SSH),
    Fault("host-key", "shows another host key to new connections", _SSH, also=("changed-host-key",)),
    Fault("bad-banner", "answers new connections as a web server would", _SSH),
    Fault("no-forwarding", "forbids to pass streams on; those that are open go on", _SSH),
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


def find_places(fault: Fault, place: str | None, *, on: bool = True) -> tuple[str, ...]:
    """Where to switch the fault: at the place; without one at all that are seen from outside, or off everywhere.

    Raises UsageError when the place, or the fault there, is unknown.
    """
    if place is None:
        return tuple(each for each in fault.places if each in OUTER or not on)
    if place not in fault.places:
        what = f"unknown place {clean(place)!r}" if place not in PLACES else f"no {fault.name} at {place}"
        detail = f"{fault.name} happens at: {', '.join(fault.places)}."
        raise UsageError(what, detail, "Leave it out for every door that a client sees.", code="JD-LAB-PLACE")
    return (place,)
