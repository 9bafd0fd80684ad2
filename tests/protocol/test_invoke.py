"""A cluster read by command invoke, in the lab: what each look brings, and that nothing looks by itself."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from app.asking import Asker
from app.azure.arm import Arm
from app.azure.context import Azure
from app.azure.run_command import CommandResult, RunCommand
from app.cluster.invoke import InvokeReader
from app.cluster.invoke_pods import rows_of, template
from app.cluster.kubectl_answers import Part, Script, check, json_of
from app.cluster.log_query import TailQuery
from app.cluster.log_stream import LogRequest
from app.cluster.paging import PodScope
from app.cluster.tail import TailNews, What
from app.errors import JumpdeckError, NotFoundError, RefusedError
from app.identity.clouds import CloudEndpoints
from app.identity.identity import AccessToken
from app.lab.azure_names import CLUSTER
from app.profiles.model import AksCluster, InvokeHop, Profile
from app.rows import LogBatch, MarkKind, PodSnapshot, SessionPhase, Staleness
from app.secrets.secret import Secret
from app.sessions.asking import Desk
from app.sessions.route import RouteGround
from app.sessions.session import Session
from tests.azure_world import CLI_SCOPE, LIMIT, Portal, azure_world
from tests.kubectl import Kubectl
from tests.peers import require

PROFILE = Profile("by-invoke", AksCluster(CLUSTER), via=(InvokeHop(),), namespaces=("default",))


class PortalIdentity:
    """Tokens that the lab's Entra signs."""

    label = "ops@lab"

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> AccessToken:
        found = self._portal.lab.entra_tokens.mint(_audience(scope))
        return AccessToken(Secret(found.token), found.expires_at)


def _audience(scope: str) -> str:
    from app.lab.entra_tokens import audience_of

    return audience_of(scope)


class PortalGround(RouteGround):
    """The ground of sessions whose Azure is the lab's."""

    def __init__(self, azure: Azure) -> None:
        super().__init__(None)
        self._made = azure

    async def azure(self, profile: Profile, asker: Asker | None) -> Azure:
        return self._made


@dataclass
class World:
    portal: Portal
    azure: Azure
    reader: InvokeReader

    @property
    def commands(self) -> list[str]:
        return self.portal.lab.azure.invoke.commands

    def add_pod(self, name: str, namespace: str = "default", lines: int = 0) -> None:
        cluster = self.portal.lab.cluster
        spec = {"containers": [{"name": "app"}]}
        cluster.add_pod({"metadata": {"name": name, "namespace": namespace}, "spec": spec})
        cluster.start_container(namespace, name, "app")
        for number in range(lines):
            cluster.write_log(namespace, name, "app", b"%s %d\n" % (name.encode(), number))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    async with azure_world() as portal, azure_of(portal) as azure:
        yield World(portal, azure, InvokeReader(RunCommand(azure, CLUSTER, poll=0.02), PROFILE))


@asynccontextmanager
async def azure_of(portal: Portal) -> AsyncIterator[Azure]:
    lab = portal.lab
    endpoints = CloudEndpoints("lab", lab.azure.entra.url, lab.azure.arm.url, CLI_SCOPE, ca_file=Path(portal.ca))
    identity = PortalIdentity(portal)
    arm = Arm(identity, endpoints)
    try:
        yield Azure(identity, endpoints, arm)
    finally:
        await arm.aclose()


# -- pods ---------------------------------------------------------------------------------------------------------


async def test_pods_are_fetched_when_run_and_when_asked_and_never_else(world: World) -> None:
    world.add_pod("api", lines=1)
    shown: asyncio.Queue[PodSnapshot] = asyncio.Queue()
    pods = world.reader.pods(PodScope())
    task = asyncio.ensure_future(pods.run(shown.put_nowait))
    first = await asyncio.wait_for(shown.get(), LIMIT)
    assert first.staleness is Staleness.SNAPSHOT and first.heard_at and first.error is None
    assert {row.name for row in first.rows.values()} == {"web", "api"}
    world.add_pod("late")
    await asyncio.sleep(0)
    assert shown.empty() and len(world.commands) == 1
    world.reader.refresh()
    second = await asyncio.wait_for(shown.get(), LIMIT)
    assert {row.name for row in second.rows.values()} == {"web", "api", "late"}
    assert second.heard_at >= first.heard_at and len(world.commands) == 2
    assert all(line.startswith("kubectl get pods -A -o 'go-template=") for line in world.commands)
    task.cancel()
    await asyncio.wait({task})
    world.reader.refresh()
    assert len(world.commands) == 2


