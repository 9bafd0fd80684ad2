"""The text of `describe` from the typed model of kubernetes.aio: the order and words are those of kubectl.

Values from the cluster are put in as they are; the caller cleans the finished text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from kubernetes.aio.client.models.v1_container import V1Container
from kubernetes.aio.client.models.v1_container_state import V1ContainerState
from kubernetes.aio.client.models.v1_container_status import V1ContainerStatus
from kubernetes.aio.client.models.v1_object_meta import V1ObjectMeta
from kubernetes.aio.client.models.v1_pod import V1Pod
from kubernetes.aio.client.models.v1_pod_spec import V1PodSpec
from kubernetes.aio.client.models.v1_pod_status import V1PodStatus
from kubernetes.aio.client.models.v1_volume import V1Volume

from app.ages import age
from app.cluster.malformed import malformed
from app.rows import EventRow

_KEY = 18
"""Columns of the widest key with its blanks at the first level, as in kubectl's text."""


class Pod(NamedTuple):
    """The three parts of a pod."""

    meta: V1ObjectMeta
    spec: V1PodSpec
    status: V1PodStatus


def read_pod(body: bytes) -> Pod:
    """The typed model of a pod's JSON. Raises JumpdeckError JD-API-MALFORMED."""
    try:
        pod = V1Pod.from_json(body.decode("utf-8", "replace"))
    except (ValueError, TypeError, RecursionError) as error:  # pydantic's ValidationError is a ValueError
        raise malformed("the request for a pod", error) from error
    if pod is None or pod.metadata is None or pod.spec is None:
        raise malformed("the request for a pod", "no metadata or spec in it")
    return Pod(pod.metadata, pod.spec, pod.status or V1PodStatus())


def describe(pod: Pod, events: list[EventRow] | None, note: str = "") -> str:
    """The whole text. `events` None means that they could not be read, `note` says why."""
    lines = [
        *_head(pod),
        *_containers("Init Containers", pod.spec.init_containers, _statuses(pod, "init_container_statuses")),
        *_containers("Containers", pod.spec.containers, _statuses(pod, "container_statuses")),
        *_containers(
            "Ephemeral Containers", pod.spec.ephemeral_containers, _statuses(pod, "ephemeral_container_statuses")
        ),
        *_conditions(pod),
        *_volumes(pod.spec.volumes),
        *_tail(pod),
        *_events(events, note),
    ]
    return "\n".join(lines) + "\n"


def _statuses(pod: Pod, field: str) -> list[V1ContainerStatus]:
    return getattr(pod.status, field, None) or []


def _line(key: str, value: object, indent: int = 0, width: int = _KEY) -> str:
    return f"{' ' * indent}{key + ':':<{width}}{_text(value)}".rstrip()


def _text(value: object) -> str:
    return "" if value is None else str(value).replace("\r", "").replace("\n", " ")


def _when(moment: Any) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S %z") if moment is not None else "<unknown>"


def _many(key: str, values: Iterable[str], width: int = _KEY) -> list[str]:
    """A key with one value a line under each other, or `<none>`."""
    found = list(values) or ["<none>"]
    return [_line(key, found[0], width=width), *(" " * width + _text(value) for value in found[1:])]


def _pairs(mapping: dict[str, str] | None, sign: str) -> list[str]:
    return [f"{name}{sign}{value}" for name, value in sorted((mapping or {}).items())]


def _head(pod: Pod) -> list[str]:
    meta, spec, status = pod.meta, pod.spec, pod.status
    node = f"{spec.node_name}/{status.host_ip or ''}" if spec.node_name else "<none>"
    lines = [
        _line("Name", meta.name),
        _line("Namespace", meta.namespace),
        _line("Priority", spec.priority if spec.priority is not None else 0),
        _line("Service Account", spec.service_account_name),
        _line("Node", node),
    ]
    if status.start_time:
        lines.append(_line("Start Time", _when(status.start_time)))
    lines += _many("Labels", _pairs(meta.labels, "="))
    lines += _many("Annotations", _pairs(meta.annotations, ": "))
    lines.append(_line("Status", _phase(pod)))
    if status.reason:
        lines.append(_line("Reason", status.reason))
    if status.message:
        lines.append(_line("Message", status.message))
    lines.append(_line("IP", status.pod_ip))
    addresses = [f"  IP:  {address.ip}" for address in status.pod_ips or []]
    lines += ["IPs:", *addresses] if addresses else ["IPs:              <none>"]
    owner = next((ref for ref in meta.owner_references or [] if ref.controller), None)
    return [*lines, _line("Controlled By", f"{owner.kind}/{owner.name}")] if owner else lines


def _phase(pod: Pod) -> str:
    if pod.meta.deletion_timestamp is not None:
        return f"Terminating (since {_when(pod.meta.deletion_timestamp)})"
    return pod.status.phase or ""


def _containers(title: str, containers: list[Any] | None, statuses: list[V1ContainerStatus]) -> list[str]:
    if not containers:
        return []
    by_name = {status.name: status for status in statuses}
    lines = [f"{title}:"]
    for container in containers:
        lines += _container(container, by_name.get(container.name))
    return lines


