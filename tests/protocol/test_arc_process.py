"""The program of one session: its ports, its folder, what it says, how it ends, and who else may be in its place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from pathlib import Path

import pytest
import yaml

from app.arc.child_env import child_environment
from app.arc.last_lines import LastLines
from app.arc.ports import RANGE
from app.arc.process import ArcProcess
from app.arc.processes import MARK, known, lives
from app.arc.program import Program
from app.arc.run_records import find_orphans
from app.errors import JumpdeckError, RouteError
from app.socket_owner import Verdict
from tests.arc_programs import DEAF, SERVES, stand_in
from tests.peers import require_linux

require_linux("looks at processes and sockets in /proc")
LIMIT = 20.0
"""Seconds for what takes milliseconds."""
SHORT = 0.3
"""Seconds for what never comes."""


async def started(program: Program, *, limit: float = LIMIT, tries: int = 1, debug: bool = False) -> ArcProcess:
    return await ArcProcess.start(program, {"cloud": "AZUREPUBLICCLOUD"}, child_environment(), label="shop-01",
                                  limit=limit, tries=tries, debug=debug)  # fmt: skip


async def failing(program: Program, *, limit: float = LIMIT, tries: int = 1) -> RouteError:
    with pytest.raises(RouteError) as caught:
        await started(program, limit=limit, tries=tries)
    assert caught.value.layer == "arc" and caught.value.exit_code == 5 and caught.value.transient
    return caught.value


def of(process: ArcProcess, file: str) -> list[str]:
    """A list of strings that the kernel shows of it."""
    return [entry for entry in Path(f"/proc/{process.pid}/{file}").read_bytes().decode().split("\0") if entry]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_it_runs_on_ports_and_in_a_folder_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    program = stand_in(tmp_path / "bin")
    one, two = await asyncio.gather(started(program), started(program, debug=True))
    ports = {one.http_port, one.https_port, two.http_port, two.https_port}
    assert len(ports) == 4 and all(port in RANGE for port in ports), "none that a connection gets by chance meanwhile"
    config = yaml.safe_load((one.folder / "config.yml").read_text())
    assert config == {"server": {"httpPort": one.http_port, "httpsPort": one.https_port}, "cloud": "AZUREPUBLICCLOUD"}
    assert mode(one.folder) == 0o700 and {mode(path) for path in one.folder.iterdir()} == {0o600}
    argv = of(two, "cmdline")[-4:]
    assert argv == [str(program.path), "-c", str(two.folder / "config.yml"), "-d"]
    assert os.getpgid(one.pid) == one.pid != os.getpgid(two.pid)
    assert (await one.check_owner(one.http_port)).verdict is Verdict.OURS
    with pytest.raises(RouteError) as caught:
        await one.check_owner(two.https_port)
    assert caught.value.code == "JD-ARC-PORT" and f"process {two.pid}" in caught.value.detail
    assert find_orphans() == ()  # their owner lives
    await asyncio.gather(one.aclose(), two.aclose())
    assert not one.lives and not two.lives and list(one.folder.parent.iterdir()) == []
    assert (await one.check_owner(one.http_port)).verdict is Verdict.GONE


async def test_its_environment_keeps_control_calls_here_and_holds_no_secret(tmp_path: Path) -> None:
    base = {"HOME": "/h", "PATH": os.environ["PATH"], "HTTPS_PROXY": "http://old:1", "no_proxy": "10.0.0.0/8, ,b.test",
            "AZURE_CLIENT_SECRET": "sesame", "SSH_AUTH_SOCK": "/s", "LC_ALL": "C.UTF-8"}  # fmt: skip
    env = child_environment(proxy="http://proxy.test:3128", ca_file=tmp_path / "ca.pem", base=base)
    process = await ArcProcess.start(stand_in(tmp_path / "bin"), {}, env, tries=1, limit=LIMIT)
    try:
        found = dict(entry.split("=", 1) for entry in of(process, "environ"))
    finally:
        await process.aclose()
    assert found["NO_PROXY"] == found["no_proxy"] == "10.0.0.0/8,b.test,localhost,127.0.0.1"
    assert found["HTTPS_PROXY"] == found["HTTP_PROXY"] == "http://proxy.test:3128"
    assert found["SSL_CERT_FILE"] == str(tmp_path / "ca.pem") and found["LC_ALL"] == "C.UTF-8"
    assert found[MARK] == process.folder.name
    assert not {"AZURE_CLIENT_SECRET", "SSH_AUTH_SOCK"} & found.keys()
    assert child_environment(base={})["NO_PROXY"] == "localhost,127.0.0.1"


async def test_what_it_says_is_kept_bounded_and_without_credentials(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    os.mkfifo(heard)
    jwt = "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJ4In0.c2lnbmF0dXJl"
    program = stand_in(tmp_path / "bin", f"""
