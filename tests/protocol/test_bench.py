"""The benchmark's own parts: the mock server is a server, the report has its form and never fails."""

from __future__ import annotations

import asyncio
import os
import sys

from app.cluster.pod_table import list_table
from app.cluster.pods import PodScope, list_pods
from bench.client import api_client
from bench.harness import mock_api
from bench.rows import at_least, at_most, missing


async def test_the_mock_serves_the_same_pods_as_json_and_as_table() -> None:
    with mock_api(600) as port:
        api = api_client(port)
        rows = (await list_pods(api, PodScope())).rows
        table = await list_table(api, PodScope())
        await api.aclose()
    assert len(rows) == 600
    assert [line[:5] for line in table.lines] == [
        (row.namespace, row.name, f"{row.ready}/{row.total}", row.status, line[4])
        for row, line in zip(rows, table.lines, strict=True)
    ]


def test_rows_say_what_was_measured_and_whether_it_is_enough() -> None:
    assert at_least("P-1", "lists", 40.0, 30).line().split()[-4:] == ["40x", ">=", "30x", "met"]
    assert at_most("P-2", "pods", 1.8, 1.5).line().split()[-4:] == ["1.8x", "<=", "1.5x", "missed"]
    assert missing("P-3", "watch", "kubectl").line().endswith("no kubectl            not measured")


async def test_the_report_ends_with_zero_whatever_is_asked() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", env={**os.environ, "BENCH": "P-99"}, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"")
