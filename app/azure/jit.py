"""Just-in-time access to a VM's port: is it open, else asked for (Microsoft.Security, api-version 2020-01-01).

A request is answered by 202 with the request itself, and is no long-running operation: the port opens when the rule of
the network security group is live, which only the port itself can tell.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from app.azure.context import Azure
from app.azure.fields import name_of, part_of
from app.errors import JumpdeckError, RouteError
from app.records import Record
from app.text import clean, prose

API_VERSION = "2020-01-01"
NETWORK_VERSION = "2024-01-01"
PRICINGS_VERSION = "2024-01-01"
LEAST_LEFT = 120.0
"""Seconds that access must last for a login to begin on it; below, it is asked for anew."""
INITIATE = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action"
READ = "Microsoft.Security/locations/jitNetworkAccessPolicies/*/read"

Reason = Callable[[], Awaitable[str]]
"""Gets the justification of a request. Raises JumpdeckError when nobody gives one."""


class JitAccess(Record):
    """Access to one port of one VM."""

    until: float
    """POSIX seconds."""
    asked: bool
    """Whether it was asked for just now: its port may take a moment."""
    shortened: bool = False
    """Whether the policy allows less time than the profile wants."""

    @property
    def note(self) -> str:
        """For the hop: when it ends, in this computer's time."""
        end = datetime.fromtimestamp(self.until).astimezone().strftime("%H:%M")
        return f"just-in-time access until {end}" + (" (the policy allows no longer)" if self.shortened else "")


class _Rule(Record):
    """What a policy says of one port of one VM."""

    policy: str
    vm: str
    longest: float
    """Seconds."""
    requests: tuple[dict[str, Any], ...]


async def have_access(
    azure: Azure, vm: str, port: int, hours: float, *, bastion: str | None = None, reason: Reason, anew: bool = False
) -> JitAccess:
    """Access to a port of the VM with this ARM id: the one that there is (unless `anew`), else asked for.

    `bastion` is the ARM id of the Bastion that connects to it: the VM then sees the Bastion's subnet, not this
    computer. Raises RouteError (JD-JIT-FORBIDDEN, -NO-POLICY, -NO-PLAN, -PORT, -REFUSED) and what ARM raises.
    """
    try:
        rule = await _find_rule(azure, vm, port)
    except JumpdeckError as error:
        raise _forbidden(error, vm, READ) from error
    source = await _bastion_source(azure, bastion) if bastion else None
    until = _open_until(rule, port, source, azure.identity.label)
    if not anew and until - time.time() >= LEAST_LEFT:
        return JitAccess(until, asked=False)
    justification = await reason()
    seconds = min(hours * 3_600, rule.longest)
    end = time.time() + seconds
    wanted: dict[str, Any] = {"number": port, "endTimeUtc": _stamp(end)}
    if source:
        wanted["allowedSourceAddressPrefix"] = source
    body = {"virtualMachines": [{"id": rule.vm, "ports": [wanted]}], "justification": justification}
    try:
        await azure.arm.post(f"{rule.policy}/initiate", API_VERSION, body)
    except JumpdeckError as error:
        raise _forbidden(error, vm, INITIATE) from error
    from app.audit import record

    record("jit.requested", vm=vm, port=port, until=_stamp(end), source=source or "own address")
    return JitAccess(end, asked=True, shortened=seconds < hours * 3_600)


async def _find_rule(azure: Azure, vm: str, port: int) -> _Rule:
    """The rule of the VM's port, in the policies of its group, else of its subscription."""
    subscription, group = part_of(vm, "subscriptions"), part_of(vm, "resourceGroups")
    provider = "providers/Microsoft.Security/jitNetworkAccessPolicies"
    ports: list[str] = []
    for where in (f"/subscriptions/{subscription}/resourceGroups/{group}", f"/subscriptions/{subscription}"):
        for policy in await azure.arm.list(f"{where}/{provider}", API_VERSION):
            said = _table(policy.get("properties"))
            for machine in _tables(said.get("virtualMachines")):
                if str(machine.get("id") or "").lower() != vm.lower():
                    continue
                for one in _tables(machine.get("ports")):
                    if one.get("number") == port:
                        longest = duration(str(one.get("maxRequestAccessDuration") or ""))
                        return _Rule(str(policy.get("id") or ""), str(machine["id"]), longest,
                                     tuple(_tables(said.get("requests"))))  # fmt: skip
                    ports.append(str(one.get("number")))
        if ports:
            raise _error("JD-JIT-PORT", f"Just-in-time access does not cover port {port} of {clean(name_of(vm))}",
                         f"its policy has {clean(', '.join(ports))[:80]}",
                         "Correct jit.port in the profile, or ask for the port to be added to the policy.")  # fmt: skip
    raise await _no_policy(azure, vm, subscription)


