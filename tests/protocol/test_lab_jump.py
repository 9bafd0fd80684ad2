"""The lab's jump boxes as OpenSSH's client and a plain asyncssh client meet them; each fault as a client sees it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from app.lab.config_folder import API_NAME, INNER_NAME
from app.lab.door import HOST, Door
from app.lab.jump_box import NOT_SSH, Admission, JumpBox
from app.lab.jump_keys import make_host_key
from app.lab.practice import Lab
from app.tasks import spawn
from tests.peers import require
from tests.tls_servers import unused_port

LIMIT = 60.0
"""Seconds after which a wait in these tests counts as failed; 16 MB through two ends of SSH take a busy machine 25."""
API = f"{API_NAME}:443"


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as opened:
        opened.cluster.add_pod({"metadata": {"name": "web", "namespace": "default"}})
        yield opened


class Ssh:
    """OpenSSH's client with a configuration of its own: `jump` and `inner` (through `jump`) are its hosts."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.program = require("ssh")
        hosts = folder / "known"
        hosts.write_text(
            f"[{HOST}]:{lab.jump.door.port} {lab.jump.host_key.public}\n{INNER_NAME} {lab.inner.host_key.public}\n"
        )
        self.config = folder / "config"
        self.config.write_text(
            f"Host jump\n HostName {HOST}\n Port {lab.jump.door.port}\n IdentityFile {lab.login.key_file}\n"
            f"Host inner\n HostName {INNER_NAME}\n ProxyJump jump\n"
            f"Host *\n User ops\n UserKnownHostsFile {hosts}\n GlobalKnownHostsFile none\n StrictHostKeyChecking yes\n"
            " IdentityAgent none\n IdentitiesOnly yes\n NumberOfPasswordPrompts 1\n"
        )
        answer = folder / "askpass"
        answer.write_text('#!/bin/sh\ncase "$1" in *passphrase*) echo "$PHRASE";; *) echo "$PASSWORD";; esac\n')
        answer.chmod(0o700)
        self.env = {
            **os.environ, "SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force",
            "PHRASE": lab.login.passphrase, "PASSWORD": lab.login.password,
        }  # fmt: skip

    async def start(self, *words: str, stream: socket.socket | None = None) -> asyncio.subprocess.Process:
        """Start it; `stream` becomes its standard input and output."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            self.program, "-F", str(self.config), *words, stdin=stream or asyncio.subprocess.DEVNULL,
            stdout=stream or pipe, stderr=pipe, env=self.env, start_new_session=True,
        )  # fmt: skip

    async def __call__(self, *words: str) -> tuple[int | None, str, str]:
        """Exit code, standard output and standard error."""
        process = await self.start(*words)
        out, err = await asyncio.wait_for(process.communicate(), LIMIT)
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def openssh(lab: Lab, tmp_path: Path) -> Ssh:
    return Ssh(lab, tmp_path)


def trust(lab: Lab) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(lab.ca_pem))


async def version_through(openssh: Ssh, lab: Lab, host: str) -> bytes:
    """The answer of the API server to /version, its stream carried by `ssh -W`; TLS verifies its private name."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await openssh.start("-W", API, host, stream=theirs)
    reader, writer = await asyncio.wait_for(
        asyncio.open_connection(sock=ours, ssl=trust(lab), server_hostname=API_NAME), LIMIT
    )
    head = f"GET /version HTTP/1.1\r\nHost: {API_NAME}\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: Bearer {lab.tokens['admin']}\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), LIMIT)
    writer.close()
    assert await asyncio.wait_for(process.wait(), LIMIT) == 0
    return answer


async def test_openssh_carries_a_stream_through_one_and_through_both(lab: Lab, openssh: Ssh) -> None:
    assert b"200 OK" in (await version_through(openssh, lab, "jump")).splitlines()[0]
    assert (lab.jump.logins, lab.inner.logins) == (1, 0)
    assert b"200 OK" in (await version_through(openssh, lab, "inner")).splitlines()[0]
    assert (lab.jump.logins, lab.inner.logins, lab.jump.refusals) == (2, 1, 0)
    assert lab.inner.door.port == 0


