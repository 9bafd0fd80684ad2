"""The Bastion hop against the lab's bastion host: streams, sessions, targets, trust, and their ends."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.dialer import Connection
from app.errors import JumpdeckError, Recovery
from app.profiles.model import AksCluster, BastionHop, Profile, SshHop
from app.routes.build import build_hops
from app.routes.direct import DirectDialer
from app.routes.shared import SharedHops, part_of_way
from app.rows import StepState
from tests.bastion_client import WAIT, Client, bastion_document, keep
from tests.bastion_world import AKS, BASTION, GROUP, TOKEN, VM, World, bastion_world
from tests.hops import Keep
from tests.tls_servers import authority, server_context, server_pair
from tests.web_proxy import web_proxy

SIZE = (100 if os.environ.get("SOAK") else 10) << 20
"""Bytes that go both ways at once."""
SECOND = f"{GROUP}/Microsoft.Compute/virtualMachines/jump02"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with bastion_world(tmp_path) as made:
        yield made


@pytest.fixture
def client(world: World, tmp_path: Path) -> Client:
    return Client(world, tmp_path)


async def test_a_stream_to_the_cluster_goes_to_443_whatever_is_asked(world: World, client: Client) -> None:
    async with client.opened() as dialer:
        assert isinstance(dialer, Connection)
        transport, protocol = await keep(dialer, 6443)
        transport.write(b"hello")
        assert await protocol.until(5) == b"hello"
        facts = dialer.facts()
        assert (facts.label, facts.state, facts.sent, facts.received) == ("lab-bastion (Bastion)", StepState.DONE, 5, 5)
        assert facts.note == "lab-aks, 1 session open"
        transport.close()
        await world.until(lambda counters: counters.deleted == 1)
        assert dialer.trusted_as == ""
    counters = world.plane.counters
    assert counters.targets == {f"{AKS.lower()}:443": 1}
    assert (counters.issued, counters.standing, counters.chained, counters.deleted_again) == (1, 0, 0, 0)


async def test_the_target_closes_first(world: World, client: Client) -> None:
    async with client.opened(VM) as dialer:
        _, protocol = await keep(dialer, 23)
        async with asyncio.timeout(WAIT):
            assert await protocol.ended is None
        assert protocol.data == b"word"
        assert protocol.eof.done()
        assert dialer.trusted_as == f"vm:{VM.lower()}"
        await world.until(lambda counters: counters.deleted == 1)


async def test_many_bytes_both_ways_at_once(world: World, client: Client) -> None:
    """The reader pauses and resumes, the writer heeds pause_writing; what comes back is what went out."""
    block = random.Random(7).randbytes(1 << 20)
    got = hashlib.sha256()

    class Slow(Keep):
        left = SIZE

        def data_received(self, data: bytes) -> None:
            assert self.transport is not None
            got.update(data)
            self.left -= len(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)
            self.news.set()

    protocol = Slow()
    async with client.opened() as dialer, asyncio.timeout(20 * WAIT):
        transport = await dialer.dial("api", 443, lambda: protocol)
        sent, most = hashlib.sha256(), 0
        for _ in range(SIZE // len(block)):
            for at in range(0, len(block), 1 << 16):
                piece = block[at : at + (1 << 16)]
                while protocol.paused:
                    protocol.news.clear()
                    await protocol.news.wait()
                sent.update(piece)
                transport.write(piece)
                await asyncio.sleep(0)
                most = max(most, transport.get_write_buffer_size())
        while protocol.left > 0:
            protocol.news.clear()
            await protocol.news.wait()
    assert got.digest() == sent.digest()
    assert most < 4 << 20


async def test_fifty_streams_side_by_side(world: World, client: Client) -> None:
    async with client.opened() as dialer:

        async def one(number: int) -> bool:
            transport, protocol = await keep(dialer)
            data = random.Random(number).randbytes(50_000)
            transport.write(data)
            same = await protocol.until(len(data)) == data
            transport.close()
            return same

        assert all(await asyncio.gather(*(one(number) for number in range(50))))
        assert world.plane.counters.issued == 50
    await world.until(lambda counters: counters.standing == 0)
    assert (world.plane.counters.deleted, world.plane.counters.chained) == (50, 0)


async def test_open_streams_are_ended_and_deleted_with_the_hop(world: World, client: Client) -> None:
    async with client.opened() as dialer:
        streams = [await keep(dialer) for _ in range(10)]
    assert world.plane.counters.standing == 0
    for transport, protocol in streams:
        assert transport.is_closing()
        await protocol.ended
    error = await dialer.wait_lost()
    assert error.code == "JD-BASTION-CLOSED-HERE"
    with pytest.raises(JumpdeckError):
        await keep(dialer)


async def test_tls_runs_on_a_stream_and_inside_it_again(world: World, client: Client) -> None:
    """The API server's own TLS, its name verified, on a stream of the Bastion (`loop.start_tls`)."""
    inside = await asyncio.start_server(_echo, "127.0.0.1", 0, ssl=server_context(server_pair()))
    async with inside, client.opened() as dialer:
        world.put(AKS, 443, inside.sockets[0].getsockname()[1])
        trust = ssl.create_default_context(cadata=authority().pem.decode())
        transport = await dialer.dial("api.test", 443, asyncio.Protocol)
        protocol = Keep()
        secured = await asyncio.get_running_loop().start_tls(transport, protocol, trust, server_hostname="api.test")
        assert secured is not None
        protocol.connection_made(secured)
        secured.write(bytes(300_000))
        assert await protocol.until(300_000) == bytes(300_000)
        secured.close()
        await world.until(lambda counters: counters.deleted == 1)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def test_through_a_web_proxy_with_a_private_ca(world: World, client: Client) -> None:
    """One CA setting and one proxy for the token exchange and the WebSocket."""
    async with web_proxy() as (port, seen):
        from app.routes.proxy import ProxyDialer

        async with client.opened(through=ProxyDialer(DirectDialer(), f"http://127.0.0.1:{port}")) as dialer:
            transport, protocol = await keep(dialer)
            transport.write(b"x")
            assert await protocol.until(1) == b"x"
        host = world.plane.host.encode()
        assert len(seen) >= 2
        assert all(request.startswith(b"CONNECT " + host) for request in seen)
    assert world.plane.counters.standing == 0


