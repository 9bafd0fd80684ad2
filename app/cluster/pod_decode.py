"""JSON of the core/v1 pod API to `PodRow`, in one pass: lists, single pods and watch events.

Everything that enters a row is harmless text afterwards, whoever wrote the JSON.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec

from app.cluster.malformed import malformed
from app.cluster.pod_status import (
    NO_STATE,
    Container,
    ContainerStatus,
    Spec,
    State,
    Status,
    gates_text,
    is_sidecar,
    moment,
    summarise,
)
from app.rows import ContainerKind, ContainerRow, PodRow
from app.text import clean

S = TypeVar("S", bound=msgspec.Struct)


class _Owner(msgspec.Struct, frozen=True, gc=False):
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class PodAnnotations(msgspec.Struct, frozen=True, gc=False):
    """The annotation that a row needs."""

    default_container: str = msgspec.field(name="kubectl.kubernetes.io/default-container", default="")


class PodMeta(msgspec.Struct, frozen=True, gc=False):
    """`metadata` of a pod."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: PodAnnotations | None = None
    ownerReferences: list[_Owner] | None = None


_NO_META = PodMeta()
_NO_SPEC = Spec()
_NO_STATUS = Status()


class RawPod(msgspec.Struct, frozen=True, gc=False):
    """The fields of a pod that a row is made from, not yet cleaned."""

    metadata: PodMeta = _NO_META
    spec: Spec = _NO_SPEC
    status: Status = _NO_STATUS
    kind: str = ""


class _ListMeta(msgspec.Struct, frozen=True, gc=False, rename={"token": "continue"}):
    resourceVersion: str = ""
    token: str = ""


class _PodList(msgspec.Struct, frozen=True, gc=False):
    kind: str = ""
    metadata: _ListMeta = _ListMeta()
    items: list[RawPod] | None = None


class _Event(msgspec.Struct, frozen=True, gc=False):
    type: str
    object: RawPod


class _AnyEvent(msgspec.Struct, frozen=True, gc=False):
    type: str
    object: msgspec.Raw


class PodPage(NamedTuple):
    """One page of a list."""

    rows: list[PodRow]
    resource_version: str
    token: str
    """For `continue`; empty on the last page."""


class RawPodEvent(NamedTuple):
    """One watch event. `pod` is set for ADDED, MODIFIED and DELETED, `status` (JSON) for ERROR.

    The pod is decoded but not yet made into a row: that is half of the work, and a newer event may follow.
    """

    kind: str
    pod: RawPod | None
    resource_version: str
    status: bytes = b""


_LIST = msgspec.json.Decoder(_PodList)
_EVENT = msgspec.json.Decoder(_Event)
_ANY_EVENT = msgspec.json.Decoder(_AnyEvent)

# Looking a member up in its Enum costs more than all else that is done with it.
_INIT, _SIDECAR, _APP, _EPHEMERAL = (
    ContainerKind.INIT,
    ContainerKind.SIDECAR,
    ContainerKind.APP,
    ContainerKind.EPHEMERAL,
)

_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def decode_pod_list(body: bytes) -> PodPage:
    """One page of a PodList. Raises JumpdeckError JD-API-MALFORMED."""
    try:
        page = _LIST.decode(body)
    except _UNREADABLE as error:
        raise malformed("the list of pods", error) from error
    if page.kind != "PodList":
        raise malformed("the list of pods", f"it is of kind {page.kind!r}")
    return PodPage([pod_row(pod) for pod in page.items or ()], page.metadata.resourceVersion, page.metadata.token)


def read_watch_event(line: bytes) -> RawPodEvent:
    """One line of a pod watch (metav1.WatchEvent). Raises JumpdeckError JD-API-MALFORMED."""
    try:
        event = _EVENT.decode(line)
    except _UNREADABLE as error:
        # The object of an ERROR is a Status, whose field `status` is a string: no pod, so the quick way fails.
        return _other_event(line, error)
    pod = event.object
    if event.type == "ERROR":
        return _other_event(line, None)
    if event.type == "BOOKMARK":
        return RawPodEvent("BOOKMARK", None, pod.metadata.resourceVersion)
    if event.type in ("ADDED", "MODIFIED", "DELETED") and pod.metadata.uid:
        return RawPodEvent(event.type, pod, pod.metadata.resourceVersion)
    raise malformed("the watch of pods", f"an event of type {event.type!r}")


