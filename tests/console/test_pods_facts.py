"""Facts about the pod table under the running console."""

from __future__ import annotations

import pytest

from app.errors import Recovery, RefusedError, RouteError
from app.rows import SessionPhase, Staleness
from tests.console.conftest import running, settle, shown
from tests.console.fakes_console import NOW, Stage, link_error, pod, snapshot
from widgets.lines import Banner
from widgets.pod_filter import PodFilter
from widgets.pod_table import PodTable

HOSTILE = [
    "[red]STYLED[/red]",
    "[@click=app.exit()]CLICKME[/]",
    "[ @click=app.exit()]SPACED[/]",
    "trace: foo[/] bar",
    "[link=http://evil]x[/link]",
]


def names(table: PodTable) -> list[str]:
    return [row.name for row in table.rows]


async def test_the_cursor_stays_on_its_pod_when_rows_come_and_go_above_it():
    stage = Stage()
    async with running(stage, *(pod(name) for name in "bcd")) as pilot:
        table = stage.app.main.active_view.table
        await pilot.press("j")
        await settle(pilot)
        assert table.pod.name == "c"
        stage.reader("prod-weu").publish(snapshot(*(pod(name) for name in "abcd")))
        await settle(pilot)
        assert (table.pod.name, table.cursor) == ("c", 2)
        stage.reader("prod-weu").publish(snapshot(pod("c"), pod("d")))
        await settle(pilot)
        assert (table.pod.name, table.cursor) == ("c", 0)
        stage.reader("prod-weu").publish(snapshot(pod("d")))
        await settle(pilot)
        assert table.pod.name == "d"


async def test_what_is_on_screen_stays_when_rows_come_above_it():
    stage = Stage()
    pods = [pod(f"p{number:03}") for number in range(200)]
    async with running(stage, *pods) as pilot:
        table = stage.app.main.active_view.table
        for _ in range(4):
            await pilot.press("ctrl+f")
            await settle(pilot)
        before, top = table.pod.name, table.cursor - table.scroll_offset.y
        stage.reader("prod-weu").publish(snapshot(*(pod(f"a{n}") for n in range(7)), *pods))
        await settle(pilot)
        assert table.pod.name == before
        assert table.cursor - table.scroll_offset.y == top


async def test_sorting_moves_rows_and_not_the_cursor_from_its_pod():
    stage = Stage()
    pods = [pod("a", restarts=0), pod("b", restarts=9), pod("c", restarts=3)]
    async with running(stage, *pods) as pilot:
        table = stage.app.main.active_view.table
        await pilot.press("T")
        await settle(pilot)
        assert names(table) == ["b", "c", "a"]
        assert table.pod.name == "a"
        await pilot.press("T")
        await settle(pilot)
        assert names(table) == ["a", "c", "b"]
        await pilot.press("N")
        await settle(pilot)
        assert names(table) == ["a", "b", "c"]


async def test_a_column_is_chosen_with_shift_and_arrows():
    stage = Stage()
    async with running(stage, pod("a", status="Running"), pod("b", status="Error")) as pilot:
        await pilot.press("shift+right", "shift+right", "shift+right", "O")
        await settle(pilot)
        assert stage.app.main.active_view.table.order == ("STATUS", False)
        assert names(stage.app.main.active_view.table) == ["b", "a"]


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ("web", ["web-1", "web-2"]),
        ("!web", ["db-1"]),
        ("web-[2-9]", ["web-2"]),
        ("crash", ["db-1"]),
        ("-l app=web", ["web-1", "web-2"]),
        ("-l app!=web", ["db-1"]),
        ("-l !app", ["db-1"]),
        ("(", []),
    ],
)
async def test_the_filter_narrows_while_it_is_typed(typed, left):
    stage = Stage()
    label = (("app", "web"),)
    pods = [pod("db-1", status="CrashLoopBackOff"), pod("web-1", labels=label), pod("web-2", labels=label)]
    async with running(stage, *pods) as pilot:
        table = stage.app.main.active_view.table
        await pilot.press("slash", *typed)
        await settle(pilot)
        assert names(table) == left
        await pilot.press("enter")
        await settle(pilot)
        assert table.has_focus
        await pilot.press("escape")
        await settle(pilot)
        assert len(table.rows) == 3


