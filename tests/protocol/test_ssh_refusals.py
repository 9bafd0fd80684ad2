"""Commands over real sshd whose way in is refused behind the first server: said soon, and who refused."""

from __future__ import annotations

from pathlib import Path

from tests.running import jumpdeck
from tests.ssh_world import World, ssh_world
from tests.sshd import USER

PATIENCE = "10m"
"""More than a command of a test may take: it must give up by itself before."""


def configure(world: World, known: str, *ports: int) -> dict[str, str]:
    hops = ", ".join(f"{{ ssh = '{USER}@127.0.0.1:{port}', key = '{world.key}' }}" for port in ports)
    return world.configure(f"[profile.p]\ncluster = {{cluster}}\nvia = [{hops}]\n", known)


async def test_a_refusal_behind_a_jump_box_ends_a_command_after_three_tries(tmp_path: Path) -> None:
    async with ssh_world(tmp_path, servers=2) as world:
        world.chaos[1].refuse()
        environment = configure(world, world.known_hosts.read_text(), world.servers[0].port, world.chaos[1].port)
        done = await jumpdeck("pods", "p", "--no-input", "--connect-timeout", PATIENCE, **environment)
        assert (done.code, "JD-SSH-TARGET" in done.err) == (5, True), done.err
        await world.servers[0].logged_in(1)


async def test_an_inner_server_with_another_key_is_named_with_the_way_to_it(tmp_path: Path) -> None:
    async with ssh_world(tmp_path, servers=2) as world:
        first, second = (server.port for server in world.servers)
        known = "".join(f"[127.0.0.1]:{port} {world.servers[0].public_key}\n" for port in (first, second))
        environment = configure(world, known, first, second)
        done = await jumpdeck("pods", "p", "--no-input", **environment)
        assert (done.code, "JD-SSH-HOST-KEY-CHANGED" in done.err) == (5, True), done.err
        assert f"[127.0.0.1]:{second} (through 127.0.0.1) shows the ECDSA" in done.err
