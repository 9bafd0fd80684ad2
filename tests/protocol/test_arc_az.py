"""A connected cluster by `az connectedk8s proxy`: stand-ins for az and the program, real processes, ports and files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.arc.az import AzTunnel
from app.arc.az_run import NO_TOKEN, AzLimits
from app.arc.az_shared import SharedConfig, turn
from app.arc.ports import RANGE
from app.arc.processes import known, wait_gone
from app.arc.run_records import end_orphan, find_orphans
from app.arc.tunnel import Tunnel
from app.errors import JumpdeckError, Recovery, RouteError
from app.profiles.model import ArcCluster, Profile
from tests.az_proxy import ARC, PROGRAM, Az
from tests.leftovers import lasting, listening
from tests.peers import require_linux
from tests.tls_servers import Authority

require_linux("looks at processes and their environment in /proc")

SHORT = AzLimits(start=0.5, turn=0.3, look=0.02, version=5.0, grace=5.0)
"""For what never gets ready: how far it gets until then does not matter."""
LONG = AzLimits(start=60.0, look=0.02, grace=10.0)
LIMIT = 30.0
MINE = b"server:\n  httpPort: 47010\n  httpsPort: 47011\n# mine\n"


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Az:
    made = Az(tmp_path, monkeypatch)
    (made.shared / "config.yml").write_bytes(MINE)
    return made


def profile(auth: str = "entra") -> Profile:
    return Profile("shop-edge", ArcCluster(ARC, auth))


async def start(limits: AzLimits = LONG, *, auth: str = "entra", **more: Any) -> AzTunnel:
    return await AzTunnel.open(profile(auth), "the program is not here", limits=limits, **more)


@asynccontextmanager
async def running(limits: AzLimits = LONG, **more: Any) -> AsyncIterator[AzTunnel]:
    tunnel = await start(limits, **more)
    try:
        yield tunnel
    finally:
        await tunnel.aclose()


async def failure(limits: AzLimits = LONG, **more: Any) -> JumpdeckError:
    with pytest.raises(JumpdeckError) as caught:
        await start(limits, **more)
    return caught.value


def nothing_left(az: Az) -> None:
    """No process, no run folder; what is the user's is as it was."""
    assert lasting(f"HOME={az.home}") == []
    assert list((az.state / "run").glob("arc-*")) == []
    assert (az.home / ".kube" / "config").read_text() == "# mine\n"
    assert sorted(path.name for path in az.shared.iterdir()) == [PROGRAM, "config.yml"]