async def test_a_look_that_fails_leaves_the_rows_and_says_so(world: World) -> None:
    shown: asyncio.Queue[PodSnapshot] = asyncio.Queue()
    task = asyncio.ensure_future(world.reader.pods(PodScope(("default",))).run(shown.put_nowait))
    first = await asyncio.wait_for(shown.get(), LIMIT)
    world.portal.lab.azure.arm.faults.add("invoke-fails")
    world.reader.refresh()
    second = await asyncio.wait_for(shown.get(), LIMIT)
    assert (second.staleness, second.rows, second.heard_at) == (Staleness.STALE, first.rows, first.heard_at)
    assert second.error is not None and second.error.code == "JD-INVOKE-NO-START"
    world.portal.lab.azure.arm.faults.discard("invoke-fails")
    world.reader.refresh()
    assert (await asyncio.wait_for(shown.get(), LIMIT)).error is None
    task.cancel()
    await asyncio.wait({task})


async def test_the_template_means_to_kubectl_what_it_means_to_the_lab(world: World, tmp_path: Path) -> None:
    world.add_pod("api")
    words = ("get", "pods", "-A", "-o", f"go-template={template()}")
    real = await Kubectl(world.portal.lab, require("kubectl"), tmp_path).run(*words)
    emulated = await world.portal.invoke(shlex.join(["kubectl", *words]))
    assert real.text == emulated["logs"], real.err
    assert [row.name for row in rows_of(Part(real.text, real.code))] == ["api", "web"]


async def test_several_namespaces_cost_one_pod(world: World) -> None:
    world.add_pod("api", "kube-system")
    rows = await world.reader.list_pods(PodScope(("kube-system", "default")))
    assert [(row.namespace, row.name) for row in rows] == [("kube-system", "api"), ("default", "web")]
    assert len(world.commands) == 1


async def test_a_pod_is_described_with_its_events_by_one_command(world: World) -> None:
    row = (await world.reader.list_pods(PodScope(("default",))))[0]
    text = await world.reader.describe(row)
    assert text.startswith("Name:") and "web" in text
    assert len(world.commands) == 2
    assert await world.reader.events("default") == []
    assert "default" in await world.reader.namespaces()


# -- logs ---------------------------------------------------------------------------------------------------------


async def test_a_log_is_a_snapshot_with_stamps_and_says_that_it_is_one(world: World) -> None:
    world.add_pod("api", lines=5)
    got: list[LogBatch] = []

    async def deliver(batch: LogBatch) -> None:
        got.append(batch)

    await world.reader.log(LogRequest("default", "api", "app", tail=2)).run(deliver)
    lines = b"".join(batch.text for batch in got).splitlines()
    assert [line.split(b" ", 1)[1] for line in lines] == [b"api 3", b"api 4"]
    assert all(re.match(rb"\d{4}-\d\d-\d\dT", line) for line in lines)
    mark = got[-1].mark
    assert mark is not None and mark.kind is MarkKind.NOTE and "cannot follow" in mark.text
    with pytest.raises(NotFoundError) as caught:
        await world.reader.log(LogRequest("default", "nosuch", "app", follow=False)).run(deliver)
    assert int(caught.value.exit_code) == 7


