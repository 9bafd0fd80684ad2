"""The lab's API server beside the recorded one: every recorded request, or a reason why not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml

from app.lab.store import Store
from tests.protocol.lab_api_server import base_world, expired_world, middle_world, serving, watched_world
from tests.recordings import Recording, cases, load

LOGS = "the log book's own tests replay it"
STREAMS = "their own test replays them (test_lab_exec_recorded)"
LOAD = "made by overload on purpose; the lab's 429 fault has its own test"
WRITES = "the lab's API server only reads"
BROKEN = "the server itself was starting, broken, killed or stopped; the lab's faults stand for it"

LEFT_OUT = {
    "log-*": LOGS,
    "real-log-*": LOGS,
    "etcd-frozen-log": LOGS,
    "restricted-log-nosuch-pod": LOGS,
    "exec-*": STREAMS,
    "attach-ws": STREAMS,
    "portforward-ws": STREAMS,
    "429-*": LOAD,
    "delete-dry-run*": WRITES,
    "evict-dry-run*": WRITES,
    "etcd-frozen-livez": BROKEN,
    "etcd-frozen-watch": BROKEN,
    "starting-readyz-500": BROKEN,
    "watch-server-killed": BROKEN,
    "watch-server-killed-quiet": BROKEN,
    "watch-server-stopped": BROKEN,
    "pod-get-protobuf": "the lab speaks JSON and YAML only; a client that offers JSON too gets it",
    "watch-events": "events of a real kubelet in the minute of the recording",
    "watch-real-crasher": "a real kubelet's changes over 100 s",
    "watch-node-not-ready*": "a real node's changes over 110 s; watch-selector follows the same path",
    "watch-bookmarks-table": "the real server repeated the columns in the second event, once",
    "watch-initial-events-all": "the list of another moment; watch-initial-events has the same form",
}
"""Recorded cases that are not asked of the lab, by name or pattern, with the reason."""

_OWN_WORDS = frozenset((
    "pods-continue-invalid",  # Go's JSON reader names the character
    "400-post-not-json",
    "list-rv-future-exact",  # name the newest revision, another one here
    "list-rv-future-notolder",
    "watch-410-*",
    "watch-410",
))  # fmt: skip
"""Errors whose message need not be the recorded one word for word."""

_EXACT = (
    "pods-all-json", "pods-all-gzip", "pods-all-partial-metadata", "pods-late-json", "pods-page-?",
    "pods-page-selector", "pods-field-n*", "pods-field-phase*", "pods-label-eq", "pods-label-in", "pod-get",
    "pod-get-cbor", "namespaces-json", "namespace-*-pods*", "events-crasher-*", "events-unschedulable-v1",
    "restricted-list-team-a", "ssr-*", "ssrr-*", "ssar-a*", "ssar-d*", "watch-json", "watch-selector",
    "watch-field-running", "watch-partial-metadata", "watch-gzip-asked", "watch-no-rv", "watch-rv-0", "watch-name",
    "watch-limit-ignored", "watch-initial-events", "watch-initial-events-empty", "watch-initial-events-no-bookmarks",
    "watch-initial-events-rv", "watch-client-closes", "pods-small-gzip-asked",
)  # fmt: skip
"""Cases whose bodies must be equal, but for the times in reviews and the revision of a list."""


def _left_out(case: str) -> str | None:
    if case.startswith(("401-", "403-", "405-", "406-accept", "415-")):
        return None
    return next((why for pattern, why in LEFT_OUT.items() if fnmatchcase(case, pattern)), None)


SERVED = [case for case in cases() if _left_out(case) is None]


def _matches(case: str, patterns: Any) -> bool:
    return any(fnmatchcase(case, pattern) for pattern in patterns)


def world_of(case: Recording) -> Store:
    """The state in which a case was recorded."""
    name = case.case
    if name in ("watch-initial-events-empty", "watch-namespaces") or "/namespaces/watched/" in case.request["path"]:
        return watched_world(played=name != "watch-base-list")
    if _matches(name, ("continue-expired*", "list-exact-expired", "list-exact-limit-expired", "watch-410*")):
        return expired_world()
    if _matches(name, ("continue-*", "list-exact-*")):
        return middle_world()
    if name.startswith("pods-late-"):
        return base_world("pods-late-json")
    if name.startswith("node-not-ready"):
        return base_world("node-not-ready-pods-json")
    return base_world()


def quick(query: str) -> str:
    """The same query with a watch that ends soon: what is compared comes at once."""
    return re.sub(r"timeoutSeconds=\d+", "timeoutSeconds=1", query)


def shape(value: Any) -> Any:
    """Keys and JSON types of a value; the elements of a list together. Who set what (managedFields) is no shape."""
    if isinstance(value, dict):
        return {key: shape(None if key == "managedFields" else inner) for key, inner in value.items()}
    if isinstance(value, list):
        merged: list[Any] = []
        for inner in map(shape, value):
            if isinstance(inner, dict) and merged and isinstance(merged[0], dict):
                merged[0] = {**merged[0], **inner}
            elif inner not in merged:
                merged.append(inner)
        return merged
    return type(value).__name__


def _known(ours: Any, theirs: Any, key: str, name: Callable[[Any], str]) -> Any:
    """The recorded entries of a list that the lab serves too."""
    names = {name(entry) for entry in ours[key]}
    return {**theirs, key: [entry for entry in theirs[key] if name(entry) in names]}


def _comparable(case: str, ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Both bodies without what the lab does not have: most API groups, and the words of columns."""
    if case == "apis":
        return ours, _known(ours, theirs, "groups", lambda entry: str(entry["name"]))
    if case == "api-v1":
        return ours, _known(ours, theirs, "resources", lambda entry: str(entry["name"]))
    if case == "apis-aggregated-discovery":
        return _without_subresources(ours), _without_subresources(theirs)
    if case == "openapi-v3-index":
        paths = {path: entry for path, entry in theirs["paths"].items() if path in ours["paths"]}
        return ours, {"paths": paths}
    if case in ("deployments-table", "events-all-v1-table"):  # no whole objects were recorded for these
        for body in (ours, theirs):
            for row in body["rows"]:
                row["object"]["metadata"] = {}
    return ours, theirs


