"""Watches of the lab's API server while things happen."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
from aiohttp import web

from app.lab.store import Object, Store
from app.tasks import spawn
from tests.protocol.lab_api_server import Client, base_world, serving

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PODS = "/api/v1/namespaces/shop/pods"
LIMIT = 30.0


def pod(name: str, *, namespace: str = "shop", phase: str = "Running") -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": phase},
    }


async def event(response: aiohttp.ClientResponse) -> dict[str, Any]:
    line = await asyncio.wait_for(response.content.readline(), LIMIT)
    found: dict[str, Any] = json.loads(line)
    return found


async def test_changes_arrive_as_they_happen() -> None:
    store = Store()
    store.put("pods", pod("old"))
    async with serving(store) as client, client.open(f"{PODS}?watch=true&resourceVersion={store.revision}") as response:
        store.put("pods", pod("elsewhere", namespace="edge"))
        store.put("pods", pod("new"))
        first = await event(response)
        store.modify("pods", "shop", "new", lambda found: found["status"].update(phase="Failed"))
        second = await event(response)
        store.delete("pods", "shop", "old")
        third = await event(response)
    kinds = [(found["type"], found["object"]["metadata"]["name"]) for found in (first, second, third)]
    assert kinds == [("ADDED", "new"), ("MODIFIED", "new"), ("DELETED", "old")]
    assert third["object"]["metadata"]["resourceVersion"] == str(store.revision)


async def test_a_table_watch_has_columns_once_and_a_bookmark_of_an_empty_pod() -> None:
    store = Store()
    async with serving(store) as client:
        path = f"{PODS}?watch=1&resourceVersion={store.revision}&allowWatchBookmarks=true&timeoutSeconds=2"
        store.put("pods", pod("a"))  # before it is asked for: its two seconds may be over at once on a busy machine
        store.put("pods", pod("b"))
        async with client.open(path, accept=TABLE) as response:
            first, second, bookmark = [await event(response) for _ in range(3)]
            assert await asyncio.wait_for(response.content.read(), LIMIT) == b""
    assert len(first["object"]["columnDefinitions"]) == 9
    assert second["object"]["columnDefinitions"] is None
    assert first["object"]["rows"][0]["cells"][:4] == ["a", "0/1", "Running", "0"]
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["columnDefinitions"] is None
    assert bookmark["object"]["rows"][0]["cells"][:5] == ["", "0/0", "", "0", "<unknown>"]
    assert bookmark["object"]["metadata"]["resourceVersion"] == str(store.revision)


async def test_the_lab_can_end_a_watch_with_410_and_refuse_its_revision_afterwards() -> None:
    store = Store()
    seen = store.put("pods", pod("a"))["metadata"]["resourceVersion"]
    async with serving(store) as client:
        async with client.open(f"{PODS}?watch=true&resourceVersion={seen}") as response:
            store.expire()
            ended = await event(response)
            assert await asyncio.wait_for(response.content.read(), LIMIT) == b""
        again = (await client.get(f"{PODS}?watch=true&resourceVersion={seen}")).events()
        listed = (await client.get(PODS)).json()["metadata"]["resourceVersion"]
        async with client.open(f"{PODS}?watch=true&resourceVersion={listed}") as response:
            store.put("pods", pod("b"))
            assert (await event(response))["object"]["metadata"]["name"] == "b"
    for found in (ended, *again):
        assert (found["type"], found["object"]["code"], found["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_a_watch_goes_on_over_a_compaction() -> None:
    store = Store()
    store.put("pods", pod("a"))
    async with serving(store) as client, client.open(f"{PODS}?watch=true&resourceVersion={store.revision}") as response:
        store.put("events", pod("e"))
        store.compact()
        store.put("pods", pod("b"))
        assert (await event(response))["object"]["metadata"]["name"] == "b"


async def test_a_server_that_stops_ends_its_watches_cleanly() -> None:
    store = Store()
    async with aiohttp.ClientSession() as session, serving(store) as client:
        other = Client(client.base, session)
        async with other.open(f"{PODS}?watch=true") as response:
            task = spawn(response.content.read(), name="the rest of the watch")
            store.put("pods", pod("a"))
            store.end_watches()
            rest = await asyncio.wait_for(task, LIMIT)
    assert json.loads(rest)["object"]["metadata"]["name"] == "a"


async def test_a_client_that_goes_is_forgotten() -> None:
    store = Store()
    async with serving(store) as client:
        async with client.open(f"{PODS}?watch=true"):
            assert store.watchers("pods") == 1
        for _ in range(100):
            if not store.watchers("pods"):
                break
            await client.get("/version")  # each round trip lets the server see what happened to the other connection
        assert store.watchers("pods") == 0


async def test_many_watchers_of_many_pods() -> None:
    store = Store()
    for index in range(2_000):
        store.put("pods", pod(f"p{index:04}"))
    async with (
        serving(store) as client,
        client.open("/api/v1/pods?watch=true", accept=TABLE) as one,
        client.open(
            "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        ) as two,
    ):
        tables = [await event(one) for _ in range(2_000)]
        plain = [await event(two) for _ in range(2_001)]
        for index in range(500):
            store.modify("pods", "shop", f"p{index:04}", lambda found: found["status"].update(phase="Failed"))
        later = [(await event(one), await event(two)) for _ in range(500)]
    assert plain[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert tables[-1]["object"]["rows"][0]["cells"][0] == plain[-2]["object"]["metadata"]["name"] == "p1999"
    assert all(table["object"]["rows"][0]["cells"][2] == "Failed" for table, _ in later)
    assert all(found["object"]["status"]["phase"] == "Failed" for _, found in later)


async def test_pages_show_one_moment() -> None:
    store = Store()
    for name in "abcd":
        store.put("pods", pod(name))
    async with serving(store) as client:
        first = (await client.get(f"{PODS}?limit=2")).json()
        assert first["metadata"]["remainingItemCount"] == 2
        store.delete("pods", "shop", "c")
        store.put("pods", pod("e"))
        token = first["metadata"]["continue"]
        second = (await client.get(f"{PODS}?limit=2&continue={token}")).json()
        store.expire()
        gone = await client.get(f"{PODS}?limit=2&continue={token}")
        again = gone.json()["metadata"]["continue"]
        rest = (await client.get(f"{PODS}?limit=5&continue={again}")).json()
    assert [item["metadata"]["name"] for item in second["items"]] == ["c", "d"]
    assert second["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}
    assert gone.status == 410
    assert [item["metadata"]["name"] for item in rest["items"]] == ["d", "e"]


class Busy:
    """A fault that answers every list with 429."""

    async def answer(self, request: web.Request) -> web.Response | None:
        if request.path != "/api/v1/pods":
            return None
        return web.Response(
            status=429, text="Too many requests, please try again later.\n", headers={"Retry-After": "1"}
        )


async def test_faults_come_first() -> None:
    async with serving(base_world(), Busy()) as client:
        refused = await client.get("/api/v1/pods", user=None)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert (await client.get("/api/v1/namespaces")).status == 200


async def test_logs_are_asked_for_pods_that_exist_and_may_be_read() -> None:
    async with serving(base_world()) as client:
        log = "/api/v1/namespaces/team-b/pods/api-656f88d8f8-2wszs/log"
        assert (await client.get(log)).body == b"a line of api-656f88d8f8-2wszs\n"
        assert (await client.get(log, user="restricted")).status == 403
        assert (await client.get("/api/v1/namespaces/team-b/pods/nosuch/log")).json()[
            "message"
        ] == 'pods "nosuch" not found'


async def test_answers_carry_the_clock_of_the_store_and_no_name_of_the_server() -> None:
    async with serving(base_world()) as client:
        headers = (await client.get("/version")).headers
    assert headers["date"] == "Sun, 22 Nov 2026 05:52:56 GMT"
    assert "server" not in headers
    assert len(headers["audit-id"]) == 36
