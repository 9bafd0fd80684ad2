"""Reads values out of ARM's objects. Any may be missing: absent, null and of the wrong type all mean "not said"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.azure.failures import bad_shape

Json = Mapping[str, Any]


def inner(holder: Json, *names: str) -> Json:
    """The object under these names, one in the other; empty when there is none."""
    for name in names:
        found = holder.get(name)
        holder = found if isinstance(found, dict) else {}
    return holder


def text(holder: Json, name: str) -> str:
    """A text as it came (not cleaned), or empty."""
    found = holder.get(name)
    return found if isinstance(found, str) else ""


def flag(holder: Json, name: str) -> bool:
    """True only when it says so."""
    return holder.get(name) is True


def number(holder: Json, name: str) -> int | None:
    """A whole number."""
    found = holder.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def texts(holder: Json, name: str) -> tuple[str, ...]:
    """The texts of a list."""
    found = holder.get(name)
    return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list) else ()


def objects(holder: Json, name: str) -> tuple[Json, ...]:
    """The objects of a list."""
    found = holder.get(name)
    return tuple(item for item in found if isinstance(item, dict)) if isinstance(found, list) else ()


def properties(resource: Json, arm_id: str) -> Json:
    """The `properties` of a resource. Raises RouteError (JD-ARM-ANSWER) when it has none: then it is something else."""
    found = resource.get("properties")
    if not isinstance(found, dict):
        raise bad_shape(f"GET {arm_id}", "it is not a resource: it has no properties")
    return found


def name_of(arm_id: str) -> str:
    """The last part of an ARM id, not cleaned."""
    return arm_id.rstrip("/").rpartition("/")[2]


def part_of(arm_id: str, kind: str) -> str:
    """What follows `kind` in an ARM id (`subscriptions`, `resourceGroups`); case does not count there."""
    parts = arm_id.split("/")
    for at, part in enumerate(parts[:-1]):
        if part.lower() == kind.lower():
            return parts[at + 1]
    return ""
