"""READY, STATUS and RESTARTS of the lab's own table printer, by the rules of Kubernetes' printPod."""

from __future__ import annotations

from typing import Any

import pytest

from app.lab.ages import duration, seconds_of, since
from app.lab.pod_table import pod_cells
from app.lab.store import stamp

NOW = 1_800_000_000.0
Status = dict[str, Any]


def container(
    name: str = "c", *, ready: bool = False, restarts: int = 0, ended: float | None = None, **state: Any
) -> Status:
    """One container status; `ended` is how many seconds ago an earlier run ended."""
    last = {} if ended is None else {"terminated": {"finishedAt": stamp(NOW - ended)}}
    started = state.pop("started", None)
    return {
        "name": name, "ready": ready, "restartCount": restarts, "state": state, "lastState": last,
        **({} if started is None else {"started": started}),
    }  # fmt: skip


def running(name: str = "c", *, ready: bool = True, **more: Any) -> Status:
    return container(name, ready=ready, running={}, **more)


def waiting(reason: str, name: str = "c", **more: Any) -> Status:
    return container(name, waiting={"reason": reason}, **more)


def ended(name: str = "c", **terminated: Any) -> Status:
    return container(name, terminated=terminated)


def pod(
    *statuses: Status, phase: str = "Running", total: int = 1, inits: tuple[Status, ...] = (),
    init_specs: tuple[Status, ...] = (), conditions: tuple[Status, ...] = (), deleted: bool = False, **status: Any,
) -> Status:  # fmt: skip
    meta: Status = {"name": "p", "creationTimestamp": stamp(NOW - 60)}
    if deleted:
        meta["deletionTimestamp"] = stamp(NOW)
    spec = {"containers": [{"name": f"c{index}"} for index in range(total)], "initContainers": list(init_specs)}
    found = {"phase": phase, "conditions": list(conditions), **status}
    return {
        "metadata": meta, "spec": spec,
        "status": found | {"containerStatuses": list(statuses), "initContainerStatuses": list(inits)},
    }  # fmt: skip


def is_true(kind: str, value: str = "True") -> Status:
    return {"type": kind, "status": value}


PLAIN2 = ({"name": "i0"}, {"name": "i1"})
SIDE = ({"name": "side", "restartPolicy": "Always"},)
DONE0 = ended("i0", exitCode=0, reason="Completed")
DONE1 = ended("i1", exitCode=0, reason="Completed")
GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
READY = running(started=True)
SIDECAR_UP = running("side", started=True)

