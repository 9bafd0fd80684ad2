"""Server-side tables: the columns and cells of `Accept: application/json;as=Table`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from app.lab.ages import UNKNOWN, duration, seconds_of, since
from app.lab.encoding import partial, whole
from app.lab.pod_table import NONE, pod_cells, pod_conditions
from app.lab.resources import Resource
from app.lab.store import Entry, Object

Cells = Callable[[Object, float], list[Any]]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Column names of one resource and what fills them. `wide`: names of columns with priority 1."""

    names: tuple[str, ...]
    cells: Cells
    wide: tuple[str, ...] = ()

    def definitions(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "type": "string",
                "format": "name" if name == "Name" else "",
                "description": f"{name} of the object, as the practice cluster prints it.",
                "priority": 1 if name in self.wide else 0,
            }
            for name in self.names
        ]


def _spec(obj: Object) -> dict[str, Any]:
    return obj.get("spec") or {}


def _status(obj: Object) -> dict[str, Any]:
    return obj.get("status") or {}


def _age(obj: Object, now: float) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def _name(obj: Object) -> str:
    return str(obj["metadata"].get("name", ""))


def _template(obj: Object) -> tuple[str, str]:
    """Names and images of the containers of a workload's template."""
    containers = _spec(_spec(obj).get("template") or {}).get("containers") or []
    names = ",".join(container.get("name", "") for container in containers)
    return names, ",".join(container.get("image", "") for container in containers)


def _selector(obj: Object) -> str:
    """A label selector in one line, as `kubectl get -o wide` shows it."""
    selector = _spec(obj).get("selector")
    if not selector:
        return NONE
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(sorted(term.get("values") or ()))
        operator = {"In": f" in ({values})", "NotIn": f" notin ({values})"}.get(term["operator"], "")
        parts.append(f"{'!' if term['operator'] == 'DoesNotExist' else ''}{term['key']}{operator}")
    return ",".join(parts) or NONE


def _deployment(obj: Object, now: float) -> list[Any]:
    status = _status(obj)
    ready = f"{status.get('readyReplicas') or 0}/{_spec(obj).get('replicas', 1)}"
    counts = [status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0]
    return [_name(obj), ready, *counts, _age(obj, now), *_template(obj), _selector(obj)]


def _replica_set(obj: Object, now: float) -> list[Any]:
    status = _status(obj)
    counts = [_spec(obj).get("replicas", 1), status.get("replicas") or 0, status.get("readyReplicas") or 0]
    return [_name(obj), *counts, _age(obj, now), *_template(obj), _selector(obj)]


def _stateful_set(obj: Object, now: float) -> list[Any]:
    ready = f"{_status(obj).get('readyReplicas') or 0}/{_spec(obj).get('replicas', 1)}"
    return [_name(obj), ready, _age(obj, now), *_template(obj)]


def _daemon_set(obj: Object, now: float) -> list[Any]:
    status = _status(obj)
    counts = [
        status.get(key) or 0
        for key in ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled",
                    "numberAvailable")
    ]  # fmt: skip
    chosen = (_spec(_spec(obj).get("template") or {})).get("nodeSelector") or {}
    nodes = ",".join(f"{key}={value}" for key, value in sorted(chosen.items())) or NONE
    return [_name(obj), *counts, nodes, _age(obj, now), *_template(obj), _selector(obj)]


def _namespace(obj: Object, now: float) -> list[Any]:
    return [_name(obj), _status(obj).get("phase", ""), _age(obj, now)]


def _source(event: Object) -> str:
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return f"{component}, {host}" if host else component


def _event(event: Object, now: float) -> list[Any]:
    series = event.get("series") or {}
    first = since(event.get("firstTimestamp") or event.get("eventTime"), now)
    last = since(event["lastTimestamp"], now) if event.get("lastTimestamp") else first
    if series:
        last = since(series.get("lastObservedTime"), now)
    about = event.get("involvedObject") or {}
    target = about.get("kind", "").lower() + (f"/{about['name']}" if about.get("name") else "")
    count = series.get("count") or event.get("count") or 1
    words = [event.get("type", ""), event.get("reason", ""), target, about.get("fieldPath", ""), _source(event)]
    return [last, *words, (event.get("message") or "").strip(), first, count, _name(event)]


