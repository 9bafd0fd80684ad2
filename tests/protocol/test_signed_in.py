"""Commands that go on for ever outlive a sign-in that ends, where somebody can sign in again; elsewhere they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.cli.signed_in import kept_signed_in
from app.cluster.log_stream import LogRequest, Patience, Sender
from app.dialer import worth_waiting
from app.errors import JumpdeckError, Recovery, RefusedError, RouteError, SignInError
from app.profiles.model import AksCluster, Profile, SignIn
from app.rows import LogBatch, SessionPhase
from app.sessions.states import StateBoard
from tests.azure_world import Portal, azure_world
from tests.fakes import FakeIdentity, FakeLink
from tests.running import command
from tests.terminal import Terminal

P = SessionPhase
PROFILE = Profile("prod", AksCluster("/subscriptions/s/x"), sign_in=SignIn("azure-cli"))
LIMIT = 20.0


def gone(code: str = "JD-SIGN-IN-EXPIRED") -> SignInError:
    return SignInError("The sign-in has expired", "AADSTS700082", code=code, recovery=Recovery.NEEDS_PERSON)


def refused() -> RefusedError:
    return RefusedError("Not accepted", code="JD-API-UNAUTHORIZED", layer="sign-in", recovery=Recovery.NEEDS_PERSON)


@pytest.mark.parametrize(
    ("error", "waits", "patiently"),
    [
        (RouteError("lost", code="JD-A", recovery=Recovery.TRANSIENT), True, True),
        (gone(), False, True),
        (refused(), False, True),
        (SignInError("blocked", code="JD-SIGN-IN-CONDITIONAL-ACCESS"), False, False),
        (RefusedError("no", code="JD-API-FORBIDDEN"), False, False),
        (RouteError("key", code="JD-SSH-HOST-KEY-CHANGED", layer="host-key", recovery=Recovery.NEEDS_PERSON), False,
         False),
    ],
)  # fmt: skip
def test_what_readers_wait_for(error: JumpdeckError, waits: bool, patiently: bool) -> None:
    link = FakeLink()
    assert worth_waiting(link, error) is waits
    setattr(link, "patient", True)  # noqa: B010
    assert worth_waiting(link, error) is patiently


class ReportedLink(FakeLink):
    """Comes up once somebody has reported a failure."""

    def report(self, error: JumpdeckError) -> None:
        super().report(error)
        self.come_up()


async def test_a_log_that_meets_the_end_of_the_sign_in_reports_it_and_waits() -> None:
    async def deliver(batch: LogBatch) -> None:
        raise AssertionError(batch)

    link = ReportedLink()
    sender = Sender(LogRequest("default", "web", "app"), deliver)
    with pytest.raises(SignInError):
        await Patience(link, sender).after(gone())
    setattr(link, "patient", True)  # noqa: B010
    link.go_down()
    await asyncio.wait_for(Patience(link, sender).after(gone()), LIMIT)
    assert [error.code for error in link.reports] == ["JD-SIGN-IN-EXPIRED"]


class Standing:
    """A session as far as the keeper goes: UP until its sign-in ends, UP again when it is tried and there is one."""

    def __init__(self, identity: FakeIdentity) -> None:
        self.profile, self.identity = PROFILE, identity
        self.board = StateBoard("prod", lambda _: None)
        self.board.move(P.CONNECTING)
        self.board.move(P.UP)
        self.tries = 0

    @property
    def state(self) -> Any:
        return self.board.state

    async def changed(self) -> Any:
        return await self.board.changed()

    def lose(self, error: JumpdeckError) -> None:
        self.board.move(P.NEEDS_SIGN_IN, error=error)

    def retry_now(self) -> None:
        self.tries += 1
        self.board.move(P.CONNECTING, error=None)
        asyncio.get_running_loop().call_soon(lambda: self.board.move(P.UP))


async def reach(standing: Standing, phase: SessionPhase) -> None:
    async with asyncio.timeout(LIMIT):
        while standing.state.phase is not phase:
            await standing.changed()


async def test_it_is_said_once_and_goes_on_when_somebody_has_signed_in_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    identity = FakeIdentity()
    standing = Standing(identity)
    ground = cast("Any", SimpleNamespace(identities=SimpleNamespace(for_profile=lambda _: identity)))
    async with kept_signed_in(cast("Any", standing), ground, first_look=0.01):
        await asyncio.sleep(0)
        identity.error = gone()
        standing.lose(gone())
        await reach(standing, P.UP)
        assert (standing.tries, len(identity.asked)) == (1, 3), "nothing is tried before there are both tokens"
        for _ in range(10):
            await asyncio.sleep(0)  # turns of the loop in which it is told
    said = capsys.readouterr().err
    assert standing.tries == 1
    assert said.count("prod needs a sign-in: The sign-in has expired [JD-SIGN-IN-EXPIRED]") == 1
    assert "goes on after: jumpdeck sign-in prod  (in another terminal)." in said
    assert said.count("prod is signed in again and goes on.") == 1


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with azure_world() as portal:
        yield portal


async def test_a_follow_on_a_terminal_waits_and_enter_tries_again(portal: Portal, tmp_path: Path) -> None:
    lab = portal.lab
    lab.cluster.write_log("default", "web", "app", b"one\n")
    terminal = Terminal("logs", "lab-bastion-aks", "web", "-o", "raw",
                        JUMPDECK_CONFIG_DIR=str(lab.config_dir), JUMPDECK_STATE_DIR=str(tmp_path))  # fmt: skip
    try:
        await terminal.until(lambda seen: b"one\r\n" in seen)
        await lab.fault("expired-token")
        await lab.fault("clean-end")
        await terminal.until(lambda seen: b"lab-bastion-aks needs a sign-in" in seen and b"Enter signs in here" in seen)
        lab.cluster.write_log("default", "web", "app", b"two\n")
        await lab.fault("expired-token", on=False)
        terminal.type(b"\r")
        await terminal.until(lambda seen: b"is signed in again" in seen and b"two\r\n" in seen)
        assert terminal.written.count(b"one\r\n") == terminal.written.count(b"two\r\n") == 1
        terminal.type(b"\x03")
        assert await terminal.ended() == 130
    finally:
        terminal.close()


async def test_without_somebody_to_ask_the_command_ends(portal: Portal, tmp_path: Path) -> None:
    lab = portal.lab
    lab.cluster.write_log("default", "web", "app", b"one\n")
    where = {"JUMPDECK_CONFIG_DIR": str(lab.config_dir), "JUMPDECK_STATE_DIR": str(tmp_path)}
    async with command("logs", "lab-bastion-aks", "web", "--no-input", **where) as following:
        await following.until(lambda shown: "one" in shown.out)
        await lab.fault("expired-token")
        await lab.fault("clean-end")
        assert await following.ended() == 6
    assert "needs a sign-in" not in following.err
