"""Pods from JSON: against the API server's own table, and against hostile answers."""

import json
from datetime import UTC
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cluster.pod_decode import decode_pod_list, read_watch_event
from app.errors import JumpdeckError
from app.pod_cells import WIDE_HEADERS, cells
from app.rows import ContainerKind, PodRow
from app.text import clean
from tests.recordings import load

PAIRS = [
    ("pods-all-json", "pods-all-table-none"),
    ("pods-all-json", "pods-all-table-metadata"),
    ("pods-all-json", "pods-all-table-object"),
    ("pods-late-json", "pods-late-table"),
]


def named(case: str, name: str) -> PodRow:
    return next(row for row in decode_pod_list(load(case).body).rows if row.name == name)


@pytest.mark.parametrize(("objects", "table"), PAIRS)
def test_every_cell_is_the_servers_own(objects: str, table: str) -> None:
    answer = load(table)
    now = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC).timestamp()
    wanted = [tuple(str(cell) for cell in row["cells"]) for row in answer.json()["rows"]]
    assert [column["name"].upper() for column in answer.json()["columnDefinitions"]] == list(WIDE_HEADERS)
    assert [cells(row, now, wide=True) for row in decode_pod_list(load(objects).body).rows] == wanted


def test_pages_join_to_the_whole_list() -> None:
    pages = [decode_pod_list(load(f"pods-page-{number}").body) for number in range(1, 8)]
    assert [bool(page.token) for page in pages] == [True] * 6 + [False]
    assert len({page.resource_version for page in pages}) == 1
    whole = decode_pod_list(load("pods-all-json").body)
    names = [row.name for page in pages for row in page.rows]
    assert len(names) == len(set(names)) == len(whole.rows)


def test_a_row_carries_what_logs_and_filters_need() -> None:
    row = named("pods-all-json", "debugged")
    assert [container.kind for container in row.containers] == [ContainerKind.APP, ContainerKind.EPHEMERAL]
    assert dict(row.labels)["app"] == "debugged"
    sidecar = named("pods-all-json", "sidecar-running")
    assert ContainerKind.SIDECAR in [container.kind for container in sidecar.containers]
    deployed = next(r for r in decode_pod_list(load("pods-all-json").body).rows if r.name.startswith("checkout-"))
    assert deployed.owner.startswith("ReplicaSet/checkout-")


def test_a_table_bookmark_or_error_page_is_no_pod_list() -> None:
    for body in (load("pods-all-table-none").body, b"<html>sign in</html>", b"", b'{"kind":"PodList","items":3}'):
        with pytest.raises(JumpdeckError) as raised:
            decode_pod_list(body)
        assert raised.value.code == "JD-API-MALFORMED"


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    body = b'{"kind":"PodList","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(JumpdeckError):
        decode_pod_list(body)


def test_escapes_in_every_field_come_out_harmless() -> None:
    evil = "a\x1b]52;c;x\x07\u202eb"
    pod = {
        "metadata": {
            "name": evil, "namespace": evil, "uid": evil, "labels": {evil: evil},
            "annotations": {"kubectl.kubernetes.io/default-container": evil},
            "ownerReferences": [{"kind": evil, "name": evil, "controller": True}],
        },
        "spec": {"nodeName": evil, "containers": [{"name": evil}], "ephemeralContainers": [{"name": evil}]},
        "status": {
            "phase": evil, "reason": evil, "podIPs": [{"ip": evil}], "nominatedNodeName": evil,
            "containerStatuses": [{"name": evil, "containerID": evil, "state": {"waiting": {"reason": evil}}}],
        },
    }  # fmt: skip
    row = decode_pod_list(json.dumps({"kind": "PodList", "items": [pod]}).encode()).rows[0]
    assert row.name == clean(evil)
    assert row.containers[0].container_id == clean(evil)
    told = repr(row) + "".join(cells(row, 0, wide=True))
    assert not [escape for escape in ("\x1b", "\x07", "\u202e", "\\x1b", "\\x07", "\\u202e") if escape in told]


WATCHES = ["watch-json", "watch-server-killed", "watch-bookmarks", "watch-initial-events-all", "watch-field-running"]


@pytest.mark.parametrize("case", WATCHES)
def test_recorded_events_decode(case: str) -> None:
    lines = [line for line in load(case).body.split(b"\n") if line.endswith(b"}")]
    for line in lines:
        wanted = json.loads(line)
        event = read_watch_event(line)
        assert (event.kind, event.resource_version) == (
            wanted["type"],
            wanted["object"]["metadata"]["resourceVersion"],
        )
        assert (event.pod.metadata.uid if event.pod else None) == wanted["object"]["metadata"].get("uid")
    assert lines


def test_an_error_event_gives_its_status() -> None:
    line = next(line for line in load("watch-410").body.split(b"\n") if line)
    event = read_watch_event(line)
    assert event.kind == "ERROR"
    assert json.loads(event.status)["code"] == 410


KEYS = st.sampled_from(["type", "object", "metadata", "items", "kind", "status", "spec"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_a_jumpdeck_error_comes_out_of_junk(body: bytes) -> None:
    for decode in (decode_pod_list, read_watch_event):
        try:
            decode(body)
        except JumpdeckError as error:
            assert error.code == "JD-API-MALFORMED"
