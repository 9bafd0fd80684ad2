"""The lab's Azure Bastion as the published az client sees it: with requests and websocket-client, over real TLS."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import logging
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import requests
import websocket

from app.lab.bastion import BastionPlane
from app.lab.bastion_sessions import NODES
from app.lab.certificates import make_certificates
from app.lab.practice import Lab
from tests.az_client import LIMIT, AzClient
from tests.bastion_world import AKS, BASTION, GROUP, THREADS, TOKEN, VM, World, bastion_world, echoed

SIZE = (1024 if os.environ.get("SOAK") else 20) * 1024 * 1024
"""Bytes that go both ways at once."""

PARALLEL = THREADS


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with bastion_world(tmp_path) as made:
        yield made


async def test_a_stream_as_az_carries_it(world: World) -> None:
    def talk() -> bytes:
        with world.az.stream(VM.upper(), 22) as local:
            local.sendall(b"SSH-2.0-az\r\n")
            return local.recv(100)

    assert await world.run(talk) == b"SSH-2.0-az\r\n"
    await world.until(lambda counters: counters.open == 0)
    counters = world.plane.counters
    assert (counters.issued, counters.deleted, counters.standing, counters.upgrades) == (1, 1, 0, 1)
    assert counters.targets == {f"{VM.lower()}:22": 1}
    assert (counters.chained, counters.refused, counters.refused_upgrades, counters.deleted_again) == (0, 0, 0, 0)


@pytest.mark.parametrize("frames", ["", "fragments", "big-frames"])
async def test_many_bytes_both_ways_at_once(world: World, frames: str) -> None:
    world.plane.faults |= {frames} - {""}
    block = random.Random(4).randbytes(1 << 20)
    share = {"": 1, "big-frames": 10, "fragments": 40}[frames]  # every frame in pieces costs the most
    size = max(SIZE // share // len(block), 1) * len(block)

    def talk() -> tuple[str, str]:
        sent, got, left = hashlib.sha256(), hashlib.sha256(), size
        with world.az.stream(VM, 22) as local:
            writing = world.pool.submit(lambda: [local.sendall(block) for _ in range(size // len(block))])
            while left:
                data = local.recv(min(left, 1 << 16))
                assert data, f"the stream ended with {left} bytes to come"
                got.update(data)
                left -= len(data)
            writing.result()
        for _ in range(size // len(block)):
            sent.update(block)
        return sent.hexdigest(), got.hexdigest()

    sent, got = await world.run(talk)
    assert sent == got


async def test_frames_of_more_than_64_kib_come(world: World) -> None:
    world.plane.faults.add("big-frames")
    tokens, socket_ = await world.opened()
    data = random.Random(5).randbytes(200_000)

    def talk() -> list[int]:
        for start in range(0, len(data), 4096):
            socket_.send_binary(data[start : start + 4096])
        sizes, got = [], b""
        while len(got) < len(data):
            piece = socket_.recv()
            assert isinstance(piece, bytes)
            sizes.append(len(piece))
            got += piece
        world.az.hang_up(socket_)
        assert got == data
        return sizes

    assert max(await world.run(talk)) > 65_536
    assert await world.run(world.az.delete, tokens) == 204


async def test_a_frame_of_any_size_is_taken(world: World) -> None:
    tokens, socket_ = await world.opened()
    data = random.Random(6).randbytes(3_000_001)

    def talk() -> bytes:
        writing = world.pool.submit(socket_.send_binary, data)
        got = b""
        while len(got) < len(data):
            piece = socket_.recv()
            assert isinstance(piece, bytes) and piece
            got += piece
        writing.result()
        socket_.ping("still there?")
        world.az.hang_up(socket_)
        return got

    assert await world.run(talk) == data
    assert await world.run(world.az.delete, tokens) == 204


async def test_fifty_at_once(world: World) -> None:
    barrier_passed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def talk(number: int) -> bytes:
        word = f"stream {number}".encode()
        with world.az.stream(VM, 22) as local:
            local.sendall(word)
            got = local.recv(100)
            asyncio.run_coroutine_threadsafe(barrier_passed.wait(), loop).result(LIMIT)
            return got

    talks = [asyncio.ensure_future(world.run(talk, number)) for number in range(PARALLEL)]
    await world.until(lambda counters: counters.open == PARALLEL)
    barrier_passed.set()
    assert await asyncio.gather(*talks) == [f"stream {number}".encode() for number in range(PARALLEL)]
    await world.until(lambda counters: counters.open == 0)
    counters = world.plane.counters
    assert (counters.issued, counters.deleted, counters.standing, counters.most_open) == (
        PARALLEL,
        PARALLEL,
        0,
        PARALLEL,
    )


async def test_the_api_server_through_the_tunnel(tmp_path: Path) -> None:
    folder = tmp_path / "bastion"
    folder.mkdir()
    certificates = make_certificates(folder)
    async with Lab.open(estate="none") as lab:
        plane = BastionPlane(certificates.server_context(), {TOKEN: "somebody"}.get, {AKS: {443: lab.door.connect}})
        trust = ssl.create_default_context(cafile=str(lab.ca_pem))

        def ask() -> tuple[int, str]:
            with az.stream(AKS, 443) as local, trust.wrap_socket(local, server_hostname="localhost") as secure:
                connection = http.client.HTTPConnection("localhost")
                connection.sock = secure
                connection.request("GET", "/version", headers={"Authorization": f"Bearer {lab.tokens['admin']}"})
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())["major"]

        async with plane:
            az = AzClient(f"127.0.0.1:{plane.port}", certificates.ca, TOKEN)
            assert await asyncio.to_thread(ask) == (200, "1")


# the token exchange


async def test_what_the_exchange_answers(world: World) -> None:
    tokens = await world.session()
    assert tokens.keys() == {
        "authToken", "username", "dataSource", "availableDataSources", "nodeId", "websocketToken"
    }  # fmt: skip
    empty = await world.run(world.az.exchange, VM, 22, token="")  # as other clients send it
    assert world.plane.counters.chained == 0
    answer = await world.run(world.az.ask, world.az.form(VM, 22, token=empty["authToken"]), empty["nodeId"])
    assert answer.json()["nodeId"] == empty["nodeId"] and world.plane.counters.chained == 1


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"aztoken": "old"}, 401, "access token"),
        ({"aztoken": None}, 400, "aztoken"),
        ({"protocol": "ssh"}, 400, "protocol"),
        ({"workloadHostPort": "70000"}, 400, "workloadHostPort"),
        ({"workloadHostPort": "²"}, 400, "workloadHostPort"),
        ({"resourceId": f"{VM}2"}, 500, "Unexpected internal error"),
        ({"resourceId": f"{GROUP}/Microsoft.Network/bh-hostConnect/10.0.0.4"}, 400, "IP connect"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
async def test_a_form_that_is_wrong(world: World, change: dict[str, str | None], status: int, words: str) -> None:
    answer = await world.run(world.az.ask, {**world.az.form(VM, 22), **change})
    assert (answer.status_code, answer.json().keys()) == (status, {"message"})
    assert words in answer.json()["message"] and TOKEN not in answer.text
    assert (world.plane.counters.refused, world.plane.counters.issued) == (1, 0)


async def test_another_encoding_is_an_internal_error(world: World) -> None:
    url = f"https://{world.plane.host}/api/tokens"
    form = world.az.form(VM, 22)

    def post(**how: object) -> requests.Response:
        return requests.post(url, verify=world.az.ca, timeout=LIMIT, **how)  # type: ignore[arg-type]

    for how in (
        {"json": form},
        {"data": form, "headers": {"Authorization": f"Bearer {TOKEN}"}},
        {"data": b"\xff=\xff"},
    ):
        assert (await world.run(post, **how)).status_code == 500


async def test_other_paths_are_not_there(world: World) -> None:
    def get(path: str) -> int:
        return requests.get(f"https://{world.plane.host}{path}", verify=world.az.ca, timeout=LIMIT).status_code

    assert await world.run(get, "/api/rdpfile?resourceId=x&format=rdp") == 404
    assert await world.run(get, "/webtunnelv2/x?X-Node-Id=y") == 400  # no handshake


async def test_ip_connect(world: World) -> None:
    resource = f"{GROUP}/Microsoft.Network/bh-hostConnect/10.0.0.4"
    tokens = await world.run(world.az.exchange, resource, 22, hostname="10.0.0.4")
    socket_ = await world.run(world.az.open, tokens)
    assert await world.run(echoed, socket_, b"by address") == b"by address"
    await world.run(world.az.hang_up, socket_)
    unknown = resource.replace("10.0.0.4", "10.0.0.5")
    tokens = await world.run(world.az.exchange, unknown, 22, hostname="10.0.0.5")
    socket_ = await world.run(world.az.open, tokens)
    assert await world.run(socket_.recv) == ""  # az takes that for the end
    await world.run(world.az.hang_up, socket_)


# the WebSocket


async def test_a_token_is_good_once_and_at_its_node(world: World) -> None:
    tokens = await world.session()
    other = next(node for node in NODES if node != tokens["nodeId"])
    for wrong, status in (({"nodeId": other}, 404), ({"websocketToken": "x"}, 401)):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            await world.run(world.az.open, {**tokens, **wrong})
        assert refused.value.status_code == status
    socket_ = await world.run(world.az.open, tokens)
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        await world.run(world.az.open, tokens)
    assert refused.value.status_code == 401
    assert await world.run(echoed, socket_, b"undisturbed") == b"undisturbed"
    await world.run(world.az.hang_up, socket_)
    assert world.plane.counters.refused_upgrades == 3


async def test_the_handshake_is_plain(world: World) -> None:
    tokens, socket_ = await world.opened()
    assert socket_.getsubprotocol() is None
    headers = socket_.getheaders()
    assert (
        headers is not None and headers["upgrade"].lower() == "websocket" and "sec-websocket-extensions" not in headers
    )
    await world.run(world.az.hang_up, socket_)
    assert await world.run(world.az.delete, tokens) == 204


@pytest.mark.parametrize("port", [24, 25], ids=["refused", "nothing-there"])
async def test_a_target_that_cannot_be_reached(world: World, port: int) -> None:
    tokens, socket_ = await world.opened(port)
    op, data = await world.run(socket_.recv_data)
    assert (op, data) == (websocket.ABNF.OPCODE_CLOSE, (1011).to_bytes(2, "big"))
    await world.run(world.az.hang_up, socket_)
    assert await world.run(world.az.delete, tokens) == 204


async def test_the_target_closes(world: World) -> None:
    _, socket_ = await world.opened(23)
    assert await world.run(socket_.recv) == b"word"
    assert await world.run(socket_.recv_data) == (websocket.ABNF.OPCODE_CLOSE, (1000).to_bytes(2, "big"))
    await world.run(world.az.hang_up, socket_)
    await world.until(lambda counters: counters.open == 0)
    assert world.plane.counters.standing == 1  # a session that nobody deletes


async def test_the_client_closes(world: World) -> None:
    _, socket_ = await world.opened()
    assert await world.run(echoed, socket_, b"x") == b"x"
    await world.run(world.az.hang_up, socket_)
    await asyncio.wait_for(world.echoes[0].wait_closed(), LIMIT)


async def test_the_client_drops(world: World) -> None:
    _, socket_ = await world.opened()
    assert await world.run(echoed, socket_, b"x") == b"x"
    await world.run(socket_.shutdown)
    await world.until(lambda counters: counters.open == 0)
    await asyncio.wait_for(world.echoes[0].wait_closed(), LIMIT)


async def test_deleting_a_session_ends_its_tunnel(world: World) -> None:
    tokens, socket_ = await world.opened()
    assert await world.run(echoed, socket_, b"x") == b"x"
    assert await world.run(world.az.delete, tokens) == 204
    assert await world.run(socket_.recv) == ""
    await world.run(world.az.hang_up, socket_)
    assert await world.run(world.az.delete, tokens) == 404
    assert (world.plane.counters.deleted, world.plane.counters.deleted_again) == (1, 1)


async def test_a_session_is_deleted_at_its_node(world: World) -> None:
    tokens = await world.session()
    other = next(node for node in NODES if node != tokens["nodeId"])
    assert await world.run(world.az.delete, {**tokens, "nodeId": ""}) == 400
    assert await world.run(world.az.delete, {**tokens, "nodeId": other}) == 404
    assert await world.run(world.az.delete, tokens) == 204
    with pytest.raises(websocket.WebSocketBadStatusException):
        await world.run(world.az.open, tokens)


@pytest.mark.parametrize(("op", "last", "code"), [(2, 0, 1002), (0, 1, 1002), (1, 1, 1003)])
async def test_what_a_client_must_not_send(world: World, op: int, last: int, code: int) -> None:
    _, socket_ = await world.opened()

    def talk() -> object:
        socket_.send_frame(websocket.ABNF(last, 0, 0, 0, op, 1, b"data"))
        return socket_.recv_data()

    assert await world.run(talk) == (websocket.ABNF.OPCODE_CLOSE, code.to_bytes(2, "big"))
    await world.run(world.az.hang_up, socket_)


# the Developer SKU


async def test_developer(world: World) -> None:
    body = {"resourceId": VM, "bastionResourceId": BASTION, "vmPort": 22, "azToken": TOKEN}
    body["connectionType"] = "nativeclient"
    assert (await world.run(world.az.data_pod, body)).status_code == 404
    world.plane.sku = "Developer"
    assert (await world.run(world.az.data_pod, {**body, "azToken": "old"})).status_code == 401
    assert (await world.run(world.az.data_pod, {**body, "resourceId": f"{AKS}-other"})).status_code == 403
    answer = await world.run(world.az.data_pod, body)
    assert (answer.status_code, answer.text) == (200, world.plane.host)
    assert answer.headers["Content-Type"].startswith("text/plain")
    tokens = await world.session()
    with pytest.raises(websocket.WebSocketBadStatusException):
        await world.run(world.az.open, tokens)
    socket_ = await world.run(world.az.open, tokens, developer=True)
    assert await world.run(echoed, socket_, b"alone") == b"alone"
    assert (await world.run(world.az.ask, world.az.form(VM, 22))).status_code == 400  # one session
    await world.run(world.az.hang_up, socket_)


async def test_basic_has_no_tunnel(world: World) -> None:
    world.plane.sku = "Basic"
    answer = await world.run(world.az.ask, world.az.form(VM, 22))
    assert answer.json() == {"message": "Tunneling is disabled"}


async def test_clients_do_not_trust_another_authority(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = AzClient(world.plane.host, make_certificates(folder).ca, TOKEN)
    with pytest.raises(requests.exceptions.SSLError):
        await world.run(other.exchange, VM, 22)
    tokens = await world.session()
    with pytest.raises(ssl.SSLCertVerificationError):
        await world.run(other.open, tokens)


async def test_a_client_that_does_not_read_holds_the_target_back(world: World) -> None:
    _, socket_ = await world.opened()
    assert isinstance(socket_.sock, socket.socket)
    socket_.sock.settimeout(1.0)

    def flood() -> int:
        sent = 0
        try:
            while sent < 256 * 1024 * 1024:
                sent += socket_.send_binary(b"z" * 65_536)
        except (websocket.WebSocketTimeoutException, OSError):
            pass
        return sent

    assert await world.run(flood) < 64 * 1024 * 1024
    await world.run(world.az.hang_up, socket_)
    await world.until(lambda counters: counters.open == 0)


async def test_no_token_comes_into_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tokens, socket_ = await world.opened()
    await world.run(world.az.hang_up, socket_)
    await world.run(world.az.delete, tokens)
    ours = [
        record.getMessage() for record in caplog.records if record.name.split(".")[0] in ("app", "aiohttp", "asyncio")
    ]
    for secret in (TOKEN, tokens["authToken"], tokens["websocketToken"]):
        assert not any(secret in message for message in ours)
