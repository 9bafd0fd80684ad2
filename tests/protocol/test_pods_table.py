"""The server's own table: what is asked for, how pages join, and that nothing harmful gets through."""

from __future__ import annotations

import json

import pytest

from app.cluster.pod_table import ACCEPT, list_table
from app.cluster.pods import PodScope
from app.errors import JumpdeckError
from tests.protocol.pod_server import Answer, PodServer, pod, pod_list, status, whole
from tests.recordings import load


def table(*names: str, token: str = "", namespace: str = "shop") -> Answer:
    columns = [{"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0}, {"name": "IP", "priority": 1}]
    rows = [{"cells": [name, "1/1", 7], "object": {"metadata": {"namespace": namespace}}} for name in names]
    meta = {"continue": token} if token else {}
    return whole(json.dumps({"kind": "Table", "metadata": meta, "columnDefinitions": columns, "rows": rows}).encode())


@pytest.mark.parametrize("case", ["pods-all-table-metadata", "pods-all-table-object"])
async def test_a_real_servers_table(case: str) -> None:
    async with PodServer(whole(load(case).body)) as server:
        api = server.client()
        found = await list_table(api, PodScope())
        await api.aclose()
    recorded = load(case).json()
    assert found.headers == ("NAMESPACE", *(column["name"].upper() for column in recorded["columnDefinitions"]))
    assert found.wide == (False,) * 6 + (True,) * 4
    assert found.lines == [
        (row["object"]["metadata"]["namespace"], *map(str, row["cells"])) for row in recorded["rows"]
    ]
    assert server.seen[0].query == {"limit": "500", "includeObject": "Metadata"}


async def test_pages_and_namespaces_join_and_an_expired_list_begins_again() -> None:
    script = [
        table("a", token="t"),
        whole(status(410, "Expired"), 410),
        table("b", token="t"),
        table("c"),
        table("d"),
    ]
    async with PodServer(*script) as server:
        api = server.client()
        found = await list_table(api, PodScope(("shop", "edge")))
        await api.aclose()
    assert found.lines == [("shop", "b", "1/1", "7"), ("shop", "c", "1/1", "7"), ("edge", "d", "1/1", "7")]
    assert server.seen[0].query["includeObject"] == "None"


async def test_a_busy_server_is_asked_for_the_same_page_again() -> None:
    busy = whole(b"Too many requests, please try again later.\n", 429)
    async with PodServer(table("a", token="t"), busy, table("b")) as server:
        api = server.client()
        found = await list_table(api, PodScope(("shop",)))
        await api.aclose()
    assert [line[1] for line in found.lines] == ["a", "b"]
    assert [reply.query.get("continue") for reply in server.seen] == [None, "t", "t"]


async def test_cells_are_harmless() -> None:
    async with PodServer(table("\x1b]52;c;x\x07", namespace="\u202ens")) as server:
        api = server.client()
        found = await list_table(api, PodScope())
        await api.aclose()
    assert found.lines == [("<U+202E>ns", "␛]52;c;x␇", "1/1", "7")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (pod_list(1, pod("a")), "JD-API-NO-TABLE"),
        (b'{"kind":"Table","columnDefinitions":[],"rows":[{"cells":["a"]}]}', "JD-API-MALFORMED"),
        (b"<html>", "JD-API-MALFORMED"),
    ],
)
async def test_what_is_no_table_is_said(body: bytes, code: str) -> None:
    async with PodServer(whole(body)) as server:
        api = server.client()
        with pytest.raises(JumpdeckError) as raised:
            await list_table(api, PodScope())
        await api.aclose()
    assert raised.value.code == code
    assert "Table" in ACCEPT
