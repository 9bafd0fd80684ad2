"""Facts about `:whoami`: what it shows, what is copied, and what a question for consent takes as yes."""

from __future__ import annotations

import asyncio

from app.asking import ConsentQuestion
from app.cluster.who import Seen
from app.errors import SignInError
from app.identity.claims import Kind, Who
from screens.asking import ConsoleAsker
from screens.dialogs import ErrorScreen
from screens.questions import ConsentScreen
from screens.who import WhoScreen
from tests.console.conftest import LIMIT, running, settle, shown
from tests.console.fakes_console import Stage, pod

PERSON = Who(Kind.PERSON, "jo[/]@contoso.com", upn="jo[/]@contoso.com", object_id="0a", tenant="0b")


async def test_whoami_shows_who_it_is_and_copies_what_to_ask_for():
    stage = Stage()
    stage.sessions.seen = Seen(PERSON)
    async with running(stage, pod("web")) as pilot:
        await stage.app.main.run_command("whoami")
        await settle(pilot)
        assert isinstance(stage.app.screen, WhoScreen)
        text = shown(pilot)
        assert "UPN         jo[/]@contoso.com" in text and "kind: ClusterRoleBinding" in text
        await pilot.press("c")
        await settle(pilot)
        assert stage.app.clipboard.startswith("# 1. Kubernetes") and "handed to the terminal" in shown(pilot)
        await pilot.press("a")
        await settle(pilot)
        assert stage.app.clipboard.startswith("prod-weu: the cluster will see")
        await pilot.press("escape")
        await settle(pilot)
        assert stage.app.screen is stage.app.main


async def test_whoami_for_another_needs_no_sign_in_and_says_what_it_does_not_understand():
    stage = Stage()
    stage.sessions.seen = SignInError("Nobody is signed in", code="JD-SIGN-IN-NEEDED")
    async with running(stage, pod("web")) as pilot:
        await stage.app.main.run_command("whoami group:00000000-0000-0000-0000-0000000000d1")
        await settle(pilot)
        assert isinstance(stage.app.screen, WhoScreen) and "kind: Group" in shown(pilot)
        await pilot.press("escape")
        for line, code in (("whoami group:ops", "JD-USAGE-SUBJECT"), ("whoami", "JD-SIGN-IN-NEEDED")):
            await stage.app.main.run_command(line)
            await settle(pilot)
            assert isinstance(stage.app.screen, ErrorScreen) and code in shown(pilot)
            await pilot.press("escape")


async def test_only_y_agrees_and_only_once_the_question_has_stood_there():
    stage = Stage()
    question = ConsentQuestion("A program [/] is missing", ("from  registry.example",), "fetch it")
    async with running(stage, pod("web"), size=(80, 24)) as pilot:
        for keys, agreed in ((("enter",), False), (("y",), True), (("n",), False)):
            asking = asyncio.ensure_future(ConsoleAsker(stage.app, stage.app.main.flash).ask_consent(question))
            await settle(pilot)
            await settle(pilot)
            screen = stage.app.screen
            assert isinstance(screen, ConsentScreen)
            assert "A program [/] is missing." in shown(pilot) and "y fetch it" in shown(pilot)
            screen._settled = False
            screen.action_agree()  # as by a key that was meant for what was there before
            screen._settle()
            await pilot.press(*keys)
            await settle(pilot)
            assert await asyncio.wait_for(asking, LIMIT) is agreed
            await settle(pilot)
