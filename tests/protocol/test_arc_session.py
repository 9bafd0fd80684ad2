"""Sessions of connected clusters in the lab: both ways to sign in at once, what is renewed, what goes wrong."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from app.arc.clocks import Patience
from app.arc.control import KeyExpired
from app.arc.native import NativeTunnel
from app.arc.run_records import find_orphans
from app.cli.lent_route import lent_route
from app.cluster.log_stream import LogRequest
from app.cluster.pods import PodScope
from app.errors import JumpdeckError, Recovery
from app.identity.attending import attend, attending
from app.identity.source import PersonNeeded
from app.lab.azure_names import ARC_ENTRA, ARC_TOKEN, OBJECT_ID
from app.lab.relay import POLICY_VIOLATED
from app.profiles.store import load
from app.routes.arc import ArcConnection
from app.routes.listener import listening_socket
from app.rows import LogBatch, PodSnapshot, SessionPhase, SessionState, Staleness, StepState
from app.secrets.secret import MEMORY, token_name
from app.sessions.supervisor import Session, Sessions
from app.tasks import TaskOwner
from tests.azure_world import Portal, azure_world
from tests.fakes import FakeAsker
from tests.peers import require, require_linux
from tests.running import command, jumpdeck
from tests.states import is_up, reach
from tests.tls_servers import unused_port
from tests.web_proxy import web_proxy

require_linux("the stand-in is a script")
T = TypeVar("T")
ROUNDS = 10 if os.environ.get("SOAK") else 2
"""How often both clusters are opened side by side; ten times in `make soak`."""
BOTH = ("lab-arc", "lab-arc-token")
KUBECTL = ("--no-input", "--", "kubectl", "get", "pods", "-o", "name")
STEPS = ("Azure's facts of the cluster", "credential of the relay", "Arc proxy program", "local proxy", "identity",
         "register")  # fmt: skip


@pytest.fixture
async def portal(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Portal]:
    async with azure_world() as portal:
        MEMORY.forget(token_name("lab-arc-token"))  # of another test's lab
        monkeypatch.setenv("JUMPDECK_CONFIG_DIR", str(portal.lab.config_dir))
        yield portal


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """What az and kubectl keep in the home folder is byte for byte the same after each of these tests."""
    for name in (".kube/config", ".clientproxy/config.yml", ".azure/azureProfile.json"):
        path = Path.home() / name
        path.parent.mkdir(mode=0o700)
        path.write_text("mine\n")
    before = in_home()
    yield
    assert in_home() == before


@asynccontextmanager
async def opened(*names: str) -> AsyncIterator[tuple[Session, ...]]:
    """Sessions of profiles of the lab, UP."""
    async with Sessions(load()) as sessions:
        found = tuple(sessions.open(name) for name in names)
        for session in found:
            await reach(session, lambda state: is_up(state) or state.error is not None)
            assert is_up(session.state), session.state.error and session.state.error.lines()
        yield found


async def failing(name: str = "lab-arc") -> SessionState:
    """The state in which the first try of a session ends."""
    async with Sessions(load()) as sessions:
        return await reach(sessions.open(name), lambda state: state.error is not None)


def error_of(state: SessionState) -> JumpdeckError:
    assert state.error is not None
    return state.error


def in_home() -> dict[str, bytes]:
    """What az and kubectl keep in the home folder, but for kubectl's cache."""
    found = [path for path in Path.home().rglob("*") if path.is_file() and "cache" not in path.parts]
    return {str(path): path.read_bytes() for path in found}


def leaks(*more: str) -> list[Path]:
    """Files of ours that hold what looks like a token."""
    needles = ("eyJ", "SharedAccess", *more)
    files = [path for path in Path(os.environ["JUMPDECK_STATE_DIR"]).rglob("*") if path.is_file()]
    return [path for path in files if any(needle in path.read_text(errors="replace") for needle in needles)]


def run_folder() -> Path:
    return Path(os.environ["JUMPDECK_STATE_DIR"]) / "run"


def runs() -> list[Path]:
    """Folders of programs that run, or were left behind."""
    return list(run_folder().iterdir())


async def follows(name: str) -> None:
    """`jumpdeck logs -f`, until two lines have come and it is interrupted."""
    async with command("logs", "-f", name, "web", "-o", "raw") as following:
        await following.until(lambda shown: "one\ntwo\n" in shown.out)
        following.process.send_signal(signal.SIGINT)
        assert await following.ended() == 130


