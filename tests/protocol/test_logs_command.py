"""`jumpdeck logs` against the lab: what is printed where, who joins, what ends it, and that a cut is seamless."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from app.lab.practice import Lab
from tests.peers import require
from tests.running import Done, jumpdeck

LIMIT = 30.0
"""Seconds after which a wait in these tests counts as failed."""


def pod(name: str, *containers: str, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": name, "labels": labels},
        "spec": {"containers": [{"name": each} for each in containers or ("app",)]},
    }


@pytest_asyncio.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as opened:
        yield opened


async def logs(lab: Lab, *words: str) -> Done:
    return await jumpdeck("logs", "lab-direct", *words, JUMPDECK_CONFIG_DIR=str(lab.config_dir))


class Following:
    """A running `jumpdeck logs`; keeps what it wrote."""

    def __init__(self, lab: Lab, *words: str) -> None:
        self._command = [sys.executable, "-m", "jumpdeck", "logs", *words]
        self._env = {**os.environ, "JUMPDECK_CONFIG_DIR": str(lab.config_dir)}
        self.out, self.err = b"", b""

    async def __aenter__(self) -> Following:
        self.process = await asyncio.create_subprocess_exec(
            *self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return self

    async def until(self, fits: Callable[[Following], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            assert self.process.stdout is not None and self.process.stderr is not None
            reads = {
                asyncio.ensure_future(self.process.stdout.read(1 << 16)): "out",
                asyncio.ensure_future(self.process.stderr.read(1 << 16)): "err",
            }
            try:
                while not fits(self):
                    done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
                    for read in done:
                        name = reads.pop(read)
                        data = read.result()
                        assert data, f"ended: {self.err.decode()}"
                        setattr(self, name, getattr(self, name) + data)
                        stream = self.process.stdout if name == "out" else self.process.stderr
                        reads[asyncio.ensure_future(stream.read(1 << 16))] = name
            finally:
                for read in reads:
                    read.cancel()
                await asyncio.gather(*reads, return_exceptions=True)

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.process._transport.close()  # type: ignore[attr-defined]  # its pipes, before the loop ends


async def test_a_snapshot_prints_the_lines_and_says_the_rest_on_stderr(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1"))
    lab.cluster.write_log("default", "web-1", "app", b"one\ntwo\n")
    done = await logs(lab, "web", "--no-follow")
    assert (done.code, done.out, done.err) == (0, "one\ntwo\n", "+ web-1 › app\n- web-1 › app\n")
    done = await logs(lab, "pod/web-1", "--no-follow", "--tail=1", "--prefix", "--only-log-lines")
    assert (done.code, done.out, done.err) == (0, "[pod/web-1/app] two\n", "")


async def test_who_left_is_said_after_its_lines_in_one_stream(lab: Lab) -> None:
    for number in range(3):
        lab.cluster.add_pod(pod(f"web-{number}"))
        lab.cluster.write_log("default", f"web-{number}", "app", b"line\n" * 2000)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jumpdeck", "logs", "lab-direct", "web", "--no-follow", "--tail=-1",
        env={**os.environ, "JUMPDECK_CONFIG_DIR": str(lab.config_dir)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    lines = out.decode().splitlines()
    for number in range(3):
        last = max(at for at, line in enumerate(lines) if line == f"web-{number} app line")
        assert lines.index(f"- web-{number} › app") > last


async def test_the_bytes_equal_kubectls(lab: Lab) -> None:
    kubectl = require("kubectl")
    lab.cluster.add_pod(pod("web-1"))
    lab.cluster.write_log("default", "web-1", "app", b"caf\xe9 \x1b[31mred\x1b[0m \x00\nlast\n")
    where = ["--kubeconfig", str(lab.kubeconfig)]
    theirs = await asyncio.to_thread(
        subprocess.run, [kubectl, *where, "logs", "web-1", "--timestamps"], capture_output=True, check=True, timeout=60
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jumpdeck", "logs", "lab-direct", "web-1", "--no-follow", "-o", "raw", "-t",
        env={**os.environ, "JUMPDECK_CONFIG_DIR": str(lab.config_dir)}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    ours, _ = await process.communicate()
    assert ours == theirs.stdout
    cleaned = await logs(lab, "web-1", "--no-follow")
    assert cleaned.out == "caf� red ␀\nlast\n"


async def test_several_containers_are_told_apart(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1", "app", "proxy"))
    lab.cluster.write_log("default", "web-1", "app", b"one\n")
    lab.cluster.write_log("default", "web-1", "proxy", b"two\n")
    done = await logs(lab, "web", "--no-follow")
    assert sorted(done.out.splitlines()) == ["web-1 app one", "web-1 proxy two"]
    done = await logs(lab, "web", "--no-follow", "-c", "^app$")
    assert done.out == "one\n"
    done = await logs(lab, "web", "--no-follow", "-o", "json")
    assert {json.loads(line)["containerName"] for line in done.out.splitlines()} == {"app", "proxy"}


async def test_workloads_are_found_by_kind_and_name(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1", app="web"))
    lab.cluster.write_log("default", "web-1", "app", b"one\n")
    done = await logs(lab, "deploy/none", "--no-follow")
    assert (done.code, done.out) == (7, "")
    assert "deploy/none does not exist" in done.err
    done = await logs(lab, "pod/none", "--no-follow")
    assert done.code == 7
    done = await logs(lab, "-l", "app=web", "--no-follow")
    assert (done.code, done.out) == (0, "one\n")


async def test_nothing_that_matches_is_no_failure_without_follow(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1"))
    done = await logs(lab, "nothing", "--no-follow")
    assert (done.code, done.out) == (0, "")
    assert len(done.err.splitlines()) == 1


async def test_when_filters_leave_nothing_the_last_lines_are_named(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1"))
    lab.cluster.write_log("default", "web-1", "app", b"one\n", at=time.time() - 600)
    done = await logs(lab, "web", "--no-follow", "-i", "ERROR")
    assert (done.code, done.out) == (0, "")
    assert "web-1 › app  20" in done.err
    assert "(10m ago)" in done.err


async def test_a_quiet_follow_says_what_it_reads(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1"))
    async with Following(lab, "lab-direct", "web", "--tail=0") as running:
        await running.until(lambda done: b"The last line of each container" in done.err and b"no line" in done.err)
        lab.cluster.write_log("default", "web-1", "app", b"now\n")
        await running.until(lambda done: done.out == b"now\n")


async def test_pods_that_come_join_and_pods_that_go_leave(lab: Lab) -> None:
    async with Following(lab, "lab-direct", "web") as running:
        await running.until(lambda done: b"No pod matches" in done.err)
        lab.cluster.add_pod(pod("web-1"))
        lab.cluster.write_log("default", "web-1", "app", b"one\n")
        await running.until(lambda done: done.out == b"one\n")
        lab.cluster.add_pod(pod("web-2"))
        lab.cluster.write_log("default", "web-2", "app", b"two\n")
        await running.until(lambda done: done.out == b"one\nweb-2 app two\n")
        lab.cluster.delete_pod("default", "web-1")
        await running.until(lambda done: b"- web-1" in done.err)
        lab.cluster.add_pod(pod("web-1"))
        lab.cluster.write_log("default", "web-1", "app", b"again\n")
        await running.until(lambda done: done.out.endswith(b"web-1 app again\n"))


async def test_a_restart_is_followed(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1"))
    lab.cluster.write_log("default", "web-1", "app", b"old\n")
    async with Following(lab, "lab-direct", "web") as running:
        await running.until(lambda done: done.out == b"old\n")
        lab.cluster.write_log("default", "web-1", "app", b"dying\n")
        lab.cluster.restart_container("default", "web-1", "app", exit_code=3)
        lab.cluster.write_log("default", "web-1", "app", b"new\n")
        await running.until(lambda done: done.out == b"old\ndying\nnew\n" and b"exit code 3" in done.err)


@pytest.mark.parametrize("how", ["cut", "clean end"])
async def test_an_interruption_loses_and_doubles_nothing(lab: Lab, how: str) -> None:
    lab.cluster.add_pod(pod("web-1"))
    written = b""

    def write(number: int) -> None:
        nonlocal written
        line = b"line %d\n" % (number // 2)  # each twice
        lab.cluster.write_log("default", "web-1", "app", line)
        written += line

    async with Following(lab, "lab-direct", "web", "--tail=-1") as running:
        for number in range(20):
            write(number)
        await running.until(lambda done: done.out == written)
        if how == "cut":
            await lab.fault("cut")
        else:
            lab.cluster.end_follows()
        for number in range(20, 40):
            write(number)
        if how == "cut":
            await lab.fault("cut", on=False)
        await running.until(lambda done: len(done.out) >= len(written))
        assert running.out == written


async def test_a_rotation_during_a_cut_is_marked(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1"))
    lab.cluster.write_log("default", "web-1", "app", b"old\n")
    async with Following(lab, "lab-direct", "web") as running:
        await running.until(lambda done: done.out == b"old\n")
        await lab.fault("cut")
        lab.cluster.write_log("default", "web-1", "app", b"lost\n")
        lab.cluster.rotate_log("default", "web-1", "app")
        lab.cluster.write_log("default", "web-1", "app", b"new\n")
        await lab.fault("cut", on=False)
        await running.until(lambda done: done.out == b"old\nnew\n" and b"lines may be missing" in done.err)


async def test_a_reader_that_leaves_ends_it_quietly(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1"))
    lab.cluster.write_log("default", "web-1", "app", b"x" * 2000 + b"\n")
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jumpdeck", "logs", "lab-direct", "web",
        env={**os.environ, "JUMPDECK_CONFIG_DIR": str(lab.config_dir)}, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    await asyncio.to_thread(os.read, reading, 100)
    os.close(reading)
    lab.cluster.write_log("default", "web-1", "app", b"more\n")
    async with asyncio.timeout(LIMIT):
        _, err = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in err and b"JD-" not in err


async def test_more_containers_than_requests_wait_their_turn_said_once(lab: Lab) -> None:
    for number in range(8):
        lab.cluster.add_pod(pod(f"web-{number}"))
        lab.cluster.write_log("default", f"web-{number}", "app", b"here\n")
    done = await logs(lab, "web", "--no-follow")
    assert len(done.out.splitlines()) == 8
    assert done.err.count("3 containers wait their turn") == 1
    done = await logs(lab, "web", "--no-follow", "--max-log-requests", "7")
    assert done.err.count("1 container waits its turn") == 1


async def test_previous_prints_the_run_before(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1"))
    done = await logs(lab, "web", "-p")
    assert done.code == 7
    lab.cluster.write_log("default", "web-1", "app", b"old\n")
    lab.cluster.restart_container("default", "web-1", "app")
    lab.cluster.write_log("default", "web-1", "app", b"new\n")
    done = await logs(lab, "web", "-p")
    assert (done.code, done.out) == (0, "old\n")


async def test_a_tag_tails_every_profile_that_has_it(lab: Lab) -> None:
    lab.cluster.add_pod(pod("web-1"))
    lab.cluster.write_log("default", "web-1", "app", b"one\n")
    profiles = lab.config_dir / "profiles.toml"
    cluster = f"cluster = {{ kubeconfig = '{lab.kubeconfig}', context = 'lab' }}\ntags = ['blue']\n"
    profiles.write_text(f"version = 1\n[profile.east]\n{cluster}[profile.west]\n{cluster}")
    done = await jumpdeck("logs", "@blue", "web", "--no-follow", JUMPDECK_CONFIG_DIR=str(lab.config_dir))
    assert sorted(done.out.splitlines()) == ["east web-1 app one", "west web-1 app one"]
    done = await jumpdeck("logs", "@green", "web", JUMPDECK_CONFIG_DIR=str(lab.config_dir))
    assert (done.code, done.out) == (3, "")


async def test_a_cluster_that_refuses_ends_it_with_6(lab: Lab) -> None:
    profiles = lab.config_dir / "profiles.toml"
    profiles.write_text(
        f"version = 1\n[profile.nobody]\ncluster = {{ kubeconfig = '{lab.kubeconfig}', context = 'lab-nobody' }}\n"
    )
    done = await jumpdeck("logs", "nobody", "web", JUMPDECK_CONFIG_DIR=str(lab.config_dir))
    assert (done.code, done.out) == (6, "")
    assert "JD-API-FORBIDDEN" in done.err


async def test_an_overlong_line_is_cut_with_its_count() -> None:
    async with Lab.open(estate="none", log_limit=64 << 20) as lab:
        lab.cluster.add_pod(pod("web-1"))
        lab.cluster.write_log("default", "web-1", "app", b"x" * (3 << 20) + b"\nnext\n")
        done = await logs(lab, "web", "--no-follow", "--tail=-1")
        first, second = done.out.splitlines()
        assert second == "next"
        assert len(first) < (1 << 20) + 40
        assert " bytes" in first[-30:]
        assert "left out" in done.err


@pytest.mark.parametrize("how", ["--no-follow", "--follow"])
async def test_a_long_raw_line_into_a_pipe_is_what_was_received(how: str) -> None:
    line = bytes(range(11, 256)) * ((3 << 20) // 245) + b"\nnext\n"
    async with Lab.open(estate="none", log_limit=64 << 20) as lab:
        lab.cluster.add_pod(pod("web-1"))
        lab.cluster.write_log("default", "web-1", "app", line)
        async with Following(lab, "lab-direct", "web", how, "--tail=-1", "-o", "raw") as running:
            await running.until(lambda done: len(done.out) >= len(line))
        assert running.out == line
        assert b"left out" not in running.err
