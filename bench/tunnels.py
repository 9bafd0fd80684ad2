"""What P-9 to P-12 share: an sshd, OpenSSH's own tunnel to it, ours, and exchanges that are timed over either."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from app.dialer import ProtocolFactory
from app.profiles.model import Profile, ServerCluster, SshHop
from bench.harness import LIMIT, ROOT
from tests.fakes import FakeAsker
from tests.sshd import USER, Sshd, make_key, sshd
from tests.tls_servers import unused_port

CIPHER = "aes128-gcm@openssh.com"
Dial = Callable[[ProtocolFactory], Awaitable[asyncio.Transport]]
"""Opens one stream to the measured server, over whichever tunnel."""


@asynccontextmanager
async def jump_box() -> AsyncIterator[tuple[Sshd, Path]]:
    """An sshd that lets a key in, and that key."""
    with tempfile.TemporaryDirectory(prefix="jumpdeck-bench-") as name:
        key = make_key(Path(name) / "id")
        async with sshd(Path(name) / "sshd") as server:
            server.authorize(key)
            yield server, key


@asynccontextmanager
async def openssh(server: Sshd, key: Path, port: int, through: int | None = None) -> AsyncIterator[int]:
    """`ssh -N -L` to 127.0.0.1:`port`; yields its local port once it forwards. `through` replaces sshd's own port."""
    local = unused_port()
    known = key.parent / "known_hosts"
    known.write_text(f"* {server.public_key}\n")
    command = [
        "ssh", "-N", "-F", "/dev/null", "-p", str(through or server.port), "-i", str(key), "-c", CIPHER,
        "-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes",
        "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{local}:127.0.0.1:{port}",
        f"{USER}@127.0.0.1",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while process.returncode is None:
            try:
                (await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", local))[0].abort()
                break
            except OSError:
                await asyncio.sleep(0.002)
        yield local
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def ssh_profile(server: Sshd, key: Path, through: int | None = None) -> Profile:
    """A profile through this sshd, its host key pinned."""
    hop = SshHop((f"{USER}@127.0.0.1:{through or server.port}",), key=key, host_key=server.fingerprint)
    return Profile("bench", ServerCluster("https://127.0.0.1"), via=(hop,))


@asynccontextmanager
async def our_tunnel(server: Sshd, key: Path, through: int | None = None) -> AsyncIterator[Callable[[int], Dial]]:
    """Our SSH hop, open; yields what makes a Dial for a port behind it."""
    from app.routes.build import build_hops
    from app.routes.context import RouteContext
    from app.routes.direct import DirectDialer
    from app.routes.host_keys import HostKeys
    from app.secrets.secret import SecretSource

    folder = key.parent
    keys = HostKeys(own=folder / "own_known_hosts", others=())
    context = RouteContext(asker=FakeAsker(), secrets=SecretSource(None), host_keys=keys)
    (hop,) = build_hops(ssh_profile(server, key, through), target=None, context=context)
    async with hop.open(DirectDialer()) as dialer:

        def to(port: int) -> Dial:
            return lambda factory: dialer.dial("127.0.0.1", port, factory)

        yield to


def direct(port: int) -> Dial:
    """Streams to a local port, such as that of `ssh -L`."""

    async def dial(factory: ProtocolFactory) -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)
        return transport

    return dial


class ConsoleHome:
    """A configuration folder with a profile through each jump box, for a console in a process of its own."""

    def __init__(self, folder: Path, boxes: Sequence[tuple[Sshd, Path]]) -> None:
        self._folder, self._boxes = folder, boxes
        self.variables = {**os.environ, "HOME": str(folder), "JUMPDECK_CONFIG_DIR": str(folder / "config"),
                          "JUMPDECK_STATE_DIR": str(folder / "state")}  # fmt: skip
        (folder / "config").mkdir(mode=0o700)

    def add(self, port: int) -> list[str]:
        """Write the profiles for an API server on this port; returns their names."""
        kubeconfig = self._folder / "kubeconfig"
        kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {
                "server": f"https://127.0.0.1:{port}", "certificate-authority": str(self._folder / "ca.pem")}}],
            "users": [{"name": "bench", "user": {"token": "t"}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        }))  # fmt: skip
        kubeconfig.chmod(0o600)
        lines, names = ["version = 1"], []
        for number, (server, key) in enumerate(self._boxes):
            names.append(f"bench-{number}")
            hop = f'ssh = "{USER}@127.0.0.1:{server.port}", key = "{key}", host-key = "{server.fingerprint}"'
            lines += [f"[profile.{names[-1]}]", f"via = [{{ {hop} }}]"]
            lines.append(f'cluster = {{ kubeconfig = "{kubeconfig}", context = "bench" }}')
        profiles = self._folder / "config" / "profiles.toml"
        profiles.write_text("\n".join(lines) + "\n")
        profiles.chmod(0o600)
        return names