async def test_kubectl_works_through_a_forwarded_port(lab: Lab, openssh: Ssh) -> None:
    kubectl, port = require("kubectl"), unused_port()
    ready = ("-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo ready")
    process = await openssh.start("-N", *ready, "-L", f"{port}:{API}", "jump")
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), LIMIT) == b"ready\n"
    pipe = asyncio.subprocess.PIPE
    words = ("--context", "lab-private", "--server", f"https://{HOST}:{port}", "--tls-server-name", API_NAME)
    asked = await asyncio.create_subprocess_exec(
        kubectl, *words, "get", "pods", "-o", "name", env={**os.environ, "KUBECONFIG": str(lab.kubeconfig)}, stdout=pipe
    )
    assert (await asyncio.wait_for(asked.communicate(), LIMIT))[0] == b"pod/web\n"
    process.terminate()
    await asyncio.wait_for(process.communicate(), LIMIT)


async def test_it_runs_true_and_nothing_else_and_shows_its_banner(openssh: Ssh) -> None:
    code, out, err = await openssh("jump", "true")
    assert (code, out) == (0, "")
    assert err.startswith("Practice jump box of the Jumpdeck lab")
    for words in (("jump", "ls"), ("jump",), ("inner", "cat", "/etc/passwd")):
        code, out, _ = await openssh(*words)
        assert (code, out.count("\n")) == (1, 1)
        assert "runs no commands" in out


REFUSALS = [
    ("nowhere.jumpdeck.internal:443", "connect failed: Name or service not known"),
    (f"{API_NAME}:80", "connect failed: Name or service not known"),
    ("10.0.0.1:443", "administratively prohibited: open failed"),
    ("127.0.0.1:9", "administratively prohibited: open failed"),
]


@pytest.mark.parametrize(("target", "words"), REFUSALS)
async def test_what_it_does_not_reach_it_refuses_as_openssh_does(openssh: Ssh, target: str, words: str) -> None:
    code, _, err = await openssh("-W", target, "jump")
    assert code == 255
    assert f"open failed: {words}" in err


async def test_the_api_server_may_be_named_by_its_loopback_port(lab: Lab, openssh: Ssh) -> None:
    assert (await openssh("-W", f"{HOST}:{lab.door.port}", "jump"))[0] == 0


async def test_a_wrong_user_is_refused_and_counted(lab: Lab, openssh: Ssh) -> None:
    code, _, err = await openssh("-l", "root", "jump", "true")
    assert code == 255
    assert "root@127.0.0.1: Permission denied (publickey)." in err
    assert (lab.jump.logins, lab.jump.refusals, lab.jump.connections) == (0, 1, 1)


async def test_who_fails_too_often_is_sent_away(lab: Lab, openssh: Ssh) -> None:
    openssh.env["PASSWORD"] = "guess"
    code, _, err = await openssh("-o", "NumberOfPasswordPrompts=9", "inner", "true")
    assert code == 255
    assert "Too many authentication failures" in err
    assert (lab.jump.logins, lab.inner.logins, lab.inner.refusals) == (1, 0, 1)


FAULTS = [
    ("denied", "jump", "Permission denied (publickey)."),
    ("denied", "inner", "Permission denied (keyboard-interactive,password)."),
    ("host-key", "jump", "REMOTE HOST IDENTIFICATION HAS CHANGED"),
    ("host-key", "inner", f"Host key for {INNER_NAME} has changed"),
    ("bad-banner", "jump", "kex_exchange_identification"),
    ("no-forwarding", "jump", "administratively prohibited: open failed"),
    ("refuse", "jump", "Connection refused"),
    ("refuse", "inner", "open failed: connect failed: Connection refused"),
    ("cut", "jump", "Connection refused"),
    ("cut", "inner", "open failed: connect failed: Connection refused"),
]


