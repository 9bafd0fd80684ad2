"""Everything that a Bastion does wrong in production: what the operator reads, and that no session is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from app.errors import ExitCode, JumpdeckError, Recovery
from app.identity.identity import AccessToken
from app.records import replace
from app.routes.bastion_dialer import BastionDialer, BastionLimits
from app.routes.bastion_failures import Where, said
from app.routes.bastion_http import HttpAnswer
from app.routes.bastion_tokens import BastionTokens, Exchange, Target
from app.routes.failures import StreamFailed
from tests.bastion_client import QUICK, WAIT, Client, FakeIdentity, keep
from tests.bastion_world import BASTION, VM, World, bastion_world
from tests.hops import Keep

WORD = 23
"""The port of the VM at which a server speaks first."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with bastion_world(tmp_path) as made:
        yield made


@pytest.fixture
def client(world: World, tmp_path: Path) -> Client:
    return Client(world, tmp_path)


async def nothing_left(world: World) -> None:
    """Every session that was given out has been deleted, once."""
    await world.until(lambda counters: counters.standing == 0)
    assert world.plane.counters.deleted == world.plane.counters.issued
    assert (world.plane.counters.chained, world.plane.counters.deleted_again) == (0, 0)


@pytest.mark.parametrize("fault", ["no-upgrade-headers", "rsv1", "slow-token", "delete-404", "fragments", "big-frames"])
async def test_what_is_odd_but_works(world: World, client: Client, fault: str) -> None:
    world.plane.faults.add(fault)
    async with client.opened() as dialer:
        transport, protocol = await keep(dialer)
        transport.write(b"hello" * 1000)
        assert await protocol.until(5000) == b"hello" * 1000
        transport.close()
    await nothing_left(world)
    assert world.plane.counters.issued == 1


@pytest.mark.parametrize(
    ("fault", "code", "exit_code", "title", "issued"),
    [
        ("bastion-403", "JD-BASTION-FORBIDDEN", ExitCode.ROUTE, "The Bastion refuses you this target", 0),
        ("bastion-502", "JD-BASTION-SERVICE", ExitCode.ROUTE, "The Bastion has a fault", 0),
        ("bastion-401-text", "JD-SIGN-IN-BASTION", ExitCode.SIGN_IN, "The Bastion does not accept the sign-in", 0),
        ("tunneling-disabled", "JD-BASTION-TUNNELING", ExitCode.ROUTE, "Tunnelling is switched off at the Bastion", 0),
        ("used-token", "JD-BASTION-WEBSOCKET", ExitCode.ROUTE, "The Bastion does not open the stream", 3),
        ("http-400-after-101", "JD-BASTION-UPGRADE", ExitCode.ROUTE,
         "The Bastion opened the stream and took it back", 3),
        ("silent-101", "JD-BASTION-NO-BYTE", ExitCode.ROUTE,
         "The Bastion opened the stream, and nothing comes from the target", 3),
        ("no-node-id", "JD-BASTION-ANSWER", ExitCode.ROUTE, "The Bastion's answer cannot be read", 1),
    ],
)  # fmt: skip
async def test_a_server_that_speaks_first(
    world: World, client: Client, fault: str, code: str, exit_code: ExitCode, title: str, issued: int
) -> None:
    world.plane.faults.add(fault)
    async with client.opened(VM, limits=QUICK if fault == "silent-101" else None) as dialer:
        with pytest.raises(JumpdeckError) as caught:
            await keep(dialer, WORD)
        error = caught.value
        assert (error.code, error.exit_code, error.title) == (code, exit_code, title)
        assert "lab-bastion to jump port 23" in error.detail
        assert error.hint
        assert world.plane.counters.issued == issued
    await nothing_left(world)


