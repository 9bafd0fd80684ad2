"""The lab as its users meet it: one command, a folder, a kubeconfig that kubectl takes, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from app.errors import JumpdeckError
from app.lab.config_folder import LabFolder, lab_folder
from app.lab.control import ControlServer, ask, find_lab, find_labs, runtime_folder
from app.lab.estate import Estate
from app.lab.kubelet import Cluster
from app.lab.practice import Lab
from app.lab.store import Store
from tests.kubectl import Kubectl
from tests.peers import require
from tests.running import jumpdeck as run_jumpdeck

LIMIT = 60.0
"""Seconds after which a wait in these tests counts as failed; a busy machine takes thirty to start a program."""
ROOT = Path(__file__).parents[2]
START = 1_795_327_000.0


def living(seed: int = 1) -> tuple[Store, Cluster]:
    store = Store(clock=lambda: START, rng=random.Random(seed))
    cluster = Cluster(store, seed=seed)
    Estate(cluster, seed=seed).populate()
    return store, cluster


def test_a_seed_makes_the_same_estate_again() -> None:
    (store, cluster), (again, others), (other, _) = living(), living(), living(2)
    assert store.list("pods") == again.list("pods") != other.list("pods")
    logs = [log.read(0, 10_000) for log in cluster.shelf.files()]
    assert logs == [log.read(0, 10_000) for log in others.shelf.files()]


def test_the_estate_has_every_kind_of_pod() -> None:
    store, cluster = living()
    pods = {(pod["metadata"]["namespace"], pod["metadata"]["name"]): pod for pod in store.list("pods")}
    assert 40 <= len(pods) <= 60
    namespaces = {namespace for namespace, _ in pods}
    assert namespaces >= {"default", "payments", "shop", "edge", "batch", "team-a", "team-b", "hostile"}
    assert pods["shop", "importer-0"]["status"]["phase"] == "Pending"
    waiting = {
        each["state"]["waiting"]["reason"]
        for pod in pods.values()
        for each in pod["status"].get("containerStatuses", [])
        if "waiting" in each["state"]
    }
    assert waiting >= {"CrashLoopBackOff", "ImagePullBackOff", "PodInitializing"}
    phases = {pod["status"]["phase"] for pod in pods.values()}
    assert phases == {"Pending", "Running", "Succeeded", "Failed"}
    clock = pods["default", "clock-0"]["status"]["containerStatuses"][0]
    assert (clock["ready"], clock["restartCount"]) == (True, 0)
    assert any(b"Traceback" in entry.data for log in cluster.shelf.files() for entry in log.read(0, 10_000))


def test_the_clock_ticks_twice_a_second_with_numbers_and_distinct_stamps() -> None:
    _, cluster = living()
    entries = cluster.log("default", "clock-0", "clock").read(0, 10_000)
    assert [entry.data for entry in entries] == [b"tick %d of clock-0" % number for number in range(1, 602)]
    stamps = [entry.at_ns for entry in entries]
    assert stamps == sorted(set(stamps))
    assert START - stamps[0] / 1e9 == pytest.approx(300, abs=0.01)


async def test_the_estate_lives_on(tmp_path: Path) -> None:
    async with Lab.open(folder=tmp_path / "lab") as lab:
        log = lab.cluster.log("default", "clock-0", "clock")
        with log.reader() as news:
            await asyncio.wait_for(news.wait(), LIMIT)


async def test_the_folder_is_private_and_complete_and_goes(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "lab"
    async with Lab.open(folder=root, estate="none") as lab:
        assert lab.config_dir.is_relative_to(root)
        assert not lab.kubeconfig.is_relative_to(lab.config_dir)
        for path in (root, lab.config_dir):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        for path in (lab.kubeconfig, lab.config_dir / "profiles.toml", lab.config_dir / "lab.json", root / "jump.key"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        profiles = tomllib.loads((lab.config_dir / "profiles.toml").read_text())
        assert profiles["version"] == 1
        cluster = profiles["profile"]["lab-direct"]["cluster"]
        assert cluster == {"kubeconfig": str(lab.kubeconfig), "context": "lab"}
        assert list(profiles["profile"]) == [
            "lab-direct", "lab-ssh", "lab-ssh-chain", "lab-bastion", "lab-bastion-aks", "lab-invoke",
            "lab-arc", "lab-arc-token",
        ]  # fmt: skip
        assert "PRIVATE KEY" in (root / "jump.key").read_text()
        kubeconfig = yaml.safe_load(lab.kubeconfig.read_text())
        assert {each["name"] for each in kubeconfig["contexts"]} == {
            "lab", "lab-restricted", "lab-nobody", "lab-private",
        }  # fmt: skip
        assert find_labs()[0].config == str(lab.config_dir)
    assert not root.exists()
    assert find_labs() == []


async def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(FileExistsError):
        async with Lab.open(folder=tmp_path, estate="none"):
            pass
    assert (tmp_path / "mine").read_text() == "mine"


async def test_the_secrets_of_its_profiles_come_over_the_control_channel(tmp_path: Path) -> None:
    async with Lab.open(folder=tmp_path / "lab", estate="none") as lab:

        async def secret(name: str) -> dict[str, object]:
            return await asyncio.to_thread(ask, find_lab(), {"command": "secret", "name": name})

        key = tmp_path / "lab" / "jump.key"
        assert await secret(f"passphrase {key}") == {"ok": True, "value": lab.login.passphrase}
        inner = await secret("password ops@inner.jumpdeck.internal:22")
        assert inner == {"ok": True, "value": lab.login.password}
        assert lab.login.passphrase not in repr(lab.login)
        for name in ("password ops@jump01:22", "passphrase /nowhere", "token lab-ssh", ""):
            with pytest.raises(JumpdeckError) as unknown:
                await secret(name)
            assert unknown.value.code == "JD-LAB-SECRET"


async def echo(request: dict[str, object]) -> dict[str, object]:
    if request["command"] == "fail":
        raise JumpdeckError("what", "why", "what to do", code="JD-LAB-TEST")
    return {"got": request["command"]}


@pytest.fixture(params=["unix", "tcp"] if hasattr(socket, "AF_UNIX") else ["tcp"])
async def folder(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LabFolder]:
    with lab_folder(tmp_path / "lab") as place:
        async with ControlServer(place, echo, tcp=request.param == "tcp"):
            yield place


async def test_a_command_reaches_the_lab_of_its_folder(folder: LabFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUMPDECK_CONFIG_DIR", str(folder.config))
    channel = find_lab()
    assert await asyncio.to_thread(ask, channel, {"command": "ping"}) == {"got": "ping"}
    with pytest.raises(JumpdeckError) as failed:
        await asyncio.to_thread(ask, channel, {"command": "fail"})
    assert failed.value.lines() == ["what [JD-LAB-TEST]", "why", "what to do"]


async def test_without_a_folder_the_newest_lab_is_found(folder: LabFolder, tmp_path: Path) -> None:
    assert find_lab().config == str(folder.config)
    with lab_folder(tmp_path / "second") as place:
        async with ControlServer(place, echo):
            assert find_lab().config == str(place.config)
    assert find_lab().config == str(folder.config)


async def test_a_wrong_token_gets_no_answer(tmp_path: Path) -> None:
    with lab_folder(tmp_path / "lab") as place:
        async with ControlServer(place, echo, tcp=True):
            reader, writer = await asyncio.open_connection("127.0.0.1", find_lab().port)
            writer.write(json.dumps({"command": "ping", "token": "guess"}).encode() + b"\n")
            assert await asyncio.wait_for(reader.read(), LIMIT) == b""
            writer.close()


def test_notes_of_labs_that_are_gone_are_swept() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    note = runtime_folder() / f"lab-1-{gone.pid}.json"
    note.write_text(json.dumps({"pid": gone.pid, "config": "x", "socket": "y", "port": 0, "token": ""}))
    with pytest.raises(JumpdeckError) as none:
        find_lab()
    assert none.value.code == "JD-LAB-NONE"
    assert not note.exists()


async def test_the_next_lab_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(*jumpdeck("lab"), cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readline(), LIMIT)
    left = Path(find_lab().config).parent
    process.kill()
    await process.wait()
    assert there(left)
    async with Lab.open(folder=tmp_path / "lab", estate="none") as lab:
        assert [channel.config for channel in find_labs()] == [str(lab.config_dir)]
        assert not there(left)


def jumpdeck(*words: str) -> list[str]:
    return [sys.executable, "-m", "jumpdeck", *words]


async def output(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one of our commands."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*jumpdeck(*words), cwd=ROOT, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), LIMIT)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def there(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


ENDS = [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143)]


@pytest.mark.parametrize(("name", "code"), [end for end in ENDS if hasattr(signal, end[0])])
async def test_the_command_says_when_it_is_ready_and_leaves_nothing_behind(name: str, code: int) -> None:
    process = await asyncio.create_subprocess_exec(*jumpdeck("lab"), cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), LIMIT)).decode()
    match = re.fullmatch(r"ready JUMPDECK_CONFIG_DIR=(\S+) KUBECONFIG=(\S+)\n", line)
    assert match
    config, kubeconfig = Path(match[1]), Path(match[2])
    assert {path.name for path in there(config)} == {"profiles.toml", "lab.json"}
    assert kubeconfig in there(kubeconfig.parent)
    if name == "SIGINT":
        await check_commands()
    process.send_signal(getattr(signal, name))
    assert await asyncio.wait_for(process.wait(), LIMIT) == code
    assert there(kubeconfig.parent) == there(runtime_folder()) == []


async def check_commands() -> None:
    assert await output("lab", "fault", "throttle@api", "60") == (0, "", "")
    code, out, _ = await output("lab", "faults")
    assert code == 0
    assert re.search(r"^throttle .*\[on at api, \d+ s left\]$", out, re.MULTILINE)
    assert re.search(r"^cut +api jump inner bastion arm entra relay +resets all streams and refuses", out, re.MULTILINE)
    assert (await output("lab", "fault", "429", "off"))[0] == 0
    assert (await output("lab", "fault", "slow@jump"))[0] == 0
    assert re.search(r"^slow .*\[on at jump\]$", (await output("lab", "faults"))[1], re.MULTILINE)
    assert (await output("lab", "fault", "slow", "off"))[0] == 0
    assert "[on" not in (await output("lab", "faults"))[1]


async def test_wrong_words_are_usage_errors_and_no_lab_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = await output("lab", "fault", "frezze")
    assert (code, out) == (2, "")
    assert "freeze" in err
    assert (await output("lab", "fault", "cut", "soon"))[0] == 2
    assert (await output("lab", "fault", "cut@moon"))[0] == 2
    assert (await output("lab", "fault", "denied@api"))[0] == 2
    code, _, err = await output("lab", "fault", "cut")
    assert code == 1
    assert "JD-LAB-NONE" in err


async def test_the_command_ends_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    process = await asyncio.create_subprocess_exec(*jumpdeck("lab"), cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readline(), LIMIT)
    await asyncio.to_thread(ask, find_lab(), {"command": "stop"})
    assert await asyncio.wait_for(process.wait(), LIMIT) == 0


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as lab:
        lab.cluster.add_pod({"metadata": {"name": "web", "namespace": "default"}})
        yield lab


async def test_kubectl_reads_logs(lab: Lab, tmp_path: Path) -> None:
    kubectl, cluster = Kubectl(lab, require("kubectl"), tmp_path), lab.cluster
    now = lab.store.clock()
    cluster.write_log("default", "web", "app", b"old\n", at=now - 3_600)
    for number in range(5):
        cluster.write_log("default", "web", "app", b"line %d\n" % number, at_ns=round(now) * 10**9 + number)
    assert await kubectl.said("logs", "web", "--tail=2") == "line 3\nline 4\n"
    assert await kubectl.said("logs", "web", "--since=10m") == "".join(f"line {number}\n" for number in range(5))
    stamped = await kubectl.said("logs", "web", "--timestamps", "--tail=1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000000004Z line 4\n", stamped)
    assert 'previous terminated container "app" in pod "web" not found' in await kubectl.said("logs", "web", "-p")
    cluster.restart_container("default", "web", "app", exit_code=2)
    assert (await kubectl.said("logs", "web", "--previous")).startswith("old\nline 0\n")
    assert 'pods "nosuch" not found' in await kubectl.said("logs", "nosuch")


async def test_kubectl_follows_until_the_container_exits(lab: Lab, tmp_path: Path) -> None:
    kubectl, cluster = Kubectl(lab, require("kubectl"), tmp_path), lab.cluster
    cluster.write_log("default", "web", "app", b"before\n")
    async with kubectl.started("logs", "-f", "web") as process:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), LIMIT) == b"before\n"
        cluster.write_log("default", "web", "app", b"live\n")
        cluster.rotate_log("default", "web", "app")
        cluster.write_log("default", "web", "app", b"rotated\n")
        assert await asyncio.wait_for(process.stdout.readline(), LIMIT) == b"live\n"
        assert await asyncio.wait_for(process.stdout.readline(), LIMIT) == b"rotated\n"
        cluster.end_container("default", "web", "app", exit_code=0)
        assert await asyncio.wait_for(process.wait(), LIMIT) == 0


async def test_kubectl_sees_the_living_estate(tmp_path: Path) -> None:
    path = require("kubectl")
    async with Lab.open() as lab:
        kubectl = Kubectl(lab, path, tmp_path)
        table = await kubectl.said("get", "pods", "-A")
        assert re.search(r"^default +clock-0 +1/1 +Running +0 +2d$", table, re.MULTILINE)
        assert re.search(r"^shop +importer-0 +0/1 +Init:0/1 +0 ", table, re.MULTILINE)
        assert re.search(r"^payments +checkout-\S+ +2/2 +Running ", table, re.MULTILINE)
        assert re.search(r"ImagePullBackOff", table)
        assert "Forbidden" in await kubectl.said("get", "pods", "-A", "--context", "lab-restricted")
        assert "web-" in await kubectl.said("get", "pods", "-n", "team-a", "--context", "lab-restricted")
        assert "Forbidden" in await kubectl.said("get", "pods", "--context", "lab-nobody")


async def test_its_profiles_open_without_a_question_and_touch_nothing_of_the_person(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    async with Lab.open(folder=tmp_path / "lab", estate="none") as lab:
        lab.cluster.add_pod({"metadata": {"name": "web", "namespace": "default"}})
        state = tmp_path / "state"
        where = {"JUMPDECK_CONFIG_DIR": str(lab.config_dir), "JUMPDECK_STATE_DIR": str(state), "HOME": str(home)}
        for profile, logins in (("lab-direct", (0, 0)), ("lab-ssh", (1, 0)), ("lab-ssh-chain", (2, 1))):
            done = await run_jumpdeck("pods", profile, "-o", "name", "--no-input", **where)
            assert (done.code, done.out) == (0, "pod/web\n"), done.err
            assert (lab.jump.logins, lab.inner.logins) == logins
        assert [path.name for path in home.rglob("*")] == [".ssh"]
        secrets = (lab.login.passphrase, lab.login.password)
        kept = [
            path.read_text() for folder in (state, tmp_path / "lab") for path in folder.rglob("*") if path.is_file()
        ]
        assert not [text for text in kept for secret in secrets if secret in text]


async def test_clients_that_go_leave_no_word_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async with Lab.open(estate="none") as lab:
        context = ssl.create_default_context(cafile=str(lab.ca_pem))
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", lab.door.port, ssl=context)
            line = "GET /api/v1/pods?watch=true&resourceVersion=0 HTTP/1.1\r\nHost: lab\r\n"
            writer.write(f"{line}Authorization: Bearer {lab.tokens['admin']}\r\n\r\n".encode())
            await writer.drain()
            writer.transport.abort()
        await lab.fault("cut")
    assert not [record for record in caplog.records if record.name.startswith(("aiohttp", "app.lab"))]