@pytest.mark.parametrize(("name", "place", "words"), FAULTS)
async def test_a_fault_as_openssh_tells_it(lab: Lab, openssh: Ssh, name: str, place: str, words: str) -> None:
    await lab.fault(name, place)
    code, _, err = await openssh("inner", "true")
    assert code == 255
    assert words in err
    refused = (lab.jump.refusals, lab.inner.refusals)
    assert refused == ((place == "jump", place == "inner") if name == "denied" else (0, 0))
    await lab.fault(name, place, on=False)
    assert (await openssh("inner", "true"))[0] == 0


async def test_a_bad_banner_is_a_whole_answer_of_a_web_server(lab: Lab) -> None:
    await lab.fault("bad-banner")
    reader, writer = await asyncio.open_connection(HOST, lab.jump.door.port)
    writer.write(b"SSH-2.0-test\r\n")
    assert await asyncio.wait_for(reader.read(), LIMIT) == NOT_SSH
    writer.close()


@asynccontextmanager
async def entered(lab: Lab, *, inner: bool = False) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A login of a plain asyncssh client, at the inner one if asked for; keepalives have to be answered."""
    key = asyncssh.read_private_key(lab.login.key_file, lab.login.passphrase)
    common = {"username": "ops", "config": None, "agent_path": None, "keepalive_interval": 1.0}
    async with asyncssh.connect(
        HOST, lab.jump.door.port, client_keys=[key], known_hosts=_known(lab.jump), **common
    ) as outer:
        if not inner:
            yield outer
            return
        async with asyncssh.connect(
            INNER_NAME, tunnel=outer, password=lab.login.password, client_keys=None,
            known_hosts=_known(lab.inner), **common,
        ) as second:  # fmt: skip
            yield second


def _known(box: JumpBox) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
    return [asyncssh.import_public_key(box.host_key.public)], [], []


async def test_a_cut_at_the_api_server_costs_the_streams_and_not_the_login(lab: Lab) -> None:
    async with entered(lab) as connection:
        reader, _ = await connection.open_connection(API_NAME, 443)
        await lab.fault("cut", "api")
        assert await asyncio.wait_for(reader.read(), LIMIT) == b""
        with pytest.raises(asyncssh.ChannelOpenError) as refused:
            await connection.open_connection(API_NAME, 443)
        assert (refused.value.code, refused.value.reason) == (2, "Connection refused")
        await lab.fault("cut", "api", on=False)
        _, writer = await connection.open_connection(API_NAME, 443)
        assert lab.jump.channels == 1
        writer.close()
        await writer.wait_closed()
    assert (lab.jump.logins, lab.jump.connections) == (1, 1)


async def test_a_cut_at_the_inner_one_leaves_the_outer_one_alone(lab: Lab) -> None:
    async with entered(lab) as outer:
        async with entered(lab, inner=True) as inner:
            await lab.fault("cut", "inner")
            await asyncio.wait_for(inner.wait_closed(), LIMIT)
        assert (await outer.run("true")).exit_status == 0


async def test_a_cut_at_the_jump_box_ends_the_connection(lab: Lab) -> None:
    async with entered(lab) as connection:
        await lab.fault("cut", "jump")
        await asyncio.wait_for(connection.wait_closed(), LIMIT)
    with pytest.raises(ConnectionRefusedError):
        async with entered(lab):
            pass
    await lab.fault("cut", on=False)
    async with entered(lab):
        assert lab.jump.logins == 2


@pytest.mark.parametrize("place", ["jump", "inner"])
async def test_a_frozen_jump_box_loses_nothing(lab: Lab, place: str) -> None:
    async with entered(lab, inner=place == "inner") as connection:
        await lab.fault("freeze", place)
        asked = spawn(connection.run("true"), name="true")
        done, _ = await asyncio.wait({asked}, timeout=0.3)
        assert not done
        await lab.fault("freeze", place, on=False)
        assert (await asyncio.wait_for(asked, LIMIT)).exit_status == 0


async def test_no_forwarding_spares_what_is_open(lab: Lab) -> None:
    async with entered(lab) as connection:
        _, writer = await connection.open_connection(API_NAME, 443)
        await lab.fault("no-forwarding")
        with pytest.raises(asyncssh.ChannelOpenError) as forbidden:
            await connection.open_connection(API_NAME, 443)
        assert forbidden.value.code == 1
        assert lab.jump.channels == 1
        writer.close()
        await asyncio.wait_for(writer.wait_closed(), LIMIT)
    assert lab.jump.channels == 0


async def test_a_slow_login_comes_in_the_end(lab: Lab) -> None:
    lab.jump.slow_login = 0.2
    await lab.fault("slow-login")
    start = time.monotonic()
    async with entered(lab):
        assert time.monotonic() - start >= lab.jump.slow_login


async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes everything until the end, then sends it all back and a word more."""
    got = await reader.read()
    writer.write(got + b"end")
    writer.close()


