"""Signing in from a session and from the command line: where the session stands, what is shown, what is said."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from app.asking import DeviceCode
from app.identity.attending import attend, attending
from app.identity.identities import SharedIdentity
from app.identity.kinds import make_source
from app.profiles.model import AksCluster, Profile, SignIn
from app.rows import SessionPhase
from app.secrets.secret import SecretMemory, SecretSource
from app.sessions.asking import Attempt, Desk, SessionAsker
from app.sessions.route import RouteGround
from app.sessions.states import StateBoard, is_asking
from tests.entra import ARM, CLIENT, TENANT, UPN, Entra, entra
from tests.fakes import FakeAsker
from tests.running import jumpdeck
from tests.terminal import Terminal

P = SessionPhase
LIMIT = 20.0
AKS_ID = (
    "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/lab/providers/"
    "Microsoft.ContainerService/managedClusters/aks"
)


def identity(server: Entra, ca: Path, kind: str = "device-code") -> SharedIdentity:
    source = make_source(
        server.about(kind), server.endpoints(ca), proxy=None, secrets=SecretSource(None, SecretMemory()), asker=None
    )
    return SharedIdentity(source)


class Standing:
    """A session as far as asking goes: a board, an attempt and an asker."""

    def __init__(self, name: str, desk: Desk, person: FakeAsker) -> None:
        self.phases: list[SessionPhase] = []
        self.board = StateBoard(name, lambda state: self.phases.append(state.phase))
        self.asker = SessionAsker(person, desk)
        self._desk = desk

    async def connect(self, work: Callable[[], Awaitable[object]]) -> object:
        async with Attempt(self._desk, self.board) as attempt:
            self.asker.attempt = attempt
            self.board.move(P.CONNECTING)
            attend(self.asker)
            try:
                return await work()
            finally:
                self.asker.attempt = None


async def test_sessions_that_wait_for_a_sign_in_stand_aside_without_an_error(tmp_path: Path) -> None:
    person, desk = FakeAsker(), Desk()
    async with entra(tmp_path) as (server, ca):
        server.gate.clear()
        shared = identity(server, ca)
        sessions = [Standing(f"s{number}", desk, person) for number in range(6)]
        calls = [asyncio.ensure_future(each.connect(lambda: shared.token(ARM))) for each in sessions]
        await asyncio.wait_for(person.shown.wait(), LIMIT)
        async with asyncio.timeout(LIMIT):
            for each in sessions:
                while each.board.state.phase is not P.NEEDS_SIGN_IN:
                    await each.board.changed()
        assert all(is_asking(each.board.state) for each in sessions)
        assert not desk.connects.locked(), "nobody holds a connect slot meanwhile"
        assert len(person.asked) == 1, "one of them shows it"
        server.gate.set()
        await asyncio.gather(*calls)
        assert all(each.phases[-1] is P.CONNECTING for each in sessions)
        assert (server.codes, person.hidden) == (["CODE0"], 1)
        await shared.aclose()


async def test_when_the_session_that_shows_the_code_closes_another_shows_it(tmp_path: Path) -> None:
    person, desk = FakeAsker(), Desk()
    async with entra(tmp_path) as (server, ca):
        server.gate.clear()
        shared = identity(server, ca)
        first, second = Standing("a", desk, person), Standing("b", desk, person)
        gone = asyncio.ensure_future(first.connect(lambda: shared.token(ARM)))
        await asyncio.wait_for(person.shown.wait(), LIMIT)
        stays = asyncio.ensure_future(second.connect(lambda: shared.token(ARM)))
        async with asyncio.timeout(LIMIT):
            while second.board.state.phase is not P.NEEDS_SIGN_IN:
                await second.board.changed()
        person.shown.clear()
        gone.cancel()
        await asyncio.wait_for(person.shown.wait(), LIMIT)
        server.gate.set()
        assert await stays
        assert server.codes == ["CODE0"]
        await shared.aclose()


async def test_who_attends_is_known_in_its_own_task_alone() -> None:
    person = FakeAsker()

    async def session() -> object:
        attend(person)
        return await asyncio.ensure_future(deeper())

    async def deeper() -> object:
        return attending()

    assert await asyncio.ensure_future(session()) is person
    assert attending() is None


async def test_azure_is_made_once_for_profiles_that_agree() -> None:
    ground = RouteGround(None)
    cli = SignIn("azure-cli")
    one = await ground.azure(Profile("a", AksCluster(AKS_ID), sign_in=cli), None)
    assert await ground.azure(Profile("b", AksCluster(AKS_ID), sign_in=cli), None) is one
    other = await ground.azure(Profile("c", AksCluster(AKS_ID), sign_in=SignIn("azure-cli", tenant="x.com")), None)
    assert other is not one and other.identity is not one.identity
    assert one.endpoints.name == "public"
    context = ground.context(Profile("a", AksCluster(AKS_ID), sign_in=cli), None)
    assert context.azure is not None and await context.azure() is one
    await ground.aclose()


# -- the command line -------------------------------------------------------------------------------------------------


def write_profiles(folder: Path, server: Entra, ca: Path, sign_in: str) -> None:
    config = folder / "config"
    config.mkdir(mode=0o700, exist_ok=True)
    (config / "profiles.toml").write_text(
        "version = 1\n"
        f'[cloud.test]\nauthority = "{server.url}"\nresource-manager = "https://arm.test"\nca-file = "{ca}"\n'
        f'[profile.prod-weu]\ncluster = {{ aks = "{AKS_ID}" }}\ncloud = "test"\n{sign_in}\n'
        f'[profile.bare]\ncluster = {{ aks = "{AKS_ID}" }}\n'
    )
    (config / "profiles.toml").chmod(0o600)


async def test_signing_in_without_a_person_says_what_to_run(tmp_path: Path) -> None:
    async with entra(tmp_path) as (server, ca):
        write_profiles(tmp_path, server, ca, f'sign-in = {{ kind = "device-code", tenant = "{TENANT}" }}')
        done = await jumpdeck("sign-in", "prod-weu", "--no-input")
        assert (done.code, done.out) == (4, "")
        assert "JD-SIGN-IN-NEEDED" in done.err and "jumpdeck sign-in prod-weu" in done.err
        done = await jumpdeck("sign-in", "bare", "--no-input")
        assert done.code == 4 and "JD-SIGN-IN-KIND" in done.err and "[profile.bare]" in done.err
        assert server.codes == []


async def test_signing_in_with_az_says_who_and_how_long(tmp_path: Path) -> None:
    emulator = Entra()
    emulator.url = "https://localhost:1"
    folder = tmp_path / "bin"
    folder.mkdir()
    token = emulator.token("az", upn=UPN)
    said = json.dumps({"accessToken": token, "expires_on": 4_000_000_000})
    (folder / "az").write_text(f"#!/bin/sh\necho '{said}'\n")
    (folder / "az").chmod(0o700)
    write_profiles(tmp_path, emulator, tmp_path / "none.pem", 'sign-in = "azure-cli"')
    done = await jumpdeck("--verbose", "sign-in", "prod-weu", PATH=f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert done.code == 0, done.err
    assert f"Signed in as {UPN} (azure-cli), token until " in done.out
    log = (tmp_path / "state" / "jumpdeck.log").read_text()
    audit = "".join(path.read_text() for path in (tmp_path / "state" / "audit").glob("*.jsonl"))
    assert UPN in audit
    assert not [made for made in emulator.made if made in log + audit + done.out + done.err]
    done = await jumpdeck("sign-out", "prod-weu")
    assert done.code == 0 and "az logout" in done.out


async def test_a_device_code_on_the_terminal(tmp_path: Path) -> None:
    async with entra(tmp_path) as (server, ca):
        server.device = ["pending"]
        write_profiles(
            tmp_path, server, ca,
            f'sign-in = {{ kind = "device-code", tenant = "{TENANT}", client-id = "{CLIENT}" }}',
        )  # fmt: skip
        shown = Terminal("--verbose", "sign-in", "prod-weu")
        try:
            code = await asyncio.wait_for(shown.ended(), 60)
        finally:
            shown.close()
        text = shown.written.decode()
        assert code == 0, text
        assert "https://login.test/device" in text and "CODE0" in text and f"Signed in as {UPN}" in text
        assert "in memory only" in text, "nothing here can keep it for the next start, and that is said"
        log = (tmp_path / "state" / "jumpdeck.log").read_text()
        assert not [made for made in server.made if made in log + text]


async def test_interrupting_gives_up(tmp_path: Path) -> None:
    async with entra(tmp_path) as (server, ca):
        server.gate.clear()
        write_profiles(tmp_path, server, ca, f'sign-in = {{ kind = "device-code", tenant = "{TENANT}" }}')
        shown = Terminal("sign-in", "prod-weu")
        try:
            await asyncio.wait_for(shown.until(lambda written: b"CODE0" in written), 60)
            shown.type(b"\x03")
            assert await asyncio.wait_for(shown.ended(), 60) == 130
        finally:
            server.gate.set()
            shown.close()


async def test_a_code_nobody_can_see_is_given_up() -> None:
    """What cannot be shown must not be waited for."""
    from app.identity.waiting import Waiting

    class Blind(FakeAsker):
        async def show_device_code(self, code: DeviceCode) -> None:
            raise OSError("no terminal")

    waiting = Waiting()
    blind = Blind()
    waiting.join(blind)
    given_up = asyncio.ensure_future(waiting.given_up())
    await asyncio.sleep(0)
    waiting.show(DeviceCode("x", "https://login.test", "C", 0.0))
    await asyncio.wait_for(given_up, LIMIT)
    waiting.leave(blind)
    assert not waiting.anybody
