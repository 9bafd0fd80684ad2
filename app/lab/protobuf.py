"""Reads the reviews that kubectl posts as protobuf (kubectl posts nothing else to this server).

An object is the magic `k8s\\0` and a `runtime.Unknown`: 1 = TypeMeta (1 apiVersion, 2 kind), 2 = the object itself. The
numbers below are those of k8s.io/api/authorization/v1/generated.proto. Answers stay JSON, which kubectl accepts, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAGIC = b"k8s\0"
CONTENT_TYPE = "application/vnd.kubernetes.protobuf"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT = 10
"""Bytes of the longest varint."""

_RESOURCE = {1: "namespace", 2: "verb", 3: "group", 4: "version", 5: "resource", 6: "subresource", 7: "name"}
_PATH = {1: "path", 2: "verb"}
_SPECS: Mapping[str, Mapping[int, Any]] = {
    "SelfSubjectAccessReview": {1: ("resourceAttributes", _RESOURCE), 2: ("nonResourceAttributes", _PATH)},
    "SelfSubjectRulesReview": {1: "namespace"},
    "SelfSubjectReview": {},
}
"""The fields of each kind's spec (field 2): a name, or a name and the fields of what is inside."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a varint does not end")


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message; numbers are passed over. Raises ValueError."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
            continue
        if kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
            continue
        if kind != _BYTES:
            raise ValueError(f"wire type {kind} is not in use")
        size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("a field is longer than its message")
        yield tag >> 3, data[at : at + size]
        at += size


def _message(data: bytes, names: Mapping[int, Any]) -> dict[str, Any]:
    """A message as JSON has it; empty fields are left out."""
    found: dict[str, Any] = {}
    for number, raw in _fields(data):
        name = names.get(number)
        if isinstance(name, tuple):
            found[name[0]] = _message(raw, name[1])
        elif name and raw:
            found[name] = raw.decode()
    return found


def read_review(data: bytes, kind: str) -> dict[str, Any]:
    """The posted review of this kind as its JSON form. Raises ValueError when it is none."""
    if not data.startswith(MAGIC):
        raise ValueError("the magic number is missing")
    review = _field(data[len(MAGIC) :], 2)
    return {"spec": _message(_field(review, 2), _SPECS[kind])}


def _field(data: bytes, number: int) -> bytes:
    return next((raw for found, raw in _fields(data) if found == number), b"")