async def test_a_table_that_lacks_pods_says_why():
    stage = Stage()
    async with running(stage, pod("web-1"), pod("db-1")) as pilot:
        table = stage.app.main.active_view.table
        assert "of 2" not in table.render_line(0).text
        await pilot.press(*"/web", "enter")
        await settle(pilot)
        assert table.render_line(0).text.endswith(" /web  1 of 2 ")
        await pilot.press("slash", *"xyz", "enter")
        await settle(pilot)
        assert "esc clears the filter" in table.render_line(2).text
        await pilot.press("escape")
        stage.reader("prod-weu").publish(snapshot())
        await settle(pilot)
        assert "no pods here" in table.render_line(2).text


async def test_only_faults():
    stage = Stage()
    pods = [pod("good"), pod("bad", ready=0), pod("done", status="Completed", ready=0, finished=True)]
    async with running(stage, *pods) as pilot:
        await pilot.press("ctrl+z")
        await settle(pilot)
        assert names(stage.app.main.active_view.table) == ["bad"]
        assert stage.app.main.active_view.table.filtered == PodFilter("", True)


async def test_namespaces_by_key_and_command():
    stage = Stage()
    async with running(stage, pod("a")) as pilot:
        assert stage.reader("prod-weu").scopes == [()]
        for keys in (":ns payments", ":ns shop"):
            await pilot.press(*(("colon" if c == ":" else "space" if c == " " else c) for c in keys), "enter")
            await settle(pilot)
        assert stage.reader("prod-weu").scopes[-2:] == [("payments",), ("shop",)]
        assert "shop" in shown(pilot).splitlines()[0]
        await pilot.press("2")
        await settle(pilot)
        assert stage.reader("prod-weu").scopes[-1] == ("payments",)
        await pilot.press("0")
        await settle(pilot)
        assert stage.reader("prod-weu").scopes[-1] == ()


async def test_when_all_namespaces_are_forbidden_those_at_home_are_shown_and_it_says_so():
    stage = Stage(first="prod-weu")
    async with stage.app.run_test(size=(120, 30)) as pilot:
        await settle(pilot)
        reader = stage.reader("prod-weu")
        reader.all_allowed, reader.home_namespaces = False, ("payments", "shop")
        stage.session("prod-weu").up()
        await settle(pilot)
        assert reader.scopes == [("payments", "shop")]
        assert "may not be listed" in stage.app.main.active_view.query_one(Banner).text


async def test_a_lost_link_greys_rows_and_counts_down_and_nothing_quits():
    stage = Stage()
    async with running(stage, pod("a"), pod("b")) as pilot:
        view = stage.app.main.active_view
        stage.reader("prod-weu").publish(
            snapshot(pod("a"), pod("b"), staleness=Staleness.STALE, heard_at=NOW - 12, error=link_error())
        )
        stage.session("prod-weu").move(SessionPhase.RETRYING, retry_at=NOW + 4, tries=1, error=link_error())
        await settle(pilot)
        banner = view.query_one(Banner)
        assert "12s ago" in banner.text
        assert "next try in 4 s" in banner.text
        assert names(view.table) == ["a", "b"]
        stage.now = NOW + 3
        stage.app.main._tick()
        await settle(pilot)
        assert "next try in 1 s" in banner.text
        await pilot.press("r")
        await settle(pilot)
        assert stage.session("prod-weu").retried == 1
        stage.session("prod-weu").up()
        stage.reader("prod-weu").publish(snapshot(pod("a")))
        await settle(pilot)
        assert banner.text == ""


