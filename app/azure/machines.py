"""Virtual machines and scale sets as targets: which of them run.

Source: Microsoft.Compute 2026-04-01: `instanceView` of a machine, `virtualMachines` of a scale set. A scale set of
flexible orchestration lists machines with ids of their own, a uniform one those of its numbered instances.
"""

from __future__ import annotations

from app.azure.arm import Arm
from app.azure.fields import Json, inner, name_of, objects, part_of, text
from app.errors import JumpdeckError, Recovery, RouteError
from app.records import Record
from app.text import clean

API_VERSION = "2026-04-01"
_POWER = "powerstate/"


class Machine(Record):
    """One machine that a tunnel can end at. `id` is an ARM id; host keys are kept under it in lower case."""

    id: str
    name: str
    power: str
    """running, stopped, deallocated, starting, …; empty when it is not known (nobody let us read it)."""

    @property
    def may_run(self) -> bool:
        """Whether it is worth a try."""
        return self.power in ("", "running", "starting")


def is_scale_set(arm_id: str) -> bool:
    """Whether an ARM id is that of a scale set itself, not of an instance of it."""
    parts = arm_id.lower().rstrip("/").split("/")
    return len(parts) >= 2 and parts[-2] == "virtualmachinescalesets"


async def machines_of(arm: Arm, target: str) -> tuple[Machine, ...]:
    """The machine of this id, or all instances of this scale set, those that run first. Raises JumpdeckError.

    That the view of an instance is forbidden is no error: whether the machine runs is then not known.
    """
    if not is_scale_set(target):
        return (await _machine(arm, target),)
    found = await arm.list(f"{target}/virtualMachines", API_VERSION, {"$expand": "instanceView"})
    made = [_instance(one, target) for one in found]
    return tuple(sorted((one for one in made if one is not None), key=_order))


async def running_machines(arm: Arm, targets: tuple[str, ...]) -> tuple[Machine, ...]:
    """The machines of several targets that may run, in the order of the targets.

    Raises RouteError (JD-BASTION-TARGET-STOPPED, or -TARGET-EMPTY for scale sets without instances) when there is none,
    else what the reading of the last target raised.
    """
    found: list[Machine] = []
    failure: JumpdeckError | None = None
    for target in targets:
        try:
            found += await machines_of(arm, target)
        except JumpdeckError as error:
            if error.layer == "sign-in":
                raise
            failure = error
    usable = tuple(one for one in found if one.may_run)
    if usable:
        return usable
    if not found and failure is not None:
        raise failure
    raise stopped(tuple(found), targets)


def stopped(found: tuple[Machine, ...], targets: tuple[str, ...]) -> RouteError:
    """The error for targets of which none runs."""
    if not found:
        names = ", ".join(clean(name_of(target)) for target in targets)
        return RouteError("The scale set has no machine", names, "Raise its capacity, or name another target.",
                          code="JD-BASTION-TARGET-EMPTY", layer="hop")  # fmt: skip
    told = ", ".join(f"{clean(one.name)} is {clean(one.power)}" for one in found[:6])
    start = f"az vm start --ids {clean(found[0].id)}"
    if part_of(found[0].id, "virtualMachineScaleSets"):
        options = (("name", "virtualMachineScaleSets"), ("resource-group", "resourceGroups"),
                   ("subscription", "subscriptions"))  # fmt: skip
        words = " ".join(f"--{option} {clean(part_of(found[0].id, kind))}" for option, kind in options)
        start = f"az vmss start {words}"
    title = "The target is stopped" if len(found) == 1 else "All targets are stopped"
    return RouteError(title, told, f"Start it: {start}", code="JD-BASTION-TARGET-STOPPED", layer="hop",
                      recovery=Recovery.PERMANENT)  # fmt: skip


async def _machine(arm: Arm, target: str) -> Machine:
    try:
        view = await arm.get(f"{target}/instanceView", API_VERSION)
    except JumpdeckError as error:
        if error.code != "JD-ARM-FORBIDDEN" or error.layer == "sign-in":
            raise
        view = {}
    return Machine(target, name_of(target), _power(view))


def _instance(one: Json, scale_set: str) -> Machine | None:
    arm_id, number = text(one, "id"), text(one, "instanceId")
    if not arm_id.startswith("/"):
        if not number:
            return None
        arm_id = f"{scale_set}/virtualMachines/{number}"
    return Machine(arm_id, text(one, "name") or name_of(arm_id), _power(inner(one, "properties", "instanceView")))


def _power(view: Json) -> str:
    for status in objects(view, "statuses"):
        code = text(status, "code").lower()
        if code.startswith(_POWER):
            return code.removeprefix(_POWER)
    return ""


def _order(machine: Machine) -> int:
    return ("running", "starting", "").index(machine.power) if machine.may_run else 3
