"""An emulated cluster behind OpenSSH's server behind a proxy that misbehaves, and sessions that go through them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from app.asking import Asker
from app.cluster.log_stream import LogRequest
from app.cluster.pods import PodScope
from app.lab.practice import Lab
from app.profiles.model import KubeconfigCluster, Profile, SshHop
from app.routes.host_keys import HostKeys
from app.rows import LogBatch, PodSnapshot, Staleness
from app.sessions.asking import Desk
from app.sessions.route import RouteGround
from app.sessions.session import Session
from app.tasks import TaskOwner
from tests.chaos import Chaos
from tests.sshd import USER, Sshd, make_key, sshd
from tests.states import LIMIT

BACK_LIMIT = 5.0 if os.environ.get("SOAK") else 15.0
"""Seconds in which a session is UP again once its servers are back: less than any wait between tries that has grown.

It is one or two here, and five are promised: `make soak`, on a machine that does nothing else, holds it to that. A
machine that is busy takes a few for the login alone."""


class World:
    """What a test needs of it all. Make one with `async with ssh_world(folder) as world`."""

    def __init__(self, folder: Path, lab: Lab, key: Path) -> None:
        self.folder, self.lab, self.key = folder, lab, key
        self.servers: list[Sshd] = []
        self.chaos: list[Chaos] = []
        self.known_hosts = folder / "known_hosts"
        self.ground = RouteGround(None, host_keys=HostKeys(own=self.known_hosts, others=()))
        self.desk = Desk()
        self.tasks = TaskOwner("test")
        self.sessions: list[Session] = []
        self.written = 0

    def know(self, server: Sshd, *ports: int) -> None:
        """The keys of a server are known, at these ports."""
        with self.known_hosts.open("a") as file:
            file.writelines(f"[127.0.0.1]:{port} {server.public_key}\n" for port in ports)
        self.known_hosts.chmod(0o600)

    def configure(self, profiles: str, known_hosts: str | None = None) -> dict[str, str]:
        """Folders with these files for a process; its environment. `{cluster}` in `profiles` stands for the lab's."""
        cluster = f"{{ kubeconfig = '{self.lab.kubeconfig}', context = 'lab' }}"
        text = f"version = 1\n{profiles.replace('{cluster}', cluster)}"
        files = {"JUMPDECK_CONFIG_DIR": ("config", "profiles.toml", text)}
        if known_hosts is not None:
            files["JUMPDECK_STATE_DIR"] = ("state", "known_hosts", known_hosts)
        for folder, name, content in files.values():
            path = self.folder / folder / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_text(content)
            path.chmod(0o600)
        return {variable: str(self.folder / folder) for variable, (folder, _, _) in files.items()}

    def profile(self, name: str = "p", *, via: Iterable[SshHop] | None = None) -> Profile:
        """A profile through the first server, by its proxy."""
        hops = tuple(via) if via is not None else (self.hop(self.chaos[0].port),)
        return Profile(name=name, cluster=KubeconfigCluster(self.lab.kubeconfig, "lab"), via=hops)

    def hop(self, *ports: int, key: Path | None = None) -> SshHop:
        """An SSH hop with these loopback ports as alternatives."""
        return SshHop(tuple(f"{USER}@127.0.0.1:{port}" for port in ports), key=key or self.key)

    def session(self, profile: Profile | None = None, *, asker: Asker | None = None, **limits: float) -> Session:
        """A session that shares connections with the others of this world; started."""
        session = Session(
            profile or self.profile(), desk=self.desk, ground=self.ground, tell=lambda _: None, asker=asker, **limits
        )
        self.sessions.append(session)
        session.start()
        return session

    def write(self, count: int = 1) -> None:
        """More numbered lines in the log of web-1."""
        for _ in range(count):
            self.written += 1
            self.lab.cluster.write_log("default", "web-1", "app", b"line %d\n" % self.written)


@asynccontextmanager
async def ssh_world(folder: Path, *, servers: int = 1) -> AsyncIterator[World]:
    """A lab with the pod web-1, and so many sshds (key types in turn), each behind a proxy and known there."""
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(Lab.open(folder=folder / "lab", estate="none"))
        spec = {"metadata": {"namespace": "default", "name": "web-1"}, "spec": {"containers": [{"name": "app"}]}}
        lab.cluster.add_pod(spec)
        lab.cluster.start_container("default", "web-1", "app")
        world = World(folder, lab, make_key(folder / "key"))
        for number, kind in zip(range(servers), ("ed25519", "ecdsa", "rsa"), strict=False):
            server = await stack.enter_async_context(sshd(folder / f"sshd{number}", kind=kind))
            server.authorize(world.key)
            chaos = await stack.enter_async_context(Chaos(server.port))
            world.know(server, server.port, chaos.port)
            world.servers.append(server)
            world.chaos.append(chaos)
        stack.push_async_callback(world.tasks.aclose)
        try:
            yield world
        finally:
            await world.tasks.aclose()
            await asyncio.gather(*(session.aclose() for session in world.sessions))


class Reading:
    """A log follow and a watch of all pods through a session, and what they brought."""

    def __init__(self, world: World, session: Session) -> None:
        self.world = world
        self.lines: list[bytes] = []
        self.snapshot = PodSnapshot()
        self._news = asyncio.Event()
        reader = session.reader
        world.tasks.spawn(reader.log(LogRequest("default", "web-1", "app")).run(self._deliver), name="log")
        world.tasks.spawn(reader.pods(PodScope(())).run(self._publish), name="pods")

    async def _deliver(self, batch: LogBatch) -> None:
        self.lines += [line.partition(b" ")[2] for line in batch.text.splitlines()]
        self._news.set()

    def _publish(self, snapshot: PodSnapshot) -> None:
        self.snapshot = snapshot
        self._news.set()

    async def _until(self, wanted: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(LIMIT):
                while not wanted():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self.lines)} lines; {self.snapshot}") from None

    async def complete(self) -> None:
        """Every line once and in order, every pod once and live."""
        last = b"line %d" % self.world.written
        await self._until(lambda: last in self.lines)
        assert self.lines == [b"line %d" % number for number in range(1, self.world.written + 1)]
        names = {pod["metadata"]["name"] for pod in self.world.lab.store.list("pods")}
        await self._until(
            lambda: (
                self.snapshot.staleness is Staleness.LIVE and {row.name for row in self.snapshot.rows.values()} == names
            )
        )
        assert max(Counter(row.name for row in self.snapshot.rows.values()).values()) == 1
