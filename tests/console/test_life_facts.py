"""Facts about opening, failing and leaving."""

from __future__ import annotations

import pytest
from textual._xterm_parser import XTermParser
from textual.events import Key

from app.errors import ProfileError, UsageError
from app.profiles.model import Profile, ServerCluster
from app.rows import SessionPhase, Step, StepState
from screens.commands import parse_command
from screens.dialogs import ErrorScreen
from screens.main import MainScreen
from screens.questions import TrustScreen
from screens.texts import HelpScreen, TextScreen
from tests.console.conftest import running, settle, shown
from tests.console.fakes_console import NOW, FakeBook, Stage, link_error, pod
from widgets.profile_list import ProfileEntry


async def test_ctrl_c_leaves_at_once_with_no_route_open():
    stage = Stage()
    async with stage.app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("ctrl+c")
        await settle(pilot)
        assert stage.app._leaving
    assert stage.app.return_code == 0
    assert stage.sessions.closed


async def test_ctrl_c_must_be_pressed_twice_with_a_route_open():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        await pilot.press("ctrl+c")
        await settle(pilot)
        assert not stage.app._leaving
        assert "press again" in shown(pilot)
        stage.app._interrupted_at += 1_000.0  # it is soon enough, however long the look took here
        await pilot.press("ctrl+c")
        await settle(pilot)
        assert stage.app._leaving
    assert stage.sessions.closed


async def test_steps_are_shown_and_a_failure_stays_on_its_step():
    stage = Stage(first="staging")
    async with stage.app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        steps = (Step("profile", StepState.DONE, 0.01), Step("jump01 (SSH)", StepState.FAILED, 1.5, "refused"))
        stage.session("staging").move(SessionPhase.FAILED, steps=steps, error=link_error())
        await settle(pilot)
        screen = shown(pilot)
        for text in ("✓ profile", "✗ jump01 (SSH)", "1.50 s", "JD-API-LOST", "Check the VPN."):
            assert text in screen
        await pilot.press("r")
        await settle(pilot)
        assert stage.session("staging").retried == 1


async def test_a_broken_profile_shows_its_own_error_and_hides_no_other():
    broken = {"office": ProfileError("Profile office cannot be used", "a [/] detail", "Fix it.", code="JD-PROFILE-X")}
    stage = Stage(broken=broken)
    async with stage.app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        assert "office" in shown(pilot)
        await stage.app.main.open("office")
        await settle(pilot)
        assert isinstance(pilot.app.screen, ErrorScreen)
        assert "a [/] detail" in shown(pilot)
        await pilot.press("escape")
        await stage.app.main.open("staging")
        assert stage.app.main.active == "staging"


async def test_describe_is_searched_like_a_log():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        stage.reader("prod-weu").description = "Name: web\n" * 100 + "Needle: [/] here\n"
        await pilot.press("d")
        await settle(pilot)
        assert isinstance(pilot.app.screen, TextScreen)
        await pilot.press("slash", *"needle", "enter")
        await settle(pilot)
        assert "Needle: [/] here" in shown(pilot)
        await pilot.press("escape", "escape")
        await settle(pilot)
        assert stage.app.screen is stage.app.main


async def test_a_description_that_is_no_longer_wanted_does_not_open_over_what_came_next():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        slow = stage.reader("prod-weu")
        slow.describes.clear()
        await pilot.press("d", "escape")
        await settle(pilot)
        assert "No longer asked for" in shown(pilot)
        slow.describes.set()
        await settle(pilot)
        assert stage.app.screen is stage.app.main
        slow.describes.clear()
        await pilot.press("d", "d")  # the first is given up for the second: one page opens
        slow.describes.set()
        await settle(pilot)
        assert isinstance(stage.app.screen, TextScreen)
        await pilot.press("escape")
        await settle(pilot)
        assert stage.app.screen is stage.app.main


