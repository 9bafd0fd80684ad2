"""Pods as the API server shows them: how one is built, and what a kubelet derives from its containers' states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.lab.store import Object, stamp

NODES = ("node-a", "node-b", "node-c")
"""The nodes of the lab's cluster; pods are spread over them."""

_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for what in ("not-ready", "unreachable")
]


def container(name: str, image: str = "registry.example.com/app:1.4.2", **more: Any) -> Object:
    """A container of a pod's spec; `more` is added as it is (`restartPolicy="Always"` makes a sidecar)."""
    return {
        "name": name,
        "image": image,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        **more,
    }


def status_of(spec: Mapping[str, Any], waiting: str) -> Object:
    """The status of a container that has not started yet."""
    return {
        "name": spec["name"],
        "state": {"waiting": {"reason": waiting}},
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": spec["image"],
        "imageID": "",
        "started": False,
    }


def pod(
    namespace: str,
    name: str,
    containers: Sequence[Object],
    created: float,
    *,
    init: Sequence[Object] = (),
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owner: Object | None = None,
    node: str | None = NODES[0],
    restart: str = "Always",
) -> Object:
    """A pod that has just been scheduled (or waits for a node when `node` is None). `created` in epoch seconds."""
    meta: Object = {"name": name, "namespace": namespace, "creationTimestamp": stamp(created), "generation": 1}
    meta["labels"] = dict(labels or {"app": name})
    if annotations:
        meta["annotations"] = dict(annotations)
    if owner:
        meta["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
    spec: Object = {
        "containers": list(containers),
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "tolerations": _TOLERATIONS,
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    if init:
        spec["initContainers"] = list(init)
    if node:
        spec["nodeName"] = node
    made: Object = {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec}
    made["status"] = first_status(made, created)
    return made


def first_status(made: Object, now: float) -> Object:
    """The status of a pod none of whose containers has started."""
    spec = made["spec"]
    if not spec.get("nodeName"):
        condition = {"type": "PodScheduled", "status": "False", "lastProbeTime": None, "lastTransitionTime": stamp(now)}
        condition["reason"] = "Unschedulable"
        condition["message"] = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available."
        return {"phase": "Pending", "conditions": [condition], "qosClass": "Burstable"}
    init = spec.get("initContainers") or []
    number = NODES.index(spec["nodeName"]) if spec["nodeName"] in NODES else 9
    host = f"10.0.0.{number + 10}"
    ip = f"10.244.{number}.{sum(made['metadata']['name'].encode()) % 250 + 2}"
    status: Object = {"phase": "Pending", "conditions": [], "hostIP": host, "hostIPs": [{"ip": host}]}
    status.update({"podIP": ip, "podIPs": [{"ip": ip}], "startTime": stamp(now), "qosClass": "Burstable"})
    if init:
        status["initContainerStatuses"] = [status_of(each, "PodInitializing") for each in init]
    waiting = "PodInitializing" if init else "ContainerCreating"
    status["containerStatuses"] = [status_of(each, waiting) for each in spec["containers"]]
    made["status"] = status
    settle(made, now)
    return status


def fill(made: Object, now: float) -> Object:
    """Complete a pod that a test wrote in a few words: defaults of metadata and spec."""
    made.setdefault("kind", "Pod")
    made.setdefault("apiVersion", "v1")
    meta = made["metadata"]
    meta.setdefault("namespace", "default")
    meta.setdefault("creationTimestamp", stamp(now))
    spec = made.setdefault("spec", {})
    for kind in ("initContainers", "containers"):
        if kind in spec:
            spec[kind] = [{**container(each["name"]), **each} for each in spec[kind]]
    spec.setdefault("containers", [container("app")])
    spec.setdefault("restartPolicy", "Always")
    return made


def find_status(made: Object, name: str) -> Object:
    """The status of one container, of any kind. Raises KeyError."""
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for each in made["status"].get(kind) or []:
            if each["name"] == name:
                return dict_of(each)
    raise KeyError(name)


def dict_of(value: Any) -> Object:
    """The same object, known to be a dict."""
    assert isinstance(value, dict)
    return value


def _done(status: Object) -> bool:
    return bool(status["state"].get("terminated", {}).get("exitCode") == 0)


def _initialized(made: Object) -> bool:
    sidecars = {
        each["name"] for each in made["spec"].get("initContainers") or [] if each.get("restartPolicy") == "Always"
    }
    statuses = made["status"].get("initContainerStatuses") or []
    return all(each.get("started") if each["name"] in sidecars else _done(each) for each in statuses)


def _phase(made: Object) -> str:
    own = made["status"].get("containerStatuses") or []
    ended = [each["state"]["terminated"] for each in own if "terminated" in each["state"]]
    if own and len(ended) == len(own) and made["spec"].get("restartPolicy", "Always") != "Always":
        failed = [each for each in ended if each["exitCode"]]
        if not failed:
            return "Succeeded"
        if made["spec"]["restartPolicy"] == "Never":
            return "Failed"
    begun = any("running" in each["state"] or "terminated" in each["state"] or each["lastState"] for each in own)
    return "Running" if begun and _initialized(made) else "Pending"


def settle(made: Object, now: float) -> None:
    """Bring phase and conditions in line with the states of the containers, as a kubelet does."""
    status = made["status"]
    status["phase"] = phase = _phase(made)
    own = status.get("containerStatuses") or []
    init = status.get("initContainerStatuses") or []
    unready = [each["name"] for each in own if not each["ready"]]
    begun = any("waiting" not in each["state"] or each["lastState"] for each in [*own, *init])
    ready: Object = {"status": "True" if not unready else "False"}
    if phase == "Succeeded":
        ready["reason"] = "PodCompleted"
    elif unready:
        ready["reason"] = "ContainersNotReady"
        ready["message"] = f"containers with unready status: [{' '.join(unready)}]"
    initialized: Object = {"status": "True" if _initialized(made) else "False"}
    if initialized["status"] == "False":
        waiting = [each["name"] for each in init if not _done(each)]
        initialized["reason"] = "ContainersNotInitialized"
        initialized["message"] = f"containers with incomplete status: [{' '.join(waiting)}]"
    wanted: dict[str, Object] = {
        "PodReadyToStartContainers": {"status": "True" if begun and phase not in ("Succeeded", "Failed") else "False"},
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": {"status": "True"},
    }
    before = {each["type"]: each for each in status.get("conditions") or []}
    status["conditions"] = [
        {
            "type": kind,
            "lastProbeTime": None,
            "lastTransitionTime": before[kind]["lastTransitionTime"]
            if kind in before and before[kind]["status"] == content["status"]
            else stamp(now),
            **content,
        }
        for kind, content in wanted.items()
    ]
