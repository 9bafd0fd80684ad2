"""Namespaces, events, reviews and describe, against recorded answers on a real socket."""

from __future__ import annotations

import json

import pytest

from app.cluster.events import list_events
from app.cluster.namespaces import list_namespaces
from app.cluster.pod_decode import decode_pod_list
from app.cluster.review import describe_pod, may, whoami
from app.errors import JumpdeckError, RefusedError
from app.rows import PodRow
from tests.protocol.pod_server import Answer, PodServer, status, whole
from tests.recordings import load


def recorded(case: str) -> Answer:
    return whole(load(case).body, load(case).status)


def pod_of(case: str, name: str) -> tuple[PodRow, bytes]:
    body = load(case).body
    row = next(row for row in decode_pod_list(body).rows if row.name == name)
    item = next(item for item in json.loads(body)["items"] if item["metadata"]["name"] == name)
    return row, json.dumps(item).encode()


async def test_namespaces() -> None:
    async with PodServer(recorded("namespaces-json")) as server:
        api = server.client()
        assert await list_namespaces(api) == [
            item["metadata"]["name"] for item in load("namespaces-json").json()["items"]
        ]
        await api.aclose()


async def test_namespaces_refused() -> None:
    async with PodServer(recorded("403-nobody-namespaces")) as server:
        api = server.client()
        with pytest.raises(RefusedError):
            await list_namespaces(api)
        await api.aclose()


async def test_events_of_one_pod_oldest_first() -> None:
    row, _ = pod_of("pods-all-json", "unschedulable")
    async with PodServer(recorded("events-crasher-v1")) as server:
        api = server.client()
        events = await list_events(api, "edge", about=row)
        await api.aclose()
    asked = server.seen[0]
    assert asked.path == "/api/v1/namespaces/edge/events"
    assert asked.query["fieldSelector"] == f"involvedObject.name=unschedulable,involvedObject.uid={row.uid}"
    assert [event.last_seen for event in events] == sorted(event.last_seen or 0 for event in events)
    back_off = next(event for event in events if event.reason == "BackOff")
    assert (back_off.kind, back_off.object) == ("Warning", "pod/crasher")
    assert back_off.count > 1


async def test_an_event_of_the_new_api_has_its_time_from_event_time() -> None:
    async with PodServer(recorded("events-unschedulable-v1")) as server:
        api = server.client()
        (event,) = await list_events(api, "edge")
        await api.aclose()
    assert event.count == 1
    assert event.last_seen == event.first_seen is not None


@pytest.mark.parametrize(("case", "answer"), [("ssar-allowed", True), ("ssar-denied-all-ns", False)])
async def test_may(case: str, answer: bool) -> None:
    async with PodServer(recorded(case)) as server:
        api = server.client()
        assert await may(api, "get", "pods/log", "shop") is answer
        await api.aclose()
    asked = json.loads(server.seen[0].body)
    assert server.seen[0].method == "POST"
    assert asked["spec"]["resourceAttributes"] == {
        "verb": "get", "resource": "pods", "subresource": "log", "namespace": "shop",
    }  # fmt: skip


async def test_whoami() -> None:
    async with PodServer(recorded("ssr-restricted"), whole(b"{}")) as server:
        api = server.client()
        assert await whoami(api) == load("ssr-restricted").json()["status"]["userInfo"]["username"]
        with pytest.raises(JumpdeckError) as raised:
            await whoami(api)
        assert raised.value.code == "JD-API-MALFORMED"
        await api.aclose()


async def test_describe_tells_what_kubectl_tells() -> None:
    row, body = pod_of("pods-all-json", "ledger-5f8b7c9d44-k2p9q")
    async with PodServer(whole(body), recorded("events-crasher-v1")) as server:
        api = server.client()
        text = await describe_pod(api, row)
        await api.aclose()
    for line in (
        "Name:             ledger-5f8b7c9d44-k2p9q",
        "Node:             sim-node-0/10.0.1.4",
        "Start Time:       Sun, 22 Nov 2026 05:11:07 +0000",
        "                  pod-template-hash=5f8b7c9d44",
        "    State:          Waiting",
        "      Reason:       CrashLoopBackOff",
        "      Exit Code:    1",
        "    Restart Count:  5",
        "QoS Class:                   Burstable",
    ):
        assert line in text.splitlines(), line
    assert "BackOff" in text


async def test_describe_says_when_events_are_closed_to_us_and_cleans_what_it_prints() -> None:
    row, body = pod_of("pods-all-json", "debugged")
    evil = json.loads(body)
    evil["metadata"]["annotations"] = {"x": "\x1b]0;title\x07\nsecond"}
    async with PodServer(whole(json.dumps(evil).encode()), whole(status(403, "Forbidden"), 403)) as server:
        api = server.client()
        text = await describe_pod(api, row)
        await api.aclose()
    assert "not readable" in text
    assert not {"\x1b", "\x07"} & set(text)


async def test_describe_of_junk_is_an_error() -> None:
    row, _ = pod_of("pods-all-json", "debugged")
    async with PodServer(whole(b'{"metadata": 3}'), recorded("events-crasher-v1")) as server:
        api = server.client()
        with pytest.raises(JumpdeckError) as raised:
            await describe_pod(api, row)
        assert raised.value.code == "JD-API-MALFORMED"
        await api.aclose()
