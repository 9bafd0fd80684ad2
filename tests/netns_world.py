"""A network of two namespaces that end with this process: servers here, a client on the other end of a cable.

`unshare -n python -m tests.netns_world FOLDER` replaces the client's address in mid-session and checks what follows.
It fails with a message and exit code 1. Needs root.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.running_client import Client
from tests.ssh_world import BACK_LIMIT, ssh_world
from tests.sshd import USER, make_key, public_key, sshd
from tests.tls_servers import unused_port

HERE, BEFORE, AFTER = "10.77.0.1", "10.77.0.2", "10.77.0.3"
FOUND_LIMIT = 30.0
"""Seconds in which the dead link is noticed."""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Cable:
    """A pair of virtual network cards: one here, one in the namespace of another process."""

    def __init__(self, pid: int) -> None:
        self._there = ("nsenter", "--target", str(pid), "--net")
        run("ip", "link", "add", "jdhere", "type", "veth", "peer", "name", "jdthere", "netns", str(pid))
        run("ip", "address", "add", f"{HERE}/24", "dev", "jdhere")
        run("ip", "link", "set", "jdhere", "up")
        self.there("link", "set", "lo", "up")
        self.there("link", "set", "jdthere", "up")
        self.give(BEFORE)

    def there(self, *words: str) -> None:
        run(*self._there, "ip", *words)

    def give(self, address: str) -> None:
        """This address and a default route, in place of what there was."""
        self.there("address", "flush", "dev", "jdthere")
        self.there("address", "add", f"{address}/24", "dev", "jdthere")
        self.there("route", "replace", "default", "via", HERE)


async def main(folder: Path) -> None:
    run("ip", "link", "set", "lo", "up")
    port, host_key = unused_port(), make_key(folder / "host_key")
    async with ssh_world(folder, servers=0) as world:
        line = f"[{HERE}]:{port} {public_key(host_key)}\n"
        hop = f"{{ ssh = '{USER}@{HERE}:{port}', key = '{world.key}' }}"
        environment = world.configure(f"[profile.p]\ncluster = {{cluster}}\nvia = [{hop}]\n", line)
        words = ["p", "--follow", "web-1", "--watch"]
        async with Client(words, environment, prefix=("unshare", "-n")) as client:
            await client.until(lambda client: len(client.told) > 0)  # it runs, so it is in its own namespace
            cable = Cable(client.process.pid)
            address = f"{HERE}:{port}"
            async with sshd(folder / "sshd", host_key=host_key, ListenAddress=address) as server:
                server.authorize(world.key)
                await client.until_up("p")
                world.write(5)
                await client.until(lambda client: len(client.lines("web-1")) == 5)
                before = len(client.phases("p"))
                cable.give(AFTER)
                world.write(5)
                # It may be up again before we look.
                await client.until(lambda client: len(client.phases("p")) > before, FOUND_LIMIT)
                await client.until_up("p", BACK_LIMIT)
                world.write(5)
                await client.until(lambda client: f"line {world.written}" in client.lines("web-1"))
                assert client.lines("web-1") == [f"line {number}" for number in range(1, world.written + 1)]
                await server.until(lambda server: server.logins == 2)
                live = {"pods": ["web-1"], "staleness": "live"}
                await client.until(lambda client: [each for each in client.told if "pods" in each][-1] == live)
                await client.end()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