VECTORS: dict[str, tuple[Status, str, str, str]] = {
    "1 running": (pod(running()), "1/1", "Running", "0"),
    "2 unready": (pod(running(ready=False)), "0/1", "Running", "0"),
    "3 pending": (pod(phase="Pending"), "0/1", "Pending", "0"),
    "4 gated": (pod(phase="Pending", conditions=(GATED,)), "0/1", "SchedulingGated", "0"),
    "5 creating": (pod(waiting("ContainerCreating"), phase="Pending"), "0/1", "ContainerCreating", "0"),
    "6 crash loop": (pod(waiting("CrashLoopBackOff", restarts=5, ended=120)), "0/1", "CrashLoopBackOff", "5 (2m ago)"),
    "7 no last state": (pod(running(restarts=3)), "1/1", "Running", "3"),
    "8 first init": (pod(phase="Pending", init_specs=PLAIN2, inits=(running("i0"),)), "0/1", "Init:0/2", "0"),
    "9 second init": (
        pod(phase="Pending", init_specs=PLAIN2, inits=(DONE0, waiting("PodInitializing", "i1"))),
        "0/1",
        "Init:1/2",
        "0",
    ),
    "10 init crash loop": (
        pod(phase="Pending", init_specs=PLAIN2, inits=(DONE0, waiting("CrashLoopBackOff", "i1"))),
        "0/1",
        "Init:CrashLoopBackOff",
        "0",
    ),
    "11 init error": (
        pod(phase="Pending", init_specs=PLAIN2, inits=(ended("i0", exitCode=1, reason="Error"),)),
        "0/1",
        "Init:Error",
        "0",
    ),
    "12 init exit code": (
        pod(phase="Pending", init_specs=PLAIN2, inits=(ended("i0", exitCode=3),)),
        "0/1",
        "Init:ExitCode:3",
        "0",
    ),
    "12 init signal": (
        pod(phase="Pending", init_specs=PLAIN2, inits=(ended("i0", exitCode=137, signal=9),)),
        "0/1",
        "Init:Signal:9",
        "0",
    ),
    "13 inits done": (
        pod(waiting("PodInitializing"), phase="Pending", init_specs=PLAIN2, inits=(DONE0, DONE1)),
        "0/1",
        "PodInitializing",
        "0",
    ),
    "14 sidecar": (pod(READY, init_specs=SIDE, inits=(SIDECAR_UP,)), "2/2", "Running", "0"),
    "15 sidecar unready": (
        pod(READY, init_specs=SIDE, inits=(running("side", ready=False, started=True),)),
        "1/2",
        "Running",
        "0",
    ),
    "16 sidecar not started": (
        pod(phase="Pending", init_specs=SIDE, inits=(running("side", ready=False, started=False),)),
        "0/2",
        "Init:0/1",
        "0",
    ),
    "17 sidecar crash loop": (
        pod(
            running(restarts=1),
            init_specs=SIDE,
            conditions=(is_true("Initialized"),),
            inits=(waiting("CrashLoopBackOff", "side", restarts=4),),
        ),
        "1/2",
        "Init:CrashLoopBackOff",
        "5",
    ),
    "18 job with sidecar": (
        pod(
            ended(exitCode=0, reason="Completed"),
            phase="Succeeded",
            init_specs=SIDE,
            conditions=(is_true("Initialized"),),
            inits=(ended("side", exitCode=137, reason="Error"),),
        ),
        "0/2",
        "Completed",
        "0",
    ),
    "19 one done, not ready": (
        pod(running("a"), ended("b", reason="Completed"), total=2, conditions=(is_true("Ready", "False"),)),
        "1/2",
        "NotReady",
        "0",
    ),
    "19 one done, ready": (
        pod(running("a"), ended("b", reason="Completed"), total=2, conditions=(is_true("Ready"),)),
        "1/2",
        "Running",
        "0",
    ),
    "20 the first trouble wins": (
        pod(waiting("ImagePullBackOff", "c0"), waiting("CrashLoopBackOff", "c1"), total=2),
        "0/2",
        "ImagePullBackOff",
        "0",
    ),
    "21 out of memory": (pod(ended(exitCode=137, reason="OOMKilled")), "0/1", "OOMKilled", "0"),
    "22 signal": (pod(ended(exitCode=137, signal=9)), "0/1", "Signal:9", "0"),
    "22 exit code": (pod(ended(exitCode=2)), "0/1", "ExitCode:2", "0"),
    "23 terminating": (pod(running(), deleted=True), "1/1", "Terminating", "0"),
    "24 done and deleted": (
        pod(ended(exitCode=0, reason="Completed"), phase="Succeeded", deleted=True),
        "0/1",
        "Completed",
        "0",
    ),
    "25 lost and deleted": (pod(running(), deleted=True, reason="NodeLost"), "1/1", "Unknown", "0"),
    "26 lost": (pod(running(), reason="NodeLost"), "1/1", "NodeLost", "0"),
    "27 evicted": (pod(phase="Failed", reason="Evicted"), "0/1", "Evicted", "0"),
    "28 evicted, status unknown": (
        pod(ended(exitCode=137, reason="ContainerStatusUnknown"), phase="Failed", reason="Evicted"),
        "0/1",
        "ContainerStatusUnknown",
        "0",
    ),
    "29 failed": (pod(phase="Failed"), "0/1", "Failed", "0"),
    "31 debugged": (pod(running(), ephemeralContainerStatuses=[running("debug")]), "1/1", "Running", "0"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_pod_prints_as_kubernetes_prints_it(name: str) -> None:
    obj, *expected = VECTORS[name]
    assert pod_cells(obj, NOW)[1:4] == expected


def test_gates_count_their_own_conditions_only() -> None:
    obj = pod(running(), conditions=(is_true("example.com/b"), is_true("Ready")))
    obj["spec"]["readinessGates"] = [{"conditionType": "example.com/a"}, {"conditionType": "example.com/b"}]
    assert pod_cells(obj, NOW)[-1] == "1/2"


def test_an_empty_pod_prints_as_in_a_bookmark() -> None:
    cells = pod_cells({"metadata": {}}, NOW)
    assert cells == ["", "0/0", "", "0", "<unknown>", "<none>", "<none>", "<none>", "<none>"]


HOUR, DAY = 3_600, 86_400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (599, "9m59s"), (600, "10m"),
        (179 * 60, "179m"), (180 * 60, "3h"), (7 * HOUR + 59 * 60, "7h59m"), (47 * HOUR, "47h"), (48 * HOUR, "2d"),
        (49 * HOUR, "2d1h"), (192 * HOUR, "8d"), (730 * DAY, "2y"), (731 * DAY, "2y1d"), (8 * 365 * DAY, "8y"),
        (9 * 365 * DAY + 5 * DAY, "9y"),
    ],
)  # fmt: skip
def test_a_duration_prints_as_kubernetes_prints_it(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_a_time_that_is_not_there_is_unknown() -> None:
    assert since(None, NOW) == "<unknown>"


def test_micro_times_of_events_count_too() -> None:
    assert since("2026-11-22T05:52:07.500000Z", seconds_of("2026-11-22T05:52:10Z")) == "2s"
