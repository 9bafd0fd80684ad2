"""Whatever a tunnel is doing when nobody wants it any more: its program ends with it, and nothing is left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.arc.child_env import child_environment
from app.arc.clocks import Clock
from app.arc.credential import RelayCredential
from app.arc.native import NativeTunnel, Source
from app.arc.preflight import ArcFacts
from app.arc.process import ArcProcess
from app.arc.run_records import RunFolder
from app.asking import Asker
from app.errors import JumpdeckError
from app.identity.attending import attend, attending
from app.routes.arc import ArcConnection
from app.socket_owner import PeerOwner, Verdict
from tests.arc_programs import stand_in

ARC = "/subscriptions/0/resourceGroups/g/providers/Microsoft.Kubernetes/connectedClusters/shop-01"
LIMIT = 20.0


class Program:
    """A program that runs until it is ended."""

    http_port, https_port, pid = 1, 2, 3
    ended = 0

    async def check_owner(self, port: int) -> PeerOwner:
        return PeerOwner(Verdict.OURS)

    async def wait_end(self) -> JumpdeckError:
        return await asyncio.get_running_loop().create_future()

    async def aclose(self) -> None:
        self.ended += 1


async def no_relay() -> RelayCredential:
    raise AssertionError("nobody asks for one")


def tunnel_of(program: Program) -> NativeTunnel:
    return NativeTunnel(program, Source(ARC, no_relay, None, ""), "arcProxy")


@pytest.mark.parametrize("steps", range(6))
async def test_whoever_gives_up_closing_it_has_ended_the_program(steps: int) -> None:
    program = Program()
    connection = ArcConnection("shop-01", "Entra", tunnel_of(program), ArcFacts(ARC, "shop-01", ""))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(connection.aclose())
    for _ in range(steps):  # it is given up at any point
        await asyncio.sleep(0)
    begun = steps > 0
    closing.cancel()
    await asyncio.wait({closing}, timeout=LIMIT)
    if not begun:  # it never ran
        await connection.aclose()
    assert program.ended == 1


async def test_whoever_gives_up_while_its_folder_is_made_leaves_none(tmp_path: Path) -> None:
    program = stand_in(tmp_path / "bin")
    starting = asyncio.ensure_future(ArcProcess.start(program, {}, child_environment(), limit=LIMIT))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait({starting}, timeout=LIMIT)
    assert starting.cancelled()
    folder = await RunFolder.make_aside(program.path)  # the thread of the one before has ended by then, or long after
    assert list((tmp_path / "state" / "run").iterdir()) == [folder.path]
    folder.remove()


async def test_nobody_is_asked_to_mend_a_tunnel_that_stands(tmp_path: Path) -> None:
    asked: list[Asker | None] = []

    async def renew() -> float:
        asked.append(attending())
        return 1e10

    class Person(Asker):
        """Would be asked."""

    person = Person()
    tunnel = tunnel_of(Program())
    tunnel._relay = Clock("relay", 1e10, renew, Source(ARC, no_relay, None, "").relay_patience)
    attend(person)
    await tunnel.renew()
    assert asked == [None] and attending() is person
    await tunnel.aclose()