def _without_subresources(body: Any) -> Any:
    for group in body["items"]:
        for version in group["versions"]:
            for resource in version["resources"]:
                for optional in ("subresources", "shortNames", "categories"):
                    resource.pop(optional, None)
    return body


def _bodies(case: Recording, raw: bytes) -> list[Any]:
    """The JSON values of a body: one, or one per line of a watch."""
    if case.response.get("stream") is not None and "watch=true" in (case.request.get("query") or ""):
        return [json.loads(line) for line in raw.splitlines() if line]
    return [json.loads(raw)] if raw else []


def _lines(case: Recording) -> int | None:
    """How many events to wait for; None reads to the end."""
    if case.status != 200 or "watch=true" not in (case.request.get("query") or ""):
        return None
    return sum(not _later_bookmark(event) for event in _bodies(case, case.body))


def _later_bookmark(event: Any) -> bool:
    """A bookmark of the clock, which comes when the time has come, not when something happened."""
    return event["type"] == "BOOKMARK" and "initial-events-end" not in json.dumps(event)


def test_every_recorded_case_is_asked_or_left_out_with_a_reason() -> None:
    unused = [pattern for pattern in LEFT_OUT if not any(fnmatchcase(case, pattern) for case in cases())]
    assert unused == []
    assert len(SERVED) > 120
    assert all(any(fnmatchcase(case, pattern) for case in SERVED) for pattern in _EXACT)


@pytest.mark.parametrize("name", SERVED)
async def test_the_lab_answers_as_recorded(name: str) -> None:
    case = load(name)
    async with serving(world_of(case)) as client:
        reply = await client.ask(case, change=quick, lines=_lines(case))
    assert reply.status == case.status
    assert reply.headers["content-type"] == case.headers["content-type"]
    assert reply.headers.get("content-encoding") == case.headers.get("content-encoding")
    assert reply.headers.get("retry-after") == case.headers.get("retry-after")
    if _matches(name, _EXACT):
        assert ("transfer-encoding" in reply.headers) == ("transfer-encoding" in case.headers)
    if not case.headers["content-type"].startswith("application/json") and name != "openapi-v3-index":
        if name not in ("readyz-verbose", "etcd-running-readyz", "etcd-frozen-readyz"):  # other checks
            assert yaml.safe_load(reply.body) == yaml.safe_load(case.body)
        return
    recorded = [body for body in _bodies(case, case.body) if "type" not in body or not _later_bookmark(body)]
    answered = _bodies(case, reply.body)
    assert len(answered) == len(recorded)
    for ours, theirs in zip(answered, recorded, strict=True):
        _compare(name, *_comparable(name, ours, theirs))


def _compare(name: str, ours: Any, theirs: Any) -> None:
    assert shape(ours) == shape(theirs)
    if theirs.get("kind") == "Status" and not _matches(name, _OWN_WORDS):
        assert ours == theirs
    if "type" in theirs and "kind" in theirs.get("object", {}):
        assert ours["type"] == theirs["type"]
        assert _identity(ours["object"]) == _identity(theirs["object"])
    if _matches(name, _EXACT):
        assert _steady(ours) == _steady(theirs)


def _identity(obj: Any) -> Any:
    """What an event is about: name and revision, also in Table form."""
    if obj["kind"] == "Table":
        return obj["rows"][0]["cells"][:3], obj["metadata"]["resourceVersion"]
    return obj["metadata"].get("name"), obj["metadata"].get("resourceVersion"), obj.get("code")


def _steady(value: Any) -> Any:
    """A body without what no two runs share: times of a review, the words of columns, the newest revision."""
    if isinstance(value, dict):
        if value.get("kind", "").startswith("SelfSubject"):
            return json.loads(re.sub(r'"\d{4}-\d\d-\d\dT[^"]*"', '"then"', json.dumps(value)))
        if "columnDefinitions" in value:
            for column in value["columnDefinitions"] or ():
                column["description"] = ""
        if value.get("kind", "").endswith(("List", "Table")) and not value["metadata"].get("continue"):
            value["metadata"]["resourceVersion"] = "newest"
    return value