@contextmanager
def console_environment(boxes: Sequence[tuple[Sshd, Path]]) -> Iterator[tuple[ConsoleHome, Path]]:
    """A home for the console, and the folder with the certificates of an API server."""
    from app.lab.certificates import make_certificates

    with tempfile.TemporaryDirectory(prefix="jumpdeck-bench-") as name:
        make_certificates(Path(name))
        yield ConsoleHome(Path(name), boxes), Path(name)


async def in_console(env: dict[str, str], seconds: float, names: list[str]) -> dict[str, float]:
    """What `bench.pane` measures. Raises RuntimeError when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.pane", str(seconds), *names, cwd=ROOT, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(err.decode(errors="replace").strip().splitlines()[-1][:200] if err else "it failed")
    return dict(json.loads(out.splitlines()[-1]))


class Count(asyncio.BufferedProtocol):
    """Counts bytes into one buffer and tells when `wanted` of them have come."""

    def __init__(self) -> None:
        self.wanted, self.seen = 0, 0
        self.came: asyncio.Future[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self._buffer = memoryview(bytearray(1 << 18))  # asyncio's TLS takes slices of it

    def expect(self, count: int) -> asyncio.Future[None]:
        """Resolves when `count` more bytes have come."""
        self.wanted = self.seen + count
        self.came = asyncio.get_running_loop().create_future()
        return self.came

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.seen += nbytes
        if self.came is not None and self.seen >= self.wanted and not self.came.done():
            self.came.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.came is not None and not self.came.done():
            self.came.set_exception(exc or ConnectionResetError("the tunnel closed"))

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


async def download(dial: Dial, count: int) -> float:
    """Bytes a second of one stream down."""
    protocol = Count()
    transport = await dial(lambda: protocol)
    done = protocol.expect(count)
    started = time.perf_counter()
    transport.write(b"down %d\n" % count)
    await done
    seconds = time.perf_counter() - started
    transport.abort()
    return count / seconds


async def upload(dial: Dial, count: int) -> float:
    """Bytes a second of one stream up."""
    protocol = Count()
    transport = await dial(lambda: protocol)
    done = protocol.expect(1)
    block = bytes(1 << 18)
    started = time.perf_counter()
    transport.write(b"up %d\n" % count)
    left = count
    while left:
        piece = block[: min(left, len(block))]
        transport.write(piece)
        left -= len(piece)
        await protocol.writable.wait()
    await done
    seconds = time.perf_counter() - started
    transport.abort()
    return count / seconds


async def round_trip(dial: Dial, word: bytes, question: bytes, answer: int, times: int) -> float:
    """Median seconds of one small exchange: `question` there, `answer` bytes back."""
    protocol = Count()
    transport = await dial(lambda: protocol)
    transport.write(word + b"\n")
    found = []
    for _ in range(times):
        done = protocol.expect(answer)
        started = time.perf_counter()
        transport.write(question)
        await done
        found.append(time.perf_counter() - started)
    transport.abort()
    return statistics.median(found)
