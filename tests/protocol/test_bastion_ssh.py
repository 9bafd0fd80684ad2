"""SSH to a VM through a Bastion: whose key it must show, whose password it gets, which of several VMs it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.asking import Asker
from app.cli.secrets import secrets_of
from app.errors import JumpdeckError
from app.profiles.model import AksCluster, BastionHop, Profile, SshHop
from app.records import replace
from app.routes.bastion_dialer import BastionDialer
from app.routes.build import build_hops
from app.routes.direct import DirectDialer
from app.routes.route import Route
from app.routes.shared import SharedHops
from tests.bastion_client import WAIT, Client
from tests.bastion_world import AKS, BASTION, GROUP, VM, World, bastion_world
from tests.logins import Gate, MemoryStore, context, person

SECOND = f"{GROUP}/Microsoft.Compute/virtualMachines/jump02"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with bastion_world(tmp_path) as made:
        yield made


class Operator:
    """One person's computer, and the profile through the Bastion."""

    def __init__(self, world: World, folder: Path, asker: Asker) -> None:
        self.world, self.client = world, Client(world, folder)
        self.known = folder / "own_known_hosts"
        self.known.touch(mode=0o600)
        azure = self.client.context().azure
        self.context = replace(context(folder, asker, MemoryStore()), azure=azure)
        self.shared = SharedHops()

    def know(self, vm: str, host_key: str) -> None:
        with self.known.open("a") as file:
            file.write(f"{f'vm:{vm}'.lower()} {host_key}\n")

    def profile(self, *targets: str) -> Profile:
        via = (BastionHop(BASTION, targets), SshHop(("ops@jump",), password=True))
        return Profile("p", AksCluster(AKS), via=via, host_keys="strict")

    @asynccontextmanager
    async def route(self, *targets: str) -> AsyncIterator[Route]:
        @asynccontextmanager
        async def step(label: str) -> AsyncIterator[None]:
            yield

        hops = build_hops(self.profile(*targets), context=self.context)
        async with asyncio.timeout(4 * WAIT):
            route = await Route.open(hops, DirectDialer(), self.shared, step)
            try:
                yield route
            finally:
                await route.aclose()


async def test_the_key_and_the_password_are_the_machines(world: World, tmp_path: Path) -> None:
    asker = person("sesame")
    operator = Operator(world, tmp_path, asker)
    async with Gate(password="sesame") as gate:
        world.put(VM, 22, gate.port)
        operator.know(VM, gate.host_key)
        async with operator.route(VM) as route:
            states = route.hop_states()
            assert [state.label for state in states] == ["lab-bastion (Bastion)", "jump (SSH)"]
            assert states[0].note == "jump, 1 session open"
            assert world.plane.counters.issued == 1
        assert world.plane.counters.standing == 0
    assert asker.asked == ["Password of ops@jump:22 (through lab-bastion), jump"]


async def test_another_machine_behind_the_same_bastion_is_not_taken_for_it(world: World, tmp_path: Path) -> None:
    operator = Operator(world, tmp_path, person("sesame"))
    async with Gate(password="sesame") as first, Gate(password="sesame") as second:
        operator.know(VM, first.host_key)
        operator.know(SECOND, second.host_key)
        world.put(VM, 22, second.port)
        with pytest.raises(JumpdeckError) as caught:
            async with operator.route(VM):
                pass
        assert caught.value.code == "JD-SSH-HOST-KEY-CHANGED"
        assert not second.passwords
    assert world.plane.counters.standing == 0


async def test_the_next_machine_is_taken_with_its_own_key_when_the_first_does_not_answer(
    world: World, tmp_path: Path
) -> None:
    operator = Operator(world, tmp_path, person("sesame"))
    async with Gate(password="sesame") as gate:
        world.put(VM, 24, gate.port)  # not the port that is asked for
        world.put(SECOND, 22, gate.port)
        operator.know(SECOND, gate.host_key)
        async with operator.route(VM, SECOND) as route:
            assert route.hop_states()[0].note.startswith("jump02, 1 session open")
        assert gate.passwords == ["sesame"]
    assert world.plane.counters.standing == 0


async def test_two_profiles_are_one_login(world: World, tmp_path: Path) -> None:
    operator = Operator(world, tmp_path, person("sesame"))
    async with Gate(password="sesame") as gate:
        world.put(VM, 22, gate.port)
        operator.know(VM, gate.host_key)
        async with operator.route(VM), operator.route(VM):
            assert world.plane.counters.issued == 1
    assert gate.passwords == ["sesame"]
    assert world.plane.counters.standing == 0


def test_its_password_is_stored_under_the_machines_name(world: World, tmp_path: Path) -> None:
    operator = Operator(world, tmp_path, person())
    assert secrets_of(operator.profile(VM, SECOND)) == [f"password ops@[vm:{vm.lower()}]:22" for vm in (VM, SECOND)]
    assert BastionDialer.dial_limit > 0