def _container(container: V1Container, status: V1ContainerStatus | None) -> list[str]:
    ports = ", ".join(f"{port.container_port}/{port.protocol or 'TCP'}" for port in container.ports or [])
    lines = [
        f"  {container.name}:",
        _field("Container ID", status.container_id if status else ""),
        _field("Image", container.image),
        _field("Image ID", status.image_id if status else ""),
        _field("Ports" if "," in ports else "Port", ports or "<none>"),
    ]
    for title, words in (("Command", container.command), ("Args", container.args)):
        if words:
            lines += [f"    {title}:", *(f"      {_text(word)}" for word in words)]
    if status:
        lines += _state("State", status.state)
        if status.last_state and status.last_state.terminated:
            lines += _state("Last State", status.last_state)
        lines += [_field("Ready", status.ready), _field("Restart Count", status.restart_count)]
    for title, amounts in (
        ("Limits", container.resources.limits if container.resources else None),
        ("Requests", container.resources.requests if container.resources else None),
    ):
        if amounts:
            lines += [f"    {title}:", *(f"      {name + ':':<11}{value}" for name, value in sorted(amounts.items()))]
    lines += _environment(container)
    mounts = [
        f"      {mount.mount_path} from {mount.name} ({'ro' if mount.read_only else 'rw'})"
        for mount in container.volume_mounts or []
    ]
    return [*lines, "    Mounts:", *mounts] if mounts else [*lines, _field("Mounts", "<none>")]


def _field(key: str, value: object) -> str:
    return _line(key, value, indent=4, width=16)


def _environment(container: V1Container) -> list[str]:
    lines = []
    for entry in container.env or []:
        source = entry.value_from
        if source is None:
            value = entry.value
        elif source.secret_key_ref:
            # The name of the secret, never its content.
            value = f"<set to the key '{source.secret_key_ref.key}' in secret '{source.secret_key_ref.name}'>"
        elif source.config_map_key_ref:
            value = (
                f"<set to the key '{source.config_map_key_ref.key}' of config map '{source.config_map_key_ref.name}'>"
            )
        else:
            value = "<set from a field of the pod>"
        lines.append(f"      {entry.name}:  {_text(value)}")
    return ["    Environment:", *lines] if lines else [_field("Environment", "<none>")]


def _state(title: str, state: V1ContainerState | None) -> list[str]:
    if state is None:
        return [_field(title, "Waiting")]
    if state.running:
        return [_field(title, "Running"), _deep("Started", _when(state.running.started_at))]
    if state.terminated:
        ended = state.terminated
        return [
            _field(title, "Terminated"),
            *([_deep("Reason", ended.reason)] if ended.reason else []),
            *([_deep("Message", ended.message)] if ended.message else []),
            _deep("Exit Code", ended.exit_code),
            *([_deep("Signal", ended.signal)] if ended.signal else []),
            _deep("Started", _when(ended.started_at)),
            _deep("Finished", _when(ended.finished_at)),
        ]
    waiting = state.waiting
    return [
        _field(title, "Waiting"),
        *([_deep("Reason", waiting.reason)] if waiting and waiting.reason else []),
        *([_deep("Message", waiting.message)] if waiting and waiting.message else []),
    ]


def _deep(key: str, value: object) -> str:
    return _line(key, value, indent=6, width=14)


def _conditions(pod: Pod) -> list[str]:
    conditions = pod.status.conditions or []
    if not conditions:
        return []
    width = max(len("Type"), *(len(condition.type) for condition in conditions)) + 3
    lines = [f"  {condition.type:<{width}}{condition.status}" for condition in conditions]
    return ["Conditions:", f"  {'Type':<{width}}Status", *lines]


def _volumes(volumes: list[V1Volume] | None) -> list[str]:
    if not volumes:
        return ["Volumes:          <none>"]
    lines = ["Volumes:"]
    for volume in volumes:
        kinds = (name for name in type(volume).model_fields if name != "name" and getattr(volume, name) is not None)
        kind = next(kinds, "unknown")
        lines += [f"  {volume.name}:", f"    Type:  {kind}"]
    return lines


def _tail(pod: Pod) -> list[str]:
    tolerations = [
        f"{item.key or ''}{f'={item.value}' if item.value else ''}{f':{item.effect}' if item.effect else ''}"
        f"{f' op={item.operator}' if item.operator else ''}"
        f"{f' for {item.toleration_seconds}s' if item.toleration_seconds is not None else ''}"
        for item in pod.spec.tolerations or []
    ]
    quality = pod.status.qos_class
    return [
        _line("QoS Class", quality, width=29),
        *_many("Node-Selectors", _pairs(pod.spec.node_selector, "="), width=29),
        *_many("Tolerations", tolerations, width=29),
    ]


def _events(events: list[EventRow] | None, note: str) -> list[str]:
    if not events:
        return [f"Events:           {note or '<none>'}"]
    now = time.time()
    lines = ["Events:", f"  {'Type':<9}{'Reason':<20}{'Age':<20}Message"]
    for event in events:
        when = age(event.last_seen, now)
        if event.count > 1:
            when += f" (x{event.count} over {age(event.first_seen, now)})"
        lines.append(f"  {event.kind:<9}{event.reason:<20}{when:<20}{event.message}")
    return lines
