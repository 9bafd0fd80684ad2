"""Kubernetes events (core/v1), of a namespace or of one pod, as rows."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from app.cluster.api import ApiClient
from app.cluster.malformed import malformed
from app.cluster.pod_status import moment
from app.rows import EventRow, PodRow
from app.text import MAX_PROSE, clean, prose

PAGE = 500
"""Events per page."""

MAX_EVENTS = 5_000
"""Events that are read: they live an hour by default, and more than this nobody reads."""


class _Meta(msgspec.Struct, gc=False):
    uid: str = ""
    namespace: str = ""
    creationTimestamp: str | None = None


class _Object(msgspec.Struct, gc=False):
    kind: str = ""
    name: str = ""


class _Series(msgspec.Struct, gc=False):
    count: int = 0
    lastObservedTime: str | None = None


class _Event(msgspec.Struct, gc=False):
    metadata: _Meta
    involvedObject: _Object = msgspec.field(default_factory=_Object)
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int | None = None
    firstTimestamp: str | None = None
    lastTimestamp: str | None = None
    eventTime: str | None = None
    series: _Series | None = None


class _ListMeta(msgspec.Struct, gc=False, rename={"token": "continue"}):
    token: str = ""


class _Events(msgspec.Struct, gc=False):
    metadata: _ListMeta
    items: list[_Event] | None = None


def decode_events(body: bytes) -> tuple[list[EventRow], str]:
    """The events of a page and the continue token. Raises JumpdeckError JD-API-MALFORMED."""
    try:
        page = msgspec.json.decode(body, type=_Events)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise malformed("the list of events", error) from error
    return [_row(event) for event in page.items or ()], page.metadata.token


async def list_events(api: ApiClient, namespace: str, *, about: PodRow | None = None) -> list[EventRow]:
    """Events of a namespace (`""` means all), or only those about a pod; oldest first. Raises JumpdeckError."""
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/events" if namespace else "/api/v1/events"
    params: dict[str, str | int] = {"limit": PAGE}
    if about is not None:
        params["fieldSelector"] = f"involvedObject.name={about.name},involvedObject.uid={about.uid}"
    rows: list[EventRow] = []
    token = ""
    while len(rows) < MAX_EVENTS:
        page, token = decode_events(await api.get(path, {**params, **({"continue": token} if token else {})}))
        rows += page
        if not token or not page:
            break
    return sorted(rows, key=lambda row: row.last_seen or 0.0)


def _row(event: _Event) -> EventRow:
    """Times and count as the API server's table has them: a series wins, then lastTimestamp, then eventTime."""
    first = moment(event.firstTimestamp) or moment(event.eventTime)
    last = moment(event.lastTimestamp) or first
    count = event.count or 1
    if event.series is not None:
        last, count = moment(event.series.lastObservedTime) or last, event.series.count
    about = event.involvedObject
    return EventRow(
        uid=clean(event.metadata.uid),
        namespace=clean(event.metadata.namespace),
        kind=clean(event.type),
        reason=clean(event.reason),
        object=clean(f"{about.kind.lower()}/{about.name}"),
        message=prose(event.message, MAX_PROSE),
        count=count,
        last_seen=last,
        first_seen=first,
    )