def _node(obj: Object, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    ready = [found["status"] for found in status.get("conditions") or () if found["type"] == "Ready"]
    words = ["Ready" if ready[0] == "True" else "NotReady"] if ready else ["Unknown"]
    if spec.get("unschedulable"):
        words.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    labels = obj["metadata"].get("labels") or {}
    roles = ",".join(sorted(label[len(prefix) :] for label in labels if label.startswith(prefix))) or NONE
    places = {found["type"]: found["address"] for found in reversed(status.get("addresses") or [])}
    info = status.get("nodeInfo") or {}
    facts = [info.get(key) or UNKNOWN for key in ("osImage", "kernelVersion", "containerRuntimeVersion")]
    addresses = [places.get("InternalIP", NONE), places.get("ExternalIP", NONE)]
    version = info.get("kubeletVersion", "")
    return [_name(obj), ",".join(words), roles, _age(obj, now), version, *addresses, *facts]


def _job_status(obj: Object) -> str:
    done = {found["type"] for found in _status(obj).get("conditions") or () if found.get("status") == "True"}
    for condition, word in (("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended")):
        if condition in done:
            return word
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else "Running"


def _job(obj: Object, now: float) -> list[Any]:
    status = _status(obj)
    completions = f"{status.get('succeeded') or 0}/{_spec(obj).get('completions') or 1}"
    took = ""
    if started := status.get("startTime"):
        ended = status.get("completionTime")
        took = duration((seconds_of(ended) if ended else now) - seconds_of(started))
    return [_name(obj), _job_status(obj), completions, took, _age(obj, now), *_template(obj), _selector(obj)]


def _port(port: dict[str, Any]) -> str:
    outside = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{outside}/{port.get('protocol', 'TCP')}"


def _service(obj: Object, now: float) -> list[Any]:
    spec = _spec(obj)
    ports = [_port(port) for port in spec.get("ports") or ()]
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    outside = ",".join(spec.get("externalIPs") or ()) or NONE
    kind = spec.get("type", "ClusterIP")
    where = [kind, spec.get("clusterIP") or NONE, outside, ",".join(ports) or NONE]
    return [_name(obj), *where, _age(obj, now), selector or NONE]


def _config_map(obj: Object, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj, now)]


def _plain(obj: Object, now: float) -> list[Any]:
    return [_name(obj), _age(obj, now)]


_WORKLOAD = ("Containers", "Images", "Selector")
_PODS = ("Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates")
_EVENTS = (
    "Last Seen", "Type", "Reason", "Object", "Subobject", "Source", "Message", "First Seen", "Count", "Name",
)  # fmt: skip
_NODES = (
    "Name", "Status", "Roles", "Age", "Version", "Internal-IP", "External-IP", "OS-Image", "Kernel-Version",
    "Container-Runtime",
)  # fmt: skip
_DAEMON_SETS = ("Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age", *_WORKLOAD)

_TABLES: dict[str, _Columns] = {
    "pods": _Columns(_PODS, pod_cells, _PODS[5:]),
    "events": _Columns(_EVENTS, _event, ("Subobject", "Source", "First Seen", "Count", "Name")),
    "nodes": _Columns(_NODES, _node, _NODES[5:]),
    "namespaces": _Columns(("Name", "Status", "Age"), _namespace),
    "deployments": _Columns(("Name", "Ready", "Up-to-date", "Available", "Age", *_WORKLOAD), _deployment, _WORKLOAD),
    "replicasets": _Columns(("Name", "Desired", "Current", "Ready", "Age", *_WORKLOAD), _replica_set, _WORKLOAD),
    "statefulsets": _Columns(("Name", "Ready", "Age", "Containers", "Images"), _stateful_set, _WORKLOAD[:2]),
    "daemonsets": _Columns(_DAEMON_SETS, _daemon_set, _WORKLOAD),
    "jobs": _Columns(("Name", "Status", "Completions", "Duration", "Age", *_WORKLOAD), _job, _WORKLOAD),
    "services": _Columns(
        ("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector"), _service, ("Selector",)
    ),
    "configmaps": _Columns(("Name", "Data", "Age"), _config_map),
}
_OTHER = _Columns(("Name", "Age"), _plain)

_DEFINITIONS = {name: msgspec.json.encode(columns.definitions()) for name, columns in {**_TABLES, "": _OTHER}.items()}

INCLUDES = ("None", "Metadata", "Object")
"""Values of the query parameter `includeObject`: what each row carries beside its cells."""


def definitions(resource: Resource) -> bytes:
    """The columns of a resource, as JSON."""
    return _DEFINITIONS[resource.name if resource.name in _TABLES else ""]


def row(resource: Resource, entry: Entry, now: float, include: str) -> bytes:
    """One row as JSON, with AGE and "(… ago)" as they are at `now` (seconds since the epoch)."""
    columns = _TABLES.get(resource.name, _OTHER)
    cells = msgspec.json.encode(columns.cells(entry.obj, now))
    conditions = pod_conditions(entry.obj) if resource.name == "pods" else []
    extra = b',"conditions":' + msgspec.json.encode(conditions) if conditions else b""
    return b'{"cells":' + cells + extra + b',"object":' + _row_object(resource, entry, include) + b"}"


def _row_object(resource: Resource, entry: Entry, include: str) -> bytes:
    if include == "None":
        return b"null"
    if include == "Object":
        return whole(resource, entry)
    return partial(entry)


def table(columns: bytes, rows: list[bytes], metadata: bytes, version: str = "v1") -> bytes:
    """A Table of encoded rows. `columns` is `null` in later events of a watch."""
    head = f'{{"kind":"Table","apiVersion":"meta.k8s.io/{version}","metadata":'.encode()
    return head + metadata + b',"columnDefinitions":' + columns + b',"rows":[' + b",".join(rows) + b"]}"
