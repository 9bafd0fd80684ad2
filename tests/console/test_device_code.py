"""The dialog of a sign-in that is finished in a browser: what it shows, and how it ends."""

from __future__ import annotations

import asyncio
import re
import time

from app.asking import DeviceCode
from screens.asking import ConsoleAsker
from screens.questions import DeviceCodeScreen
from tests.console.conftest import LIMIT, running, settle, shown
from tests.console.fakes_console import Stage, pod


def code(**fields: object) -> DeviceCode:
    given = {"url": "https://microsoft.com/devicelogin", "code": "ABC[red]D", "expires_at": time.time() + 605.0}
    return DeviceCode("adm (device-code)", **{**given, **fields})


async def show(stage: Stage, pilot, what: DeviceCode):
    asker = ConsoleAsker(stage.app, stage.app.main.flash)
    task = asyncio.ensure_future(asker.show_device_code(what))
    await settle(pilot)
    await settle(pilot)
    return task


async def test_url_and_code_stand_there_until_the_sign_in_has_ended():
    stage = Stage()
    async with running(stage, pod("web"), size=(100, 30)) as pilot:
        task = await show(stage, pilot, code())
        assert isinstance(stage.app.screen, DeviceCodeScreen)
        text = shown(pilot)
        assert "Sign in: adm (device-code)" in text and "https://microsoft.com/devicelogin" in text
        assert "ABC[red]D" in text
        left = re.search(r"There are (\d+):(\d\d) left", text)
        assert left and 605 - LIMIT < int(left[1]) * 60 + int(left[2]) <= 605
        task.cancel()
        await settle(pilot)
        await settle(pilot)
        assert stage.app.screen is stage.app.main


async def test_escape_gives_up():
    stage = Stage()
    async with running(stage, pod("web"), size=(80, 24)) as pilot:
        task = await show(stage, pilot, code())
        await pilot.press("escape")
        await asyncio.wait_for(task, LIMIT)
        assert stage.app.screen is stage.app.main


async def test_a_window_elsewhere_has_no_code():
    stage = Stage()
    async with running(stage, pod("web"), size=(80, 24)) as pilot:
        elsewhere = code(code="", says="Sign in in the browser window.", expires_at=time.time() - 1)
        task = await show(stage, pilot, elsewhere)
        text = shown(pilot)
        assert "Sign in in the browser window." in text and "The time is over." in text
        assert "Open this page" not in text
        task.cancel()
        await settle(pilot)