@pytest.mark.parametrize("fault", ["http-400-after-101", "silent-101", "used-token"])
@pytest.mark.parametrize("target", [VM, None])
async def test_intermittent_failures_are_cured_by_a_new_session(
    world: World, client: Client, fault: str, target: str | None
) -> None:
    world.plane.passing[fault] = 2
    limits = replace(QUICK, last_first_byte=WAIT) if fault == "silent-101" else None
    async with client.opened(*([target] if target else []), limits=limits) as dialer:
        if target:
            transport, protocol = await keep(dialer, WORD)
            assert await protocol.until(4) == b"word"
        else:
            transport, protocol = await keep(dialer)
            transport.write(b"\x16\x03\x01hello")
            assert await protocol.until(8) == b"\x16\x03\x01hello"
        assert world.plane.counters.issued == 3
        transport.close()
    await nothing_left(world)


@pytest.mark.parametrize(
    ("fault", "code"), [("http-400-after-101", "JD-BASTION-UPGRADE"), ("silent-101", "JD-BASTION-NO-BYTE")]
)
async def test_a_client_that_speaks_first_is_told_when_no_session_works(
    world: World, client: Client, fault: str, code: str
) -> None:
    world.plane.faults.add(fault)
    async with client.opened(limits=QUICK if fault == "silent-101" else None) as dialer:
        transport, protocol = await keep(dialer)
        transport.write(b"\x16\x03\x01hello")
        async with asyncio.timeout(WAIT):
            lost = await protocol.ended
        assert isinstance(lost, StreamFailed)
        assert (lost.told.code, lost.told.recovery) == (code, Recovery.TRANSIENT)
        assert world.plane.counters.issued == 3
        assert not protocol.data
    await nothing_left(world)


async def test_a_silent_target_is_named_to_who_looks_for_the_culprit(world: World, client: Client) -> None:
    world.plane.faults.add("silent-101")
    async with client.opened(limits=QUICK) as dialer:
        await dialer.reach(WAIT)
        transport, protocol = await keep(dialer)
        transport.write(b"\x16\x03\x01hello")
        async with asyncio.timeout(WAIT):
            await protocol.ended
        with pytest.raises(JumpdeckError) as caught:
            await dialer.reach(WAIT)
        assert caught.value.code == "JD-BASTION-NO-BYTE"
        world.plane.faults.clear()
    async with client.opened(limits=replace(QUICK, last_first_byte=WAIT)) as dialer:
        world.plane.passing["silent-101"] = 2
        transport, protocol = await keep(dialer)
        transport.write(b"\x16\x03\x01hello")
        assert await protocol.until(8) == b"\x16\x03\x01hello"
        await dialer.reach(WAIT)
        transport.close()
    await nothing_left(world)


