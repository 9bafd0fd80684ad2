"""Equal leading hops are one connection: counted at the server, opened once, closed with the last user."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from app.dialer import Dialer
from app.errors import JumpdeckError, Recovery, RouteError
from app.profiles.model import NetworkHop
from app.routes.direct import DirectDialer
from app.routes.shared import SharedHops
from app.routes.ssh_dialer import SshDialer
from app.tasks import spawn
from tests.fakes import FakeAsker
from tests.hops import WAIT, Ground, keep
from tests.sshd import sshd
from tests.tls_servers import echo, raw_server


async def test_six_routes_are_one_question_and_one_login(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server, raw_server(echo) as port, AsyncExitStack() as stack:
        asker = FakeAsker(host_keys=True)
        ground = Ground(tmp_path, asker=asker)
        server.authorize(ground.key)
        hop = ground.hop(server.port)
        routes = await asyncio.gather(*(stack.enter_async_context(ground.route(hop)) for _ in range(6)))
        for route in routes:
            transport, stream = await keep(route.dialer, port)
            transport.write(b"x")
            assert await stream.until(1) == b"x"
        assert len(asker.asked) == 1
        await server.logged_in(1)
        assert "shared by 6 routes" in routes[0].hop_states()[0].note
        dialer = routes[0].dialer
        for route in routes[:5]:
            await route.aclose()
        await routes[5].verify(WAIT)
        assert "shared" not in routes[5].hop_states()[0].note
        await routes[5].aclose()
        assert isinstance(dialer, SshDialer)
        assert dialer._conn.is_closed()


async def test_a_refused_login_is_one_try_for_all_who_began_before_it(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server:
        ground = Ground(tmp_path)
        ground.known_hosts.write_text(server.known_hosts_line)
        hop = ground.hop(server.port)
        began = asyncio.get_running_loop().time()

        async def one(began: float | None) -> JumpdeckError:
            with pytest.raises(JumpdeckError) as caught:
                async with ground.route(hop, began=began):
                    pass
            return caught.value

        errors = await asyncio.gather(*(one(began) for _ in range(4)))
        errors += [await one(began), await one(began)]  # these two waited for their turn
        assert {error.code for error in errors} == {"JD-SSH-DENIED"}
        await server.logged("Connection closed by authenticating")
        assert server.refusals == 1
        await one(asyncio.get_running_loop().time())  # somebody who asks now is heard
        await server.logged("Connection closed by authenticating", times=2)
        server.authorize(ground.key)
        async with ground.route(hop), ground.route(hop, began=began):  # what refused has let somebody in since
            await server.logged_in(1)


async def test_the_second_hop_differs_and_the_first_is_shared(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as hub, sshd(tmp_path / "b") as one, sshd(tmp_path / "c") as two:
        ground = Ground(tmp_path, hub, one, two)
        first = ground.hop(hub.port)
        async with ground.route(first, ground.hop(one.port)) as left:
            async with ground.route(first, ground.hop(two.port)) as right:
                assert left.dialer is not right.dialer
                for server in hub, one, two:
                    await server.logged_in(1)
            await left.verify(WAIT)


async def test_the_same_address_in_another_network_is_another_server(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server:
        ground = Ground(tmp_path, server)
        jump = ground.hop(server.port)
        async with AsyncExitStack() as stack:
            for network, logins in (("A", 1), ("B", 2), ("A", 2)):
                await stack.enter_async_context(ground.route(NetworkHop(network), jump))
                await server.logged_in(logins)


async def test_a_lost_connection_is_dropped_and_the_next_opening_makes_a_new_one(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server:
        ground = Ground(tmp_path, server)
        hop = ground.hop(server.port)
        async with ground.route(hop) as old:
            server.signal_sessions(signal.SIGKILL)
            await asyncio.wait_for(old.wait_lost(), WAIT)
            async with ground.route(hop) as new:
                await new.verify(WAIT)
                assert new.dialer is not old.dialer
                await server.logged_in(2)
                with pytest.raises(RouteError):
                    await old.verify(WAIT)
            await old.aclose()


class Gate:
    """A hop that opens when it is let, and counts."""

    label = "gate"
    key = "gate"

    def __init__(self, error: JumpdeckError | None = None) -> None:
        self.let = asyncio.Event()
        self.error = error
        self.tried = self.opened = self.closed = 0

    @asynccontextmanager
    async def open(self, through: Dialer) -> AsyncIterator[Dialer]:
        self.tried += 1
        await self.let.wait()
        if self.error is not None:
            raise self.error
        self.opened += 1
        try:
            yield through
        finally:
            self.closed += 1


async def test_one_who_goes_does_not_end_the_opening_for_the_others() -> None:
    shared, gate = SharedHops(), Gate()
    first, second = (spawn(shared.open(("gate",), gate, DirectDialer()), name=f"wait {number}") for number in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    gate.let.set()
    use = await asyncio.wait_for(second, WAIT)
    assert (gate.tried, gate.opened, shared.users(("gate",))) == (1, 1, 1)
    await use.aclose()
    await use.aclose()
    assert (gate.closed, shared.users(("gate",))) == (1, 0)


async def test_when_all_have_gone_the_opening_ends() -> None:
    shared, gate = SharedHops(), Gate()
    waiting = spawn(shared.open(("gate",), gate, DirectDialer()), name="wait")
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert (gate.opened, shared.users(("gate",))) == (0, 0)
    gate.let.set()
    use = await shared.open(("gate",), gate, DirectDialer())
    await shared.aclose()
    assert gate.closed == 1
    await use.aclose()


async def test_what_can_pass_by_itself_is_tried_anew_at_once() -> None:
    shared = SharedHops()
    gate = Gate(RouteError("down", code="JD-TEST", recovery=Recovery.TRANSIENT))
    gate.let.set()
    for _ in range(2):
        with pytest.raises(RouteError):
            await shared.open(("gate",), gate, DirectDialer(), began=0.0)
    assert gate.tried == 2
