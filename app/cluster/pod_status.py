"""STATUS, READY and RESTARTS of a pod as kubectl prints them (Kubernetes `printPod`), with the shapes read for it.

The structs hold only the fields that a row needs; msgspec skips the rest of the JSON without building anything. No
field is required and lists may be null, because servers (and their bookmarks) leave out what is empty.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec


class _Lean(msgspec.Struct, frozen=True, gc=False):
    """Not tracked by the cyclic collector: ten thousand decoded pods must not cost a collection."""


class Running(_Lean, frozen=True, gc=False):
    """`state.running`; only that it is there counts."""


class Waiting(_Lean, frozen=True, gc=False):
    """`state.waiting`."""

    reason: str = ""


class Terminated(_Lean, frozen=True, gc=False):
    """`state.terminated`."""

    exitCode: int = 0
    signal: int = 0
    reason: str = ""
    finishedAt: str | None = None


class State(_Lean, frozen=True, gc=False):
    """At most one of the three is set; none means that nothing is known yet."""

    running: Running | None = None
    waiting: Waiting | None = None
    terminated: Terminated | None = None


NO_STATE = State()


class ContainerStatus(_Lean, frozen=True, gc=False):
    """One entry of `status.containerStatuses` and its like."""

    name: str = ""
    state: State | None = None
    lastState: State | None = None
    ready: bool = False
    started: bool | None = None
    restartCount: int = 0
    containerID: str = ""


class Condition(_Lean, frozen=True, gc=False):
    """One entry of `status.conditions`."""

    type: str = ""
    status: str = ""
    reason: str = ""


class PodIP(_Lean, frozen=True, gc=False):
    """One entry of `status.podIPs`."""

    ip: str = ""


class Status(_Lean, frozen=True, gc=False):
    """`status` of a pod."""

    phase: str = ""
    reason: str = ""
    conditions: list[Condition] | None = None
    initContainerStatuses: list[ContainerStatus] | None = None
    containerStatuses: list[ContainerStatus] | None = None
    ephemeralContainerStatuses: list[ContainerStatus] | None = None
    podIP: str = ""
    podIPs: list[PodIP] | None = None
    nominatedNodeName: str = ""


class Container(_Lean, frozen=True, gc=False):
    """One container of the specification."""

    name: str = ""
    restartPolicy: str = ""


class Gate(_Lean, frozen=True, gc=False):
    """One entry of `spec.readinessGates`."""

    conditionType: str = ""


class Spec(_Lean, frozen=True, gc=False):
    """`spec` of a pod."""

    containers: list[Container] | None = None
    initContainers: list[Container] | None = None
    ephemeralContainers: list[Container] | None = None
    nodeName: str = ""
    readinessGates: list[Gate] | None = None


class Summary(NamedTuple):
    """The cells that are worked out rather than read."""

    ready: int
    total: int
    status: str
    restarts: int
    restarted_at: float | None
    """POSIX seconds of the newest termination that belongs to `restarts`."""


@lru_cache(maxsize=4096)
def moment(stamp: str | None) -> float | None:
    """POSIX seconds of an RFC 3339 stamp; None when it is missing, unreadable or Go's zero time."""
    if not stamp:
        return None
    try:
        seconds = datetime.fromisoformat(stamp).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if seconds > _GO_ZERO_TIME else None


_GO_ZERO_TIME = -62135596800.0
"""0001-01-01T00:00:00Z, which Go writes for "never"."""


def is_sidecar(container: Container) -> bool:
    """Whether an init container keeps running beside the others (a native sidecar)."""
    return container.restartPolicy == "Always"


def condition_true(conditions: list[Condition] | None, kind: str) -> bool:
    """Whether the first condition of this type says True."""
    for condition in conditions or ():
        if condition.type == kind:
            return condition.status == "True"
    return False