async def lists(*words: str) -> None:
    """A command that names the one pod."""
    done = await jumpdeck(*words)
    assert (done.code, done.out) == (0, "pod/web\n"), done


def side_by_side(number: int) -> tuple[Coroutine[Any, Any, None], Coroutine[Any, Any, None]]:
    """Two commands, each on another cluster; after four rounds each command was asked for in both modes."""
    one, other = BOTH if number % 4 < 2 else BOTH[::-1]
    if number % 2 == 0:
        return follows(other), lists("exec", one, *KUBECTL)
    return lists("exec", other, *KUBECTL), lists("pods", one, "-o", "name", "--verbose")


async def test_both_clusters_serve_all_commands_side_by_side_again_and_again(portal: Portal) -> None:
    require("kubectl")
    portal.lab.cluster.write_log("default", "web", "app", b"one\ntwo\n")
    for number in range(ROUNDS):
        await asyncio.gather(*side_by_side(number))
    assert runs() == [] and leaks(portal.lab.account_token) == []


async def test_a_session_tells_its_steps_and_what_the_tunnel_lives_by(portal: Portal) -> None:
    async with opened(*BOTH) as (entra, token):
        labels = [step.label for step in entra.state.steps]
        assert labels[1] == "shop-01 (Azure Arc)" and tuple(labels[2:-1]) == STEPS
        assert all(step.state is StepState.DONE for step in entra.state.steps)
        assert [step.label for step in token.state.steps][2:-1] == [step for step in STEPS if step != "identity"]
        (hop,), (other,) = entra.hop_states(), token.hop_states()
        assert hop.note.startswith("Entra, arcProxy 1.3.035022, tunnel 2:5") and "token 59:" in hop.note
        assert other.note.startswith("service-account token, ") and "token 5" not in other.note
        given = {arm_id: (method, correlation) for arm_id, method, correlation in portal.lab.azure.arc.given}
        assert given[ARC_ENTRA][0] == "AAD" and given[ARC_TOKEN][0] == "Token"
        assert f"correlation id {given[ARC_ENTRA][1]}, agent 1." in hop.note
        assert re.search(r"agent 1\.\S+ Connected \(last contact 20[\d :-]+\), Azure RBAC off", hop.note)
        assert hop.received > 500 < hop.sent, "TLS with the program and an answer to /version"
        assert entra.state.token_until is not None and "@" in entra.state.identity
        assert len(runs()) == 2 and leaks(portal.lab.account_token) == []
        run = runs()[0]
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        for path in run.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert entra.hop_states() == ()


class AtOnce(Patience):
    """Renews without waiting for the time to come."""

    def due(self, got: float, ends: float) -> float:
        return got


QUICK = AtOnce(steps=(0.01,), jitter=0.0, look=0.01)


class Story:
    """What comes in place of a renewal: failures first, then the real thing; and then nothing more."""

    def __init__(self, told: Callable[[], str], *answers: JumpdeckError) -> None:
        self._told, self._answers = told, list(answers)
        self.notes: list[str] = []
        """What the hop said at each try."""
        self.attended: list[object] = []
        self.over = asyncio.Event()
        self._given = False

    async def __call__(self, real: Callable[[], Awaitable[T]]) -> T:
        self.notes.append(self._told())
        self.attended.append(attending())
        if self._answers:
            raise self._answers.pop(0)
        if self._given:
            self.over.set()
            await asyncio.Event().wait()
        self._given = True
        return await real()


async def test_renewals_that_fail_until_shortly_before_the_end_are_notes_and_the_session_stays_up(
    portal: Portal,
) -> None:
    not_now = JumpdeckError("Azure cannot be reached", code="JD-ARM-UNREACHABLE", recovery=Recovery.TRANSIENT)
    async with opened("lab-arc") as (session,):
        far = session._route.far_end
        assert isinstance(far, ArcConnection) and isinstance(far.tunnel, NativeTunnel)
        tunnel, real = far.tunnel, far.tunnel._source
        assert real.identity is not None
        identify = real.identity
        relay, identity = (
            Story(lambda: session.hop_states()[0].note, *errors)
            for errors in ([not_now] * 8, [PersonNeeded("Nobody is signed in", hint="Sign in again")] * 3)
        )
        tunnel._source = real.__replace__(
            relay=lambda: relay(real.relay), relay_patience=QUICK,
            identity=lambda kid: identity(lambda: identify(kid)), token_patience=QUICK,
        )  # fmt: skip
        attend(FakeAsker())
        tunnel.keep()  # once more, on these clocks
        await asyncio.wait_for(asyncio.gather(relay.over.wait(), identity.over.wait()), 40)
        for note in relay.notes[1:9]:
            assert "Tunnel valid for 2:5" in note and "Azure cannot be reached, retrying." in note
        for note in identity.notes[1:4]:
            assert "Identity valid for 59:" in note and "sign-in needed: Sign in again" in note
        assert "retrying" not in session.hop_states()[0].note and "needed" not in session.hop_states()[0].note
        assert {*relay.attended, *identity.attended} == {None}, "nobody is asked, no browser opens"
        assert is_up(session.state) and session.state.tries == 0 and len(portal.lab.azure.arc.given) == 2


