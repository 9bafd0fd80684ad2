"""The lab's log answers beside those of a real kubelet (tests/recorded), byte for byte where bytes were recorded."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from app.lab.api import make_app
from app.lab.estate_pods import find_status, settle
from app.lab.kubelet import Cluster
from app.lab.log_answers import KubeletLogs
from app.lab.log_files import PIECE, LogFile, LogShelf
from app.lab.store import Store, Users
from tests.recordings import Recording, cases, load

NOW_NS = 1_795_327_000_000_000_000
REAL = "real"


@dataclass
class Server:
    """An API server over plain HTTP with a cluster behind it."""

    cluster: Cluster
    http: aiohttp.ClientSession
    url: str

    def get(self, recording_or_path: Recording | str, **params: str) -> Any:
        """The request of a recording, or of a path of ours."""
        if isinstance(recording_or_path, str):
            return self.http.get(self.url + recording_or_path, params=params)
        request = recording_or_path.request
        headers = {name: value for name, value in request["headers"] if name.lower().startswith("accept")}
        query = parse_qsl(request.get("query") or "", keep_blank_values=True)
        return self.http.get(self.url + request["path"], params=query, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    cluster = Cluster(Store(rng=random.Random(1)))
    cluster.logs = KubeletLogs(cluster.shelf, cluster.store, clock_ns=lambda: NOW_NS)
    runner = web.AppRunner(
        make_app(cluster.store, cluster.logs, Users({"t": "admin"})), handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    headers = {"Authorization": "Bearer t", "Accept": "application/json, */*"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(20)) as http:
        yield Server(cluster, http, f"http://{host}:{port}")
    await runner.cleanup()


def add(cluster: Cluster, name: str, namespace: str = REAL, **spec: Any) -> None:
    cluster.add_pod({"metadata": {"name": name, "namespace": namespace}, "spec": spec} if spec
                    else {"metadata": {"name": name, "namespace": namespace}})  # fmt: skip


def log_path(name: str, namespace: str = REAL) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}/log"


def wait_with(cluster: Cluster, name: str, container: str, reason: str) -> None:
    def change(pod: dict[str, Any]) -> None:
        status = find_status(pod, container)
        status.update({"state": {"waiting": {"reason": reason}}, "lastState": {}, "ready": False, "started": False})
        settle(pod, 0)

    cluster.modify_pod(REAL, name, change)


def stamped(body: bytes) -> list[tuple[int, bytes]]:
    """Stamps in nanoseconds and lines of a recorded answer with timestamps."""
    from datetime import UTC, datetime

    found = []
    for line in body.split(b"\n")[:-1]:
        match = re.match(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z ", line)
        assert match
        second = datetime.fromisoformat(match[1].decode()).replace(tzinfo=UTC)
        found.append((int(second.timestamp()) * 10**9 + int(match[2]), line[match.end() :]))
    return found


def furnish(cluster: Cluster) -> None:
    """The pods of the recorded estate that the error cases name."""
    for name in ("ticker", "done", "silent"):
        add(cluster, name)
    two = [{"name": "app"}, {"name": "proxy"}]
    add(cluster, "multi", initContainers=[{"name": "setup"}], containers=two)
    add(cluster, "nopull")
    wait_with(cluster, "nopull", "app", "ImagePullBackOff")
    add(cluster, "inithang", initContainers=[{"name": "hang"}, {"name": "second"}], containers=[{"name": "app"}])
    for name in ("second", "app"):
        wait_with(cluster, "inithang", name, "PodInitializing")
    cluster.add_pod({"metadata": {"name": "on-none", "namespace": "logs"}, "spec": {"containers": [{"name": "app"}]},
                     "status": {"phase": "Pending"}})  # fmt: skip
    add(cluster, "tick", "logs")
    add(cluster, "on-gone", "logs", nodeName="gone-node", containers=[{"name": "app"}])


ERRORS = [
    case
    for case in cases()
    if case.startswith(("real-log-", "log-"))
    and load(case).status in (204, 400, 404, 406, 422)
    and load(case).request["user"] == "admin"
    and not case.startswith(("log-container", "log-image"))  # of another estate; the real- cases say the same
]


@pytest.mark.parametrize("case", ERRORS)
async def test_refusals_are_worded_as_recorded(server: Server, case: str) -> None:
    furnish(server.cluster)
    if case == "log-node-gone":
        node = {"metadata": {"name": "node-a"}, "status": {}}
        server.cluster.store.put("nodes", node)
    recording = load(case)
    async with server.get(recording) as answer:
        body = await answer.read()
    assert answer.status == recording.status
    assert answer.headers.get("Content-Type") == recording.headers.get("content-type")
    assert body == recording.body


def test_there_are_many_recorded_refusals() -> None:
    assert len(ERRORS) >= 20


def load_ticker(cluster: Cluster) -> None:
    """The ticker's whole log; the stamps of its last lines are the recorded ones, the earlier ones lie before."""
    add(cluster, "ticker")
    log = cluster.log(REAL, "ticker", "app")
    last = stamped(load("real-log-since-time-fraction").body)
    lines = load("real-log-plain").body.split(b"\n")[:-1]
    for line in lines[: -len(last)]:
        log.write(line + b"\n", last[0][0] - 10 * 10**9)
    for at_ns, line in last:
        log.write(line + b"\n", at_ns)