async def test_what_may_have_been_acted_on_is_not_sent_twice(world: World, client: Client) -> None:
    world.plane.passing["silent-101"] = 1
    async with client.opened(limits=QUICK) as dialer:
        transport, protocol = await keep(dialer)
        transport.write(b"POST /orders HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(WAIT):
            lost = await protocol.ended
        assert isinstance(lost, StreamFailed)
        assert world.plane.counters.issued == 1
    await nothing_left(world)


async def test_a_401_asks_once_for_a_new_token(world: World, client: Client) -> None:
    client.identity.current, client.identity.fresh = "revoked", client.identity.fresh
    async with client.opened() as dialer:
        transport, protocol = await keep(dialer)
        transport.write(b"x")
        assert await protocol.until(1) == b"x"
    assert client.identity.asked == [("arm-scope", False), ("arm-scope", True)]
    await nothing_left(world)


async def test_a_closed_port_is_told_after_one_session(world: World, client: Client) -> None:
    async with client.opened(VM) as dialer:
        with pytest.raises(JumpdeckError) as caught:
            await keep(dialer, 24)
    assert caught.value.code == "JD-BASTION-CLOSED"
    assert world.plane.counters.issued == 1
    await nothing_left(world)


async def test_an_unknown_target(world: World, client: Client) -> None:
    async with client.opened(VM.replace("jump", "gone")) as dialer:
        with pytest.raises(JumpdeckError) as caught:
            await keep(dialer, 22)
    assert caught.value.code == "JD-BASTION-TARGET"
    assert "Unexpected internal error" in caught.value.detail


async def test_a_stream_that_is_cut_ends_with_an_error(world: World, client: Client) -> None:
    world.plane.faults.add("close-midstream")
    async with client.opened() as dialer:
        transport, protocol = await keep(dialer)
        transport.write(bytes(100_000))
        async with asyncio.timeout(WAIT):
            lost = await protocol.ended
        assert isinstance(lost, ConnectionResetError)
        await nothing_left(world)


async def test_one_session_at_a_time(world: World, client: Client) -> None:
    world.plane.faults.add("one-session")
    async with client.opened() as dialer:
        await keep(dialer)
        with pytest.raises(JumpdeckError) as caught:
            await keep(dialer)
        assert caught.value.code == "JD-BASTION-BUSY"
    await nothing_left(world)


async def test_deletions_that_hang_hold_up_neither_streams_nor_the_end(world: World, client: Client) -> None:
    world.plane.faults.add("delete-hangs")
    loop = asyncio.get_running_loop()
    async with client.opened(limits=BastionLimits()) as dialer:
        for _ in range(3):
            transport, protocol = await keep(dialer)
            transport.write(b"x")
            assert await protocol.until(1) == b"x"
            transport.close()
        began = loop.time()
    assert loop.time() - began < WAIT, "not as long as the Bastion is silent"


async def test_the_network_is_gone_at_the_end(world: World, client: Client) -> None:
    loop = asyncio.get_running_loop()
    async with client.opened(limits=BastionLimits()) as dialer:
        for _ in range(5):
            transport, protocol = await keep(dialer)
            transport.write(b"x")
            assert await protocol.until(1) == b"x"
        world.plane.door.set_frozen(True)
        began = loop.time()
    assert loop.time() - began < WAIT, "not as long as the Bastion is silent"


async def unanswered(world: World, dialer: BastionDialer) -> asyncio.Task[object]:
    """A dial that waits for its first byte."""
    world.plane.faults.add("silent-101")
    dialing = asyncio.ensure_future(keep(dialer, WORD))
    await world.until(lambda counters: counters.upgrades == 1)
    return dialing


async def given_up(dialing: asyncio.Task[object]) -> None:
    """Nobody wants this dial any more; it has ended."""
    dialing.cancel()
    await asyncio.wait({dialing})


async def test_a_dial_cancelled_during_the_token_exchange(world: World, client: Client) -> None:
    world.plane.faults.add("slow-token")
    usual, arrived = world.plane._exchanged, asyncio.Event()

    async def exchanged(request: web.Request) -> object:
        arrived.set()
        return await usual(request)

    setattr(world.plane, "_exchanged", exchanged)  # noqa: B010
    async with client.opened() as dialer:
        dialing = asyncio.ensure_future(keep(dialer))
        await asyncio.wait_for(arrived.wait(), WAIT)
        assert world.plane.counters.issued == 0
        await given_up(dialing)
        await world.until(lambda counters: counters.issued == 1)
    await nothing_left(world)


async def test_a_dial_cancelled_while_it_waits_for_the_first_byte(world: World, client: Client) -> None:
    async with client.opened(VM) as dialer:
        dialing = await unanswered(world, dialer)
        await given_up(dialing)
        await nothing_left(world)


async def test_a_hop_that_ends_in_the_middle_of_a_dial(world: World, client: Client) -> None:
    async with client.opened(VM) as dialer:
        dialing = await unanswered(world, dialer)
    await given_up(dialing)
    await nothing_left(world)


async def test_a_dial_given_up_while_a_person_signs_in_asks_nobody_any_more(world: World, client: Client) -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    class Signing(FakeIdentity):
        async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> AccessToken:
            waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

    client.identity = Signing()
    async with client.opened() as dialer:
        dialing = asyncio.ensure_future(keep(dialer))
        await waiting.wait()
        await given_up(dialing)
        await asyncio.wait_for(ended.wait(), WAIT)
    assert world.plane.counters.issued == 0


async def test_a_hop_that_ends_as_a_stream_opens_hands_nobody_a_dead_one(world: World, client: Client) -> None:
    async with client.opened() as dialer:
        dialing = asyncio.ensure_future(keep(dialer))
        await asyncio.sleep(0)

        def close(_: object) -> None:
            dialer._closed = True
            for stream in tuple(dialer._streams):
                stream.abort()

        next(iter(dialer._opening)).add_done_callback(close)
        with pytest.raises(JumpdeckError) as caught:
            await dialing
        assert caught.value.code == "JD-BASTION-CLOSED-HERE"
    await nothing_left(world)


async def test_a_protocol_that_cannot_be_made_leaves_no_session(world: World, client: Client) -> None:
    def broken() -> asyncio.Protocol:
        raise RuntimeError("no")

    async with client.opened() as dialer:
        with pytest.raises(RuntimeError):
            await dialer.dial("api.private", 443, broken)
        await nothing_left(world)


async def test_a_protocol_that_raises_ends_its_stream_and_no_other(world: World, client: Client) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    class Faulty(Keep):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    faulty = Faulty()
    async with client.opened() as dialer:
        other, protocol = await keep(dialer)
        (await dialer.dial("api.private", 443, lambda: faulty)).write(b"x")
        async with asyncio.timeout(WAIT):
            assert await faulty.ended is None
        other.write(b"hello")
        assert await protocol.until(5) == b"hello"
    assert [type(error) for error in reported] == [ZeroDivisionError]
    await nothing_left(world)


async def test_who_is_cancelled_twice_at_the_end_leaves_neither_session_nor_connection(
    world: World, client: Client
) -> None:
    opened: asyncio.Future[BastionDialer] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        async with client.opened() as dialer:
            await keep(dialer)
            await keep(dialer)
            opened.set_result(dialer)
            await asyncio.Event().wait()

    holding = asyncio.ensure_future(hold())
    dialer = await opened
    for _ in range(5):
        holding.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({holding})
    assert holding.cancelled() and dialer._http._kept.closed
    assert world.plane.counters.deleted == world.plane.counters.issued == 2


class Answers:
    """In place of HTTPS to a Bastion: one answer to all."""

    def __init__(self, answer: HttpAnswer) -> None:
        self.answer = answer

    async def request(self, method: str, path: str, headers: object, body: bytes = b"", *, limit: float) -> HttpAnswer:
        return self.answer


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_without_bottom_is_one_that_cannot_be_read(client: Client, status: int) -> None:
    async def token(fresh: bool) -> AccessToken:
        return await client.identity.token("", fresh=fresh)

    http = Answers(HttpAnswer(status, {}, b"[" * (60 << 10)))
    with pytest.raises(JumpdeckError) as caught:
        await BastionTokens(cast("Any", http), token).exchange(
            Target(VM, 22, "jump"), Where("hub", BASTION, "jump"), Exchange(), unusable=lambda _: None
        )
    assert caught.value.code == ("JD-BASTION-ANSWER" if status == 200 else "JD-BASTION-SERVICE")


def test_a_token_that_the_far_end_says_again_as_it_stood_in_the_url_is_not_shown() -> None:
    assert said(b"no such path: /webtunnelv2/a%2Fb%2Bc%3D?", ("a/b+c=",)) == "no such path: /webtunnelv2/***?"


def throttle(world: World, times: int, seconds: int) -> None:
    """So many exchanges are answered with 429 and a Retry-After."""
    usual, left = world.plane._exchanged, times

    async def exchanged(request: web.Request) -> object:
        nonlocal left
        left -= 1
        headers = {"Retry-After": str(seconds)}
        return web.Response(status=429, text="slow down", headers=headers) if left >= 0 else await usual(request)

    setattr(world.plane, "_exchanged", exchanged)  # noqa: B010


async def test_a_short_wait_that_the_bastion_asks_for_is_waited_out(world: World, client: Client) -> None:
    throttle(world, 1, 1)
    async with client.opened() as dialer:
        await keep(dialer)
    assert (world.plane.counters.refused, world.plane.counters.issued) == (1, 1)
    await nothing_left(world)


async def test_a_long_wait_that_the_bastion_asks_for_is_the_sessions(world: World, client: Client) -> None:
    throttle(world, 1, 60)
    async with client.opened() as dialer:
        with pytest.raises(JumpdeckError) as caught:
            await keep(dialer)
    error = caught.value
    assert (error.code, error.retry_after, error.transient) == ("JD-BASTION-THROTTLED", 60.0, True)
    assert world.plane.counters.refused == 1
