"""Facts about the route on the screen and about the questions that a route asks."""

from __future__ import annotations

import asyncio

import pytest
from textual.widgets import Checkbox, Input

from app.asking import HostKeyQuestion, Prompt, SecretAnswer
from app.errors import Recovery, RouteError
from app.rows import HopState, SessionPhase, Step, StepState
from screens.asking import ConsoleAsker
from screens.questions import HostKeyScreen, PromptsScreen, SecretScreen
from screens.route import RouteScreen
from tests.console.conftest import running, settle, shown
from tests.console.fakes_console import NOW, Stage, link_error, pod
from widgets.lines import token_time
from widgets.route_map import byte_count

QUESTION = HostKeyQuestion(
    "prod-weu", "jump01.corp", "10.4.0.7:22", "ED25519", "SHA256:abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
    notes=("keys of type RSA are known for it",),
)  # fmt: skip
HOPS = (
    HopState("jump01 (SSH)", StepState.DONE, NOW - 7980, 0.012, 3_400_000, 40_960, "key ED25519 SHA256:abc",
             "Authorised use only\n[red]no markup[/red]"),
    HopState("inner (SSH)", StepState.FAILED, NOW - 60),
)  # fmt: skip


async def test_the_route_is_drawn_hop_by_hop():
    stage = Stage()
    async with running(stage, pod("web"), size=(110, 30)) as pilot:
        stage.session("prod-weu").hops = HOPS
        await pilot.press("i")
        await settle(pilot)
        assert isinstance(stage.app.screen, RouteScreen)
        text = shown(pilot)
        assert "jump01 (SSH)  up 2h13m  12 ms  3.2 MiB in, 40 KiB out" in text
        assert "from server:" in text and "[red]no markup[/red]" in text
        assert "inner (SSH)  lost" in text
        assert "38 ms for a small request" in text
        stage.session("prod-weu").hops = (HOPS[0],)
        stage.app.screen.refresh_route()
        await settle(pilot)
        assert "inner (SSH)" not in shown(pilot)
        stage.session("prod-weu").hops = ()
        stage.app.screen.refresh_route()
        await settle(pilot)
        assert "jump01 (SSH)  waits" in shown(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert stage.app.screen is stage.app.main


async def test_the_hop_that_is_being_opened_or_could_not_be_is_marked():
    stage = Stage()
    async with running(stage, up="", size=(110, 30)) as pilot:
        await stage.app.main.open("prod-weu")
        session = stage.session("prod-weu")
        route = ("workstation", "jump01 (SSH)", "inner (SSH)", "aks-prod")
        for step, word in ((StepState.RUNNING, "connecting"), (StepState.FAILED, "not open")):
            session.move(
                SessionPhase.CONNECTING, route=route, hops=(), error=None,
                steps=(Step("profile and credentials", StepState.DONE), Step("jump01 (SSH)", step)),
            )  # fmt: skip
            await stage.app.main.run_command("route")
            await settle(pilot)
            text = shown(pilot)
            assert f"jump01 (SSH)  {word}" in text and "inner (SSH)  waits" in text
            await pilot.press("escape")
            await settle(pilot)


async def test_the_route_of_a_session_that_is_not_up_shows_its_error():
    stage = Stage()
    async with running(stage, pod("web"), size=(110, 30)) as pilot:
        stage.session("prod-weu").move(SessionPhase.RETRYING, error=link_error(), retry_at=NOW + 4, up_since=None)
        await stage.app.main.run_command("route")
        await settle(pilot)
        assert "JD-API-LOST" in shown(pilot)


async def test_an_unverified_host_key_is_named_in_the_list():
    error = RouteError("Host key changed", code="JD-SSH-HOST-KEY-CHANGED", layer="host-key",
                       recovery=Recovery.NEEDS_PERSON)  # fmt: skip
    stage = Stage(first="staging")
    async with stage.app.run_test(size=(100, 24)) as pilot:
        await settle(pilot)
        stage.session("staging").move(SessionPhase.NEEDS_TRUST, error=error)
        await settle(pilot)
        assert "HOST KEY" in shown(pilot).splitlines()[0]
        assert "HOST KEY" in "\n".join(shown(pilot).splitlines()[1:])


async def ask(stage: Stage, pilot, question):
    """Start asking in a task of its own; returns the task once the question stands."""
    asker = ConsoleAsker(stage.app, stage.app.main.flash)
    task = asyncio.ensure_future(question(asker))
    await settle(pilot)
    return task


@pytest.mark.parametrize(("typed", "answer"), [("DEFG", True), ("trust", True), ("defg", None), ("yes", None)])
async def test_a_host_key_is_trusted_by_the_end_of_its_fingerprint_only(typed, answer):
    stage = Stage()
    async with stage.app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        task = await ask(stage, pilot, lambda asker: asker.ask_host_key(QUESTION))
        screen = stage.app.screen
        assert isinstance(screen, HostKeyScreen)
        text = shown(pilot)
        for word in ("jump01.corp", "10.4.0.7:22", "ED25519", QUESTION.fingerprint, "keys of type RSA"):
            assert word in text
        screen._settle()
        await pilot.press(*typed, "enter")
        await settle(pilot)
        if answer:
            assert await task is True
        else:
            assert not task.done() and "Nothing was trusted" in shown(pilot)
            await pilot.press("escape")
            await settle(pilot)
            assert await task is False


async def test_an_answer_that_comes_too_early_trusts_nothing():
    stage = Stage()
    async with stage.app.run_test() as pilot:
        await settle(pilot)
        answers: list[bool | None] = []
        screen = HostKeyScreen(QUESTION)
        assert not screen._settled
        await stage.app.push_screen(screen, answers.append)
        screen._settled = False  # as in the moment after it appeared, however long that took here
        field = screen.query_one(Input)
        screen.on_input_submitted(Input.Submitted(field, "trust"))
        await settle(pilot)
        assert answers == []


async def test_a_servers_prompts_are_its_words_and_each_is_answered():
    stage = Stage()
    prompts = (Prompt("Password: "), Prompt("Token [b]code[/b]: ", echo=True))
    async with stage.app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        words = ("jump01", "Two factors", "Read\nthis [/] first")
        task = await ask(stage, pilot, lambda asker: asker.ask_prompts(*words, prompts))
        assert isinstance(stage.app.screen, PromptsScreen)
        await pilot.press(*"hunter2", "enter", *"123", "enter")
        await settle(pilot)
        text = shown(pilot)
        assert "hunter2" not in text
        assert await task == ("hunter2", "123")


async def test_a_secret_is_kept_only_when_the_person_says_so():
    stage = Stage()
    async with stage.app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        task = await ask(stage, pilot, lambda a: a.ask_secret("Passphrase of ~/.ssh/id", may_keep=True))
        assert stage.app.screen.query_one(Checkbox).value is False
        await pilot.press(*"pw", "enter")
        await settle(pilot)
        assert await task == SecretAnswer("pw", keep=False)
        task = await ask(stage, pilot, lambda a: a.ask_secret("Passphrase of ~/.ssh/id", may_keep=True))
        await pilot.press("ctrl+s", *"pw", "enter")
        await settle(pilot)
        assert await task == SecretAnswer("pw", keep=True)
        task = await ask(stage, pilot, lambda a: a.ask_secret("Token"))
        assert "kept in memory only" in shown(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert await task is None


async def test_a_question_goes_when_nobody_waits_for_its_answer():
    stage = Stage()
    async with stage.app.run_test() as pilot:
        await settle(pilot)
        task = await ask(stage, pilot, lambda a: a.ask_secret("Passphrase"))
        assert isinstance(stage.app.screen, SecretScreen)
        task.cancel()
        await settle(pilot)
        assert stage.app.screen is stage.app.main


async def test_a_banner_is_shown_in_passing():
    stage = Stage()
    async with stage.app.run_test(size=(120, 24)) as pilot:
        await settle(pilot)
        ConsoleAsker(stage.app, stage.app.main.flash).tell("jump01", "\n  Keep out [b]!\nmore\n")
        await settle(pilot)
        assert "from jump01:   Keep out [b]!" in shown(pilot)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (40_960, "40 KiB"), (3 << 30, "3.0 GiB")]
)
def test_bytes_in_few_digits(count, text):
    assert byte_count(count) == text


def test_what_is_left_of_a_token_is_said_no_finer_than_matters():
    said = [token_time(seconds) for seconds in (-1, 0, 59, 60, 2_830, 7_199, 7_200, 200_000)]
    assert said == ["token ended", "token ended", "token <1m", "token 1m", "token 47m", "token 119m", "token 2h",
                    "token 2d"]  # fmt: skip
