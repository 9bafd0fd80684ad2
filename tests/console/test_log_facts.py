"""Facts about the log pane under the running console, and about the ring beneath it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Recovery, SignInError
from app.rows import ContainerKind, LogBatch, LogMark, LogSource, MarkKind, SessionPhase
from screens.dialogs import ChoiceScreen
from tests.console.conftest import running, settle, shown
from tests.console.fakes_console import NOW, Stage, lines, link_error, pod
from widgets.log_pane import LogPane
from widgets.log_ring import LogRing
from widgets.log_row import read_row, short_stamp


async def opened(stage: Stage, pilot) -> tuple[LogPane, LogRing]:
    await pilot.press("l")
    await settle(pilot)
    view = stage.app.main.active_view
    return view.log_pane, view.log_ring


def feed(stage: Stage, pane: LogPane, *batches: LogBatch) -> None:
    """As the reader delivers, and as the next frame looks."""
    for batch in batches:
        pane.ring.append(batch)
    pane.look()


async def test_a_log_is_followed_and_held_and_followed_again():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        pane, ring = await opened(stage, pilot)
        assert pane.has_focus
        request = stage.reader("prod-weu").logs[0].request
        assert (request.pod, request.container, request.follow, request.previous) == ("web", "app", True, False)
        await stage.reader("prod-weu").logs[0].batches.put(lines(*(f"line {n}" for n in range(100))))
        await settle(pilot)
        pane.look()
        await settle(pilot)
        assert "line 99" in shown(pilot)
        assert "following" in pane.status()
        await pilot.press("k", "k", "k")
        await settle(pilot)
        assert not pane.following
        top = pane.scroll_offset.y
        feed(stage, pane, lines(*(f"more {n}" for n in range(50))))
        await settle(pilot)
        assert pane.scroll_offset.y == top
        assert "held, +50 lines" in pane.status()
        assert "more 49" not in shown(pilot)
        await pilot.press("f")
        await settle(pilot)
        assert "more 49" in shown(pilot)
        assert ring.received == ring.kept == 150


async def test_held_text_stays_still_while_older_lines_are_dropped():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        pane, _ = await opened(stage, pilot)
        ring = LogRing(max_lines=100)
        stage.app.main.active_view.log_ring = ring
        await settle(pilot)
        for n in range(10):  # each batch is a block of its own: a mark stands between
            ring.append(lines(*(f"line {n}-{m}" for m in range(10)), mark=LogMark(MarkKind.CUT, "", NOW)))
        pane.look()
        await settle(pilot)
        await pilot.press("k")
        await settle(pilot)
        top = shown(pilot).splitlines()[-5]
        for n in range(10, 13):
            ring.append(lines(*(f"line {n}-{m}" for m in range(10)), mark=LogMark(MarkKind.CUT, "", NOW)))
        pane.look()
        await settle(pilot)
        assert ring.dropped == 30
        assert ring.received == ring.kept + ring.dropped
        assert shown(pilot).splitlines()[-5] == top
        assert "30 older dropped" in pane.status()


async def test_a_log_whose_link_is_lost_is_not_called_followed():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        pane, _ = await opened(stage, pilot)
        feed(stage, pane, lines("one", "two"))
        stage.session("prod-weu").move(SessionPhase.RETRYING, retry_at=NOW + 4, tries=1, error=link_error())
        await settle(pilot)
        assert "link lost" in pane.status() and "following" not in pane.status()
        pane.following = False
        assert pane.status().startswith("held, +0 lines  link lost")
        pane.following = True
        stage.session("prod-weu").move(SessionPhase.CONNECTING, retry_at=None)
        await settle(pilot)
        assert "link lost" in shown(pilot)
        stage.session("prod-weu").move(SessionPhase.UP, error=None)
        await settle(pilot)
        assert "following" in pane.status() and "link lost" not in pane.status()


async def test_a_log_that_outlives_its_sign_in_is_not_called_lost():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        pane, _ = await opened(stage, pilot)
        feed(stage, pane, lines("one"))
        ended = SignInError("The sign-in has ended", code="JD-TEST", layer="sign-in", recovery=Recovery.NEEDS_PERSON)
        stage.session("prod-weu").move(SessionPhase.NEEDS_SIGN_IN, error=ended)
        await settle(pilot)
        feed(stage, pane, lines("two"))
        assert pane.status().startswith("waits for a sign-in") and "link lost" not in pane.status()
        stage.session("prod-weu").move(SessionPhase.UP, error=None)
        await settle(pilot)
        assert "following" in pane.status()


async def test_a_log_that_is_over_is_not_called_followed():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        pane, _ = await opened(stage, pilot)
        feed(stage, pane, lines("one", "two"))
        assert "following" in pane.status()
        stage.reader("prod-weu").logs[0].batches.put_nowait(None)
        await settle(pilot)
        assert pane.status().startswith("ended")
        stage.session("prod-weu").move(SessionPhase.RETRYING, retry_at=NOW + 4, tries=1, error=link_error())
        await settle(pilot)
        assert "link lost" not in pane.status(), "there is nothing to come that could be missed"


async def test_search_goes_to_the_next_match_and_hides_nothing():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        pane, _ = await opened(stage, pilot)
        texts = [f"order {n}" for n in range(300)]
        texts[10] = texts[150] = "ERROR [/] boom"
        feed(stage, pane, lines(*texts))
        await pilot.press("g")
        await settle(pilot)
        await pilot.press("slash", *"error", "enter")
        await settle(pilot)
        assert pane.has_focus
        first = pane.current
        await pilot.press("n")
        await settle(pilot)
        second = pane.current
        assert {first, second} == {10, 150}
        await pilot.press("N")
        await settle(pilot)
        assert pane.current == first
        assert "order" in shown(pilot)
        assert "ERROR [/] boom" in shown(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert pane.search == ""
        assert pane.display


async def test_search_that_finds_nothing_says_so():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        pane, _ = await opened(stage, pilot)
        feed(stage, pane, lines("a", "b"))
        await pilot.press("slash", *"^zzz[", "enter")
        await settle(pilot)
        assert "Not found: ^zzz[" in shown(pilot)


async def test_stamps_previous_and_marks():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        pane, _ = await opened(stage, pilot)
        feed(stage, pane, lines("hello"), lines("again", mark=LogMark(MarkKind.RESTARTED, "exit code 1", NOW)))
        await settle(pilot)
        assert "12:00:01" not in shown(pilot)
        assert "restarted: exit code 1" in shown(pilot)
        await pilot.press("t")
        await settle(pilot)
        assert "12:00:01.123Z hello" in shown(pilot)
        stage.app.main.active_view.table.focus()
        await pilot.press("p")
        await settle(pilot)
        request = stage.reader("prod-weu").logs[1].request
        assert (request.previous, request.follow) == (True, False)
        assert stage.reader("prod-weu").logs[0].cancelled


async def test_several_containers_ask_which():
    stage = Stage()
    async with running(stage, pod("web", containers=("proxy", "app"), default_container="app")) as pilot:
        await pilot.press("l")
        await settle(pilot)
        assert isinstance(pilot.app.screen, ChoiceScreen)
        await pilot.press("enter")
        await settle(pilot)
        assert stage.reader("prod-weu").logs[0].request.container == "app"
        assert ContainerKind.APP.value == "app"


async def test_switching_sessions_stops_nobody_s_log():
    stage = Stage()
    async with running(stage, pod("web")) as pilot:
        pane, ring = await opened(stage, pilot)
        await stage.app.main.open("staging")
        await settle(pilot)
        assert stage.app.main.active == "staging"
        await stage.reader("prod-weu").logs[0].batches.put(lines("while away"))
        await settle(pilot)
        assert ring.received == 1
        await pilot.press("alt+1")
        await settle(pilot)
        assert stage.app.main.active == "prod-weu"
        pane.look()
        await settle(pilot)
        assert "while away" in shown(pilot)


async def test_hostile_lines_are_drawn_harmlessly():
    stage = Stage()
    async with running(stage, pod("web"), size=(120, 40)) as pilot:
        pane, _ = await opened(stage, pilot)
        hostile = [
            b"\x1b]52;c;ZXZpbA==\x07",
            b"\xff\xfe bad",
            "\u202ertl".encode(),
            b"[@click=app.exit()]x[/]",
            b"a\tb",
        ]
        feed(stage, pane, lines(*hostile, b"\x1b[31mred\x1b[0m plain", b"x" * 1_000_000))
        await settle(pilot)
        text = shown(pilot)
        assert "␛]52;c;ZXZpbA==␇" in text
        assert "<U+202E>rtl" in text
        assert "[@click=app.exit()]x[/]" in text
        assert "red plain" in text
        assert "\x1b" not in text


batches = st.lists(
    st.tuples(st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=20), st.booleans()),
    max_size=30,
)


@given(batches, st.integers(1, 60), st.integers(1, 2_000))
@settings(deadline=None)
def test_received_is_kept_plus_dropped_and_kept_lines_read_back(given_batches, max_lines, max_bytes):
    ring = LogRing(max_lines=max_lines, max_bytes=max_bytes)
    written: list[bytes | None] = []
    for texts, marked in given_batches:
        mark = LogMark(MarkKind.CUT, "cut", NOW) if marked else None
        body = b"".join(text + b"\n" for text in texts)
        ring.append(LogBatch(LogSource("n", "p", "c"), body, len(texts), mark, stamped=False))
        written += ([None] if mark else []) + list(texts)
        assert ring.received == ring.kept + ring.dropped
        assert ring.end == len(written)
    for number in range(ring.first, ring.end):
        block = ring.block_at(number)
        if written[number] is None:
            assert block.mark is not None
        else:
            assert block.line(number - block.first, 1_000) == (written[number], 0)
    assert ring.block_at(ring.first - 1) is None
    assert read_row(ring, ring.end, stamps=False) is None


def test_short_stamps():
    assert short_stamp("2026-01-02T12:00:01.123456789Z") == "12:00:01.123Z"
    assert short_stamp("2026-01-02T12:00:01Z") == "12:00:01.000Z"
    assert short_stamp("2026-01-02T12:00:01.5Z") == "12:00:01.500Z"
    assert short_stamp("no stamp") == "no stamp"
