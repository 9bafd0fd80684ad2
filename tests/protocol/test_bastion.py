"""The Bastion hop against the lab's bastion host: streams, sessions, and their ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bastion_client import Client, keep
from tests.bastion_world import AKS, World, bastion_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with bastion_world(tmp_path) as made:
        yield made


@pytest.fixture
def client(world: World, tmp_path: Path) -> Client:
    return Client(world, tmp_path)


async def test_a_stream_to_the_cluster(world: World, client: Client) -> None:
    async with client.opened() as dialer:
        transport, protocol = await keep(dialer, 6443)
        transport.write(b"hello")
        assert await protocol.until(5) == b"hello"
        transport.close()
        await world.until(lambda counters: counters.deleted == 1)
    counters = world.plane.counters
    assert counters.targets == {f"{AKS.lower()}:443": 1}
    assert (counters.issued, counters.standing, counters.chained, counters.deleted_again) == (1, 0, 0, 0)