async def test_a_ca_that_is_not_known(world: World, client: Client) -> None:
    client.ca.write_bytes(authority().pem)
    async with client.opened() as dialer:
        with pytest.raises(JumpdeckError) as caught:
            await keep(dialer)
    assert caught.value.code == "JD-TLS-UNKNOWN-CA"
    assert "ca-file" in caught.value.hint
    assert world.plane.counters.issued == 0


async def test_connections_are_used_again_for_exchanges_and_deletions(world: World, client: Client) -> None:
    """One for the WebSocket and one for all that is asked: nothing is on the way of the next dial."""
    connections: list[tuple[str, int]] = []

    class Counted(DirectDialer):
        async def dial(self, host: str, port: int, factory: object) -> asyncio.Transport:
            connections.append((host, port))
            return await super().dial(host, port, factory)  # type: ignore[arg-type]

    async with client.opened(through=Counted()) as dialer:
        for _ in range(3):
            transport, protocol = await keep(dialer)
            transport.write(b"x")
            assert await protocol.until(1) == b"x"
            transport.close()
            await world.until(lambda counters: counters.standing == 0)
            await asyncio.gather(*dialer._sessions._ends)  # the answer to the deletion gives its connection back
    assert len(connections) == 4


@pytest.mark.parametrize(
    ("sku", "changes", "code"),
    [
        ("Basic", {}, "JD-BASTION-SKU"),
        ("Developer", {}, "JD-BASTION-DEVELOPER"),
        ("Standard", {"enableTunneling": False}, "JD-BASTION-TUNNELING"),
        ("Standard", {"enableTunneling": None}, "JD-BASTION-TUNNELING"),
        ("Standard", {"provisioningState": "Failed"}, "JD-BASTION-STATE"),
        ("Standard", {"dnsName": ""}, "JD-BASTION-NO-ADDRESS"),
        ("Standard", {"dnsName": "evil/path"}, "JD-BASTION-NO-ADDRESS"),
        ("Standard", {"dnsName": "user@host"}, "JD-BASTION-NO-ADDRESS"),
        ("Standard", {"dnsName": "host:99999"}, "JD-BASTION-NO-ADDRESS"),
    ],
)
async def test_a_host_that_cannot_be_used_is_told_before_anything_is_dialled(
    world: World, client: Client, sku: str, changes: dict[str, object], code: str
) -> None:
    document = bastion_document(world.plane.host, sku)
    document["properties"].update(changes)
    client.arm.documents[BASTION.lower()] = document
    with pytest.raises(JumpdeckError) as caught:
        async with client.opened():
            pass
    assert caught.value.code == code
    assert caught.value.hint
    assert world.plane.counters.refused == 0


