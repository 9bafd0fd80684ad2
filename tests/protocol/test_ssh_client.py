"""A client in a process of its own over real sshd: chained servers, no listening socket, a stop of the process."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.leftovers import listening
from tests.peers import require_linux
from tests.running_client import Client
from tests.ssh_world import BACK_LIMIT, World, ssh_world
from tests.sshd import USER

require_linux("needs /proc")

SOAK = bool(os.environ.get("SOAK"))
STOPPED = 60.0 if SOAK else 6.5
"""Seconds that the client is stopped; five are the least that count as sleep."""
FOLLOWS = 20


def configure(world: World, *ports: int) -> dict[str, str]:
    """A configuration folder with the profile `p` through these ports; the environment for it."""
    hops = ", ".join(f"{{ ssh = '{USER}@127.0.0.1:{port}', key = '{world.key}' }}" for port in ports)
    return world.configure(f"[profile.p]\ncluster = {{cluster}}\nvia = [{hops}]\n", world.known_hosts.read_text())


async def test_twenty_follows_and_a_watch_over_one_connection_through_three_servers(tmp_path: Path) -> None:
    async with ssh_world(tmp_path, servers=3) as world:
        pods = [f"many-{number}" for number in range(FOLLOWS)]
        for pod in pods:
            spec = {"metadata": {"namespace": "default", "name": pod}, "spec": {"containers": [{"name": "app"}]}}
            world.lab.cluster.add_pod(spec)
            world.lab.cluster.start_container("default", pod, "app")
        environment = configure(world, *(server.port for server in world.servers))
        words = ["p", "--watch", *(word for pod in pods for word in ("--follow", pod))]
        async with Client(words, environment) as client:
            await client.until_up("p")
            for pod in pods:
                world.lab.cluster.write_log(
                    "default", pod, "app", b"%b says one\n%b says two\n" % ((pod.encode(),) * 2)
                )
            for pod in pods:
                await client.until(lambda client, pod=pod: len(client.lines(pod)) == 2)  # type: ignore[misc]
                assert client.lines(pod) == [f"{pod} says one", f"{pod} says two"]
            seen = {"pods": sorted([*pods, "web-1"]), "staleness": "live"}
            await client.until(lambda client: seen in client.told)
            assert listening(client.process.pid) == set()
            for server in world.servers:
                await server.logged_in(1)
            await client.end()
        assert client.phases("p") == ["connecting", "up", "closing", "closed"]


async def test_a_client_that_was_stopped_looks_at_once_whether_its_link_lives(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        environment = configure(world, world.chaos[0].port)
        async with Client(["p", "--follow", "web-1", "--watch"], environment) as client:
            await client.until_up("p")
            world.write(5)
            await client.until(lambda client: len(client.lines("web-1")) == 5)
            client.process.send_signal(signal.SIGSTOP)
            world.chaos[0].freeze()  # a firewall that forgot the connection: packets vanish, nothing is reset
            world.write(5)
            await asyncio.sleep(STOPPED)
            client.process.send_signal(signal.SIGCONT)
            # Within three seconds, and some for a busy machine; the usual probe would find it after twelve at least.
            await client.until(lambda client: client.phases("p")[-1] != "up", 3.0 + 6.0)
            world.chaos[0].heal()
            await client.until_up("p", BACK_LIMIT)
            world.write(5)
            await client.until(lambda client: f"line {world.written}" in client.lines("web-1"))
            assert client.lines("web-1") == [f"line {number}" for number in range(1, world.written + 1)]
            await client.end()
