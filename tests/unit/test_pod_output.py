"""`jumpdeck pods` prints what kubectl printed for the same pods."""

from __future__ import annotations

import argparse
import json
from datetime import datetime

import pytest

from app.cli.arguments import CommandParser
from app.cli.pod_json import items_of_page
from app.cli.pods import Columns, RowLines, WatchPrinter, configure
from app.cluster.pod_decode import decode_pod_list
from app.rows import PodRow, PodSnapshot, Staleness
from tests.protocol.pod_server import pod, pod_list
from tests.recordings import RECORDED, kubectl, load


def rows_of(case: str, namespace: str = "", part_of: str = "") -> list[PodRow]:
    return [
        row
        for row in decode_pod_list(load(case).body).rows
        if namespace in ("", row.namespace) and part_of in ("", dict(row.labels).get("app.kubernetes.io/part-of", "-"))
    ]


def moments(file: str) -> list[float]:
    """Tenths of seconds between the start and the end of the recorded run: the server looked at its clock in there."""
    entries = json.loads((RECORDED / "kubectl-output" / "index.json").read_text())["captures"]
    entry = next(entry for entry in entries if entry["file"] == file)
    start, end = (datetime.fromisoformat(entry[key]).timestamp() for key in ("started_utc", "ended_utc"))
    return [start + step / 100 for step in range(int((end - start) * 100) + 2)]


@pytest.mark.parametrize(
    ("file", "rows", "wide", "namespaced", "headers"),
    [
        ("get-pods-A.txt", rows_of("pods-all-json"), False, True, True),
        ("get-pods-A-wide.txt", rows_of("pods-all-json"), True, True, True),
        ("get-pods-A-no-headers.txt", rows_of("pods-all-json"), False, True, False),
        ("get-pods-n-payments.txt", rows_of("pods-all-json", "payments"), False, False, True),
        ("get-pods-A-selector-name.txt", rows_of("pods-all-json", part_of="shop"), False, True, True),
        ("late-get-pods-A-wide.txt", rows_of("pods-late-json"), True, True, True),
    ],
)
def test_the_table_is_kubectls_character_for_character(
    file: str, rows: list[PodRow], wide: bool, namespaced: bool, headers: bool
) -> None:
    form = RowLines(wide=wide, namespaced=namespaced)
    printed = {Columns(form.headers if headers else None).text(form.lines(rows, moment)) for moment in moments(file)}
    assert kubectl(file) in printed


def test_narrow_columns_keep_six_places() -> None:
    body = pod("p", namespace="n")
    row = decode_pod_list(json.dumps({"kind": "PodList", "items": [body]}).encode()).rows[0]
    lines = RowLines(wide=False, namespaced=True).lines([row], row.created or 0.0)
    assert Columns(None).text(lines) == "n     p     1/1   Running   1     0s\n"


def test_a_watch_widens_columns_but_never_narrows_them(capsys: pytest.CaptureFixture[str]) -> None:
    def row(name: str, status: str) -> PodRow:
        return PodRow("u-" + name, "n", name, 1, 1, status, 0, None, None)

    printer = WatchPrinter(RowLines(wide=False, namespaced=False), headers=True, names=False)
    printer.on_change("LISTED", row("old-1", "Running"))
    printer.on_change("LISTED", row("other", "Running"))
    printer.on_snapshot(PodSnapshot({}, Staleness.LIVE))
    printer.on_change("ADDED", row("visitor", "Pending"))
    printer.on_change("MODIFIED", row("visitor", "Terminating"))
    printer.on_change("DELETED", row("visitor", "Completed"))
    lines = capsys.readouterr().out.replace("<unknown>", "5s").splitlines()
    recorded = [
        line.replace("9m50s", "5s").replace("9m41s", "5s") for line in kubectl("get-pods-watch.txt").splitlines()
    ]
    assert lines[:3] == recorded[:3]
    assert lines[3] == "visitor   1/1     Pending   0          5s"
    assert lines[4] == "visitor   1/1     Terminating   0          5s"
    assert lines[5] == "visitor   1/1     Completed     0          5s"


def test_json_is_the_list_as_kubectl_prints_it() -> None:
    body = load("pods-all-json").body
    items, token = items_of_page(body)
    assert token == ""
    assert [json.loads(item) for item in items] == [
        {"apiVersion": "v1", "kind": "Pod", **item} for item in json.loads(body)["items"]
    ]
    assert items[0].startswith(
        '{\n            "apiVersion": "v1",\n            "kind": "Pod",\n            "metadata": {\n'
    )


def test_json_carries_no_escape_to_the_terminal() -> None:
    evil = pod("a")
    evil["metadata"]["labels"] = {"x": "\x1b]0;t\x07 \x7f \x9b \u202e é 😀"}
    items, _ = items_of_page(pod_list(1, evil))
    assert items[0].isascii() and items[0].replace("\n", "").isprintable()
    assert json.loads(items[0])["metadata"] == evil["metadata"]


def test_json_has_the_escapes_of_kubectl() -> None:
    marked = pod("a")
    marked["metadata"]["annotations"] = {"x": "<a> & b \u2028"}
    items, _ = items_of_page(pod_list(1, marked))
    assert '"x": "\\u003ca\\u003e \\u0026 b \\u2028"' in items[0]
    assert json.loads(items[0])["metadata"] == marked["metadata"]


def parse(*words: str) -> argparse.Namespace:
    parser = CommandParser(prog="jumpdeck pods")
    configure(parser)
    return parser.parse_args(["lab", *words])


def test_flags() -> None:
    args = parse("-n", "a,b", "-n", "c", "-l", "app=x", "-o", "wide", "-w", "--no-headers")
    assert (args.namespace, args.selector, args.output, args.watch, args.no_headers) == (
        ["a,b", "c"], "app=x", "wide", True, True,
    )  # fmt: skip
    assert parse("-A").all_namespaces
