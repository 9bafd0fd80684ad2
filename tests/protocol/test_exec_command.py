"""`jumpdeck exec` and `jumpdeck trust` as a person runs them: a real child, a private kubeconfig, no secret in it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web

from tests.peers import require
from tests.tls_servers import api_server, authority, kubeconfig_text

TOKEN = "sentinel-8d1f"
LIMIT = 60.0


async def answer(request: web.Request) -> web.Response:
    """A cluster that knows the token, and one pod."""
    peer = request.transport.get_extra_info("peercert") if request.transport else None
    if request.headers.get("Authorization") != f"Bearer {TOKEN}" and not peer:
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401,
                                  "reason": "Unauthorized", "message": "Unauthorized"}, status=401)  # fmt: skip
    if request.path == "/version":
        return web.json_response({"major": "1", "minor": "33", "gitVersion": "v1.33.1"})
    if request.path == "/api/v1/namespaces/shop/pods":
        pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "checkout-0", "namespace": "shop"}}
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]})
    if request.path in ("/api", "/apis"):
        kind = {"/api": {"kind": "APIVersions", "versions": ["v1"]},
                "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}}  # fmt: skip
        return web.json_response(kind[request.path])
    if request.path == "/api/v1":
        pods = {"name": "pods", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"], "singularName": "pod"}
        return web.json_response({"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]})
    return web.json_response({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}, status=404)


STARTED: list[int] = []
"""Sessions of processes that this test began."""


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    """Also a test that fails or runs out of time leaves no program behind; under nohup SIGHUP counts nevertheless."""
    hangup = getattr(signal, "SIGHUP", None)
    old = signal.signal(hangup, signal.SIG_DFL) if hangup else None
    yield
    if hangup:
        signal.signal(hangup, old)
    while STARTED:
        with suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(STARTED.pop(), signal.SIGKILL)
            else:
                os.kill(STARTED.pop(), signal.SIGTERM)


class Place:
    """A configuration folder with one profile, and what a command run with it answers."""

    def __init__(self, folder: Path, port: int, *, user: str = f"token: {TOKEN}", profile: str = "") -> None:
        self.folder = folder
        self.temp = folder.parent / f"t{secrets.token_hex(3)}"  # short, as a socket's path must be
        config = folder / "config"
        for path in (config, self.temp):
            path.mkdir(mode=0o700, exist_ok=True)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(kubeconfig_text(port, user=user, context="namespace: shop"))
        profiles = config / "profiles.toml"
        profiles.write_text(
            f"version = 1\n[profile.here]\ncluster = {{ kubeconfig = '{kubeconfig}', context = 'here' }}\n{profile}\n"
        )
        for path in (kubeconfig, profiles):
            path.chmod(0o600)
        self.env = {**os.environ, "TMPDIR": str(self.temp), "TEMP": str(self.temp), "KUBECONFIG": "/nowhere",
                    "KUBECACHEDIR": str(folder / "cache")}  # fmt: skip

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "jumpdeck", *words, env=self.env, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        STARTED.append(process.pid)
        return process

    async def run(self, *words: str) -> tuple[int | None, str, str]:
        process = await self.start(*words)
        out, err = await asyncio.wait_for(process.communicate(), LIMIT)
        assert "Traceback" not in err.decode()
        return process.returncode, out.decode(), err.decode()

    def left(self) -> list[str]:
        """What of ours is still in the folder for temporary files."""
        return [name for name in os.listdir(self.temp) if name.startswith("jumpdeck")]


async def test_kubectl_through_a_kubeconfig_without_a_secret(tmp_path: Path) -> None:
    kubectl = require("kubectl")
    async with api_server(answer) as port:
        place = Place(tmp_path, port)
        code, out, err = await place.run("exec", "here", "--", kubectl, "get", "pods", "-o", "name")
        assert (code, out) == (0, "pod/checkout-0\n"), err
        assert "not held to reading" in err
        code, out, err = await place.run("exec", "here", "--write", kubectl, "get", "pods", "nosuch")
        assert code == 1
        assert place.left() == []


async def test_a_client_certificate_is_lent_too(tmp_path: Path) -> None:
    kubectl = require("kubectl")
    files = authority().issue("jo", client=True).files(tmp_path, "jo")
    async with api_server(answer, client_ca=authority().pem) as port:
        place = Place(tmp_path, port, user=f"client-certificate: '{files[0]}', client-key: '{files[1]}'")
        code, out, err = await place.run("exec", "here", "--", kubectl, "get", "pods", "-o", "name")
        assert (code, out) == (0, "pod/checkout-0\n"), err


LOOK = (
    "import json, os, stat, sys\n"
    "path = os.environ['KUBECONFIG']\n"
    "mode = lambda p: stat.S_IMODE(os.stat(p).st_mode)\n"
    "print(json.dumps([open(path).read(), mode(path), mode(os.path.dirname(path)), dict(os.environ), sys.argv]))\n"
    "sys.exit(7)"
)


async def test_the_child_gets_a_private_file_and_its_exit_code_is_ours(tmp_path: Path) -> None:
    async with api_server(answer) as port:
        place = Place(tmp_path, port, profile="allow-write = true")
        code, out, err = await place.run("exec", "here", "--", sys.executable, "-c", LOOK, "--", "-n", "x")
        assert code == 7, err
        text, file_mode, folder_mode, env, argv = json.loads(out)
        assert argv == ["-c", "--", "-n", "x"]
        assert err == ""
        assert TOKEN not in text + json.dumps(env)
        if os.name == "posix":
            assert (file_mode, folder_mode) == (0o600, 0o700)
        config = json.loads(text)
        assert config["clusters"][0]["cluster"]["server"] == f"https://127.0.0.1:{port}"
        assert config["contexts"][0]["context"]["namespace"] == "shop"
        assert place.left() == []


async def test_what_keeps_the_program_from_starting(tmp_path: Path) -> None:
    async with api_server(answer) as port:
        place = Place(tmp_path, port, profile='tags = ["production"]')
        for words, expected, said in (
            (("exec", "here"), 2, "JD-USAGE-COMMAND"),
            (("exec", "here", "--"), 2, "JD-USAGE-COMMAND"),
            (("exec", "here", "--", "no-such-program-here"), 1, "JD-EXEC-COMMAND"),
            (("exec", "nobody", "--", sys.executable), 3, "JD-PROFILE-UNKNOWN"),
            (("exec", "here", "--no-input", "--", sys.executable, "-c", ""), 2, "JD-EXEC-PRODUCTION"),
        ):
            code, _, err = await place.run(*words)
            assert (code, said in err) == (expected, True), err
        code, _, err = await place.run("exec", "--write", "here", "--", sys.executable, "-c", "")
        assert code == 0, err


async def test_a_signal_reaches_the_child_and_nothing_is_left(tmp_path: Path) -> None:
    if os.name != "posix":
        return  # the console tells every program on it by itself
    child = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "os.write(1, b'ready\\n')\nsignal.sigwait({signal.SIGTERM})\nos.write(1, b'told\\n')\nsys.exit(5)"
    )  # no handler: the signal may come in the middle of the word before it, or right before the wait
    async with api_server(answer) as port:
        place = Place(tmp_path, port)
        process = await place.start("exec", "here", "--", sys.executable, "-c", child)
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), LIMIT) == b"ready\n"
        assert len(place.left()) == 1
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), LIMIT)
        assert (process.returncode, out) == (5, b"told\n")
        assert place.left() == []


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
async def test_a_signal_to_the_whole_group_keeps_the_exit_code(tmp_path: Path, number: str) -> None:
    if os.name != "posix":
        return
    child = f"trap 'exit 9' {number[3:]}; sleep 60 >/dev/null 2>&1 & echo ready; wait"
    async with api_server(answer) as port:
        place = Place(tmp_path, port)
        for _ in range(3):
            process = await place.start("exec", "here", "--", "sh", "-c", child)
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), LIMIT) == b"ready\n"
            os.killpg(process.pid, getattr(signal, number))
            _, err = await asyncio.wait_for(process.communicate(), LIMIT)
            assert process.returncode == 9, err
            assert b"Unknown child" not in err


async def test_a_program_that_ignores_the_loss_of_its_terminal_is_ended(tmp_path: Path) -> None:
    if os.name != "posix":
        return
    child = "trap '' HUP; echo ready; exec sleep 60"
    async with api_server(answer) as port:
        place = Place(tmp_path, port)
        process = await place.start("exec", "here", "--", "sh", "-c", child)
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), LIMIT)
        process.send_signal(signal.SIGHUP)
        await asyncio.wait_for(process.communicate(), LIMIT)
        assert process.returncode == 128 + signal.SIGTERM
        assert place.left() == []


async def test_the_program_ends_when_we_are_killed(tmp_path: Path) -> None:
    if sys.platform != "linux":
        return  # elsewhere no system call ties a program to the one that started it
    async with api_server(answer) as port:
        place = Place(tmp_path, port)
        process = await place.start("exec", "here", "--", "sh", "-c", "echo ready; exec sleep 60")
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), LIMIT)
        process.kill()
        await asyncio.wait_for(process.stdout.read(), LIMIT)  # ends when the program, too, has let go of it
        await asyncio.wait_for(process.wait(), LIMIT)


async def test_a_killed_run_is_swept_by_the_next(tmp_path: Path) -> None:
    if os.name != "posix":
        return
    child = "import sys; print('ready', flush=True); sys.stdin.read(); import signal; signal.pause()"
    async with api_server(answer) as port:
        place = Place(tmp_path, port)
        process = await place.start("exec", "here", "--", sys.executable, "-c", child)
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), LIMIT)
        os.killpg(process.pid, signal.SIGKILL)
        await asyncio.wait_for(process.communicate(), LIMIT)
        assert len(place.left()) == 1
        await place.run("exec", "here", "--", sys.executable, "-c", "")
        assert place.left() == []


ASK = (
    "import json, os, subprocess\n"
    "run = json.load(open(os.environ['KUBECONFIG']))['users'][0]['user']['exec']\n"
    "print(subprocess.run([run['command'], *run['args']], capture_output=True, text=True).stdout)"
)


async def test_trust_shows_the_command_and_takes_its_fingerprint(tmp_path: Path) -> None:
    code_text = f"print({json.dumps(credential())!r})"
    user = (
        f"exec: {{command: '{sys.executable}', apiVersion: client.authentication.k8s.io/v1, "
        f"args: ['-I', '-c', {json.dumps(code_text)}]}}"
    )
    async with api_server(answer) as port:
        place = Place(tmp_path, port, user=user)
        code, _, err = await place.run("exec", "here", "--", sys.executable, "-c", "")
        assert (code, "jumpdeck trust here" in err) == (4, True), err
        code, out, err = await place.run("trust", "here", "--no-input")
        assert code == 4
        fingerprint = out.rpartition("fingerprint")[2].split()[0]
        assert f"--fingerprint {fingerprint}" in err
        assert (await place.run("trust", "here", "--fingerprint", "SHA256:00"))[0] == 4
        assert (await place.run("trust", "here", "--fingerprint", fingerprint))[0] == 0
        assert fingerprint in (await place.run("trust", "list"))[1]
        code, out, err = await place.run("exec", "here", "--", sys.executable, "-c", ASK)
        assert (code, json.loads(out)["status"]["token"]) == (0, TOKEN), err
        assert (await place.run("trust", "remove", fingerprint))[0] == 0
        assert (await place.run("trust", "remove", fingerprint))[0] == 7
        assert (await place.run("trust", "remove"))[0] == 2
        assert (await place.run("trust", "list"))[1] == ""


def credential() -> dict[str, object]:
    return {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": TOKEN}}


async def test_a_lent_credential_ends_with_its_lender(tmp_path: Path) -> None:
    place = Place(tmp_path, 1)
    code, out, err = await place.run("credential", str(tmp_path / "gone"))
    assert (code, out) == (4, "")
    assert "JD-EXEC-GONE" in err