for number in range(300): print("line", number)
print("level=debug at={jwt} url=wss://r/$hc/n?sb-hc-token=SharedAccessSignature%20sr%3dx%26sig%3dabc")
sys.stdout.write("x" * 100_000 + "{jwt}" + chr(10))
print("\\x1b]52;c;aGk=\\x07 Authorization: Bearer abcdefghijkl", file=sys.stderr, flush=True)
sys.stdout.flush()
say("{heard}")
""" + SERVES)  # fmt: skip
    starting = asyncio.ensure_future(started(program))
    await asyncio.to_thread(heard.read_text)
    process = await starting
    os.kill(process.pid, signal.SIGKILL)
    ended = await process.wait_end()
    await process.aclose()
    said = "\n".join(process.last_lines)
    assert "SIGKILL" in ended.title and ended.transient and ended.code == "JD-ARC-ENDED"
    assert len(process.last_lines) == 200 and max(map(len, process.last_lines)) <= 500
    assert "level=debug" in said and "eyJ" not in said and "sig" not in said.lower()
    assert "\x1b" not in said and "abcdefghijkl" not in said


async def test_one_that_ends_at_once_is_told_with_its_code_and_last_words(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    program = stand_in(tmp_path / "bin", f"""
say("{tries}")
sys.stderr.write("cannot bind: token=eyJhbGciOiJIUzI1NiJ9.x.y")
sys.exit(3)
""")  # fmt: skip
    error = await failing(program, tries=2)
    assert error.code == "JD-ARC-START" and "exit 3" in error.title
    assert "cannot bind" in error.detail and "eyJ" not in error.detail
    assert tries.read_text() == ".." and list((tmp_path / "state" / "run").iterdir()) == []


async def test_one_of_another_computers_kind_is_told(tmp_path: Path) -> None:
    program = stand_in(tmp_path / "bin")
    program.path.write_bytes(b"\x7fELF\x02\x01\x01")
    error = await failing(program)
    assert error.code == "JD-ARC-START" and "Exec format error" in error.detail


async def test_one_that_never_listens_is_ended_after_its_limit(tmp_path: Path) -> None:
    program = stand_in(tmp_path / "bin", f'say("{tmp_path}/pid", str(os.getpid()))\nlisten(ports[0])\nsignal.pause()\n')
    error = await failing(program, limit=0.5)
    assert error.code == "JD-ARC-NO-ANSWER" and "0.5 s" in error.detail
    pid = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""  # it may not have come so far
    assert (not pid or known(int(pid)) is None) and list((tmp_path / "state" / "run").iterdir()) == []


async def test_a_slow_one_is_waited_for_and_one_that_fails_once_is_started_again(tmp_path: Path) -> None:
    begun, go, tries = tmp_path / "begun", tmp_path / "go", tmp_path / "tries"
    os.mkfifo(begun)
    os.mkfifo(go)
    program = stand_in(tmp_path / "bin", f"""
say("{tries}", " ".join(map(str, ports)) + chr(10))
if hear("{tries}").count(chr(10)) == 1: sys.exit(1)
say("{begun}")
hear("{go}")
""" + SERVES)  # fmt: skip
    starting = asyncio.ensure_future(started(program, tries=2))
    await asyncio.to_thread(begun.read_text)
    assert not starting.done()
    await asyncio.to_thread(go.write_text, ".")
    process = await starting
    first, second = tries.read_text().splitlines()
    assert first != second == f"{process.http_port} {process.https_port}"
    await process.aclose()


async def test_a_port_that_another_program_has_taken_is_not_used(tmp_path: Path) -> None:
    told, go = tmp_path / "told", tmp_path / "go"
    os.mkfifo(told)
    os.mkfifo(go)
    body = f'say("{told}", str(ports[1]))\nhear("{go}")\nkept = listen(ports[0])\nsignal.pause()\n'
    program = stand_in(tmp_path / "bin", body)
    failure = asyncio.ensure_future(failing(program))
    port = int(await asyncio.to_thread(told.read_text))
    with socket.create_server(("127.0.0.1", port)):
        await asyncio.to_thread(go.write_text, ".")
        error = await failure
    assert error.code == "JD-ARC-PORT" and str(port) in error.title and f"process {os.getpid()}" in error.detail


async def test_a_port_that_a_child_of_it_has_is_its_own(tmp_path: Path) -> None:
    body = "kept = listen(ports[1 if os.fork() else 0])\nsignal.pause()\n"
    process = await started(stand_in(tmp_path / "bin", body))
    assert (await process.check_owner(process.http_port)).verdict is Verdict.OURS
    await process.aclose()
    assert (await process.check_owner(process.http_port)).verdict is Verdict.GONE, "it ends with its group"


async def test_the_last_words_are_waited_for() -> None:
    pipe = asyncio.StreamReader()
    said = LastLines(pipe, 2, "a program")
    waiting = asyncio.ensure_future(said.read_up())
    await asyncio.sleep(0)
    pipe.feed_data(b"one\rtwo\r\n \nthr")
    pipe.feed_data(b"ee")
    pipe.feed_eof()
    await waiting
    assert said.all == ("two", "three") and said.last == "three"


async def test_one_that_is_deaf_is_killed_also_when_nobody_waits_any_more(tmp_path: Path) -> None:
    process = await started(stand_in(tmp_path / "bin", DEAF))
    program = known(process.pid)
    closing = asyncio.ensure_future(process.aclose(grace=SHORT))
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing}, timeout=LIMIT)
    assert closing.cancelled() and program is not None and not lives(program)
    assert "SIGKILL" in (await process.wait_end()).title and not process.folder.exists()


async def test_whoever_gives_up_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    program = stand_in(tmp_path / "bin", f'say("{begun}", str(os.getpid()))\nsignal.pause()\n')
    starting = asyncio.ensure_future(started(program))
    pid = int(await asyncio.to_thread(begun.read_text))
    starting.cancel()
    await asyncio.wait({starting}, timeout=LIMIT)
    assert starting.cancelled() and known(pid) is None and list((tmp_path / "state" / "run").iterdir()) == []


async def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "run").write_text("")
    with pytest.raises(JumpdeckError) as caught:
        await started(stand_in(tmp_path / "bin"))
    assert caught.value.code == "JD-PROFILE-FOLDER"
