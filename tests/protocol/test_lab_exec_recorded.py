"""The lab's exec, attach and port-forward beside the recorded ones: status, headers, body, every frame."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator

import pytest

from app.lab.store import Store
from tests.protocol.lab_api_server import moment
from tests.protocol.lab_streams import Server, stream_server
from tests.recordings import Recording, cases, load

LEFT_OUT = {
    "exec-ws-kubelet-killed": "the lab's fault `cut` stands for it",
    "exec-ws-sim": "a simulated kubelet with words of its own",
    "exec-spdy-refused": "a simulated kubelet without SPDY",
}
ALL = [case for case in cases() if case.startswith(("exec-", "attach-", "portforward-"))]
REFUSED = [case for case in ALL if case not in LEFT_OUT and load(case).status != 101]
STREAMED = [case for case in ALL if case not in LEFT_OUT and load(case).status == 101]
FRAMED = [case for case in STREAMED if case.startswith("exec-ws-") and case != "exec-ws-tty"]
FORBIDDEN = [case for case in cases() if case.startswith("403-") and "-exec-" in case]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    store = Store(clock=lambda: moment("pods-all-json"))
    for pod in load("pods-all-json").json()["items"]:
        if pod["metadata"]["namespace"] == "real":
            store.put("pods", {"kind": "Pod", "apiVersion": "v1", **pod})
    store.put("nodes", {
        "kind": "Node", "metadata": {"name": "down"},
        "status": {
            "conditions": [{"type": "Ready", "status": "False"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        },
    })  # fmt: skip
    async with stream_server(store) as running:
        down = {"metadata": {"name": "on-down", "namespace": "logs"}, "spec": {"nodeName": "down"}}
        running.cluster.add_pod(down)
        yield running


def _asked(server: Server, case: Recording):
    request = case.request
    query = request.get("query") or ""
    target = request["path"] + (f"?{query}" if query else "")
    return server.ask(target, request["headers"], method=request["method"], user=request["user"])


def _known(headers: list[list[str]]) -> list[tuple[str, str]]:
    """Sorted, as a server may order them as it likes; without what differs each time."""
    return sorted((name, "" if name in ("Date", "Audit-Id") else value) for name, value in headers)


@pytest.mark.parametrize("case", [*REFUSED, *FORBIDDEN])
async def test_a_refusal_is_the_recorded_one(server: Server, case: str) -> None:
    recorded = load(case)
    async with _asked(server, recorded) as got:
        assert got.status_line == recorded.response["status_line"]
        ours = [pair for pair in got.headers if not pair[0].startswith("X-Kubernetes-Pf")]
        assert _known(ours) == _known(recorded.response["headers"])
        assert await got.body() == recorded.body


@pytest.mark.parametrize("case", STREAMED)
async def test_the_switch_of_protocols_is_the_recorded_one(server: Server, case: str) -> None:
    recorded = load(case)
    async with _asked(server, recorded) as got:
        assert got.status_line == recorded.response["status_line"]
        assert [[name, value.strip()] for name, value in got.headers] == recorded.response["headers"]


def _plain(data: bytes) -> bytes:
    """Without the runtime's number of the attempt, and with one port for the kubelet."""
    return re.sub(rb"127\.0\.0\.1:\d+", b"KUBELET", re.sub(rb"[0-9a-f]{64}", b"RUN", data))


def _frames(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        size, start = data[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        found.append((data[at], _plain(data[start : start + size])))
        at = start + size
    return found


def _plain_frame(frame: tuple[int, bytes]) -> tuple[int, bytes]:
    return frame[0], _plain(frame[1])


@pytest.mark.parametrize("case", FRAMED)
async def test_the_frames_are_the_recorded_ones(server: Server, case: str) -> None:
    recorded = load(case)
    async with _asked(server, recorded) as got:
        got.writer.write(base64.b64decode(recorded.raw.get("client_sent_base64", "")))
        wanted = _frames(b"".join(recorded.chunks))
        assert [_plain_frame(await got.message()) for _ in wanted] == wanted


async def test_the_server_closes_when_the_client_does_not(server: Server) -> None:
    async with _asked(server, load("exec-ws-v5")) as got:
        assert (await got.rest()).endswith(b"\x88\x02\x03\xe8")


async def test_a_terminal_echoes_and_knows_its_size(server: Server) -> None:
    recorded = load("exec-ws-tty")
    theirs = b"".join(data[1:] for _, data in _frames(b"".join(recorded.chunks)) if data[:1] == b"\x01")
    async with _asked(server, recorded) as got:
        got.writer.write(base64.b64decode(recorded.raw["client_sent_base64"]))
        found = await got.channels()
    typed = b"stty size; exit 5\r\n40 100\r\n"
    assert theirs.endswith(b"\x1b[6n" + typed)  # their shell asks where the cursor is; ours does not
    assert found[1] == b"/ # " + typed
    assert json.loads(found[3])["details"]["causes"] == [{"reason": "ExitCode", "message": "5"}]


async def test_attach_follows_what_the_container_writes(server: Server) -> None:
    recorded = load("attach-ws")
    ours = {"metadata": {"name": "fresh", "namespace": "real"}, "spec": {"containers": [{"name": "app"}]}}
    server.cluster.add_pod(ours)
    server.cluster.write_log("real", "fresh", "app", b"before\n")
    request = recorded.request
    async with server.ask("/api/v1/namespaces/real/pods/fresh/attach?stdout=true", request["headers"]) as got:
        assert await got.message() == (0x82, b"\x01")
        server.cluster.write_log("real", "fresh", "app", b"tick 574 of ticker\n")
        assert await got.message() == _frames(b"".join(recorded.chunks))[1]
        server.cluster.end_container("real", "fresh", "app", exit_code=0)
        assert await got.channels() == {3: b'{"metadata":{},"status":"Success"}'}


def test_every_recorded_case_is_asked_or_has_a_reason() -> None:
    asked = {*REFUSED, *STREAMED, *LEFT_OUT}
    assert asked == set(ALL)