async def test_why_a_link_was_lost_stands_there_during_a_try_and_what_to_do_when_it_is_given_up():
    stage = Stage()
    async with running(stage, pod("a")) as pilot:
        banner, session = stage.app.main.active_view.query_one(Banner), stage.session("prod-weu")
        stage.reader("prod-weu").publish(snapshot(pod("a"), staleness=Staleness.STALE, heard_at=NOW - 12))
        refused = RouteError("Connection refused", "jump01:22: refused", code="JD-TCP-REFUSED",
                             recovery=Recovery.TRANSIENT)  # fmt: skip
        session.move(SessionPhase.RETRYING, retry_at=NOW + 4, tries=1, error=refused)
        await settle(pilot)
        session.move(SessionPhase.CONNECTING, error=None)
        await settle(pilot)
        assert banner.text.splitlines() == [
            "Link lost  connecting again  pods as of 12s ago",
            "Connection refused: jump01:22: refused",
        ]
        changed = RouteError("Another host key", "jump01 shows B", "jumpdeck trust prod-weu --replace", code="JD-X")
        session.move(SessionPhase.NEEDS_TRUST, error=changed)
        await settle(pilot)
        assert banner.text.splitlines() == [
            "Another host key [JD-X]", "jump01 shows B", "jumpdeck trust prod-weu --replace",
            "r: try again  pods as of 12s ago",
        ]  # fmt: skip
        assert banner.size.height == 4 and banner.has_class("-error")
        session.up()
        stage.reader("prod-weu").publish(snapshot(pod("a")))
        await settle(pilot)
        assert banner.text == ""


async def test_hostile_names_are_text_and_a_click_on_every_cell_fires_nothing():
    stage = Stage()
    pods = [pod(text, namespace=text, uid=str(n), status=text, node=text, ip=text) for n, text in enumerate(HOSTILE)]
    async with running(stage, *pods, size=(200, 30)) as pilot:
        await pilot.press("ctrl+w")
        await settle(pilot)
        screen = shown(pilot)
        for text in HOSTILE:
            assert screen.count(text) >= 4
        table = stage.app.main.active_view.table
        for row in range(len(HOSTILE) + 1):
            for column in range(0, table.size.width, 40):
                await pilot.click(PodTable, offset=(column, row))
        await settle(pilot)
        assert stage.app.is_running
        assert not stage.app._leaving
        assert not any(
            key.startswith("@") for strip in map(table.render_line, range(6)) for seg in strip
            for key in (seg.style.meta if seg.style else {})
        )  # fmt: skip


async def test_a_mouse_click_selects():
    stage = Stage()
    async with running(stage, pod("a"), pod("b"), pod("c")) as pilot:
        await pilot.click(PodTable, offset=(3, 3))
        await settle(pilot)
        assert stage.app.main.active_view.table.pod.name == "c"


async def test_a_sign_in_that_ends_leaves_the_pods_greyed_with_their_age_and_says_what_to_do():
    stage = Stage()
    async with running(stage, pod("a"), pod("b")) as pilot:
        session, reader = stage.session("prod-weu"), stage.reader("prod-weu")
        gone = RefusedError(
            "The cluster does not accept the credential", "HTTP 401", "Sign in again: jumpdeck sign-in prod-weu.",
            code="JD-API-UNAUTHORIZED", layer="sign-in", recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip
        reader.publish(snapshot(pod("a"), pod("b"), staleness=Staleness.STALE, error=gone, heard_at=NOW - 40))
        reader.watch_ended.set()
        session.move(SessionPhase.NEEDS_SIGN_IN, error=gone)
        await settle(pilot)
        view = stage.app.main.active_view
        assert names(view.table) == ["a", "b"]
        assert view.snapshot.staleness is Staleness.STALE
        banner = view.query_one(Banner).text
        assert "jumpdeck sign-in prod-weu" in banner
        assert "r: try again  pods as of 40s ago" in banner
        assert reader.scopes == [()], "a token that is refused says nothing about what may be listed"
        assert session.patient
