"""What can go wrong in the lab on demand: at the doors (bytes), in the SSH and API servers, on nodes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from app.errors import UsageError
from app.lab.door import Door
from app.lab.fault_names import LONGEST, Fault, find_fault, find_places
from app.lab.jump_box import JumpBox
from app.lab.kubelet import Cluster
from app.lab.statuses import status_response
from app.lab.store import Users
from app.tasks import TaskOwner

Key = tuple[str, str]
"""A fault's name and its place."""

RETRY_AFTER = 1
"""Seconds in the Retry-After header of a throttled answer, as recorded."""


class FaultBoard:
    """Switches faults on and off, and answers in place of the API server (`app.lab.store.Faults`)."""

    def __init__(self, cluster: Cluster, users: Users) -> None:
        self._cluster = cluster
        self._users = users
        self._doors: dict[str, Door] = {}
        self._servers: dict[str, set[str]] = {}
        self._switches: dict[str, Callable[[bool], Awaitable[None]]] = {}
        self._on: dict[Key, float | None] = {}
        self._timers: dict[Key, asyncio.Task[None]] = {}
        self._owner = TaskOwner("lab faults")

    def add_door(self, place: str, door: Door) -> None:
        """Let a door take part."""
        self._doors[place] = door

    def add_box(self, place: str, box: JumpBox) -> None:
        """Let a jump box and its door take part."""
        self.add_server(place, box.door, box.faults)

    def add_faults(self, place: str, faults: set[str]) -> None:
        """Let something without a door take part."""
        self._servers[place] = faults

    def add_server(self, place: str, door: Door, faults: set[str]) -> None:
        """Let a server and its door take part; `faults` is its own set of the names that are on."""
        self._doors[place] = door
        self._servers[place] = faults

    def add_switches(self, switches: Mapping[str, Callable[[bool], Awaitable[None]]]) -> None:
        """Faults, by name, that need something done when they are switched."""
        self._switches.update(switches)

    async def aclose(self) -> None:
        """Forget the ends that are due."""
        await self._owner.aclose()

    def active(self) -> dict[str, float | None]:
        """The lasting faults that are on (`cut@jump`), with the seconds they still last; None is until switched off."""
        now = asyncio.get_running_loop().time()
        return {
            find_fault(name).label(place): None if due is None else max(due - now, 0.0)
            for (name, place), due in self._on.items()
        }

    async def switch(self, name: str, place: str | None = None, on: bool = True, seconds: float | None = None) -> Fault:
        """Switch a fault; it is in effect on return. With `seconds` it ends by itself. Raises UsageError."""
        fault = find_fault(name)
        places = find_places(fault, place, on=on)
        if seconds is not None and not 0 < seconds <= LONGEST:
            raise UsageError(
                f"{seconds:g} is no length for a fault", f"Seconds from 0 to {LONGEST:g}.", code="JD-LAB-SECONDS"
            )
        if not fault.lasting:
            if on:
                self._happen(fault.name)
            return fault
        for each in places:
            await self._switch_at((fault.name, each), on, seconds)
        return fault

    async def _switch_at(self, key: Key, on: bool, seconds: float | None) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        await self._apply(key, on)
        if not on:
            self._on.pop(key, None)
            return
        self._on[key] = None if seconds is None else asyncio.get_running_loop().time() + seconds
        if seconds is not None:
            self._timers[key] = self._owner.spawn(self._end(key, seconds), name=f"end of {'@'.join(key)}")

    async def wait_ended(self, name: str) -> None:
        """Wait until a fault that was switched on for some seconds has ended by itself, wherever it was."""
        if timers := {timer for key, timer in self._timers.items() if key[0] == name}:
            await asyncio.wait(timers)

    async def _end(self, key: Key, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._apply(key, False)
        self._timers.pop(key, None)
        self._on.pop(key, None)

    def _happen(self, name: str) -> None:
        once: dict[str, Callable[[], None]] = {
            "gone": self._cluster.expire_watches,
            "rotated-log": self._cluster.rotate_logs,
            "clean-end": self._cluster.end_follows,
        }
        once[name]()

    async def _apply(self, key: Key, on: bool) -> None:
        name, place = key
        if (door := self._doors.get(place)) is not None:
            await _apply_at_door(door, name, on)
        if (faults := self._servers.get(place)) is not None:
            (faults.add if on else faults.discard)(name)
        if (switch := self._switches.get(name)) is not None:
            await switch(on)

    def _answers(self, name: str) -> bool:
        return (name, "api") in self._on

    async def answer(self, request: web.Request) -> web.Response | None:
        """The answer that replaces the real one, or None."""
        if not self._on:
            return None
        if self._answers("error-500"):
            return status_response(500, "InternalError", "Internal error occurred: the lab was asked to fail")
        if self._answers("throttle") and not _long_running(request):
            headers = {"Retry-After": str(RETRY_AFTER), "X-Content-Type-Options": "nosniff"}
            return web.Response(status=429, text="Too many requests, please try again later.\n", headers=headers)
        if self._answers("expired-token"):
            return status_response(401, "Unauthorized", "Unauthorized")
        return await self._all_namespaces(request) if self._answers("forbidden-all") else None

    async def _all_namespaces(self, request: web.Request) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        user = self._users.user(token)
        if user is None:
            return None
        parts = request.path.strip("/").split("/")
        if request.path.endswith("/selfsubjectaccessreviews"):
            return await _denied_review(request)
        group = parts[1] if parts[0] == "apis" else ""
        rest = parts[3:] if group else parts[2:]
        if len(rest) != 1 or rest[0] in ("namespaces", "nodes") or request.method not in ("GET", "HEAD"):
            return None
        verb = "watch" if request.query.get("watch", "false") not in ("false", "0") else "list"
        named = f"{rest[0]}.{group}" if group else rest[0]
        message = (
            f'{named} is forbidden: User "{user}" cannot {verb} resource "{rest[0]}" '
            f'in API group "{group}" at the cluster scope'
        )
        details = {**({"group": group} if group else {}), "kind": rest[0]}
        return status_response(403, "Forbidden", message, details, {"X-Content-Type-Options": "nosniff"})


async def _apply_at_door(door: Door, name: str, on: bool) -> None:
    if name in ("cut", "refuse"):
        await (door.shut(name) if on else door.unshut(name))
        if name == "cut" and on:
            door.cut_streams()
    elif name == "freeze":
        door.set_frozen(on)
    elif name == "slow":
        door.set_slow(on)


def _long_running(request: web.Request) -> bool:
    """Watches and logs are exempt from the in-flight limit (recorded: 429-inflight-log, 429-inflight-watch)."""
    return request.query.get("watch", "false") not in ("false", "0") or request.path.endswith("/log")


async def _denied_review(request: web.Request) -> web.Response | None:
    """Denies a question about all namespaces; others go on to the emulator, whose body stays readable."""
    try:
        review = json.loads(await request.read())
        attributes = review["spec"]["resourceAttributes"]
        if attributes.get("namespace") or attributes.get("resource") in ("namespaces", "nodes"):
            return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    body = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}}
    return web.json_response({**body, "spec": review["spec"], "status": {"allowed": False}}, status=201)