async def test_streams_that_end_with_the_relays_credential_are_resumed_with_no_line_lost(portal: Portal) -> None:
    relay = portal.lab.azure.arc.relay
    lines: list[bytes] = []
    seen: list[PodSnapshot] = []
    cut, news = asyncio.Event(), asyncio.Event()

    async def take(batch: LogBatch) -> None:
        if batch.mark is not None:
            cut.set()
        lines.extend(line.partition(b" ")[2] for line in batch.text.splitlines())
        news.set()

    def look(snapshot: PodSnapshot) -> None:
        seen.append(snapshot)
        news.set()

    async def until(wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(40):
            while not wanted():
                news.clear()
                await news.wait()

    async with opened("lab-arc") as (session,), TaskOwner("readers") as tasks:
        tasks.spawn(session.reader.log(LogRequest("default", "web", "app")).run(take), name="log")
        tasks.spawn(session.reader.pods(PodScope(())).run(look), name="watch")
        portal.lab.cluster.write_log("default", "web", "app", b"first\n")
        await until(lambda: lines == [b"first"] and bool(seen) and seen[-1].staleness is Staleness.LIVE)
        portal.lab.cluster.add_pod({"metadata": {"name": "second", "namespace": "default"}})
        await until(lambda: len(seen[-1].rows) == 2)  # the watch is open, too
        far = session._route.far_end
        assert isinstance(far, ArcConnection)
        await far.renew()  # what follows it does not save streams that were opened with the one before
        for tunnel in list(relay._tunnels):
            relay._end(tunnel, POLICY_VIOLATED)  # as when its time has come
        portal.lab.cluster.write_log("default", "web", "app", b"last\n")
        # Log and watch learn of the cut each at its own time, and each is mended by itself.
        await until(lambda: lines == [b"first", b"last"] and cut.is_set())
        await until(lambda: Staleness.STALE in {one.staleness for one in seen})
        await until(lambda: seen[-1].staleness is Staleness.LIVE)
        assert session.state.tries == 0 and is_up(session.state) and len(portal.lab.azure.arc.given) == 2
    assert lines == [b"first", b"last"] and set(relay.closed) == {POLICY_VIOLATED}


async def test_a_program_that_ends_is_started_again_and_others_keep_their_way_in(portal: Portal) -> None:
    require("kubectl")
    async with opened("lab-arc") as (session,):
        with await listening_socket(0) as sock:
            async with lent_route(session, sock) as lent:
                before = lent.kubeconfig.read_bytes()
                portal.lab.azure.arc.exit_code = 7
                await portal.lab.fault("arc-dies")
                session.verify_now()
                state = await reach(session, lambda state: state.error is not None and "exit 7" in state.error.title)
                assert error_of(state).code == "JD-ARC-ENDED" and state.phase is SessionPhase.RETRYING
                await portal.lab.fault("arc-dies", on=False)
                session.retry_now()
                await reach(session, is_up)
                assert lent.kubeconfig.read_bytes() != before, "another certificate"
                kubectl = await asyncio.create_subprocess_exec(
                    "kubectl", "get", "pods", "-o", "name", stdout=asyncio.subprocess.PIPE,
                    env={**os.environ, "KUBECONFIG": str(lent.kubeconfig)},
                )  # fmt: skip
                assert (await kubectl.communicate())[0] == b"pod/web\n"


async def test_a_key_that_the_program_changes_is_asked_for_again_and_then_the_program_is_started_anew(
    portal: Portal,
) -> None:
    await portal.lab.fault("arc-key-expired-once")
    async with opened("lab-arc") as (session,):
        assert [step.label for step in session.state.steps].count("local proxy") == 1
        await portal.lab.fault("arc-key-expired-once", on=False)
        await portal.lab.fault("arc-key-expired")
        far = session._route.far_end
        assert isinstance(far, ArcConnection) and isinstance(far.tunnel, NativeTunnel)
        with pytest.raises(KeyExpired):
            await far.tunnel._renew_token()
        state = await reach(session, lambda state: [step.label for step in state.steps].count("local proxy") == 2)
        state = await reach(session, lambda state: state.phase is SessionPhase.RETRYING)
        assert error_of(state).code == "JD-ARC-KEY" and error_of(state).transient


REFUSED = [
    ("arc-register-403", "JD-ARC-REFUSED", 5, Recovery.PERMANENT, "HTTP 403"),
    ("arc-register-500", "JD-ARC-REFUSED", 5, Recovery.TRANSIENT, "HTTP 500"),
    ("arc-register-garbage", "JD-ARC-ANSWER", 5, Recovery.PERMANENT, "no JSON object"),
    ("arc-exits", "JD-ARC-START", 5, Recovery.TRANSIENT, "the lab was asked to fail"),
    ("arc-port-stolen", "JD-ARC-PORT", 5, Recovery.TRANSIENT, "process"),
    ("arc-private-link", "JD-ARC-PRIVATE-LINK", 5, Recovery.PERMANENT, "privateLinkState"),
    ("arc-credential-403", "JD-ARM-FORBIDDEN", 4, Recovery.PERMANENT, "Cluster User Role"),
    ("arm-429", "JD-ARM-BUSY", 5, Recovery.TRANSIENT, "HTTP 429"),
    ("arm-401", "JD-ARM-FORBIDDEN", 4, Recovery.NEEDS_PERSON, "HTTP 401"),
    ("arc-register-empty", "JD-ARC-ANSWER", 5, Recovery.PERMANENT, "no kubeconfig"),
    ("group-overage", "JD-ARC-OVERAGE", 6, Recovery.PERMANENT, "verage claim"),
    ("arc-offline", "JD-ARC-AGENT", 5, Recovery.TRANSIENT, "(Offline). The tunnel will probably fail; GET /version"),
]  # fmt: skip


async def test_what_goes_wrong_on_the_way_is_told_with_its_code_and_its_next_step(portal: Portal) -> None:
    portal.lab.azure.arm.throttled_for = 3_600  # more than is waited for
    for fault, code, exit_code, recovery, said in REFUSED:
        await portal.lab.fault(fault)
        error = error_of(await failing())
        told = (error.code, int(error.exit_code), error.recovery)
        assert told == (code, exit_code, recovery) and said in str(error), (fault, error.lines())
        assert ("is tried again" in error.hint) <= error.transient, error.lines()
        assert error.hint and "eyJ" not in str(error) and "Signature" not in str(error)
        await portal.lab.fault(fault, on=False)
    assert runs() == []


async def test_a_cluster_that_azure_does_not_know_is_told_with_its_place(portal: Portal) -> None:
    profiles = portal.lab.config_dir / "profiles.toml"
    profiles.write_text(profiles.read_text().replace("/shop-01", "/shop-09"))
    error = error_of(await failing())
    assert (error.code, int(error.exit_code), error.recovery) == ("JD-ARM-NOT-FOUND", 5, Recovery.PERMANENT)
    assert "No connected cluster shop-09: not in lab of subscription" in str(error) and not run_folder().exists()


ODD = """
import base64, yaml
import app.lab.arc_proxy as proxy
def answer(config, server, ca):
    config["clusters"][0]["cluster"] = {ODD}
    config["users"][0]["user"] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false"}}
    value = base64.b64encode(yaml.safe_dump(config).encode()).decode()
    return {"kubeconfigs": [{"name": "Kubeconfig", "value": value}]}
proxy.kubeconfig_answer = answer
"""
"""What makes the lab's program answer with a kubeconfig of its own."""


@pytest.mark.parametrize(("cluster", "code"), [
    ('"server": server, "insecure-skip-tls-verify": True', "JD-TLS-SKIP-VERIFY"),
    ('"server": server.replace("127.0.0.1", "localhost")', "JD-ARC-KUBECONFIG"),
])  # fmt: skip
async def test_a_program_that_cannot_be_verified_is_not_used_and_not_left_running(
    portal: Portal, cluster: str, code: str
) -> None:
    program = portal.lab.azure.arc.program
    program.write_text(program.read_text().replace("sys.exit(", ODD.replace("ODD", cluster) + "sys.exit("))
    async with Sessions(load()) as sessions:
        session = sessions.open("lab-arc")
        error = error_of(await reach(session, lambda state: state.error is not None))
        assert (error.code, error.recovery) == (code, Recovery.PERMANENT)
        assert session.hop_states() == () and runs() == []


async def test_the_endpoint_is_named_that_this_computer_does_not_reach(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await portal.lab.fault("cut", "relay")
    error = error_of(await failing())
    assert (error.code, int(error.exit_code), error.transient) == ("JD-ARC-RELAY", 5, True)
    assert error.detail.startswith("lab-relay.") and "WebSockets included" in error.hint
    dead = f"127.0.0.1:{unused_port()}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://{dead}")
    error = error_of(await failing())
    assert (error.code, int(error.exit_code)) == ("JD-ARC-PROXY", 5) and dead in error.title


async def test_what_azure_does_not_show_and_what_the_cluster_denies_is_said(portal: Portal) -> None:
    await portal.lab.fault("arc-read-403")
    await portal.lab.fault("forbidden-all")
    refused: asyncio.Future[JumpdeckError] = asyncio.get_running_loop().create_future()

    def look(snapshot: PodSnapshot) -> None:
        if snapshot.error is not None and not refused.done():
            refused.set_result(snapshot.error)

    async with opened("lab-arc") as (session,), TaskOwner("readers") as tasks:
        assert any("details hidden" in warning for warning in session.state.warnings)
        tasks.spawn(session.reader.pods(PodScope(())).run(look), name="watch")
        error = await asyncio.wait_for(refused, 20)
        assert error.code == "JD-API-FORBIDDEN" and int(error.exit_code) == 6
        assert OBJECT_ID in error.hint and "bind a role to user" in error.hint


async def test_without_a_program_and_without_az_both_are_named(portal: Portal, tmp_path: Path) -> None:
    profiles = portal.lab.config_dir / "profiles.toml"
    text = profiles.read_text()
    profiles.write_text("\n".join(line for line in text.splitlines() if not line.startswith("arc-proxy")))
    done = await jumpdeck("pods", "lab-arc", "--no-input", PATH=str(tmp_path))
    assert done.code == 5 and "JD-ARC-PROGRAM" in done.err
    assert "jumpdeck trust" in done.err and "by az neither" in done.err


async def test_a_web_proxy_of_the_environment_is_for_the_relay_and_never_for_this_computer(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web_proxy() as (port, asked):
        for name in ("HTTPS_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        async with opened("lab-arc") as (session,):
            assert "HTTPS_PROXY is set without NO_PROXY" in session.hop_states()[0].note
    assert asked and all(request.startswith(b"CONNECT lab-relay.") for request in asked)


async def test_what_a_killed_command_left_behind_is_ended_by_the_next(portal: Portal) -> None:
    await portal.lab.fault("arc-ignores-sigterm")
    async with command("logs", "-f", "lab-arc", "web", "-o", "raw") as following:
        portal.lab.cluster.write_log("default", "web", "app", b"one\n")
        await following.until(lambda shown: "one\n" in shown.out)
        following.process.send_signal(signal.SIGKILL)
        await following.process.wait()
    (orphan,) = find_orphans()
    await portal.lab.fault("arc-ignores-sigterm", on=False)
    done = await jumpdeck("pods", "lab-arc", "-o", "name")
    assert (done.code, done.out) == (0, "pod/web\n")
    assert f"process {orphan.pid}" in done.err and "was ended" in done.err
    assert find_orphans() == ()


async def test_a_connected_cluster_takes_networks_and_web_proxies_before_it_only(portal: Portal) -> None:
    profiles = portal.lab.config_dir / "profiles.toml"
    mine = f'[profile.{{}}]\ncluster = {{{{ arc = "{ARC_ENTRA}" }}}}\nsign-in = "lab"\nvia = [{{}}]\n'
    profiles.write_text(
        profiles.read_text() + mine.format("far", '{ ssh = "jo@jump" }') + mine.format("near", '{ network = "VPN" }')
    )
    book = load()
    assert book.get("near").via
    with pytest.raises(JumpdeckError) as caught:
        book.get("far")
    assert "Azure Relay" in "\n".join(caught.value.lines())
