"""Pods by command invoke: the rows are those of the whole objects, whatever stands in them, and thousands fit."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from app.azure.run_command import OUTPUT_LIMIT
from app.cluster.invoke_pods import rows_of, template
from app.cluster.kubectl_answers import Part
from app.cluster.pod_decode import decode_pod_list
from app.errors import JumpdeckError, RefusedError
from app.lab.go_template import render
from app.pod_cells import cells
from app.rows import PodRow

NOW = 1_800_000_000.0
HOSTILE = "a\x1b[2J\a\v\x7f\"\\ \n{\"pods\":0}\n\u202e\U000e0041\u00e4\u2028' $(x) {{.}}"


def pod(name: str, **status: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "shop", "uid": f"{name:0>36}", "creationTimestamp": "2026-11-22T05:56:36Z"}
    return {"metadata": meta, "spec": {"containers": [{"name": "app"}], "nodeName": "aks-np-1-vmss000000"},
            "status": {"phase": "Running", "podIP": "10.244.3.17", **status}}  # fmt: skip


def ran(**more: Any) -> dict[str, Any]:
    return {"name": "app", "ready": True, "started": True, "restartCount": 0, "containerID": "containerd://1",
            "state": {"running": {"startedAt": "2026-11-22T05:56:40Z"}}, "lastState": {}, **more}  # fmt: skip


def _with(made: dict[str, Any], part: str, **fields: Any) -> dict[str, Any]:
    return {**made, part: {**made[part], **fields}}


ENDED = {"terminated": {"exitCode": 137, "signal": 9, "reason": "OOMKilled", "finishedAt": "2026-11-22T06:00:00Z"}}
READY = [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]
SIDE = {"name": "mesh", "restartPolicy": "Always"}
PODS = [
    pod("running", containerStatuses=[ran()], conditions=READY),
    pod("crashing", containerStatuses=[ran(ready=False, restartCount=1_234_567, lastState=ENDED,
                                           state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}})]),
    pod("ended", phase="Failed", containerStatuses=[ran(ready=False, state=ENDED)]),
    pod("done", phase="Succeeded", containerStatuses=[ran(ready=False, state={"terminated": {"exitCode": 0}})]),
    pod("new", phase="Pending"),
    pod("gated", phase="Pending",
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]),
    pod("evicted", phase="Failed", reason="Evicted"),
    _with(pod("leaving", containerStatuses=[ran()]), "metadata", deletionTimestamp="2026-11-22T06:00:00Z"),
    _with(pod("side", initContainerStatuses=[ran(name="mesh"), ran(name="setup", state=ENDED)],
              containerStatuses=[ran()], conditions=READY), "spec", initContainers=[SIDE, {"name": "setup"}]),
    _with(pod("starting", phase="Pending", initContainerStatuses=[ran(name="setup", ready=False)]), "spec",
          initContainers=[{"name": "setup"}]),
    _with(pod("debugged", containerStatuses=[ran()], ephemeralContainerStatuses=[ran(name="debug")]), "spec",
          ephemeralContainers=[{"name": "debug"}]),
    _with(pod("gates", containerStatuses=[ran()], conditions=[*READY, {"type": "x/lb", "status": "True"}],
              nominatedNodeName="n2"), "spec", readinessGates=[{"conditionType": "x/lb"}, {"conditionType": "x/no"}]),
    _with(pod("labelled", containerStatuses=[ran()]), "metadata", labels={"app": "web", "odd": HOSTILE},
          annotations={"kubectl.kubernetes.io/default-container": "app", "other": HOSTILE}),
    pod(HOSTILE, reason=HOSTILE, containerStatuses=[ran(state={"waiting": {"reason": HOSTILE}})]),
    {"metadata": {"name": "bare", "namespace": "shop", "uid": "u"}},
]  # fmt: skip


def whole(pods: list[dict[str, Any]]) -> list[PodRow]:
    """The rows of the whole objects, without what these rows leave out: owners, and which instance runs."""
    rows = decode_pod_list(json.dumps({"kind": "PodList", "items": pods}).encode()).rows
    return [
        msgspec.structs.replace(
            row, owner="", labels=tuple(sorted(row.labels)),
            containers=tuple(
                msgspec.structs.replace(each, container_id="started" if each.container_id else "")
                for each in row.containers
            ),
        )
        for row in rows
    ]  # fmt: skip


def printed(pods: list[dict[str, Any]], **how: bool) -> str:
    return render(template(**how), {"kind": "List", "items": pods})


@pytest.mark.parametrize("made", PODS, ids=lambda made: made["metadata"]["name"][:9].encode("unicode_escape").decode())
def test_a_row_is_that_of_the_whole_object(made: dict[str, Any]) -> None:
    (row,) = rows_of(Part(printed([made]), 0))
    assert msgspec.structs.replace(row, labels=tuple(sorted(row.labels))) == whole([made])[0]


@pytest.mark.parametrize("wide", [False, True])
def test_a_table_has_the_same_cells(wide: bool) -> None:
    rows = rows_of(Part(printed(PODS, wide=wide, rows=False), 0))
    assert [cells(row, NOW, wide=wide) for row in rows] == [cells(row, NOW, wide=wide) for row in whole(PODS)]


def test_thousands_fit_into_one_answer() -> None:
    busy = [
        _with(_with(pod(f"checkout-service-7d9f6c9b5d-{number:05}", containerStatuses=[ran(), ran(name="istio-proxy")],
                        conditions=READY), "spec", containers=[{"name": "app"}, {"name": "istio-proxy"}]),
              "metadata", labels={"app": "checkout", "pod-template-hash": "7d9f6c9b5d", "version": "v1.2.3"})
        for number in range(2_000)
    ]  # fmt: skip
    assert len(printed(busy, wide=False, rows=False)) < OUTPUT_LIMIT
    assert len(printed(busy[:1_000])) < OUTPUT_LIMIT
    assert len(json.dumps(busy[:2_000])) > OUTPUT_LIMIT


def test_what_was_cut_is_refused_with_how_many_fit() -> None:
    text = printed(PODS[:4])
    with pytest.raises(JumpdeckError) as found:
        rows_of(Part(text[: text.index("done")], 0, whole=False))
    assert (found.value.code, "about 3 pods" in found.value.detail) == ("JD-INVOKE-CUT", True), found.value.detail


def test_warnings_around_it_are_left_out_and_refusals_are_told() -> None:
    text = printed(PODS[:2])
    rows = rows_of(Part(f"Warning: v1 is old\n{text}W1123 slow\n", 0))
    assert [row.name for row in rows] == ["running", "crashing"]
    assert rows_of(Part(printed([]), 0)) == []
    said = 'Error from server (Forbidden): pods is forbidden: User "jo" cannot list resource "pods"\n'
    with pytest.raises(RefusedError):
        rows_of(Part(said, 1))
    with pytest.raises(JumpdeckError) as found:
        rows_of(Part("{}\n", 0))
    assert found.value.code == "JD-API-MALFORMED"