async def test_many_logs_cost_two_pods(world: World) -> None:
    for name in ("api-1", "api-2", "other"):
        world.add_pod(name, lines=2)
    news: list[TailNews] = []
    got: dict[str, bytes] = {}

    async def deliver(batch: LogBatch) -> None:
        got[batch.source.pod] = got.get(batch.source.pod, b"") + batch.text

    tail = world.reader.tail(TailQuery("api", ("default",), follow=False), news.append)
    await tail.run(deliver)
    assert sorted(got) == ["api-1", "api-2"] and all(text.count(b"\n") == 2 for text in got.values())
    assert b"jumpdeck" not in b"".join(got.values()), "marks between logs are no lines"
    assert len(world.commands) == 2
    assert [one.what for one in news].count(What.JOINED) == 2
    assert all(stamp.endswith(b"Z") for _, stamp in await tail.last_lines())
    with pytest.raises(NotFoundError):
        await world.reader.tail(TailQuery("deploy/nosuch", ("default",), follow=False)).run(deliver)


async def test_too_many_logs_are_refused_before_a_second_pod(world: World) -> None:
    for number in range(21):
        world.add_pod(f"api-{number}", lines=1)

    async def deliver(batch: LogBatch) -> None:
        raise AssertionError(batch)

    with pytest.raises(JumpdeckError) as caught:
        await world.reader.tail(TailQuery("api", ("default",), follow=False)).run(deliver)
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-INVOKE-TOO-MANY", 2)
    assert len(world.commands) == 1


# -- what kubectl prints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "kind", "code"),
    [
        ('Error from server (Forbidden): pods is forbidden: User "jo" cannot list resource "pods" in API group "" '
         'in the namespace "shop"', RefusedError, "JD-API-FORBIDDEN"),
        ('error: error from server (NotFound): pods "x" not found in namespace "shop"', NotFoundError,
         "JD-API-NOT-FOUND"),
        ("error: You must be logged in to the server (Unauthorized)", RefusedError, "JD-API-UNAUTHORIZED"),
        ("The connection to the server was refused", JumpdeckError, "JD-INVOKE-COMMAND"),
    ],
)  # fmt: skip
def test_what_kubectl_refuses_is_what_the_api_refuses(output: str, kind: type[JumpdeckError], code: str) -> None:
    with pytest.raises(kind) as caught:
        check(Part(output + "\n", 1), "the list of pods")
    assert caught.value.code == code


class NotSignedIn:
    """ARM that runs commands in a cluster which does not take the token."""

    async def run(self, line: str, told: object = None) -> CommandResult:
        said = "error: You must be logged in to the server (Unauthorized)"
        marks = re.findall(r"echo (\S+) \$", line)
        output = "".join(f"{said}\n{mark} 1\n" for mark in marks) or said
        return CommandResult("x", 0 if marks else 1, output, False, 0.1)


async def test_who_is_not_signed_in_for_the_cluster_is_told_the_command_for_this_profile() -> None:
    reader = InvokeReader(cast("RunCommand", NotSignedIn()), PROFILE)
    for asked in (("default",), ("default", "shop")):
        with pytest.raises(RefusedError) as caught:
            await reader.list_pods(PodScope(asked))
        assert caught.value.hint == "Sign in again: jumpdeck sign-in by-invoke."


def test_a_refusal_that_azure_cut_in_the_middle_of_a_character_is_a_refusal() -> None:
    """Its texts are UTF-16: half of a pair is left where 512 kB are over."""
    with pytest.raises(RefusedError) as caught:
        check(Part("Error from server (Forbidden): pods is forbidden \ud83d", 1), "the list of pods")
    assert "\ud83d" not in caught.value.detail


def test_json_stands_among_warnings_and_is_whole_or_nothing() -> None:
    text = 'Warning: v1 is old\n{\n  "kind": "List"\n}\nW1123 more\n'
    assert json_of(Part(text, 0), "x").split() == b'{ "kind": "List" }'.split()
    with pytest.raises(JumpdeckError) as caught:
        json_of(Part('{"kind": "Li', 0, whole=False), "the list of pods")
    assert caught.value.code == "JD-INVOKE-CUT" and "-n" in caught.value.hint


