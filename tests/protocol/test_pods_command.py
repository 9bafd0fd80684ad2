"""`jumpdeck pods` as a process against the lab, beside kubectl where it is installed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from app.lab.practice import Lab
from tests.peers import require
from tests.running import Done, jumpdeck

LIMIT = 30.0
"""Seconds after which a wait counts as failed."""


@pytest_asyncio.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as opened:
        yield opened


def pod(name: str, namespace: str = "default", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"containers": [{"name": "app"}]},
    }


async def pods(lab: Lab, *words: str) -> Done:
    return await jumpdeck("pods", "lab-direct", *words, JUMPDECK_CONFIG_DIR=str(lab.config_dir))


async def kubectl(lab: Lab, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        require("kubectl"), "get", "pods", *words, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "KUBECONFIG": str(lab.kubeconfig)},
    )  # fmt: skip
    out, _ = await process.communicate()
    return out.decode()


@pytest.mark.parametrize(
    "words",
    [["-A"], ["-A", "-o", "wide"], ["-n", "shop"], ["-A", "-l", "app=a"], ["-A", "-o", "name"], ["-A", "--no-headers"]],
)
async def test_it_prints_what_kubectl_prints(lab: Lab, words: list[str]) -> None:
    require("kubectl")
    then = time.time() - 3.5 * 86_400 - 1_800  # an age that stays for half an hour: 3d12h
    for name, namespace in (("a", "shop"), ("b", "shop"), ("a-longer-name", "payments")):
        lab.cluster.add_pod(pod(name, namespace, app=name[0]), at=then)
    ours, theirs = await asyncio.gather(pods(lab, *words), kubectl(lab, *words))
    assert (ours.code, ours.err) == (0, "")
    assert theirs
    assert ours.out == theirs


async def test_json_is_kubectls_json(lab: Lab) -> None:
    lab.cluster.add_pod(pod("a"))
    ours = await pods(lab, "-o", "json")
    theirs = json.loads(await kubectl(lab, "-n", "default", "-o", "json"))
    assert json.loads(ours.out) == theirs
    assert ours.out.startswith('{\n    "apiVersion": "v1",\n    "items": [\n        {\n            "apiVersion": "v1",')


async def test_nothing_found_is_said_on_standard_error(lab: Lab) -> None:
    here, everywhere = await asyncio.gather(pods(lab), pods(lab, "-A", "-l", "app=none"))
    assert (here.code, here.out, here.err) == (0, "", "No resources found in default namespace.\n")
    assert (everywhere.code, everywhere.out, everywhere.err) == (0, "", "No resources found\n")


async def test_several_namespaces_are_one_table(lab: Lab) -> None:
    lab.cluster.add_pod(pod("a", "shop"))
    lab.cluster.add_pod(pod("b", "payments"))
    done = await pods(lab, "-n", "shop,payments")
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["NAMESPACE", "NAME"],
        ["shop", "a"],
        ["payments", "b"],
    ]


@pytest.mark.parametrize("words", [["-w", "-o", "json"], ["-n", "a", "-A"], ["-o", "yaml"]])
async def test_what_does_not_go_together_is_a_usage_error(lab: Lab, words: list[str]) -> None:
    assert (await pods(lab, *words)).code == 2


async def test_a_bad_selector_fails_with_the_servers_words(lab: Lab) -> None:
    done = await pods(lab, "-l", "app in (")
    assert done.code == 1
    assert "JD-API-BAD-REQUEST" in done.err


async def test_a_watch_prints_the_list_and_then_every_change(lab: Lab) -> None:
    lab.cluster.add_pod(pod("early"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jumpdeck", "pods", "lab-direct", "-w",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        env={**os.environ, "JUMPDECK_CONFIG_DIR": str(lab.config_dir)},
    )  # fmt: skip
    assert process.stdout is not None

    async def line_of(name: bytes) -> bytes:
        async with asyncio.timeout(LIMIT):
            while not (line := await process.stdout.readline()).startswith(name):  # type: ignore[union-attr]
                assert line, "it ended"
        return line

    try:
        assert (await line_of(b"NAME")).split() == [b"NAME", b"READY", b"STATUS", b"RESTARTS", b"AGE"]
        await line_of(b"early")
        lab.cluster.add_pod(pod("visitor"))
        await line_of(b"visitor")
        lab.cluster.delete_pod("default", "visitor")
        await line_of(b"visitor")
    finally:
        process.terminate()
        async with asyncio.timeout(LIMIT):
            _, err = await process.communicate()
    assert (process.returncode, err) == (143, b"")
