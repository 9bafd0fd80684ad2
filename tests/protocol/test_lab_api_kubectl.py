"""kubectl as a peer: what people type at the lab's cluster works, and its cells are kubectl's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.lab.practice import Lab
from tests.kubectl import LIMIT, Kubectl
from tests.peers import require
from tests.recordings import load


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as running:
        for resource, case in (
            ("namespaces", "namespaces-json"),
            ("pods", "pods-all-json"),
            ("events", "events-crasher-v1"),
        ):
            for item in load(case).json()["items"]:
                running.store.put(resource, item)
        yield running


@pytest.fixture
def kubectl(lab: Lab, tmp_path: Path) -> Kubectl:
    return Kubectl(lab, require("kubectl"), tmp_path)


async def test_the_pods_of_all_namespaces(kubectl: Kubectl) -> None:
    plain = await kubectl.run("get", "pods", "-A", "--no-headers")
    wide = await kubectl.run("get", "pods", "-A", "-o", "wide")
    named = await kubectl.run("get", "pods", "-A", "-o", "name", "--chunk-size=7")
    assert (plain.code, wide.code, named.code) == (0, 0, 0)
    rows = load("pods-all-table-none").json()["rows"]
    cells = [re.split(r"\s{2,}", line.strip()) for line in plain.text.splitlines()]
    assert [line[1:4] for line in cells] == [row["cells"][:3] for row in rows]
    header = " ".join(wide.text.splitlines()[0].split())
    assert header == "NAMESPACE NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    assert len(named.text.splitlines()) == len(rows)


async def test_selectors_and_one_namespace(kubectl: Kubectl) -> None:
    failed = await kubectl.run("get", "pods", "-A", "--field-selector=status.phase=Failed", "-o", "name")
    fraud = await kubectl.run("get", "pods", "-n", "payments", "-l", "app=fraud", "-o", "name")
    none = await kubectl.run("get", "pods", "-n", "kube-public")
    assert len(failed.text.splitlines()) == len(load("pods-field-phase").json()["items"])
    assert fraud.text == "pod/fraud-0\n"
    assert (none.code, none.err) == (0, "No resources found in kube-public namespace.\n")


async def test_a_watch_prints_what_happens(lab: Lab, kubectl: Kubectl) -> None:
    async with kubectl.started("get", "pods", "-n", "payments", "-w", "--no-headers") as process:
        assert process.stdout is not None
        before = len(lab.store.list("pods", "payments"))
        listed = [await asyncio.wait_for(process.stdout.readline(), LIMIT) for _ in range(before)]
        lab.store.modify("pods", "payments", "fraud-0", lambda pod: pod["status"].update(reason="Evicted"))
        changed = await asyncio.wait_for(process.stdout.readline(), LIMIT)
    assert sum(line.startswith(b"fraud-0 ") for line in listed) == 1
    assert changed.split()[0] == b"fraud-0"


async def test_describe_shows_the_pod_and_its_events(kubectl: Kubectl) -> None:
    described = await kubectl.run("describe", "pod", "-n", "real", "crasher")
    assert described.code == 0
    assert re.search(r"^Name: +crasher$", described.text, re.MULTILINE)
    assert "Back-off restarting failed container" in described.text


async def test_events(kubectl: Kubectl) -> None:
    events = await kubectl.run("get", "events", "-n", "real", "--no-headers")
    sorted_events = await kubectl.run("events", "-n", "real", "--for", "pod/crasher", "--no-headers")
    assert events.code == sorted_events.code == 0
    assert len(events.text.splitlines()) == len(load("events-crasher-v1").json()["items"])
    assert "pod/crasher" in sorted_events.text.lower()


@pytest.mark.parametrize(
    ("context", "question", "answer"),
    [
        ("lab", ("delete", "pods"), "yes\n"),
        ("lab-restricted", ("list", "pods", "-n", "team-a"), "yes\n"),
        ("lab-restricted", ("get", "pods", "--subresource=log", "-n", "team-b"), "no\n"),
        ("lab-nobody", ("list", "pods"), "no\n"),
        ("lab-nobody", ("get", "/version"), "yes\n"),
    ],
)
async def test_may_i(kubectl: Kubectl, context: str, question: tuple[str, ...], answer: str) -> None:
    ran = await kubectl.run("auth", "can-i", *question, "--context", context)
    assert (ran.text, ran.code) == (answer, 0 if answer == "yes\n" else 1)


async def test_what_may_i_and_who_am_i(kubectl: Kubectl) -> None:
    may = await kubectl.run("auth", "can-i", "--list", "-n", "team-a", "--context", "lab-restricted")
    who = await kubectl.run("auth", "whoami", "--context", "lab-restricted")
    assert re.search(r"^pods/log +\[] +\[] +\[get list watch]$", may.text, re.MULTILINE)
    assert re.search(r"^Username +restricted$", who.text, re.MULTILINE)


async def test_refusals_read_as_from_a_real_server(kubectl: Kubectl) -> None:
    forbidden = await kubectl.run("get", "pods", "-A", "--context", "lab-restricted")
    missing = await kubectl.run("get", "pod", "-n", "payments", "nosuch")
    message = load("403-restricted-list-all").json()["message"]
    assert (forbidden.code, forbidden.err) == (1, f"Error from server (Forbidden): {message}\n")
    assert (missing.code, missing.err) == (1, 'Error from server (NotFound): pods "nosuch" not found\n')


async def test_the_server_names_itself_and_its_resources(kubectl: Kubectl) -> None:
    version = await kubectl.run("version")
    resources = await kubectl.run("api-resources", "-o", "name")
    assert "Server Version: v1.36.2" in version.text
    assert {"pods", "events.events.k8s.io", "deployments.apps"} <= set(resources.text.split())