@asynccontextmanager
async def box_before(
    server: asyncio.Server,
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection to a jump box that reaches `far:7`, which is the server."""
    async with (
        server,
        Door(server.sockets[0].getsockname()[1]) as far,
        JumpBox(Admission("ops", password="open"), {("far", 7): far}) as box,
        asyncssh.connect(
            HOST, box.door.port, username="ops", password="open", known_hosts=_known(box), config=None,
            client_keys=None, agent_path=None,
        ) as connection,
    ):  # fmt: skip
        yield connection


async def test_much_passes_in_both_directions_with_a_half_close() -> None:
    sent = b"".join(b"%08d" % number for number in range(2_000_000))
    async with box_before(await asyncio.start_server(answer_at_the_end, HOST, 0, limit=2**25)) as connection:
        reader, writer = await connection.open_connection("far", 7, encoding=None)
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), LIMIT) == sent + b"end"
        await asyncio.wait_for(writer.channel.wait_closed(), LIMIT)


async def test_a_target_that_ends_first_is_heard_until_the_client_ends_too() -> None:
    heard: list[bytes] = []

    async def end_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first")
        writer.write_eof()
        heard.append(await reader.read())
        writer.close()

    async with box_before(await asyncio.start_server(end_first, HOST, 0)) as connection:
        reader, writer = await connection.open_connection("far", 7, encoding=None)
        assert await asyncio.wait_for(reader.read(), LIMIT) == b"first"
        writer.write(b"second")
        writer.write_eof()
        await asyncio.wait_for(writer.channel.wait_closed(), LIMIT)
    assert heard == [b"second"]


async def test_a_target_that_does_not_read_holds_the_client_back() -> None:
    gate = asyncio.Event()

    async def wait_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await answer_at_the_end(reader, writer)

    sent = bytes(48 * 1024 * 1024)  # many times what the system, the target's reader and the boxes between hold
    async with box_before(await asyncio.start_server(wait_first, HOST, 0)) as connection:
        reader, writer = await connection.open_connection("far", 7, encoding=None)
        writer.write(sent)
        drained = spawn(writer.drain(), name="drain")
        done, _ = await asyncio.wait({drained}, timeout=0.3)
        assert not done
        gate.set()
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), LIMIT) == sent + b"end"
        await drained


async def test_two_labs_have_different_keys(tmp_path: Path) -> None:
    first, second = make_host_key(), make_host_key()
    assert first.fingerprint != second.fingerprint
    assert re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", first.fingerprint)
    assert first.fingerprint == asyncssh.import_public_key(first.public).get_fingerprint()
    assert "PRIVATE" not in repr(first)


async def test_the_library_is_loaded_when_the_first_client_comes() -> None:
    code = "import sys, app.lab.practice, app.cli.lab; sys.exit('asyncssh' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=Path(__file__).parents[2])
    assert await asyncio.wait_for(process.wait(), LIMIT) == 0