async def test_help_names_every_binding_of_the_panes():
    stage = Stage()
    async with stage.app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("question_mark")
        await settle(pilot)
        assert isinstance(pilot.app.screen, HelpScreen)
        text = pilot.app.screen.text().plain
        for word in ("shift+s", "ctrl+w", "Follow the log", ":ns NAME|all", "esc"):
            assert word in text


async def test_closing_a_session_leaves_the_others():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        await stage.app.main.open("staging")
        await stage.app.main.run_command("close")
        await settle(pilot)
        assert set(stage.sessions.sessions) == {"prod-weu"}
        await pilot.press("alt+1")
        await settle(pilot)
        assert stage.app.main.active == "prod-weu"


@pytest.mark.parametrize("sent", ["\x1b1", "\x1b[49;3u"], ids=["escape and digit", "kitty"])
async def test_alt_and_a_digit_is_understood_as_every_terminal_sends_it(sent):
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        await stage.app.main.open("staging")
        await settle(pilot)
        keys = [event.key for event in XTermParser().feed(sent) if isinstance(event, Key)]
        await pilot.press(*keys)
        await settle(pilot)
        assert stage.app.main.active == "prod-weu"


@pytest.mark.parametrize("number", range(1, 10))
def test_every_alt_digit_is_bound(number):
    keys = {event.key for event in XTermParser().feed(f"\x1b{number}") if isinstance(event, Key)}
    bound = {binding.key for binding in MainScreen.BINDINGS if binding.action == f"session({number})"}
    assert keys <= bound


async def test_reload_shows_new_profiles_and_leaves_open_sessions():
    stage = Stage()
    async with running(stage, pod("web"), size=(100, 30)) as pilot:
        profile = Profile("new-one", ServerCluster("https://api"))
        stage.book = FakeBook({**stage.book.profiles, "new-one": profile})
        stage.entries = (*stage.entries, ProfileEntry("new-one"))
        await stage.app.main.run_command("reload")
        await settle(pilot)
        assert "new-one" in shown(pilot)
        assert stage.sessions.book is stage.book
        await stage.app.main.open("new-one")
        await settle(pilot)
        assert list(stage.sessions.sessions) == ["prod-weu", "new-one"]


async def test_trust_takes_no_answer_before_it_was_seen():
    stage = Stage()
    async with stage.app.run_test() as pilot:
        await settle(pilot)
        answers: list[bool | None] = []
        screen = TrustScreen("run?", "kubelogin")
        assert not screen._settled
        await stage.app.push_screen(screen, answers.append)
        screen._settled = False  # as in the moment after it appeared, however long that took here
        screen.action_trust()
        assert answers == []
        screen._settle()
        screen.action_trust()
        await settle(pilot)
        assert answers == [True]


@pytest.mark.parametrize("action", ["screenshot", "simulate_key('q')", "suspend_process", "toggle_class('x','y')"])
async def test_actions_of_the_framework_are_refused(action, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage = Stage()
    async with stage.app.run_test() as pilot:
        await settle(pilot)
        assert not await stage.app.run_action(action)
        await settle(pilot)
    assert list(tmp_path.glob("*.svg")) == []
    assert not stage.app.main.has_class("y")


def test_commands_and_near_names():
    assert parse_command("ctx prod", ()) == ("profile", "prod")
    assert parse_command("pods shop", ()) == ("pods", "shop")
    assert parse_command("ns all", ()) == ("ns", "all")
    assert parse_command("theme light", ()) == ("theme", "light")
    for line in ("ns Bad_Name!", "pods a,b", "theme", "theme blue"):
        with pytest.raises(UsageError) as refused:
            parse_command(line)
        assert refused.value.code == "JD-CONSOLE-ARGUMENT" and refused.value.detail and refused.value.hint
    assert parse_command("prod-weu", ("prod-weu",)) == ("profile", "prod-weu")
    with pytest.raises(Exception, match="podz") as caught:
        parse_command("podz")
    assert "pods" in caught.value.hint
    assert NOW
