"""Every fault of the lab's Azure Bastion as the published az client sees it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import requests
import websocket

from app.lab import bastion_faults, bastion_tunnel
from tests.az_client import LIMIT
from tests.bastion_world import VM, World, bastion_world, echoed


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with bastion_world(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("fault", "status", "kind", "words"),
    [
        ("bastion-403", 403, "application/json", "authorization"),
        ("bastion-502", 502, "text/html", "<h1>502 Bad Gateway</h1>"),
        ("bastion-401-text", 401, "text/plain", "Unauthorized"),
        ("tunneling-disabled", 400, "application/json", "Tunneling is disabled"),
    ],
)
async def test_an_exchange_that_fails(world: World, fault: str, status: int, kind: str, words: str) -> None:
    world.plane.faults.add(fault)
    answer = await world.run(world.az.ask, world.az.form(VM, 22))
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (status, kind)
    assert words in answer.text
    if kind != "application/json":
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
    world.plane.faults.clear()
    await world.session()


async def test_no_node_id(world: World) -> None:
    world.plane.faults.add("no-node-id")
    answer = await world.run(world.az.ask, world.az.form(VM, 22))
    assert answer.status_code == 200 and "nodeId" not in answer.json()


async def test_slow_token(world: World) -> None:
    world.plane.faults.add("slow-token")
    begin = time.monotonic()
    await world.session()
    assert time.monotonic() - begin >= 0.7


async def test_no_upgrade_headers(world: World) -> None:
    world.plane.faults.add("no-upgrade-headers")
    tokens = await world.session()
    with pytest.raises(websocket.WebSocketException, match="Invalid WebSocket Header"):
        await world.run(world.az.open, tokens)
    assert world.plane.counters.upgrades == 1
    assert await world.run(world.az.delete, tokens) == 204


async def test_rsv1(world: World) -> None:
    world.plane.faults.add("rsv1")
    _, socket_ = await world.opened()
    with pytest.raises(websocket.WebSocketProtocolException, match="rsv"):
        await world.run(echoed, socket_, b"x")
    await world.run(world.az.hang_up, socket_)


async def test_http_400_after_101(world: World) -> None:
    world.plane.faults.add("http-400-after-101")
    _, socket_ = await world.opened()
    # "HT" is read as the head of a text frame of the client's kind, whose 84 masked bytes never come
    with pytest.raises((websocket.WebSocketException, ssl.SSLError, ConnectionError)):
        await world.run(socket_.recv)
    await world.run(world.az.hang_up, socket_)


async def test_silent_101(world: World) -> None:
    world.plane.faults.add("silent-101")
    tokens, socket_ = await world.opened()
    socket_.settimeout(0.3)
    with pytest.raises(websocket.WebSocketTimeoutException):
        await world.run(echoed, socket_, b"x")
    await world.run(socket_.shutdown)
    assert await world.run(world.az.delete, tokens) == 204
    await world.until(lambda counters: counters.open == 0)


async def test_close_midstream(world: World) -> None:
    _, socket_ = await world.opened()
    assert await world.run(echoed, socket_, b"x" * 4096) == b"x" * 4096
    world.plane.faults.add("close-midstream")
    assert await world.run(echoed, socket_, b"little") == b"little"

    def talk() -> None:
        for _ in range(bastion_tunnel.CUT_AFTER // 4096):
            socket_.send_binary(b"y" * 4096)
        while socket_.recv():
            pass

    with pytest.raises((websocket.WebSocketException, ConnectionError, ssl.SSLError)):
        await world.run(talk)
    await world.run(world.az.hang_up, socket_)
    await world.until(lambda counters: counters.open == 0)


async def test_used_token(world: World) -> None:
    world.plane.passing["used-token"] = 1
    tokens = await world.session()
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        await world.run(world.az.open, tokens)
    assert refused.value.status_code == 401
    await world.run(world.az.hang_up, await world.run(world.az.open, tokens))  # it happened once


async def test_delete_404(world: World) -> None:
    world.plane.faults.add("delete-404")
    assert await world.run(world.az.delete, await world.session()) == 404
    assert world.plane.counters.standing == 0


async def test_delete_hangs(world: World) -> None:
    world.plane.faults.add("delete-hangs")
    tokens = await world.session()
    with pytest.raises(requests.ReadTimeout):
        await world.run(world.az.delete, tokens, timeout=0.3)
    assert world.plane.counters.standing == 1
    world.plane.faults.clear()
    assert await world.run(world.az.delete, tokens) == 204


async def test_one_session(world: World) -> None:
    world.plane.faults.add("one-session")
    late = await world.session()
    _, socket_ = await world.opened()
    answer = await world.run(world.az.ask, world.az.form(VM, 22))
    assert answer.status_code == 400 and "one session" in answer.json()["message"]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        await world.run(world.az.open, late)
    assert refused.value.status_code == 409
    await world.run(world.az.hang_up, socket_)
    await world.until(lambda counters: counters.open == 0)
    await world.run(world.az.hang_up, await world.run(world.az.open, late))


async def test_the_door_cuts_and_refuses(world: World) -> None:
    _, socket_ = await world.opened()
    assert await world.run(echoed, socket_, b"x") == b"x"
    await world.plane.door.shut("test")
    world.plane.door.cut_streams()
    with pytest.raises((ConnectionError, websocket.WebSocketException)):
        await world.run(socket_.recv)
    with pytest.raises(requests.ConnectionError):
        await world.session()
    await world.run(world.az.hang_up, socket_)
    await world.plane.door.unshut("test")
    await world.session()
    await asyncio.wait_for(world.echoes[0].wait_closed(), LIMIT)


async def test_the_door_freezes(world: World) -> None:
    tokens, socket_ = await world.opened()
    world.plane.door.set_frozen(True)
    with pytest.raises(requests.exceptions.Timeout):
        await world.run(world.az.delete, tokens, timeout=0.3)
    world.plane.door.set_frozen(False)
    assert await world.run(echoed, socket_, b"thawed") == b"thawed"
    await world.run(world.az.hang_up, socket_)


def test_every_fault_is_driven_here() -> None:
    files = Path(__file__), Path(__file__).with_name("test_lab_bastion.py")
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    assert [name for name in bastion_faults.FAULTS if f'"{name}"' not in source] == []
