"""What a log follow must know of its pod: which instance of the container there is, and whether another will come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from app.cluster import failures
from app.errors import JumpdeckError, NotFoundError
from app.text import clean

EVENT_LIMIT = 8 << 20
"""Bytes of one watch event (S-22)."""

_OVER = ("Succeeded", "Failed")


class LogApi(Protocol):
    """The part of `ApiClient` that logs need."""

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> bytes:
        """The whole body of a GET. Raises JumpdeckError."""
        ...

    def stream(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """A response without end. Raises JumpdeckError."""
        ...


class _Ended(msgspec.Struct, rename="camel"):
    exit_code: int = 0
    reason: str = ""
    container_id: str = msgspec.field(default="", name="containerID")


class _State(msgspec.Struct):
    running: dict[str, Any] | None = None
    waiting: dict[str, Any] | None = None
    terminated: _Ended | None = None


class _Status(msgspec.Struct, rename="camel"):
    name: str
    container_id: str = msgspec.field(default="", name="containerID")
    restart_count: int = 0
    state: _State = msgspec.field(default_factory=_State)
    last_state: _State = msgspec.field(default_factory=_State)


class _Spec(msgspec.Struct, rename="camel"):
    name: str
    restart_policy: str = ""


class _PodSpec(msgspec.Struct, rename="camel"):
    containers: list[_Spec] = msgspec.field(default_factory=list)
    init_containers: list[_Spec] = msgspec.field(default_factory=list)
    ephemeral_containers: list[_Spec] = msgspec.field(default_factory=list)
    restart_policy: str = "Always"


class _PodStatus(msgspec.Struct, rename="camel"):
    phase: str = ""
    container_statuses: list[_Status] = msgspec.field(default_factory=list)
    init_container_statuses: list[_Status] = msgspec.field(default_factory=list)
    ephemeral_container_statuses: list[_Status] = msgspec.field(default_factory=list)


class _Meta(msgspec.Struct, rename="camel"):
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str = ""


class _Pod(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_POD = msgspec.json.Decoder(_Pod)
_EVENT = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class Instance:
    """A container as the pod's status tells it. `id` is that of the newest instance, empty before the first."""

    id: str = ""
    state: str = ""
    """running, waiting, terminated, or empty."""
    reason: str = ""
    exit_code: int | None = None
    """Of the newest instance, when it has ended."""
    previous_id: str = ""
    previous_exit: int | None = None
    previous_reason: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class PodNow:
    """A pod at one resourceVersion."""

    uid: str
    version: str
    phase: str
    deleting: bool
    containers: Mapping[str, Instance] = field(default_factory=dict)
    restarting: Mapping[str, str] = field(default_factory=dict)
    """Per container: Always, OnFailure or Never."""

    def over(self, container: str) -> bool:
        """Whether this container has ended and no new instance of it will come in this pod."""
        if self.phase in _OVER:
            return True
        now = self.containers[container]
        if now.state != "terminated":
            return False
        policy = self.restarting[container]
        return self.deleting or policy == "Never" or (policy == "OnFailure" and now.exit_code == 0)


def pod_path(namespace: str, pod: str) -> str:
    """The API path of one pod."""
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}"


def decode_pod_now(raw: bytes | msgspec.Raw) -> PodNow:
    """A pod object. Raises JumpdeckError (JD-API-MALFORMED) when it is none."""
    try:
        pod = _POD.decode(raw)
    except msgspec.DecodeError as error:
        raise _malformed(error) from error
    spec = pod.spec
    policy = spec.restart_policy
    restarting = {each.name: policy for each in spec.containers}
    # An init container that fails is tried again like the others; one that succeeded is not, unless it is a sidecar.
    inits = "OnFailure" if policy == "Always" else policy
    restarting.update({each.name: each.restart_policy or inits for each in spec.init_containers})
    restarting.update({each.name: "Never" for each in spec.ephemeral_containers})
    found = dict.fromkeys(restarting, Instance())
    status = pod.status
    for each in (
        *status.container_statuses, *status.init_container_statuses, *status.ephemeral_container_statuses
    ):  # fmt: skip
        if each.name in found:
            found[each.name] = _instance(each)
    meta = pod.metadata
    return PodNow(meta.uid, meta.resource_version, status.phase, bool(meta.deletion_timestamp), found, restarting)


def _instance(status: _Status) -> Instance:
    state, last = status.state, status.last_state.terminated
    ended = state.terminated
    kinds = {"running": state.running, "terminated": ended, "waiting": state.waiting}
    name = next((kind for kind, value in kinds.items() if value is not None), "")
    identity = status.container_id or (ended.container_id if ended else "") or (last.container_id if last else "")
    if ended is None and last is not None and name == "waiting" and last.container_id in ("", identity):
        ended = last  # dead between two runs: the newest instance is the one that ended
    return Instance(
        id=identity,
        state=name,
        reason=clean(ended.reason) if ended else "",
        exit_code=ended.exit_code if ended else None,
        previous_id=last.container_id if last else "",
        previous_exit=last.exit_code if last else None,
        previous_reason=clean(last.reason) if last else "",
        restarts=status.restart_count,
    )


def _malformed(error: Exception) -> JumpdeckError:
    return JumpdeckError(
        "The answer about the pod cannot be read", clean(str(error)), "", code="JD-API-MALFORMED", layer="api"
    )


async def read_pod(api: LogApi, namespace: str, pod: str) -> PodNow | None:
    """The pod, or None when there is none of this name. Raises JumpdeckError."""
    try:
        return decode_pod_now(await api.get(pod_path(namespace, pod)))
    except NotFoundError:
        return None


async def pod_changes(api: LogApi, namespace: str, pod: str, version: str) -> AsyncIterator[PodNow | None]:
    """The pod after each change since `version`; None when it was deleted. Ends when the server ends the watch.

    Silence yields nothing and holds one stream. Raises JumpdeckError (JD-API-GONE: read the pod again).
    """
    params: dict[str, str | int] = {
        "watch": "true", "fieldSelector": f"metadata.name={pod}", "resourceVersion": version,
        "allowWatchBookmarks": "true", "timeoutSeconds": 600,
    }  # fmt: skip
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"
    async with api.stream(path, params) as response:
        held = bytearray()
        while chunk := await response.content.readany():
            held += chunk
            *lines, rest = bytes(held).split(b"\n")
            held = bytearray(rest)
            if len(held) > EVENT_LIMIT:
                raise failures.too_large("one event of the watch", EVENT_LIMIT)
            for line in lines:
                event = _decode_event(line) if line.strip() else None
                if event is None or event.type == "BOOKMARK":
                    continue
                if event.type == "ERROR":
                    raise failures.from_watch_error(bytes(event.object), "the watch of the pod")
                yield None if event.type == "DELETED" else decode_pod_now(event.object)


def _decode_event(line: bytes) -> _Event:
    try:
        return _EVENT.decode(line)
    except msgspec.DecodeError as error:
        raise _malformed(error) from error
