"""The names of all faults with a sentence each. Light on imports: commands read it without starting anything."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from app.errors import UsageError
from app.lab.bastion_faults import FAULTS as BASTION_FAULTS
from app.text import clean

DOORS = ("api", "jump", "inner", "bastion", "arm", "entra", "relay")
"""What stands behind a door of its own: the API server, the jump box, the inner jump box, Azure's Bastion, ARM, Entra
and Relay."""

PLACES = (*DOORS, "arc")
"""Where a fault can happen: at a door, or in the Arc proxy, a program that others start."""

OUTER = ("api", "jump", "bastion", "arm", "entra", "relay", "arc")
"""The places whose doors a client outside sees: a fault without a place happens at these."""

LONGEST = 86_400.0
"""Seconds that a fault lasts at most when a time is given: a day."""


_API = ("api",)
_SSH = ("jump", "inner")
_ARM = ("arm",)
_ENTRA = ("entra",)
_ARC = ("arc",)


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
    Fault("cut", "resets all streams and refuses new ones", DOORS),
    Fault("freeze", "accepts connections and lets not a byte pass, in either direction", DOORS),
    Fault("slow", "passes everything 150 ms late and at 256 KiB a second", DOORS),
    Fault("refuse", "refuses new connections; streams that are open go on", DOORS),
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
    Fault("jit-closed", "keeps the jump box shut until somebody asks for just-in-time access", ("jump",)),
    *(Fault(name, sentence, ("bastion",)) for name, sentence in BASTION_FAULTS.items()),
    Fault("arm-401", "answers 401 to every token: expired", _ARM),
    Fault("arm-403", "answers 403: the caller has no role", _ARM),
    Fault("arm-429", "answers 429 with Retry-After to everything", _ARM),
    Fault("arm-500", "answers 500 to everything", _ARM),
    Fault("arm-claims", "answers 401 with a claims challenge until a token is asked for with it", _ARM),
    Fault("wrong-tenant", "lets nobody in: the account, or its token, is of another tenant", ("arm", "entra")),
    Fault("basic-sku", "shows the Bastion as of the Basic SKU, which has no tunnel", _ARM),
    Fault("developer-sku", "shows the Bastion as of the Developer SKU: one session at a time", _ARM),
    Fault("bastion-no-tunneling", "shows the Bastion without native client support: the field is absent", _ARM),
    Fault("vm-stopped", "shows the jump box as deallocated, and lets no Bastion stream reach it", _ARM),
    Fault("aks-stopped", "shows the cluster as stopped, and lets no Bastion stream reach it", _ARM),
    Fault("ip-ranges", "shows the cluster as public, with authorized IP ranges that you are not in", _ARM),
    Fault("local-accounts-disabled", "gives out no local administrator's credential", _ARM),
    Fault("run-command-disabled", "refuses command invoke: it is switched off", _ARM),
    Fault("invoke-slow", "takes 20 seconds to start the pod of a command", _ARM),
    Fault("invoke-fails", "ends every command as failed: its pod never started", _ARM),
    Fault("jit-no-policy", "has no policy for just-in-time access, as without Defender's plan", _ARM),
    Fault("conditional-access", "refuses every sign-in by Conditional Access", _ENTRA),
    Fault("expired-code", "calls every device code expired", _ENTRA),
    Fault("refresh-expired", "calls every refresh token expired: the person has to sign in again", _ENTRA),
    Fault("short-tokens", "gives out tokens that live for one minute", _ENTRA),
    Fault("entra-500", "answers 500 to everything", _ENTRA),
    Fault("group-overage", "gives out tokens of somebody in more than 200 groups", _ENTRA),
    Fault("arc-read-403", "shows no Arc cluster: the caller may only get its credential", _ARM),
    Fault("arc-credential-403", "gives out no credential of an Arc cluster: the caller has no role", _ARM),
    Fault("arc-credential-409", "gives out no credential of an Arc cluster: its agents are being changed", _ARM),
    Fault("arc-short-relay", "gives out credentials of Arc clusters that live for one minute", _ARM),
    Fault("arc-private-link", "shows the Arc clusters with private link enabled", _ARM),
    Fault("arc-offline", "shows the Arc clusters' agents as offline for days; the relay has no listener", _ARM),
    Fault("arc-expired", "shows the Arc clusters' agents as expired; the relay has no listener", _ARM),
    Fault("arc-no-agent", "shows the Arc clusters as without agents; the relay has no listener", _ARM),
    Fault("arc-slow-start", "takes some seconds before it listens", _ARC),
    Fault("arc-never-starts", "runs and never listens", _ARC),
    Fault("arc-exits", "ends at once, with an exit code", _ARC),
    Fault("arc-dies", "ends at the next request, with an exit code", _ARC),
    Fault("arc-key-expired-once", "calls its public key expired, once in each process", _ARC),
    Fault("arc-key-expired", "calls its public key expired, always", _ARC),
    Fault("arc-register-403", "refuses to register", _ARC),
    Fault("arc-register-500", "answers 500 to register", _ARC),
    Fault("arc-register-garbage", "answers register with broken JSON", _ARC),
    Fault("arc-register-empty", "answers register without a kubeconfig", _ARC),
    Fault("arc-ignores-sigterm", "does not end when it is asked to", _ARC),
    Fault("arc-port-stolen", "finds its TLS port taken by another process that says nothing", _ARC),
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
