"""Just-in-time access to the lab's jump box (Microsoft.Security, 2020-01-01): its port opens after a request.

Under the fault `jit-closed` the jump box's door is shut until somebody asks, as a network security group would do;
there a packet is dropped, here a connection is refused, so that nothing has to wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from app.lab.arm_errors import ArmError
from app.lab.azure_names import JIT_POLICY, JUMP_VM, REGION, UPN
from app.lab.door import Door
from app.tasks import TaskOwner

OPENS_AFTER = 0.3
"""Seconds from the request to the open port: the rule of the security group takes its time, and so do we."""
LONGEST = 3 * 3_600
"""Seconds that access lasts at most by the lab's policy: PT3H."""
PORT = 22

CLOCKS = 0.05
"""Seconds that the clock of the loop may be ahead of that of the day."""

FAULT = "jit-closed"
MAX_REQUESTS = 100
"""Requests that the policy remembers."""

Json = dict[str, Any]


class Jit:
    """The policy of the jump box. Close it with `aclose`."""

    def __init__(self, door: Door, clock: Callable[[], float] = time.time) -> None:
        self.opens_after = OPENS_AFTER
        self.requests: list[Json] = []
        """What was asked for, the newest last, as ARM shows it."""
        self._door, self._clock = door, clock
        self._required = False
        self._open_until = 0.0
        self._changed = asyncio.Event()
        self._timer: asyncio.Task[None] | None = None
        self._owner = TaskOwner("lab jit")

    async def aclose(self) -> None:
        """Forget what is due."""
        await self._owner.aclose()

    @property
    def open(self) -> bool:
        """Whether somebody has access now."""
        return self._clock() < self._open_until

    async def require(self, on: bool) -> None:
        """Let the port stand open only for those who asked, or for all again."""
        self._required = on
        await self._set()

    async def _set(self) -> None:
        if self._required and not self.open:
            await self._door.shut(FAULT)
        else:
            await self._door.unshut(FAULT)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_changed(self) -> None:
        """Wait until the port has opened or shut, or was told to stay as it is."""
        await self._changed.wait()

    def policy(self) -> Json:
        """The policy with its requests."""
        port = {
            "number": PORT, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": "PT3H",
        }  # fmt: skip
        properties = {
            "virtualMachines": [{"id": JUMP_VM, "ports": [port]}],
            "requests": [self._shown(request) for request in self.requests],
            "provisioningState": "Succeeded",
        }
        kind = "Microsoft.Security/locations/jitNetworkAccessPolicies"
        return {
            "kind": "Basic", "properties": properties, "id": JIT_POLICY, "name": "default", "type": kind,
            "location": REGION,
        }  # fmt: skip

    def _shown(self, request: Json) -> Json:
        """A request as of now: ports whose time is over are revoked."""
        machines = []
        for machine in request["virtualMachines"]:
            ports = [
                {**port, "status": "Revoked", "statusReason": "Expired"}
                if _seconds(port["endTimeUtc"]) <= self._clock()
                else port
                for port in machine["ports"]
            ]
            machines.append({**machine, "ports": ports})
        return {**request, "virtualMachines": machines}

    def initiate(self, body: Json) -> Json:
        """Ask for access. Returns the request; the port opens a moment later. Raises ArmError 400."""
        try:
            machines = body["virtualMachines"]
            ends = [
                self._checked(str(machine["id"]), int(port["number"]), str(port["endTimeUtc"]))
                for machine in machines
                for port in machine["ports"]
            ]
            latest = max(ends)
        except (KeyError, TypeError, ValueError) as error:
            message = "The request content was invalid: virtualMachines with id and ports is expected."
            raise ArmError(400, "InvalidRequestContent", message) from error
        asked = {"status": "Initiated", "statusReason": "UserRequested"}
        given = [{**one, "ports": [{**port, **asked} for port in one["ports"]]} for one in machines]
        request = {
            "virtualMachines": given,
            "startTimeUtc": datetime.fromtimestamp(self._clock(), UTC).isoformat().replace("+00:00", "Z"),
            "requestor": UPN,
            "justification": body.get("justification"),
        }
        self.requests = [*self.requests, request][-MAX_REQUESTS:]
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._owner.spawn(self._hold_open(latest), name="access")
        return request

    def _checked(self, machine: str, port: int, end: str) -> float:
        if machine.lower() != JUMP_VM.lower() or port != PORT:
            message = f"The policy has no rule for port {port} of {machine}."
            raise ArmError(400, "VirtualMachineNotInPolicy", message)
        until = _seconds(end)
        if not self._clock() < until <= self._clock() + LONGEST + 60:
            message = "The requested time is longer than the policy's maxRequestAccessDuration PT3H, or over already."
            raise ArmError(400, "InvalidRequestedTime", message)
        return until

    async def _hold_open(self, until: float) -> None:
        await asyncio.sleep(self.opens_after)
        self._open_until = until
        await self._set()
        await asyncio.sleep(max(until - self._clock(), 0.0) + CLOCKS)
        await self._set()


def _seconds(stamp: str) -> float:
    """POSIX seconds of an ISO 8601 time, UTC when it does not say. Raises ValueError."""
    found = datetime.fromisoformat(stamp)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
