"""The cells of the lab's tables beside those of the real server: same objects, same moment, equal cells."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime

import pytest

from app.lab.resources import find
from app.lab.store import Entry
from app.lab.tables import row
from tests.recordings import load

PAIRS = [
    ("pods-all-json", "pods-all-table-none", "None"),
    ("pods-all-json", "pods-all-table-metadata", "Metadata"),
    ("pods-all-json", "pods-all-table-object", "Object"),
    ("pods-late-json", "pods-late-table", "None"),
    ("node-not-ready-pods-json", "node-not-ready-pods-table", "None"),
]


@pytest.mark.parametrize(("objects", "table", "include"), PAIRS)
def test_every_row_of_pods_is_equal(objects: str, table: str, include: str) -> None:
    recorded = load(table)
    now = parsedate_to_datetime(recorded.headers["date"]).timestamp()
    pods = find("", "v1", "pods")
    assert pods is not None
    ours = [json.loads(row(pods, Entry(item, 1), now, include)) for item in load(objects).json()["items"]]
    assert ours == recorded.json()["rows"]


@pytest.mark.parametrize(
    ("group", "resource", "objects", "table"),
    [
        ("", "namespaces", "namespaces-json", "namespaces-table"),
        ("", "events", "events-crasher-v1", "events-all-v1-table"),
    ],
)
def test_every_row_of_namespaces_and_events_is_equal(group: str, resource: str, objects: str, table: str) -> None:
    recorded = load(table)
    now = parsedate_to_datetime(recorded.headers["date"]).timestamp()
    found = find(group, "v1", resource)
    assert found is not None
    ours = {
        item["metadata"]["name"]: json.loads(row(found, Entry(item, 1), now, "None"))["cells"]
        for item in load(objects).json()["items"]
    }
    theirs = {entry["object"]["metadata"]["name"]: entry["cells"] for entry in recorded.json()["rows"]}
    assert ours == {name: theirs[name] for name in ours}