async def _no_policy(azure: Azure, vm: str, subscription: str) -> JumpdeckError:
    """Why no policy knows the VM: the plan may be missing altogether."""
    name = clean(name_of(vm))
    path = f"/subscriptions/{subscription}/providers/Microsoft.Security/pricings/VirtualMachines"
    try:
        plan = _table((await azure.arm.get(path, PRICINGS_VERSION)).get("properties"))
    except JumpdeckError:
        plan = {}
    tier, sub = str(plan.get("pricingTier") or ""), str(plan.get("subPlan") or "")
    if tier.lower() == "free" or sub.upper() == "P1":
        return _error("JD-JIT-NO-PLAN", "The subscription has no just-in-time access",
                      f"Defender for Servers is {clean(sub or tier)[:40]} there, and {name} has no policy",
                      "It needs Defender for Servers Plan 2; else take jit out of the hop.")  # fmt: skip
    return _error("JD-JIT-NO-POLICY", f"No just-in-time policy knows {name}",
                  "neither in its resource group nor in its subscription (or none that this sign-in may see)",
                  "Enable it for the VM in Defender for Cloud (Defender for Servers Plan 2, and a network security "
                  "group), or take jit out of the hop.")  # fmt: skip


async def _bastion_source(azure: Azure, bastion: str) -> str:
    """The address range from which a Bastion connects: its subnet's. Raises JumpdeckError."""
    found = _table((await azure.arm.get(bastion, NETWORK_VERSION)).get("properties"))
    for one in _tables(found.get("ipConfigurations")):
        subnet = str(_table(_table(one.get("properties")).get("subnet")).get("id") or "")
        if subnet:
            said = _table((await azure.arm.get(subnet, NETWORK_VERSION)).get("properties"))
            prefixes = said.get("addressPrefixes")
            prefix = said.get("addressPrefix") or (prefixes[0] if isinstance(prefixes, list) and prefixes else "")
            if prefix:
                return str(prefix)
    raise _error("JD-JIT-SOURCE", "The Bastion's subnet is not known", f"{clean(name_of(bastion))} names no subnet",
                 "Look at the Bastion in the Azure portal.")  # fmt: skip


def _open_until(rule: _Rule, port: int, source: str | None, who: str) -> float:
    """When access that serves us ends; 0.0 when there is none.

    Behind a Bastion everybody's request for its subnet serves; else only our own does: requests of others are for
    their addresses.
    """
    best = 0.0
    for request in rule.requests:
        ours = str(request.get("requestor") or "").lower() == who.lower()
        for machine in _tables(request.get("virtualMachines")):
            if str(machine.get("id") or "").lower() != rule.vm.lower():
                continue
            for one in _tables(machine.get("ports")):
                if one.get("number") != port or one.get("status") != "Initiated":
                    continue
                prefixes = {str(one.get("allowedSourceAddressPrefix") or "")}
                prefixes |= {str(each) for each in one.get("allowedSourceAddressPrefixes") or ()}
                if "*" in prefixes or (source in prefixes if source else ours):
                    best = max(best, _moment(str(one.get("endTimeUtc") or "")))
    return best


def duration(text: str) -> float:
    """Seconds of an ISO 8601 duration (`PT3H`, `P1D`); three hours, the service's usual, for what is none."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?)?", text)
    if found is None or not any(found.groups()):
        return 3 * 3_600.0
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(days * 86_400 + hours * 3_600 + minutes * 60 + seconds)


def _forbidden(error: JumpdeckError, vm: str, action: str) -> JumpdeckError:
    """ARM's error in the words of just-in-time access."""
    name = clean(name_of(vm))
    if error.code == "JD-ARM-FORBIDDEN":
        return _error("JD-JIT-FORBIDDEN", f"This sign-in may not ask for just-in-time access to {name}", error.detail,
                      f"Ask for a role with {action}, and read access to the VM and its policy.")  # fmt: skip
    if error.code in ("JD-ARM-REFUSED", "JD-ARM-CONFLICT", "JD-ARM-NOT-FOUND"):
        return _error("JD-JIT-REFUSED", f"Azure does not grant just-in-time access to {name}",
                      prose(error.detail, 600), "Look at the VM's policy in Defender for Cloud.")  # fmt: skip
    return error


def _error(code: str, title: str, detail: str, hint: str) -> RouteError:
    return RouteError(title, detail, hint, code=code, layer="hop")


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _tables(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
