"""`jumpdeck exec` and `jumpdeck connect` through OpenSSH's server: other programs reach the cluster by a listener."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from app.lab.exec_files import BLOCK, big
from tests.peers import require, require_root
from tests.running import RUN_LIMIT, Command, command
from tests.ssh_world import World, ssh_world
from tests.sshd import USER


class Place:
    """A configuration folder with one profile behind the world's first jump box, and one straight to its cluster."""

    def __init__(self, world: World, *, extra: str = "") -> None:
        self.world = world
        self.temp = world.folder / "temp"
        self.temp.mkdir(mode=0o700)
        hop = f"{USER}@127.0.0.1:{world.chaos[0].port}"
        self.environment = world.configure(
            f"[profile.far]\ncluster = {{cluster}}\n{extra}\n[[profile.far.via]]\nssh = '{hop}'\nkey = '{world.key}'\n"
            f"host-key = '{world.servers[0].fingerprint}'\n[profile.near]\ncluster = {{cluster}}\n"
        )
        self.environment |= {"TMPDIR": str(self.temp), "KUBECACHEDIR": str(world.folder / "cache")}

    def command(self, *words: str) -> AsyncIterator[Command]:
        return command(*words, **self.environment)  # type: ignore[return-value]

    def left(self) -> list[str]:
        return [name for name in os.listdir(self.temp) if name.startswith("jumpdeck")]


@asynccontextmanager
async def place(folder: Path, *, extra: str = "") -> AsyncIterator[Place]:
    async with ssh_world(folder / "world") as world:
        yield Place(world, extra=extra)


LOOK = (
    "import json, os, stat, sys\n"
    "path = os.environ['KUBECONFIG']\n"
    "mode = lambda p: stat.S_IMODE(os.stat(p).st_mode)\n"
    "print(json.dumps([open(path).read(), mode(path), mode(os.path.dirname(path))]))\n"
    "sys.exit(7)"
)


