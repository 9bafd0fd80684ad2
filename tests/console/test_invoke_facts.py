"""Facts about a session by command invoke on the screen: it asks once, fetches when asked, and shows its age."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from app.errors import JumpdeckError
from app.rows import PodSnapshot, SessionPhase, Staleness
from screens.dialogs import LookScreen
from tests.console.conftest import settle, shown
from tests.console.fakes_console import NOW, FakeReader, Stage, pod


class FakePods:
    """A look at the pods for each asking."""

    def __init__(self, reader: FakeInvokeReader) -> None:
        self._reader = reader

    async def run(self, publish, on_change=None) -> None:
        while True:
            await self._reader.answered.wait()
            self._reader.looks += 1
            rows = {row.uid: row for row in self._reader.rows}
            error = self._reader.error
            publish(PodSnapshot(rows, Staleness.STALE if error else Staleness.SNAPSHOT, NOW - 5, error))
            self._reader.asked.clear()
            await self._reader.asked.wait()


class FakeInvokeReader(FakeReader):
    """Fetches when asked, and counts it."""

    live = False

    def __init__(self) -> None:
        super().__init__()
        self.rows = [pod("web")]
        self.looks = 0
        self.error: JumpdeckError | None = None
        self.asked, self.answered = asyncio.Event(), asyncio.Event()
        self.answered.set()

    def pods(self, scope) -> FakePods:
        return FakePods(self)

    def refresh(self) -> None:
        self.asked.set()


async def opened(stage: Stage, pilot) -> FakeInvokeReader:
    await settle(pilot)
    session = stage.session("prod-weu")
    session.reader = FakeInvokeReader()
    session.state = replace(session.state, route=("workstation", "command invoke", "aks-prod"))
    session.up()
    await settle(pilot)
    return session.reader


async def yes(pilot) -> None:
    pilot.app.screen._settle()  # as after the moment in which no answer is taken
    await pilot.press("enter")
    await settle(pilot)


async def test_it_asks_once_before_the_first_look_and_says_what_it_costs():
    stage = Stage(first="prod-weu")
    async with stage.app.run_test(size=(120, 40)) as pilot:
        reader = await opened(stage, pilot)
        assert isinstance(stage.app.screen, LookScreen) and reader.looks == 0
        assert "makes a pod in the cluster" in shown(pilot)
        stage.app.screen._settled = False  # as in the moment after it appeared
        stage.app.screen.action_look()
        assert isinstance(stage.app.screen, LookScreen), "a key that was meant for something else says no yes"
        await yes(pilot)
        assert reader.looks == 1 and stage.app.screen is stage.app.main
        text = shown(pilot)
        assert "web" in text and "A snapshot: pods as of 5s ago" in text and "command invoke" in text
        reader.rows = [pod("web"), pod("later")]
        await pilot.press("r")
        await settle(pilot)
        assert reader.looks == 2 and "later" in shown(pilot)
        assert stage.app.screen is stage.app.main and stage.session("prod-weu").retried == 0


async def test_who_says_no_is_asked_again_only_when_a_look_is_wanted():
    stage = Stage(first="prod-weu")
    async with stage.app.run_test(size=(120, 40)) as pilot:
        reader = await opened(stage, pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert reader.looks == 0 and stage.app.screen is stage.app.main
        assert "JD-INVOKE-NOT-MEANT" in shown(pilot) and "Link lost" not in shown(pilot)
        await stage.app.main.run_command("refresh")
        await settle(pilot)
        assert isinstance(stage.app.screen, LookScreen)
        await yes(pilot)
        assert reader.looks == 1 and "A snapshot" in shown(pilot)


async def test_a_look_under_way_and_one_that_failed_are_said():
    stage = Stage(first="prod-weu")
    async with stage.app.run_test(size=(120, 40)) as pilot:
        reader = await opened(stage, pilot)
        await yes(pilot)
        reader.told("aks-prod: command abc: running, 12 s")
        await settle(pilot)
        assert "running, 12 s" in shown(pilot)
        reader.told("")
        reader.error = JumpdeckError("The command's pod did not start in time", "", "Try again.",
                                     code="JD-INVOKE-NO-START")  # fmt: skip
        await pilot.press("ctrl+r")
        await settle(pilot)
        text = shown(pilot)
        assert "JD-INVOKE-NO-START" in text and "pods as of 5s ago" in text and "web" in text


async def test_a_session_that_is_not_up_is_retried_as_ever():
    stage = Stage(first="prod-weu")
    async with stage.app.run_test(size=(120, 40)) as pilot:
        reader = await opened(stage, pilot)
        await yes(pilot)
        stage.session("prod-weu").move(SessionPhase.RETRYING, retry_at=NOW + 4)
        await settle(pilot)
        await stage.app.main.run_command("retry")
        await settle(pilot)
        assert (stage.session("prod-weu").retried, reader.looks) == (1, 1)


async def test_a_log_that_was_fetched_is_not_called_followed():
    stage = Stage(first="prod-weu")
    async with stage.app.run_test(size=(120, 40)) as pilot:
        await opened(stage, pilot)
        await yes(pilot)
        await pilot.press("l")
        await settle(pilot)
        text = shown(pilot)
        assert "as fetched" in text and "following" not in text
