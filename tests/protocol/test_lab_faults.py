"""Every fault of the lab as a plain client sees it, and that it ends by itself."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from app.errors import UsageError
from app.lab.door import LATENCY, Door
from app.lab.fault_names import FAULTS, find_fault
from app.lab.practice import Lab
from app.tasks import spawn
from tests.recordings import load

LIMIT = 20.0
"""Seconds after which a wait in these tests counts as failed."""


@dataclass
class Client:
    """A plain HTTP client of the lab, a new connection for each request."""

    lab: Lab
    http: aiohttp.ClientSession

    def get(self, path: str, user: str = "admin", **params: str) -> Any:
        headers = {"Authorization": f"Bearer {self.lab.tokens[user]}", "Accept": "application/json, */*"}
        return self.http.get(self.lab.api_url + path, params=params, headers=headers)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Lab.open(estate="none") as lab:
        lab.cluster.add_pod({"metadata": {"name": "a", "namespace": "default"}})
        context = ssl.create_default_context(cafile=str(lab.ca_pem))
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(LIMIT)) as http:
            yield Client(lab, http)


PODS = "/api/v1/pods"
LOG = "/api/v1/namespaces/default/pods/a/log"


async def status(client: Client, path: str = PODS, user: str = "admin", **params: str) -> int:
    async with client.get(path, user, **params) as answer:
        await answer.read()
        return int(answer.status)


async def test_cut_resets_streams_and_refuses_new_ones_until_it_ends(client: Client) -> None:
    async with client.get(LOG, follow="true") as follow:
        await client.lab.fault("cut")
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            await follow.content.read()
    with pytest.raises(aiohttp.ClientConnectorError):
        await status(client)
    await client.lab.fault("cut", on=False)
    assert await status(client) == 200


async def test_refuse_leaves_open_streams_alone(client: Client) -> None:
    async with client.get(LOG, follow="true") as follow:
        await client.lab.fault("refuse")
        with pytest.raises(aiohttp.ClientConnectorError):
            await status(client)
        client.lab.cluster.write_log("default", "a", "app", b"still here\n")
        assert await follow.content.readline() == b"still here\n"
    await client.lab.fault("refuse", on=False)
    assert await status(client) == 200


async def test_freeze_accepts_and_passes_nothing_and_loses_nothing(client: Client) -> None:
    async with client.get(LOG, follow="true") as follow:
        await client.lab.fault("freeze")
        client.lab.cluster.write_log("default", "a", "app", b"held\n")
        with socket.create_connection(("127.0.0.1", client.lab.door.port), timeout=LIMIT):
            pass
        line = spawn(follow.content.readline(), name="line")
        done, _ = await asyncio.wait({line}, timeout=0.3)
        assert not done
        await client.lab.fault("freeze", on=False)
        assert await line == b"held\n"
    assert await status(client) == 200


async def test_slow_delays_and_keeps_the_order(client: Client) -> None:
    loop = asyncio.get_running_loop()
    async with client.get(LOG, follow="true") as follow:
        await client.lab.fault("slow")
        start = loop.time()
        lines = [b"line %d %s\n" % (number, b"x" * 2_000) for number in range(60)]
        client.lab.cluster.write_log("default", "a", "app", b"".join(lines))
        assert await follow.content.readline() == lines[0]
        assert loop.time() - start >= LATENCY
        await client.lab.fault("slow", on=False)
        for line in lines[1:]:
            assert await follow.content.readline() == line


async def test_a_fault_with_seconds_ends_by_itself(client: Client) -> None:
    await client.lab.fault("expired-token", seconds=4 * LIMIT)
    assert list(client.lab.faults.active()) == ["expired-token"]
    assert await status(client) == 401
    await client.lab.fault("expired-token", seconds=0.1)  # in place of the longer time
    await asyncio.wait_for(client.lab.faults.wait_ended("expired-token"), LIMIT)
    assert client.lab.faults.active() == {}
    assert await status(client) == 200


async def test_a_cut_with_seconds_lets_in_again(client: Client) -> None:
    await client.lab.fault("cut", seconds=0.1)
    await asyncio.wait_for(client.lab.faults.wait_ended("cut"), LIMIT)
    assert await status(client) == 200


async def test_an_expired_token_reads_as_recorded(client: Client) -> None:
    await client.lab.fault("expired-token")
    async with client.get(PODS) as answer:
        assert (answer.status, await answer.read()) == (401, load("401-bad-token-pods").body)


async def test_throttle_reads_as_recorded_and_spares_logs_and_watches(client: Client) -> None:
    await client.lab.fault("throttle")
    recorded = load("429-inflight-list")
    async with client.get(PODS) as answer:
        assert (answer.status, await answer.read()) == (429, recorded.body)
        assert answer.headers["Retry-After"] == recorded.headers["retry-after"]
        assert answer.headers["Content-Type"] == recorded.headers["content-type"]
    assert await status(client, LOG) == 200
    assert await status(client, PODS, watch="true", timeoutSeconds="1") == 200


async def test_forbidden_all_spares_single_namespaces(client: Client) -> None:
    await client.lab.fault("forbidden-all")
    async with client.get(PODS) as answer:
        body = await answer.read()
    assert answer.status == 403
    assert body == load("403-nobody-list-all").body.replace(b"nobody", b"admin")
    assert await status(client, "/api/v1/namespaces/default/pods") == 200
    assert await status(client, "/api/v1/namespaces") == 200


async def ask_review(client: Client, **attributes: str) -> bool:
    review = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
    body = json.dumps({**review, "spec": {"resourceAttributes": {"verb": "list", "resource": "pods", **attributes}}})
    headers = {"Authorization": f"Bearer {client.lab.tokens['admin']}", "Content-Type": "application/json"}
    url = f"{client.lab.api_url}/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    async with client.http.post(url, data=body, headers=headers) as answer:
        assert answer.status == 201
        return bool((await answer.json())["status"]["allowed"])


async def test_forbidden_all_agrees_with_the_access_review(client: Client) -> None:
    assert await ask_review(client)
    await client.lab.fault("forbidden-all")
    assert not await ask_review(client)
    assert await ask_review(client, namespace="default")


async def test_error_500_hits_everything(client: Client) -> None:
    await client.lab.fault("error-500")
    assert [await status(client, path) for path in (PODS, LOG, "/version")] == [500, 500, 500]


async def test_gone_ends_watches_with_410(client: Client) -> None:
    async with client.get(PODS, watch="true") as watch:
        assert json.loads(await watch.content.readline())["type"] == "ADDED"
        await client.lab.fault("gone")
        event = json.loads(await watch.content.readline())
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    assert client.lab.faults.active() == {}


async def test_rotated_log_leaves_an_empty_file_and_goes_on(client: Client) -> None:
    client.lab.cluster.write_log("default", "a", "app", b"old\n")
    async with client.get(LOG, follow="true") as follow:
        assert await follow.content.readline() == b"old\n"
        await client.lab.fault("rotated-log")
        client.lab.cluster.write_log("default", "a", "app", b"new\n")
        assert await follow.content.readline() == b"new\n"
    async with client.get(LOG) as answer:
        assert await answer.read() == b"new\n"


async def test_clean_end_ends_follows_while_the_container_runs(client: Client) -> None:
    client.lab.cluster.write_log("default", "a", "app", b"old\n")
    async with client.get(LOG, follow="true") as follow:
        assert await follow.content.readline() == b"old\n"
        await client.lab.fault("clean-end")
        assert await follow.content.read() == b""
    assert "running" in client.lab.cluster.pod("default", "a")["status"]["containerStatuses"][0]["state"]


async def test_unknown_names_and_places_are_usage_errors(client: Client) -> None:
    with pytest.raises(UsageError) as unknown:
        await client.lab.fault("frezze")
    assert "freeze" in unknown.value.hint
    with pytest.raises(UsageError):
        await client.lab.fault("cut", "moon")
    with pytest.raises(UsageError):
        await client.lab.fault("cut", seconds=-1)
    with pytest.raises(UsageError) as misplaced:
        await client.lab.fault("throttle", "jump")
    assert misplaced.value.detail == "throttle happens at: api."
    assert client.lab.faults.active() == {}


async def test_a_fault_hits_its_place_or_all_that_are_seen_from_outside(client: Client) -> None:
    await client.lab.fault("cut", "jump")
    assert list(client.lab.faults.active()) == ["cut@jump"]
    assert await status(client) == 200
    await client.lab.fault("cut", "inner")
    await client.lab.fault("cut", seconds=60.0)
    azure = {"cut@bastion", "cut@arm", "cut@entra", "cut@relay"}
    assert client.lab.faults.active().keys() == {"cut@jump", "cut@inner", "cut@api", *azure}
    with pytest.raises(aiohttp.ClientConnectorError):
        await status(client)
    await client.lab.fault("cut", "api", on=False)
    assert client.lab.faults.active().keys() == {"cut@jump", "cut@inner", *azure}
    assert await status(client) == 200
    await client.lab.fault("cut", on=False)
    assert client.lab.faults.active() == {}


def test_numbers_are_names_too() -> None:
    assert [find_fault(name).name for name in ("401", "403", "410", "429", "500")] == [
        "expired-token", "forbidden-all", "gone", "throttle", "error-500",
    ]  # fmt: skip
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write(b"end")
    writer.close()


async def test_the_door_passes_much_in_both_directions_and_a_half_close() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Door(server.sockets[0].getsockname()[1]) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        sent = b"".join(b"%08d" % number for number in range(500_000))
        got = spawn(reader.read(-1), name="read")
        writer.write(sent)
        await writer.drain()
        writer.write_eof()
        assert await asyncio.wait_for(got, LIMIT) == sent + b"end"
        writer.close()


async def test_a_cut_stream_ends_with_a_reset_not_an_end() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Door(server.sockets[0].getsockname()[1]) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        door.cut_streams()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), LIMIT)
        writer.close()


async def test_a_door_without_a_server_behind_it_resets() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and kept: nobody else listens there
        async with Door(unused.getsockname()[1]) as door:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), LIMIT)
            writer.close()