@pytest.mark.parametrize(
    "case",
    ["plain", "tail-5", "tail-0", "timestamps", "limit-bytes", "limit-bytes-tail", "since-time-fraction",
     "since-time-offset", "since-time-future", "since-seconds"],
)  # fmt: skip
async def test_a_log_is_cut_as_recorded(server: Server, case: str) -> None:
    recording = load(f"real-log-{case}")
    now = stamped(load("real-log-timestamps").body)[-1][0] + 500_000
    server.cluster.logs.clock_ns = lambda: now
    load_ticker(server.cluster)
    async with server.get(recording) as answer:
        body = await answer.read()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain")
    assert body == recording.body


def load_odd(cluster: Cluster) -> None:
    """Odd bytes, a line of 100 KiB and an unterminated end, with the recorded stamp in the middle of the long line."""
    add(cluster, "odd2")
    log = cluster.log(REAL, "odd2", "app")
    middle = stamped(load("real-log-long-line-tail-4").body)[0][0]
    for at_ns, line in stamped(load("real-log-long-line-timestamps").body):
        if len(line) > PIECE:
            log.write(line[: 4 * PIECE], at_ns)
            log.write(line[4 * PIECE :] + b"\n", middle, 0)
        else:
            log.write(line + b"\n", at_ns)
    log.write(b"not yet a line", NOW_NS)


@pytest.mark.parametrize(
    "case",
    ["long-line", "long-line-timestamps", "long-line-tail-2", "long-line-tail-4", "no-newline-tail-1", "odd-bytes",
     "odd-bytes-timestamps", "gzip-asked"],
)  # fmt: skip
async def test_odd_bytes_and_long_lines_come_as_recorded(server: Server, case: str) -> None:
    load_odd(server.cluster)
    async with server.get(load(f"real-log-{case}")) as answer:
        body = await answer.read()
    assert body == load(f"real-log-{case}").body
    assert "Content-Encoding" not in answer.headers


async def test_a_follow_sends_the_pieces_as_recorded(server: Server) -> None:
    load_odd(server.cluster)
    recording = load("real-log-long-line-follow")
    got = []
    async with server.get(recording) as answer:
        async for data, end in answer.content.iter_chunks():
            assert end
            got.append(data)
            if sum(map(len, got)) >= len(recording.body):
                break
    assert b"".join(got) == recording.body


async def test_a_quiet_follow_sends_its_headers_at_once(server: Server) -> None:
    add(server.cluster, "silent")
    async with server.get(log_path("silent"), follow="true") as answer:
        assert answer.status == 200
        assert answer.headers["Transfer-Encoding"] == "chunked"
        server.cluster.write_log(REAL, "silent", "app", b"first\n")
        assert await answer.content.readline() == b"first\n"


async def test_a_follow_goes_across_rotations_and_a_later_read_sees_the_current_file_only(server: Server) -> None:
    add(server.cluster, "rotator")
    async with server.get(log_path("rotator"), follow="true") as answer:
        for number in range(300):
            server.cluster.write_log(REAL, "rotator", "app", b"seq=%d\n" % number)
            if number % 40 == 39:
                server.cluster.rotate_log(REAL, "rotator", "app")
                await asyncio.sleep(0)
            if number % 20 == 19:
                for wanted in range(number - 19, number + 1):
                    assert await answer.content.readline() == b"seq=%d\n" % wanted
    async with server.get(log_path("rotator"), tailLines="200") as answer:
        body = await answer.read()
    assert body.split(b"\n")[0] == b"seq=280"
    server.cluster.rotate_log(REAL, "rotator", "app")
    async with server.get(log_path("rotator")) as answer:
        assert await answer.read() == b""


