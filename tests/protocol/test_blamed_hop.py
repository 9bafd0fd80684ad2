"""Facts about failures inside a Bastion: the hop that is to blame is named, also for what runs inside its stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.dialer import Dialer, ProtocolFactory
from app.errors import JumpdeckError, Recovery, RouteError
from app.routes.bastion_failures import on_the_way, silent
from app.routes.direct import DirectDialer
from app.routes.failures import from_os_error
from app.routes.route import Route
from app.routes.shared import SharedHops
from app.rows import HopState

_DEAD = "The SSH server stopped answering"


class _Stands:
    """A connection through some hop; `error` is what it is found to be when asked."""

    def __init__(self, error: JumpdeckError | None = None) -> None:
        self.error = error

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        raise NotImplementedError

    async def wait_lost(self) -> JumpdeckError:
        await asyncio.get_running_loop().create_future()
        raise NotImplementedError

    def facts(self) -> HopState:
        return HopState("jump (SSH)")

    async def verify(self, limit: float) -> None:
        if self.error is not None:
            raise self.error


class _Gate(_Stands):
    """A Bastion: it cannot tell how its streams are, only whether it takes a connection."""

    def __init__(self, unreached: JumpdeckError | None = None) -> None:
        super().__init__()
        self.unreached, self.asked = unreached, 0

    async def reach(self, limit: float) -> None:
        self.asked += 1
        if self.unreached is not None:
            raise self.unreached


class _Hop:
    key = None

    def __init__(self, label: str, dialer: Dialer) -> None:
        self.label, self.dialer = label, dialer

    @asynccontextmanager
    async def open(self, through: Dialer) -> AsyncIterator[Dialer]:
        yield self.dialer


@asynccontextmanager
async def _nothing(label: str) -> AsyncIterator[None]:
    yield


async def _route(gate: _Gate, *behind: _Stands) -> Route:
    hops = (_Hop("hub (Bastion)", gate), *(_Hop("jump (SSH)", each) for each in behind))
    return await Route.open(hops, DirectDialer(), SharedHops(), _nothing)


def _dead() -> RouteError:
    return RouteError(_DEAD, "jump:22: no answer within 3 s", "It is tried again.", code="JD-SSH-DEAD",
                      recovery=Recovery.TRANSIENT)  # fmt: skip


async def test_a_bastion_that_takes_no_connection_is_blamed_for_what_died_inside_it() -> None:
    gate = _Gate(silent("hub", "bst-1.bastion.azure.com:443", 3.0))
    route = await _route(gate, _Stands(_dead()))
    with pytest.raises(RouteError) as found:
        await route.verify(1.0)
    told = await route.blamed(found.value, 1.0)
    assert told.lines() == [
        "The Bastion does not answer [JD-BASTION-SILENT]",
        "hub: bst-1.bastion.azure.com:443: nothing within 3 s",
        "Check the network, its proxy, and the Bastion in the Azure portal; it is tried again.",
    ]
    assert gate.asked == 1, "the look beside `verify` serves the error that follows it"


async def test_a_bastion_that_answers_is_named_as_the_way_of_what_died_inside_it() -> None:
    gate = _Gate()
    route = await _route(gate, _Stands(_dead()))
    error = await route.blamed(_dead(), 1.0)
    assert (error.title, error.code) == (_DEAD, "JD-SSH-DEAD")
    assert error.detail == "jump:22: no answer within 3 s; by way of hub (Bastion), which answers"
    assert (await route.blamed(error, 1.0)).detail == error.detail, "several sessions share the error: it is said once"


async def test_a_bastion_that_refuses_new_streams_ends_none_that_stands() -> None:
    route = await _route(_Gate(silent("hub", "bst-1:443", 3.0)), _Stands())
    await route.verify(1.0)
    await (await _route(_Gate(silent("hub", "bst-1:443", 3.0)))).verify(1.0)


async def test_a_route_without_a_bastion_keeps_its_words() -> None:
    route = await Route.open((_Hop("jump (SSH)", _Stands()),), DirectDialer(), SharedHops(), _nothing)
    error = _dead()
    assert await route.blamed(error, 1.0) is error
    assert error.detail == "jump:22: no answer within 3 s"


@pytest.mark.parametrize(
    ("raised", "title"),
    [
        (ConnectionRefusedError(), "The Bastion refuses the connection"),
        (ConnectionResetError(), "The connection to the Bastion broke off"),
        (TimeoutError(), "The Bastion does not answer"),
        (OSError("odd"), "Connection failed (at the Bastion)"),
    ],
)
async def test_what_keeps_us_from_the_bastion_names_it(raised: OSError, title: str) -> None:
    before = from_os_error(raised, "bst-1:443")
    after = on_the_way(before, "hub to jump port 22")
    assert after.title == title
    assert after.detail.startswith("hub to jump port 22: bst-1:443")
    assert (after.code, after.recovery, after.exit_code) == (before.code, before.recovery, before.exit_code)


async def test_another_hops_error_on_the_way_to_the_bastion_is_left_alone() -> None:
    error = _dead()
    assert on_the_way(error, "hub") is error