async def test_the_program_gets_a_port_of_ours_and_no_secret(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        async with here.command("exec", "far", "--", sys.executable, "-c", LOOK) as run:
            assert await run.ended() == 7, run.err
        text, file_mode, folder_mode = json.loads(run.out)
        cluster = json.loads(text)["clusters"][0]["cluster"]
        assert cluster["server"].startswith("https://127.0.0.1:")
        assert cluster["server"] != here.world.lab.api_url
        assert cluster["tls-server-name"] == "lab-api.jumpdeck.internal"
        assert "proxy-url" not in cluster
        assert not [token for token in here.world.lab.tokens.values() if token in text]
        assert (file_mode, folder_mode) == (stat.S_IRUSR | stat.S_IWUSR, stat.S_IRWXU)
        await here.world.servers[0].logged_in(1)
        assert here.left() == []


async def test_kubectl_lists_watches_and_follows(tmp_path: Path) -> None:
    kubectl = require("kubectl")
    async with place(tmp_path) as here:
        lab = here.world.lab
        async with here.command("exec", "far", "--", kubectl, "get", "pods", "-o", "name") as run:
            assert await run.ended() == 0, run.err
            assert run.out == "pod/web-1\n"
        async with here.command("exec", "far", "--", kubectl, "get", "pods", "-A", "-w") as watch:
            await watch.until(lambda run: "web-1" in run.out)
            spec = {"metadata": {"namespace": "default", "name": "web-2"}, "spec": {"containers": [{"name": "app"}]}}
            lab.cluster.add_pod(spec)
            await watch.until(lambda run: "web-2" in run.out)
            watch.process.send_signal(signal.SIGTERM)
            assert await watch.ended() == 1  # kubectl's own: it takes the signal
        here.world.write(3)
        async with here.command("exec", "far", "--", kubectl, "logs", "-f", "web-1") as follow:
            await follow.until(lambda run: "line 3" in run.out)
            here.world.write(2)
            await follow.until(lambda run: "line 5" in run.out)
            follow.process.send_signal(signal.SIGTERM)
            assert await follow.ended() == 1
            assert follow.out.splitlines() == [f"line {number}" for number in range(1, 6)]
        assert here.left() == []


async def test_a_program_that_runs_on_gets_through_after_a_cut(tmp_path: Path) -> None:
    kubectl = require("kubectl")
    ask = f"{shlex.quote(kubectl)} get pods -o name"
    script = f"{ask}; while read -r word; do {ask}; echo $word; done; exit 3"
    async with place(tmp_path) as here, here.command("exec", "far", "--", "sh", "-c", script) as run:
        await run.until(lambda run: "web-1" in run.out)
        chaos = here.world.chaos[0]
        for word in ("one", "two"):
            chaos.refuse()
            chaos.reset()
            run.type(f"{word}\n")  # asks while the route is down, and waits for it
            chaos.let_in()
            await run.until(lambda run, word=word: word in run.out)
        assert run.process.stdin is not None
        run.process.stdin.close()
        assert await run.ended() == 3
        assert run.out.splitlines() == ["pod/web-1", "pod/web-1", "one", "pod/web-1", "two"]
        await here.world.servers[0].logged_in(3)
        assert here.left() == []


async def test_a_session_that_is_lost_for_good_is_said_once(tmp_path: Path) -> None:
    async with place(tmp_path) as here, here.command("exec", "far", "--", "sh", "-c", "echo up; read x; exit 4") as run:
        await run.until(lambda run: run.out == "up\n")
        server = here.world.servers[0]
        server._authorized.write_text("")
        here.world.chaos[0].reset()
        await run.until(lambda run: "JD-SSH-DENIED" in run.err)
        run.type("go\n")
        assert await run.ended() == 4
        assert run.err.count("JD-SSH-DENIED") == 1
        assert "does not come back by itself" in run.err


async def test_the_program_is_started_only_when_the_route_is_up(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.world.servers[0]._authorized.write_text("")
        async with here.command("exec", "far", "--no-input", "--", "sh", "-c", "echo started") as run:
            assert await run.ended() == 4
            assert (run.out, "JD-SSH-DENIED" in run.err) == ("", True)
        here.world.chaos[0].freeze()
        async with here.command("exec", "far", "--connect-timeout=1s", "--", "sh", "-c", "echo started") as run:
            assert await run.ended() == 5
            assert (run.out, "JD-ROUTE-TIMEOUT" in run.err) == ("", True)
        async with here.command("exec", "far", "--connect-timeout=soon", "--", "sh") as run:
            assert await run.ended() == 2
        assert here.left() == []


# -- connect -----------------------------------------------------------------------------------------------------------


def kubeconfig_of(run: Command) -> Path:
    """The file that the printed line names."""
    word, setting = shlex.split(run.out)
    name, _, path = setting.partition("=")
    assert (word, name, run.out.count("\n")) == ("export", "KUBECONFIG", 1)
    return Path(path)


def port_of(kubeconfig: Path) -> int:
    return int(json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"].rpartition(":")[2])


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
async def test_connect_holds_the_route_through_cuts_until_interrupted(tmp_path: Path, name: str, code: int) -> None:
    kubectl = require("kubectl")
    async with place(tmp_path) as here, here.command("connect", "far") as run:
        await run.until(lambda run: run.out.endswith("\n"))
        kubeconfig = kubeconfig_of(run)
        ask = ("--kubeconfig", str(kubeconfig), "get", "pods", "-o", "name")
        assert await outside(kubectl, *ask) == "pod/web-1\n"
        here.world.chaos[0].refuse()
        here.world.chaos[0].reset()
        await run.until(lambda run: "far is lost" in run.err)
        here.world.chaos[0].let_in()
        await run.until(lambda run: "far is back" in run.err)
        assert await outside(kubectl, *ask) == "pod/web-1\n"
        port = port_of(kubeconfig)
        run.process.send_signal(getattr(signal, name))
        assert await run.ended() == code
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        assert here.left() == []
        assert "not held to reading" in run.err


async def outside(*words: str) -> str:
    """Run another program; its standard output."""
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err
    return out.decode()


async def test_connect_to_a_port_that_is_taken_ends_before_any_login(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            async with here.command("connect", "far", "--port", str(port)) as run:
                assert await run.ended() == 5
        assert "JD-LISTENER-PORT" in run.err
        assert "--port" in run.err
        if sys.platform == "linux":
            assert f"process {os.getpid()}" in run.err
        assert (run.out, here.world.servers[0].logins) == ("", 0)
        async with here.command("connect", "far", "--port", str(port)) as run:
            await run.until(lambda run: run.out.endswith("\n"))
            assert port_of(kubeconfig_of(run)) == port


async def test_connect_without_a_hop_needs_no_port(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        async with here.command("connect", "near", "--port", "1") as run:
            await run.until(lambda run: run.out.endswith("\n"))
            server = json.loads(kubeconfig_of(run).read_text())["clusters"][0]["cluster"]["server"]
            assert server == here.world.lab.api_url
            assert "no port is opened" in run.err
            assert "--port is not used" in run.err
            run.process.send_signal(signal.SIGTERM)
            assert await run.ended() == 143
        assert here.left() == []


async def test_connect_asks_what_exec_asks(tmp_path: Path) -> None:
    async with place(tmp_path, extra='tags = ["production"]') as here:
        async with here.command("connect", "far", "--no-input") as run:
            assert await run.ended() == 2
            assert (run.out, "JD-EXEC-PRODUCTION" in run.err) == ("", True)
        async with here.command("connect", "far", "--port", "70000") as run:
            assert await run.ended() == 2
        async with here.command("connect", "nobody") as run:
            assert await run.ended() == 3
        async with here.command("connect", "far", "--write") as run:
            await run.until(lambda run: run.out.endswith("\n"))
        assert "program.lent" in "".join(path.read_text() for path in audit_files())


def audit_files() -> list[Path]:
    return list(Path(os.environ["JUMPDECK_STATE_DIR"]).rglob("*.jsonl"))


KNOCK = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with socket.socket() as s:
    s.settimeout(30)
    try:
        s.connect(("127.0.0.1", int(sys.argv[1])))
        s.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
        print(len(s.recv(100)))
    except ConnectionError:
        print("reset")
"""


async def test_another_user_gets_nothing_and_it_is_said(tmp_path: Path) -> None:
    require_root()
    async with place(tmp_path) as here, here.command("connect", "far") as run:
        await run.until(lambda run: run.out.endswith("\n"))
        port = port_of(kubeconfig_of(run))
        assert await outside(sys.executable, "-I", "-S", "-c", KNOCK, str(port)) in ("0\n", "reset\n")
        await run.until(lambda run: "another user (uid 65534)" in run.err)


# -- bytes both ways ---------------------------------------------------------------------------------------------------

MIB = 1024 if os.environ.get("SOAK") else 24
"""MiB that kubectl reads out of a container."""
WAYS = pytest.mark.parametrize("websockets", ["true", "false"], ids=["websocket", "spdy"])


@WAYS
async def test_kubectl_exec_brings_a_large_file_whole(tmp_path: Path, websockets: str) -> None:
    kubectl = require("kubectl")
    wanted, got, total = hashlib.sha256(), hashlib.sha256(), 0
    for piece in big(MIB * BLOCK):
        wanted.update(piece)
    async with place(tmp_path) as here:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "jumpdeck", "exec", "far", "--",
            kubectl, "exec", "web-1", "--", "head", "-c", f"{MIB}m", "/data/big",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True,
            env={**os.environ, **here.environment, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets},
        )  # fmt: skip
        assert process.stdout is not None
        try:
            while data := await asyncio.wait_for(process.stdout.read(1 << 20), RUN_LIMIT):
                got.update(data)
                total += len(data)
            assert await asyncio.wait_for(process.wait(), RUN_LIMIT) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        assert (total, got.digest()) == (MIB * BLOCK, wanted.digest())
        assert here.left() == []


@WAYS
async def test_kubectl_exec_takes_standard_input_and_gives_the_exit_code(tmp_path: Path, websockets: str) -> None:
    kubectl = require("kubectl")
    async with place(tmp_path) as here:
        here.environment["KUBECTL_REMOTE_COMMAND_WEBSOCKETS"] = websockets
        words = (kubectl, "exec", "-i", "web-1", "--", "sh", "-c", "cat; exit 9")
        async with here.command("exec", "far", "--", *words) as run:
            run.type("over and back\n")
            assert run.process.stdin is not None
            run.process.stdin.close()
            assert await run.ended() == 9, run.err
            assert run.out == "over and back\n"


@WAYS
async def test_kubectl_port_forward_through_the_route(tmp_path: Path, websockets: str) -> None:
    kubectl = require("kubectl")
    async with place(tmp_path) as here:
        here.environment["KUBECTL_PORT_FORWARD_WEBSOCKETS"] = websockets
        words = (kubectl, "port-forward", "--address=127.0.0.1", "web-1", ":8080")
        async with here.command("exec", "far", "--", *words) as run:
            await run.until(lambda run: "Forwarding from" in run.out)
            found = re.search(r"127\.0\.0\.1:(\d+)", run.out)
            assert found is not None
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=RUN_LIMIT)) as session:
                for number in range(3):
                    async with session.get(f"http://127.0.0.1:{found[1]}/{number}") as response:
                        assert await response.text() == f"Hello from default/web-1\nGET /{number}\n"
            run.process.send_signal(signal.SIGINT)
            await run.ended()
        assert here.left() == []