def test_outputs_of_a_script_are_told_apart_by_a_word_that_no_log_knows() -> None:
    script = Script([["kubectl", "logs", "a b"], ["kubectl", "logs", "c"], ["kubectl", "version"]])
    mark = re.findall(r"echo (\S+) ", script.line)[0]
    assert script.line.startswith("kubectl logs 'a b'; echo ")
    output = f"one\njumpdeck-0 7\n{mark} 0\ntwo{mark} 1\nthree\n{mark} 0\n"
    assert script.parts(output, 0) == [Part("one\njumpdeck-0 7\n", 0), Part("two", 1), Part("three\n", 0)]
    cut = script.parts(output[: output.index("two") + 3], 0, cut=True)
    assert [(part.output, part.whole) for part in cut] == [("one\njumpdeck-0 7\n", True), ("two", False), ("", False)]


# -- the session --------------------------------------------------------------------------------------------------


async def reach(session: Session, phase: SessionPhase) -> None:
    async with asyncio.timeout(LIMIT):
        while session.state.phase is not phase:
            await session.changed()


async def test_a_role_that_lacks_is_told_as_all_that_commands_need(world: World) -> None:
    world.portal.lab.azure.arm.faults.add("arm-403")
    session = Session(PROFILE, desk=Desk(), ground=PortalGround(world.azure), tell=lambda _: None)
    session.start()
    await reach(session, SessionPhase.FAILED)
    error = session.state.error
    assert error is not None and error.code == "JD-ARM-FORBIDDEN"
    assert "runcommand/action and commandResults/read" in error.hint and "Cluster User Role" not in error.hint
    await session.aclose()


async def test_the_command_to_run_names_the_profile(world: World) -> None:
    world.portal.lab.azure.arm.faults.add("arm-401")
    session = Session(PROFILE, desk=Desk(), ground=PortalGround(world.azure), tell=lambda _: None)
    session.start()
    await reach(session, SessionPhase.NEEDS_SIGN_IN)
    assert session.state.error is not None
    assert session.state.error.hint == f"Sign in again: jumpdeck sign-in {PROFILE.name}."
    await session.aclose()


async def test_the_end_of_the_token_is_shown_and_kept_up_to_date_by_each_command(world: World) -> None:
    ends = iter((1_000.0, 2_000.0))
    setattr(world.azure.identity, "expires_at", lambda: next(ends))  # noqa: B010
    session = Session(PROFILE, desk=Desk(), ground=PortalGround(world.azure), tell=lambda _: None)
    session.start()
    await reach(session, SessionPhase.UP)
    assert session.state.token_until == 1_000.0
    await session.reader.list_pods(PodScope(("default",)))  # type: ignore[union-attr]
    assert session.state.token_until == 2_000.0
    await session.aclose()


async def test_a_session_is_up_without_a_command(world: World) -> None:
    session = Session(PROFILE, desk=Desk(), ground=PortalGround(world.azure), tell=lambda _: None)
    session.start()
    await reach(session, SessionPhase.UP)
    state = session.state
    assert state.route == ("workstation", "command invoke", "lab-aks")
    assert [step.label for step in state.steps] == ["profile and credentials", "command invoke (lab-aks)"]
    assert (state.identity, state.cluster, state.latency) == ("ops@lab", "lab-aks", None)
    assert world.commands == []
    assert [row.name for row in await session.reader.list_pods(PodScope(("default",)))] == ["web"]  # type: ignore[union-attr]
    assert len(world.commands) == 1
    await session.aclose()


@pytest.mark.parametrize(
    ("fault", "code"), [("run-command-disabled", "JD-INVOKE-DISABLED"), ("aks-stopped", "JD-AKS-STOPPED")]
)
async def test_a_cluster_that_takes_no_commands_is_said_before_one_is_sent(
    world: World, fault: str, code: str
) -> None:
    world.portal.lab.azure.arm.faults.add(fault)
    session = Session(PROFILE, desk=Desk(), ground=PortalGround(world.azure), tell=lambda _: None)
    session.start()
    await reach(session, SessionPhase.FAILED)
    assert session.state.error is not None and session.state.error.code == code
    world.portal.lab.azure.arm.faults.discard(fault)
    session.retry_now()
    await reach(session, SessionPhase.UP)
    assert world.commands == []
    await session.aclose()
