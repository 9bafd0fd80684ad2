"""Stored objects as JSON of one API group and version."""

from __future__ import annotations

import msgspec

from app.lab.resources import Resource
from app.lab.store import Entry, Object

_RENAMED = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
"""Fields of a core/v1 Event and their names in events.k8s.io/v1."""


def _new_event(event: Object) -> Object:
    return {_RENAMED.get(name, name): value for name, value in event.items() if name not in ("kind", "apiVersion")}


def body(resource: Resource, entry: Entry) -> bytes:
    """An object without its kind, as items of a list are."""
    if resource.group == "events.k8s.io":
        return msgspec.json.encode(_new_event(entry.obj))
    return entry.body


def whole(resource: Resource, entry: Entry) -> bytes:
    """An object with its kind."""
    return f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",'.encode() + body(resource, entry)[1:]


def partial(entry: Entry, version: str = "v1") -> bytes:
    """The metadata of an object alone."""
    head = f'{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":'
    return head.encode() + entry.meta + b"}"