async def test_a_follow_ends_with_the_container_and_the_next_run_has_a_log_of_its_own(server: Server) -> None:
    cluster = server.cluster
    add(cluster, "crash3")
    cluster.write_log(REAL, "crash3", "app", b"run one\n")
    async with server.get(log_path("crash3"), follow="true") as answer:
        assert await answer.content.readline() == b"run one\n"
        cluster.write_log(REAL, "crash3", "app", b"dying")
        cluster.end_container(REAL, "crash3", "app", exit_code=7)
        assert await answer.read() == b"dying\n"
    async with server.get(log_path("crash3"), follow="true") as answer:
        assert await answer.read() == b"run one\ndying\n"
    cluster.back_off(REAL, "crash3", "app", 10)
    async with server.get(log_path("crash3")) as answer:
        assert await answer.read() == b"run one\ndying\n"
    cluster.start_container(REAL, "crash3", "app")
    cluster.write_log(REAL, "crash3", "app", b"run two\n")
    async with server.get(log_path("crash3"), previous="true", follow="true") as answer:
        assert await answer.read() == b"run one\ndying\n"
    async with server.get(log_path("crash3")) as answer:
        assert await answer.read() == b"run two\n"
    status = cluster.pod(REAL, "crash3")["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 7


async def test_the_log_before_the_last_vanishes_when_a_run_dies(server: Server) -> None:
    cluster = server.cluster
    add(cluster, "crash2")
    cluster.restart_container(REAL, "crash2", "app")
    first = cluster.pod(REAL, "crash2")["status"]["containerStatuses"][0]["lastState"]["terminated"]["containerID"]
    cluster.end_container(REAL, "crash2", "app", exit_code=1)
    async with server.get(load("real-log-crash2-dead-previous")) as answer:
        body = await answer.read()
    recorded = load("real-log-crash2-dead-previous")
    assert (answer.status, answer.headers["Content-Type"]) == (recorded.status, recorded.headers["content-type"])
    assert body == b"unable to retrieve container logs for " + first.encode()
    assert len(body) == len(recorded.body)


async def test_a_follow_ends_in_good_order_when_the_pod_goes(server: Server) -> None:
    add(server.cluster, "doomed")
    server.cluster.write_log(REAL, "doomed", "app", b"leaving\n")
    async with server.get(log_path("doomed"), follow="true") as answer:
        assert await answer.content.readline() == b"leaving\n"
        server.cluster.delete_pod(REAL, "doomed")
        assert await answer.read() == b""
    async with server.get(load("real-log-deleted")) as answer:
        assert (answer.status, await answer.read()) == (404, load("real-log-deleted").body)


async def test_a_node_that_is_down_answers_500_as_recorded(server: Server) -> None:
    add(server.cluster, "on-down", "logs", nodeName="down", containers=[{"name": "app"}])
    status = {"conditions": [{"type": "Ready", "status": "Unknown"}], "addresses": [{"address": "127.0.0.1"}]}
    server.cluster.store.put("nodes", {"metadata": {"name": "down"}, "status": status})
    async with server.get(load("log-node-down-follow")) as answer:
        body = await answer.json()
    recorded = load("log-node-down-follow")
    assert answer.status == recorded.status
    assert body["message"] == recorded.json()["message"].replace("20999", "10250")


async def test_a_limit_ends_a_follow(server: Server) -> None:
    add(server.cluster, "ticker")
    async with server.get(log_path("ticker"), follow="true", limitBytes="8") as answer:
        server.cluster.write_log(REAL, "ticker", "app", b"tick 1\ntick 2\n")
        assert await answer.read() == b"tick 1\nt"


@given(st.lists(st.binary(max_size=40_000), max_size=8), st.integers(20_000, 60_000))
def test_whatever_is_written_is_kept_in_order_until_rotation(pieces: list[bytes], limit: int) -> None:
    log, reader, got = LogFile("c", limit), 0, b""
    for number, piece in enumerate(pieces):
        log.write(piece, number)
        for entry in log.read(reader, 10_000):
            got += entry.data + (b"" if entry.partial else b"\n")
            assert len(entry.data) <= PIECE
            reader += 1
    log.finish(99)
    for entry in log.read(reader, 10_000):
        got += entry.data + (b"" if entry.partial else b"\n")
    whole = b"".join(pieces)
    assert got == whole + (b"" if whole.endswith(b"\n") or not whole else b"\n")


def test_a_shelf_keeps_the_running_and_one_dead_run() -> None:
    shelf = LogShelf()
    for run in ("one", "two", "three"):
        shelf.start("uid", "app", run)
        shelf.end("uid", "app", 0)
    assert [log.container_id for log in shelf.files()] == ["three"]
    shelf.start("uid", "app", "four")
    assert {log.container_id for log in shelf.files()} == {"three", "four"}
    shelf.forget("uid", 0)
    assert shelf.files() == []