async def test_az_opens_the_cluster(az: Az, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.corp:3128")
    monkeypatch.setenv("NO_PROXY", "corp")
    monkeypatch.delenv("no_proxy", raising=False)
    az.does(statuses=[503, 404, 401])  # the relay is reached at last, and the cluster asks who we are
    tunnel: Tunnel
    async with running() as tunnel:
        assert isinstance(tunnel, AzTunnel)
        (call,) = az.calls
        file = next((az.state / "run").glob("arc-*/kubeconfig"))
        assert call["argv"] == [
            "connectedk8s", "proxy", "--name=Shop-01", "--resource-group=Edge", f"--subscription={ARC.split('/')[2]}",
            f"--file={file}", f"--port={tunnel.port}", "--only-show-errors",
        ]  # fmt: skip
        assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
        assert tunnel.kubeconfig == file.read_bytes()
        assert call["env"]["NO_PROXY"] == call["env"]["no_proxy"] == "corp,localhost,127.0.0.1"
        assert call["env"]["HTTPS_PROXY"] == "http://proxy.corp:3128"
        assert call["env"]["AZURE_EXTENSION_USE_DYNAMIC_INSTALL"] == "no"
        assert call["env"]["TMPDIR"] == str(file.parent)
        assert (tunnel.pid, tunnel.label) == (call["pid"], "az connectedk8s proxy (connectedk8s 1.11.2)")
        assert tunnel.warning == (
            "opened by az connectedk8s proxy, signed in as ops@contoso.com, because the program is not here"
        )
        assert len(listening(az.child)) == 2
        assert (az.shared / "config.yml").read_bytes() == MINE  # az has overwritten it, and it has come back
        assert tunnel._version is not None and await tunnel._version.ask(LIMIT) == 401, "503 and 404 were no readiness"
        await tunnel.check_listener()
        await tunnel.verify(LIMIT)
    nothing_left(az)
    assert (await tunnel.wait_lost()).code == "JD-ARC-CLOSED"
    await tunnel.aclose()


async def test_the_profiles_proxy_and_ca(az: Az, tmp_path: Path) -> None:
    (ca := tmp_path / "ca.pem").write_bytes(az.authority.pem)
    async with running(proxy="http://named:1", ca_file=ca):
        env = az.calls[0]["env"]
        assert [env[name] for name in ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")] == [
            "http://named:1", str(ca), str(ca),
        ]  # fmt: skip
    nothing_left(az)


async def test_the_service_accounts_token_is_not_given_to_az(az: Az) -> None:
    async with running(auth="token") as tunnel:
        assert az.calls[0]["argv"][-1] == f"--token={NO_TOKEN}"
        assert f"token: '{NO_TOKEN}'".encode() in tunnel.kubeconfig
        assert "Jumpdeck sends it with each request" in tunnel.notes[-1]
        assert not any("fetched" in note for note in tunnel.notes)
    nothing_left(az)


@pytest.mark.parametrize("leaves", [False, True], ids=["stays in the group", "leaves the group"])
async def test_an_az_that_is_killed_leaves_its_program_behind(az: Az, leaves: bool) -> None:
    az.does(leaves=leaves)
    async with running() as tunnel:
        os.kill(tunnel.pid, signal.SIGKILL)
        async with asyncio.timeout(LIMIT):
            lost = await tunnel.wait_lost()
        assert (lost.code, lost.recovery) == ("JD-ARC-AZ-ENDED", Recovery.TRANSIENT)
        assert "ended by SIGKILL" in lost.title
        await tunnel.check_listener()  # the orphan serves on, with live credentials
        assert len(listening(az.child)) == 2
    nothing_left(az)


async def test_a_program_that_dies_is_noticed_by_the_port(az: Az) -> None:
    async with running() as tunnel:
        os.kill(tunnel.pid, signal.SIGSTOP)  # az itself looks once a minute
        os.kill(az.child, signal.SIGKILL)
        process = known(az.child)
        assert process is None or await asyncio.to_thread(wait_gone, process, LIMIT)
        with pytest.raises(RouteError) as caught:
            await tunnel.verify(LIMIT)
        assert (caught.value.code, caught.value.recovery) == ("JD-ARC-SILENT", Recovery.TRANSIENT)
        assert await tunnel.wait_lost() is caught.value
        with socket.create_server(("127.0.0.1", tunnel.port)), pytest.raises(RouteError) as caught:
            await tunnel.check_listener()
        assert caught.value.code == "JD-ARC-PORT" and str(os.getpid()) in caught.value.detail
        os.kill(tunnel.pid, signal.SIGCONT)
    nothing_left(az)


async def test_what_az_says_at_its_end_is_told_without_secrets(az: Az) -> None:
    az.does(say="ERROR: (AuthorizationFailed) no; accessToken=abcdefgh eyJhbGciOiJub25lIn0.e30. \x1b]52;c;x\x07")
    error = await failure()
    assert (error.code, error.exit_code, error.recovery) == ("JD-ARM-FORBIDDEN", 4, Recovery.PERMANENT)
    assert "AuthorizationFailed" in error.detail and "Cluster User Role" in error.hint
    assert not any(word in str(error) for word in ("abcdefgh", "eyJ", "\x1b"))
    nothing_left(az)


async def test_a_start_that_fails_late_is_tried_again_later(az: Az) -> None:
    az.does(ends=True, statuses=[503], last="Proxy closed externally.")
    error = await failure()
    assert (error.code, error.recovery) == ("JD-ARC-AZ-ENDED", Recovery.TRANSIENT)
    assert "Proxy closed externally." in error.detail
    nothing_left(az)


async def test_an_az_that_never_gets_ready_is_ended(az: Az) -> None:
    az.does(hangs=True)
    error = await failure(SHORT)
    assert (error.code, error.recovery) == ("JD-ARC-AZ-TIMEOUT", Recovery.TRANSIENT)
    assert "az has written no kubeconfig" in error.detail
    nothing_left(az)


async def test_only_the_ca_of_the_kubeconfig_is_trusted(az: Az) -> None:
    path = f"/{'0' * 64}"
    az.does(kubeconfig=az.kubeconfig(path))
    wrong = await failure()
    assert (wrong.code, wrong.recovery) == ("JD-ARC-AZ-KUBECONFIG", Recovery.PERMANENT)
    assert path in wrong.detail
    right = json.loads((az.bin / "plan.json").read_text())["path"]
    az.does(kubeconfig=az.kubeconfig(right, ca=b""))
    assert "no CA" in (await failure()).detail
    az.does(kubeconfig=az.kubeconfig(right, server="https://localhost:PORT"))
    assert (await failure()).code == "JD-ARC-AZ-KUBECONFIG"
    az.does(kubeconfig=az.kubeconfig(right, ca=Authority("another").pem))
    assert (await failure(SHORT)).code == "JD-ARC-AZ-TIMEOUT"
    nothing_left(az)


async def test_starts_come_one_after_the_other(az: Az) -> None:
    one, other = await asyncio.gather(start(), start())
    try:
        assert one.port != other.port and len(az.calls) == 2
        assert one.port in RANGE and other.port in RANGE, "none that a connection gets by chance meanwhile"
        assert (az.shared / "config.yml").read_bytes() == MINE
        for tunnel in (one, other):
            await tunnel.verify(LIMIT)
    finally:
        await asyncio.gather(one.aclose(), other.aclose())
    nothing_left(az)
    async with turn():
        error = await failure(SHORT)
    assert (error.code, error.recovery) == ("JD-ARC-AZ-BUSY", Recovery.TRANSIENT)


async def test_whoever_gives_up_leaves_nothing_behind(az: Az) -> None:
    os.mkfifo(az.bin / "child")
    az.does(hangs=True)
    opening = asyncio.ensure_future(start())
    await asyncio.to_thread((az.bin / "child").read_text)  # az has started its program
    opening.cancel()
    await asyncio.wait({opening}, timeout=LIMIT)
    assert opening.cancelled()
    nothing_left(az)


async def test_a_later_start_finds_what_a_killed_one_left(az: Az) -> None:
    tunnel = await start()
    try:
        record = next((az.state / "run").glob("arc-*/run.json"))
        text = record.read_text().replace(f'"owner": [{os.getpid()}, "', '"owner": [1, "another ')
        record.write_text(text)
        (orphan,) = find_orphans()
        assert orphan.pid == tunnel.pid and orphan.label == "shop-edge"
        assert az.child in [process.pid for process in orphan.processes]
        await end_orphan(orphan)
        async with asyncio.timeout(LIMIT):
            await tunnel.wait_lost()
    finally:
        await tunnel.aclose()
    nothing_left(az)


async def test_names_that_az_would_read_as_files(az: Az) -> None:
    wanted = Profile("x", ArcCluster(ARC.replace("Shop-01", "@secrets")))
    with pytest.raises(JumpdeckError) as caught:
        await AzTunnel.open(wanted, "", limits=LONG)
    assert caught.value.code == "JD-ARC-AZ-NAME" and az.calls == []
    nothing_left(az)


def test_the_shared_configuration_comes_back_only_over_azs_own(az: Az) -> None:
    path = az.shared / "config.yml"
    path.chmod(0o640)
    ours = b"server:\n  httpsPort: 40001\n"
    kept = SharedConfig()
    path.write_bytes(b"server:\n  httpsPort: 40003\n")
    assert not kept.put_back(40001)  # another az has started meanwhile
    path.write_bytes(ours)
    assert kept.put_back(40001) and path.read_bytes() == MINE and path.stat().st_mode & 0o777 == 0o640
    path.unlink()
    kept = SharedConfig()
    path.write_bytes(ours)
    assert kept.put_back(40001) and not path.exists()
    path.symlink_to("elsewhere")
    kept = SharedConfig()
    path.unlink()
    path.write_bytes(ours)
    assert not kept.put_back(40001) and path.read_bytes() == ours


def test_the_shared_configuration_comes_back_when_az_is_ended_before_it_has_written_its_own(az: Az) -> None:
    path = az.shared / "config.yml"
    kept = SharedConfig()
    path.unlink()
    assert not kept.put_back(40001) and kept.put_back(40001, cut_off=True) and path.read_bytes() == MINE
    path.write_bytes(b"")
    assert not kept.put_back(40001) and kept.put_back(40001, cut_off=True) and path.read_bytes() == MINE
    path.write_bytes(b"server:\n  httpsPort: 40003\n")
    assert not kept.put_back(40001, cut_off=True)  # another az's
    path.unlink()
    path.mkdir()
    assert not kept.put_back(40001, cut_off=True) and path.is_dir()


async def test_what_az_overwrote_comes_back_at_the_next_start_when_we_are_killed(az: Az) -> None:
    az.does(hangs=True)
    os.mkfifo(az.bin / "child")
    opening = asyncio.ensure_future(start())
    await asyncio.to_thread((az.bin / "child").read_text)  # az has overwritten it
    (folder,) = (az.state / "run").glob("arc-*")
    path = az.shared / "config.yml"
    written, record = path.read_bytes(), folder / "run.json"
    left = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    opening.cancel()
    await asyncio.wait({opening}, timeout=LIMIT)
    folder.mkdir(mode=0o700)  # as a killed one leaves it
    for name, data in left.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    record.write_text(record.read_text().replace(f'"owner": [{os.getpid()}, "', '"owner": [1, "another '))
    path.write_bytes(written)
    assert written != MINE and find_orphans() == ()
    nothing_left(az)
    assert path.read_bytes() == MINE