def _other_event(line: bytes, cause: BaseException | None) -> RawPodEvent:
    try:
        event = _ANY_EVENT.decode(line)
    except _UNREADABLE as error:
        raise malformed("the watch of pods", error) from error
    if event.type == "ERROR":
        return RawPodEvent("ERROR", None, "", bytes(event.object))
    raise malformed("the watch of pods", cause or "no pod") from cause


def _container(entry: Container, kind: ContainerKind, status: ContainerStatus | None) -> ContainerRow:
    name = entry.name
    if status is None:
        return ContainerRow(name, kind)
    state = status.state or NO_STATE
    last = (status.lastState or NO_STATE).terminated
    word, reason, exit_code = _state(state)
    if exit_code is None and last is not None:
        exit_code = last.exitCode
    restarts = status.restartCount
    return ContainerRow(name, kind, status.containerID, word, reason, exit_code, restarts, status.ready)


def _state(state: State) -> tuple[str, str, int | None]:
    if state.running is not None:
        return "running", "", None
    if state.waiting is not None:
        return "waiting", state.waiting.reason, None
    if state.terminated is not None:
        return "terminated", state.terminated.reason, state.terminated.exitCode
    return "", "", None


def _group(
    entries: list[Container] | None, statuses: list[ContainerStatus] | None, kind: ContainerKind
) -> list[ContainerRow]:
    if not entries:
        return []
    by_name = {status.name: status for status in statuses or ()}
    init = kind is _INIT
    return [
        _container(entry, _SIDECAR if init and is_sidecar(entry) else kind, by_name.get(entry.name))
        for entry in entries
    ]


def _owner(references: list[_Owner] | None) -> str:
    for reference in references or ():
        if reference.controller:
            return f"{reference.kind}/{reference.name}"
    return ""


def _ip(status: Status) -> str:
    return status.podIPs[0].ip if status.podIPs else status.podIP


def pod_row(pod: RawPod) -> PodRow:
    """The row of a pod, every text in it harmless."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    deleting = meta.deletionTimestamp is not None
    cells = summarise(spec, status, deleting=deleting)
    containers = _group(spec.containers, status.containerStatuses, _APP)
    if spec.initContainers:
        containers = _group(spec.initContainers, status.initContainerStatuses, _INIT) + containers
    if spec.ephemeralContainers:
        containers += _group(spec.ephemeralContainers, status.ephemeralContainerStatuses, _EPHEMERAL)
    row = PodRow(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        ready=cells.ready,
        total=cells.total,
        status=cells.status,
        restarts=cells.restarts,
        restarted_at=cells.restarted_at,
        created=moment(meta.creationTimestamp),
        ip=_ip(status),
        node=spec.nodeName,
        nominated_node=status.nominatedNodeName,
        gates=gates_text(spec, status),
        containers=tuple(containers),
        labels=tuple(meta.labels.items()) if meta.labels else (),
        owner=_owner(meta.ownerReferences),
        default_container=meta.annotations.default_container if meta.annotations else "",
        phase=status.phase,
        finished=status.phase in ("Succeeded", "Failed"),
        deleting=deleting,
    )
    return row if _is_harmless(row) else _cleaned(row)


def _is_harmless(row: PodRow) -> bool:
    """Whether no text in a row needs cleaning: one look at all of it, since that is so for nearly every row."""
    parts = [row.uid, row.namespace, row.name, row.status, row.ip, row.node, row.nominated_node, row.owner, row.phase]
    parts.append(row.default_container)
    for label in row.labels:
        parts += label
    for container in row.containers:
        parts += (container.name, container.container_id, container.reason)
    text = "".join(parts)
    return text.isascii() and text.isprintable()


def _cleaned(row: PodRow) -> PodRow:
    """The row with every text in it cleaned."""
    containers = tuple(_with_clean_texts(container) for container in row.containers)
    labels = tuple((clean(key), clean(value)) for key, value in row.labels)
    return msgspec.structs.replace(_with_clean_texts(row), containers=containers, labels=labels)


def _with_clean_texts(struct: S) -> S:
    texts = {name: clean(value) for name, value in msgspec.structs.asdict(struct).items() if isinstance(value, str)}
    return msgspec.structs.replace(struct, **texts)
