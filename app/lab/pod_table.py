"""READY, STATUS and RESTARTS of a pod, as the API server's own table printer derives them.

The rules are those of Kubernetes' `printPod`. The client has an implementation of its own; the two share nothing, so
that neither can hide the other's mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.lab.ages import seconds_of, since
from app.lab.store import Object

NONE = "<none>"


@dataclass(slots=True)
class _Tally:
    """What a walk over container statuses finds."""

    reason: str
    total: int
    ready: int = 0
    restarts: int = 0
    restarted_at: str = ""
    initializing: bool = False
    has_running: bool = False

    def count(self, status: dict[str, Any]) -> None:
        """Add the restarts of one container, and keep the newest end of an earlier run."""
        self.restarts += int(status.get("restartCount") or 0)
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        if ended and (not self.restarted_at or seconds_of(ended) > seconds_of(self.restarted_at)):
            self.restarted_at = ended


def _ending(terminated: dict[str, Any]) -> str:
    """Why a container ended: the reason, or else its signal or exit code."""
    if reason := terminated.get("reason"):
        return str(reason)
    if signal := terminated.get("signal"):
        return f"Signal:{signal}"
    return f"ExitCode:{terminated.get('exitCode') or 0}"


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((found for found in status.get("conditions") or () if found.get("type") == kind), {})


def _is_true(status: dict[str, Any], kind: str) -> bool:
    return bool(_condition(status, kind).get("status") == "True")


def _init_reason(status: dict[str, Any], index: int, total: int) -> str:
    """The STATUS that an init container which is not done gives the pod."""
    state = status.get("state") or {}
    terminated, waiting = state.get("terminated"), state.get("waiting")
    if terminated is not None:
        return f"Init:{_ending(terminated)}"
    if waiting and waiting.get("reason") and waiting["reason"] != "PodInitializing":
        return f"Init:{waiting['reason']}"
    return f"Init:{index}/{total}"


def _walk_inits(spec: dict[str, Any], status: dict[str, Any], tally: _Tally) -> _Tally:
    """Walk the init containers in order; returns the tally of the sidecars alone."""
    inits = spec.get("initContainers") or []
    sidecars = {container["name"] for container in inits if container.get("restartPolicy") == "Always"}
    tally.total += len(sidecars)
    alone = _Tally("", 0)
    for index, container in enumerate(status.get("initContainerStatuses") or ()):
        tally.count(container)
        is_sidecar = container.get("name") in sidecars
        if is_sidecar:
            alone.count(container)
        terminated = (container.get("state") or {}).get("terminated")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if is_sidecar and container.get("started"):
            tally.ready += 1 if container.get("ready") else 0
            continue
        tally.reason = _init_reason(container, index, len(inits))
        tally.initializing = True
        break
    return alone


def _walk_containers(status: dict[str, Any], tally: _Tally) -> None:
    """Walk the containers from last to first, so that the first one with a trouble has the last word."""
    for container in reversed(status.get("containerStatuses") or []):
        tally.count(container)
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            tally.reason = waiting["reason"]
        elif terminated is not None:
            tally.reason = _ending(terminated)
        elif container.get("ready") and state.get("running") is not None:
            tally.has_running = True
            tally.ready += 1


def _tally(pod: Object) -> _Tally:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    tally = _Tally(status.get("reason") or status.get("phase") or "", len(spec.get("containers") or ()))
    if _condition(status, "PodScheduled").get("reason") == "SchedulingGated":
        tally.reason = "SchedulingGated"
    alone = _walk_inits(spec, status, tally)
    if not tally.initializing or _is_true(status, "Initialized"):
        tally.restarts, tally.restarted_at = alone.restarts, alone.restarted_at
        _walk_containers(status, tally)
        if tally.reason == "Completed" and tally.has_running:
            tally.reason = "Running" if _is_true(status, "Ready") else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            tally.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            tally.reason = "Terminating"
    return tally


def _gates(spec: dict[str, Any], status: dict[str, Any]) -> str:
    gates = spec.get("readinessGates") or []
    if not gates:
        return NONE
    return f"{sum(_is_true(status, gate['conditionType']) for gate in gates)}/{len(gates)}"


def _address(status: dict[str, Any]) -> str:
    addresses = status.get("podIPs") or []
    return str(addresses[0]["ip"] if addresses else status.get("podIP") or NONE)


def pod_cells(pod: Object, now: float) -> list[Any]:
    """The nine cells of a pod: name, ready, status, restarts, age, IP, node, nominated node, readiness gates."""
    spec, status, meta = pod.get("spec") or {}, pod.get("status") or {}, pod["metadata"]
    tally = _tally(pod)
    restarts = str(tally.restarts)
    if tally.restarts and tally.restarted_at:
        restarts += f" ({since(tally.restarted_at, now)} ago)"
    return [
        meta.get("name", ""),
        f"{tally.ready}/{tally.total}",
        tally.reason,
        restarts,
        since(meta.get("creationTimestamp"), now),
        _address(status),
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


_COMPLETED = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def pod_conditions(pod: Object) -> list[dict[str, str]]:
    """The row condition that marks a pod which has ended."""
    phase = (pod.get("status") or {}).get("phase")
    if phase not in _COMPLETED:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _COMPLETED[phase]}]
