"""STATUS, READY and RESTARTS: the vectors worked out from Kubernetes' own printer."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.cluster.pod_decode import decode_pod_list
from app.pod_cells import cells
from app.rows import PodRow

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()
RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-11-23T11:00:00Z"}}


def waiting(reason: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason} if reason else {}}


def ended(code: int, reason: str = "", signal: int = 0, ago: float | None = None) -> dict[str, Any]:
    inner: dict[str, Any] = {"exitCode": code}
    if reason:
        inner["reason"] = reason
    if signal:
        inner["signal"] = signal
    if ago is not None:
        inner["finishedAt"] = datetime.fromtimestamp(NOW - ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"terminated": inner}


def status(
    state: dict[str, Any] | None = None, *, ready: bool = False, restarts: int = 0, name: str = "", **more: Any
) -> dict[str, Any]:
    return {"name": name, "state": state or {}, "ready": ready, "restartCount": restarts, **more}


def pod(
    phase: str = "Running", main: list[dict[str, Any]] | None = None, init: list[dict[str, Any]] | None = None, *,
    containers: int | None = None, sidecars: tuple[int, ...] = (), inits: int | None = None,
    conditions: dict[str, Any] | None = None, reason: str = "", deleted: bool = False, gates: int = 0, **more: Any,
) -> bytes:  # fmt: skip
    """A pod with `containers` containers m0, m1, … and `inits` init containers i0, i1, …, some of them sidecars."""
    main, init = main or [], init or []
    amount = len(main) or 1 if containers is None else containers
    spec: dict[str, Any] = {"containers": [{"name": f"m{index}"} for index in range(amount)]}
    if inits or init:
        spec["initContainers"] = [
            {"name": f"i{index}", **({"restartPolicy": "Always"} if index in sidecars else {})}
            for index in range(inits or len(init))
        ]
    if gates:
        spec["readinessGates"] = [{"conditionType": f"g{index}"} for index in range(gates)]
    body: dict[str, Any] = {"phase": phase, "conditions": []}
    for kind, value in (conditions or {}).items():
        fact = {"status": value} if isinstance(value, str) else value
        body["conditions"].append({"type": kind, **fact})
    if reason:
        body["reason"] = reason
    body["containerStatuses"] = [{**entry, "name": f"m{index}"} for index, entry in enumerate(main)]
    body["initContainerStatuses"] = [{**entry, "name": f"i{index}"} for index, entry in enumerate(init)]
    meta = {"name": "p", "namespace": "n", "uid": "u"}
    if deleted:
        meta["deletionTimestamp"] = "2026-11-23T11:59:00Z"
    return json.dumps({"kind": "Pod", "metadata": meta, "spec": spec | more, "status": body}).encode()


UP = status(RUNNING, ready=True)
INIT_DONE = status(ended(0, "Completed"))
MAIN_WAITS = [status(waiting("PodInitializing"))]
UNDONE = {"Initialized": "False"}

VECTORS: list[tuple[str, bytes, str, str, str]] = [
    ("1", pod(main=[UP]), "1/1", "Running", "0"),
    ("2", pod(main=[status(RUNNING)]), "0/1", "Running", "0"),
    ("3", pod("Pending"), "0/1", "Pending", "0"),
    ("4", pod("Pending", conditions={"PodScheduled": {"status": "False", "reason": "SchedulingGated"}}),
     "0/1", "SchedulingGated", "0"),
    ("5", pod("Pending", [status(waiting("ContainerCreating"))]), "0/1", "ContainerCreating", "0"),
    ("6", pod(main=[status(waiting("CrashLoopBackOff"), restarts=5, lastState=ended(1, "Error", ago=120))]),
     "0/1", "CrashLoopBackOff", "5 (2m ago)"),
    ("7", pod(main=[status(RUNNING, ready=True, restarts=3)]), "1/1", "Running", "3"),
    ("8", pod("Pending", MAIN_WAITS, [status(RUNNING)], inits=2, conditions=UNDONE), "0/1", "Init:0/2", "0"),
    ("9", pod("Pending", MAIN_WAITS, [INIT_DONE, status(waiting("PodInitializing"))], conditions=UNDONE),
     "0/1", "Init:1/2", "0"),
    ("10", pod("Pending", MAIN_WAITS, [INIT_DONE, status(waiting("CrashLoopBackOff"))], conditions=UNDONE),
     "0/1", "Init:CrashLoopBackOff", "0"),
    ("11", pod("Failed", MAIN_WAITS, [status(ended(1, "Error"))], conditions=UNDONE), "0/1", "Init:Error", "0"),
    ("12 exit", pod("Pending", MAIN_WAITS, [status(ended(3))], conditions=UNDONE), "0/1", "Init:ExitCode:3", "0"),
    ("12 signal", pod("Pending", MAIN_WAITS, [status(ended(137, signal=9))], conditions=UNDONE),
     "0/1", "Init:Signal:9", "0"),
    ("13", pod("Pending", MAIN_WAITS, [INIT_DONE, INIT_DONE]), "0/1", "PodInitializing", "0"),
    ("14", pod(main=[UP], init=[status(RUNNING, ready=True, started=True)], sidecars=(0,)), "2/2", "Running", "0"),
    ("15", pod(main=[UP], init=[status(RUNNING, started=True)], sidecars=(0,)), "1/2", "Running", "0"),
    ("16", pod("Pending", MAIN_WAITS, [status(RUNNING, started=False)], sidecars=(0,), conditions=UNDONE),
     "0/2", "Init:0/1", "0"),
    ("17", pod(main=[status(RUNNING, ready=True, restarts=1)], init=[status(waiting("CrashLoopBackOff"), restarts=4)],
               sidecars=(0,), conditions={"Initialized": "True"}), "1/2", "Init:CrashLoopBackOff", "5"),
    ("18", pod("Succeeded", [status(ended(0, "Completed"))], [status(ended(137, "Error"), started=False)],
               sidecars=(0,), conditions={"Initialized": "True"}), "0/2", "Completed", "0"),
    ("19 not ready", pod(main=[UP, status(ended(0, "Completed"))], conditions={"Ready": "False"}),
     "1/2", "NotReady", "0"),
    ("19 ready", pod(main=[UP, status(ended(0, "Completed"))], conditions={"Ready": "True"}), "1/2", "Running", "0"),
    ("20", pod(main=[status(waiting("ImagePullBackOff")), status(waiting("CrashLoopBackOff"))]),
     "0/2", "ImagePullBackOff", "0"),
    ("21", pod(main=[status(ended(137, "OOMKilled"))]), "0/1", "OOMKilled", "0"),
    ("22 signal", pod(main=[status(ended(137, signal=9))]), "0/1", "Signal:9", "0"),
    ("22 exit", pod(main=[status(ended(2))]), "0/1", "ExitCode:2", "0"),
    ("23", pod(main=[UP], deleted=True), "1/1", "Terminating", "0"),
    ("24", pod("Succeeded", [status(ended(0, "Completed"))], deleted=True), "0/1", "Completed", "0"),
    ("25", pod(main=[UP], reason="NodeLost", deleted=True), "1/1", "Unknown", "0"),
    ("26", pod(main=[UP], reason="NodeLost"), "1/1", "NodeLost", "0"),
    ("27", pod("Failed", reason="Evicted"), "0/1", "Evicted", "0"),
    ("28", pod("Failed", [status(ended(137, "ContainerStatusUnknown"))], reason="Evicted"),
     "0/1", "ContainerStatusUnknown", "0"),
    ("29", pod("Failed"), "0/1", "Failed", "0"),
    ("30", pod(main=[UP], gates=1, conditions={"g0": "False"}), "1/1", "Running", "0"),
    ("31", pod(main=[UP], ephemeralContainers=[{"name": "debug"}]), "1/1", "Running", "0"),
]  # fmt: skip


def row_of(body: bytes) -> PodRow:
    return decode_pod_list(b'{"kind":"PodList","items":[' + body + b"]}").rows[0]


@pytest.mark.parametrize(("body", "ready", "word", "restarts"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS])
def test_the_cells_are_those_of_the_api_server(body: bytes, ready: str, word: str, restarts: str) -> None:
    assert cells(row_of(body), NOW)[1:4] == (ready, word, restarts)


def test_unmet_gates_are_counted_and_missing_ones_print_none() -> None:
    assert cells(row_of(pod(main=[UP], gates=2, conditions={"g0": "True"})), NOW, wide=True)[8] == "1/2"
    assert cells(row_of(pod(main=[UP])), NOW, wide=True)[5:] == ("<none>",) * 4


def test_restarts_of_plain_inits_count_only_while_initialising() -> None:
    crashing = status(waiting("CrashLoopBackOff"), restarts=4, lastState=ended(1, "Error", ago=30))
    assert cells(row_of(pod("Pending", MAIN_WAITS, [crashing], conditions=UNDONE)), NOW)[3] == "4 (30s ago)"
    done = {**INIT_DONE, "restartCount": 4, "lastState": ended(1, "Error", ago=30)}
    assert cells(row_of(pod(main=[UP], init=[done])), NOW)[3] == "0"