async def test_the_first_running_machine_is_taken(world: World, client: Client) -> None:
    client.arm.power = {"jump02": "deallocated"}
    async with client.opened(SECOND, VM) as dialer:
        assert dialer.trusted_as == f"vm:{VM.lower()}"
        await keep(dialer, 23)
    assert world.plane.counters.targets == {f"{VM.lower()}:23": 1}


async def test_all_machines_are_stopped(world: World, client: Client) -> None:
    client.arm.power = {"jump": "stopped"}
    with pytest.raises(JumpdeckError) as caught:
        async with client.opened(VM):
            pass
    assert (caught.value.code, caught.value.recovery) == ("JD-BASTION-TARGET-STOPPED", Recovery.PERMANENT)
    assert world.plane.counters.refused == 0


async def test_alternatives_are_gone_through_once(world: World, client: Client) -> None:
    async with client.opened(SECOND, VM) as dialer:
        with pytest.raises(JumpdeckError):
            await keep(dialer, 23)  # the bastion host does not know that machine
        assert dialer.next_target()
        assert dialer.trusted_as == f"vm:{VM.lower()}"
        await keep(dialer, 23)
        assert dialer.next_target()
        assert not dialer.next_target()


async def test_a_bare_address(world: World, client: Client) -> None:
    client.arm.documents[BASTION.lower()] = bastion_document(world.plane.host, enableIpConnect=True)
    async with client.opened("10.0.0.4") as dialer:
        with pytest.raises(JumpdeckError) as caught:
            await keep(dialer, 23)
        assert caught.value.code == "JD-BASTION-IP-PORT"
        assert dialer.trusted_as == f"ip:{GROUP}/Microsoft.Network/bh-hostConnect/10.0.0.4".lower()


async def test_a_bare_address_where_that_is_off(world: World, client: Client) -> None:
    with pytest.raises(JumpdeckError) as caught:
        async with client.opened("10.0.0.4"):
            pass
    assert caught.value.code == "JD-BASTION-IP-CONNECT"


async def test_no_secret_is_logged(world: World, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Everything at the most verbose level: neither the access token, nor what the Bastion gave out, nor a path."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    planted: set[str] = {TOKEN}
    given = world.plane._sessions.issue

    def issue(*what: object) -> object:
        session = given(*what)  # type: ignore[arg-type]
        assert session is not None
        planted.update({session.auth_token, session.websocket_token})
        return session

    setattr(world.plane._sessions, "issue", issue)  # noqa: B010
    for fault in ("no-upgrade-headers", "used-token", "http-400-after-101", "no-node-id", "bastion-403", "delete-404"):
        world.plane.faults = {fault}
        async with client.opened() as dialer:
            try:
                transport, protocol = await keep(dialer)
                transport.write(b"\x16\x03\x01")
                await protocol.until(3)
                assert "JD-" not in repr(dialer)
            except JumpdeckError as error:
                told = " ".join([*error.lines(), repr(error), repr(error.__cause__), repr(error.__context__)])
                assert not [secret for secret in planted if secret in told]
    assert len(planted) > 6
    # The lab's own server may log as it likes; what is ours, asyncio's and the TLS layer's may not hold a secret.
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("app.lab", "aiohttp"))]
    assert ours
    assert not [line for line in ours for secret in planted if secret in line]


def test_equal_hops_are_one_and_others_are_not(client: Client) -> None:
    assert client.hop(VM).key == client.hop(VM.upper()).key
    assert len({client.hop(VM).key, client.hop(SECOND).key, client.hop().key, client.hop(VM, port=2222).key}) == 4


async def test_two_profiles_share_one_hop(world: World, client: Client) -> None:
    shared = SharedHops()
    uses = []
    for _ in range(2):
        hop = client.hop(VM)
        uses.append(await shared.open((part_of_way(hop),), hop, DirectDialer()))
    assert uses[0].dialer is uses[1].dialer
    assert uses[0].users == 2
    await keep(uses[0].dialer, 23)
    for use in uses:
        await use.aclose()
    assert world.plane.counters.standing == 0


def test_hops_are_built_from_a_profile(client: Client) -> None:
    profile = Profile("p", AksCluster(AKS), via=(BastionHop(BASTION, (VM,)), SshHop(("ops@jump",))))
    hops = build_hops(profile, context=client.context())
    assert [hop.label for hop in hops] == ["lab-bastion (Bastion)", "jump (SSH)"]