class _Restarts:
    """A sum of restarts with the newest time at which one of them ended."""

    __slots__ = ("at", "count")

    def __init__(self) -> None:
        self.count = 0
        self.at: float | None = None

    def add(self, status: ContainerStatus) -> None:
        self.count += status.restartCount
        last = status.lastState
        if last is not None and last.terminated is not None:
            ended = moment(last.terminated.finishedAt)
            if ended is not None and (self.at is None or ended > self.at):
                self.at = ended


def _ended_reason(ended: Terminated) -> str:
    if ended.reason:
        return ended.reason
    return f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exitCode}"


def _init_reason(status: ContainerStatus, index: int, inits: int) -> str:
    """Why the pod still initialises, told by the first init container that is not through."""
    state = status.state or NO_STATE
    if state.terminated is not None:
        return f"Init:{_ended_reason(state.terminated)}"
    if state.waiting is not None and state.waiting.reason not in ("", "PodInitializing"):
        return f"Init:{state.waiting.reason}"
    return f"Init:{index}/{inits}"


def _walk_inits(spec: Spec, status: Status) -> tuple[str, int, _Restarts, _Restarts]:
    """The reason while initialising (or empty), ready sidecars, restarts of all inits, restarts of sidecars."""
    inits = spec.initContainers or []
    sidecars = {container.name for container in inits if is_sidecar(container)}
    ready, every, beside = 0, _Restarts(), _Restarts()
    for index, entry in enumerate(status.initContainerStatuses or ()):
        every.add(entry)
        sidecar = entry.name in sidecars
        if sidecar:
            beside.add(entry)
        ended = entry.state.terminated if entry.state is not None else None
        if ended is not None and ended.exitCode == 0:
            continue
        if sidecar and entry.started:
            ready += entry.ready
            continue
        return _init_reason(entry, index, len(inits)), ready, every, beside
    return "", ready, every, beside


def _walk_containers(reason: str, status: Status, restarts: _Restarts) -> tuple[str, int]:
    """The reason after the app containers had their say (last to first, so that the first one wins), and ready ones."""
    ready = 0
    for entry in reversed(status.containerStatuses or ()):
        restarts.add(entry)
        state = entry.state or NO_STATE
        if state.waiting is not None and state.waiting.reason:
            reason = state.waiting.reason
        elif state.terminated is not None:
            reason = _ended_reason(state.terminated)
        elif entry.ready and state.running is not None:
            ready += 1
    if reason == "Completed" and ready:
        # Something still runs beside what has completed; the Ready condition decides how that reads.
        reason = "Running" if condition_true(status.conditions, "Ready") else "NotReady"
    return reason, ready


def summarise(spec: Spec, status: Status, *, deleting: bool) -> Summary:
    """READY, STATUS and RESTARTS exactly as the API server's own table has them."""
    reason = status.reason or status.phase
    for condition in status.conditions or ():
        if condition.type == "PodScheduled" and condition.reason == "SchedulingGated":
            reason = "SchedulingGated"
    total = len(spec.containers or ())
    ready, restarts, initialising = 0, _Restarts(), ""
    if spec.initContainers or status.initContainerStatuses:
        total += sum(map(is_sidecar, spec.initContainers or ()))
        initialising, ready, every, beside = _walk_inits(spec, status)
        reason = initialising or reason
        restarts = every if initialising else beside
        if initialising and condition_true(status.conditions, "Initialized"):
            restarts, initialising = beside, ""
    if not initialising:
        reason, more = _walk_containers(reason, status, restarts)
        ready += more
    if deleting and status.reason == "NodeLost":
        reason = "Unknown"
    elif deleting and status.phase not in ("Succeeded", "Failed"):
        reason = "Terminating"
    return Summary(ready, total, reason, restarts.count, restarts.at)


def gates_text(spec: Spec, status: Status) -> str:
    """Readiness gates as `true/total`; empty when the pod has none. The first condition of a gate's type counts."""
    gates = spec.readinessGates
    if not gates:
        return ""
    return f"{sum(condition_true(status.conditions, gate.conditionType) for gate in gates)}/{len(gates)}"
