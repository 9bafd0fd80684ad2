"""Whatever a tunnel is doing when nobody wants it any more: its program ends with it, and nothing is left.

And when its program has gone, whoever takes its port gets nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.arc.child_env import child_environment
from app.arc.clocks import Clock
from app.arc.control import Control
from app.arc.credential import RelayCredential
from app.arc.native import NativeTunnel, Source, with_token
from app.arc.preflight import ArcFacts
from app.arc.process import ArcProcess
from app.arc.run_records import RunFolder
from app.asking import Asker
from app.errors import JumpdeckError, RouteError
from app.identity.attending import attend, attending
from app.routes.arc import ArcConnection
from app.secrets.secret import Secret
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


async def test_a_stranger_that_takes_the_port_before_we_have_connected_gets_nothing() -> None:
    """The first look still sees the program, the second one does not."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    looks: list[int] = []

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    async def check(port: int) -> None:
        looks.append(port)
        if len(looks) > 1:
            raise RouteError("Another program listens", code="JD-ARC-PORT")

    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    control = Control(port, 1, check, "id")
    offer = RelayCredential(b"kubeconfig", "r", "h", Secret("sesame"), 1e10)
    try:
        async with asyncio.timeout(LIMIT):
            with pytest.raises(RouteError) as caught:
                await control.register(ARC, offer)
            assert caught.value.code == "JD-ARC-PORT" and looks == [port, port]
            assert await got == b""
    finally:
        await control.aclose()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("user", ["'text'", "[a]", "{token: old}", ""])
def test_a_kubeconfig_of_an_odd_shape_takes_the_token_all_the_same(user: str) -> None:
    made = with_token(f"users:\n- name: x\n  user: {user}\n".encode(), Secret("sesame"))
    assert b"token: sesame" in made
