"""The supervisor against a real server on loopback: up, lost, back; what is tried again and what is not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from app.errors import JumpdeckError, Recovery
from app.profiles.store import ProfileBook
from app.records import replace
from app.rows import SessionPhase, SessionState, StepState
from app.sessions.asking import Desk
from app.sessions.route import RouteGround
from app.sessions.supervisor import Session, Sessions
from app.tasks import Backoff, TaskOwner
from tests.fakes import SmallServer, profile_for
from tests.states import LIMIT, reach


class Quick(Backoff):
    """Waits that a test can afford."""

    def next(self, retry_after: float | None = None) -> float:
        self.tries += 1
        return 0.02


async def version(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Authorization") != "Bearer good":
        body = {"kind": "Status", "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401}
        return web.json_response(body, status=401)
    return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.2"})


def session_for(folder: Path, port: int, *, token: str = "good", **limits: float) -> tuple[Session, list[SessionState]]:
    told: list[SessionState] = []
    profile = profile_for(folder, port, token=token)
    session = Session(profile, desk=Desk(), ground=RouteGround(None), tell=told.append, backoff=Quick(), **limits)
    return session, told


async def test_up_means_that_the_api_server_answered(tmp_path: Path) -> None:
    async with SmallServer(version) as server:
        session, told = session_for(tmp_path, server.port)
        session.start()
        state = await reach(session, lambda s: s.phase is SessionPhase.UP)
        assert server.requests == ["/version"]
        assert state.server_version == "v1.36.2"
        assert state.latency is not None and state.up_since is not None
        assert [step.state for step in state.steps] == [StepState.DONE] * 2
        assert state.namespace == "shop"
        assert told[0].phase is SessionPhase.CONNECTING
        await session.aclose()
        assert session.state.phase is SessionPhase.CLOSED


async def test_a_lost_server_is_noticed_by_a_report_and_found_again(tmp_path: Path) -> None:
    server = SmallServer(version)
    await server.start()
    session, _ = session_for(tmp_path, server.port)
    session.start()
    await reach(session, lambda s: s.phase is SessionPhase.UP)
    api, reader = session.api, session.reader
    await server.stop()
    session.report(JumpdeckError("stream lost", code="JD-TEST", recovery=Recovery.TRANSIENT))
    waiting = asyncio.ensure_future(session.wait_up())
    lost = await reach(session, lambda s: s.phase is SessionPhase.RETRYING and s.tries > 1)
    assert lost.error is not None and lost.error.code == "JD-TCP-REFUSED"
    assert lost.retry_at is not None and lost.up_since is None
    assert not waiting.done()
    await server.start()
    async with asyncio.timeout(LIMIT):
        await waiting
    assert session.state.phase is SessionPhase.UP
    assert session.api is api and session.reader is reader  # readers keep what they hold
    await session.aclose()
    await server.aclose()


async def test_a_report_of_a_stream_alone_leaves_the_session_up(tmp_path: Path) -> None:
    async with SmallServer(version) as server:
        session, told = session_for(tmp_path, server.port)
        session.start()
        await reach(session, lambda s: s.phase is SessionPhase.UP)
        asked = len(server.requests)
        session.report(JumpdeckError("stream lost", code="JD-TEST", recovery=Recovery.TRANSIENT))
        async with asyncio.timeout(LIMIT):
            await session.wait_up()
        assert len(server.requests) > asked  # one more, and another where an answer took so long that it is no latency
        assert SessionPhase.RETRYING not in {state.phase for state in told}
        await session.aclose()


async def test_a_refused_token_is_tried_exactly_once(tmp_path: Path) -> None:
    async with SmallServer(version) as server:
        session, _ = session_for(tmp_path, server.port, token="stale")
        session.start()
        state = await reach(session, lambda s: s.phase is SessionPhase.NEEDS_SECRET)
        assert state.error is not None
        assert int(state.error.exit_code) == 6
        assert len(server.requests) == 1
        with pytest.raises(JumpdeckError):
            await session.wait_up()
        assert state.steps[-1].state is StepState.FAILED
        await session.aclose()


async def test_retry_now_starts_again_after_a_failure(tmp_path: Path) -> None:
    async with SmallServer(version) as server:
        session, _ = session_for(tmp_path, server.port, token="stale")
        session.start()
        await reach(session, lambda s: s.phase is SessionPhase.NEEDS_SECRET)
        session.retry_now()
        await reach(session, lambda s: s.tries == 2 and s.phase is SessionPhase.NEEDS_SECRET)
        assert len(server.requests) == 2
        await session.aclose()


async def test_an_illegal_move_raises(tmp_path: Path) -> None:
    session, _ = session_for(tmp_path, 1)
    with pytest.raises(RuntimeError, match="illegal move IDLE to UP"):
        session._board.move(SessionPhase.UP)


async def test_a_token_refused_in_mid_session_is_tried_again(tmp_path: Path) -> None:
    refusing = False

    async def moody(request: web.Request) -> web.StreamResponse:
        return web.json_response({"code": 401}, status=401) if refusing else await version(request)

    async with SmallServer(moody) as server:
        session, _ = session_for(tmp_path, server.port)
        session.start()
        await reach(session, lambda s: s.phase is SessionPhase.UP)
        refusing = True
        session.report(JumpdeckError("stream lost", code="JD-TEST", recovery=Recovery.TRANSIENT))
        state = await reach(session, lambda s: s.phase is SessionPhase.RETRYING)
        assert state.error is not None
        assert state.error.code == "JD-API-UNAUTHORIZED"
        refusing = False
        await reach(session, lambda s: s.phase is SessionPhase.UP)
        await session.aclose()


async def test_a_link_that_is_full_is_not_a_dead_one(tmp_path: Path) -> None:
    silent = asyncio.Event()
    hanging = asyncio.Event()

    async def moody(request: web.Request) -> web.StreamResponse:
        if silent.is_set():
            await hanging.wait()
        return await version(request)

    async with SmallServer(moody) as server, TaskOwner("bytes") as owner:
        session, told = session_for(tmp_path, server.port, probe_every=0.05, probe_limit=0.2)
        session.start()
        await reach(session, lambda s: s.phase is SessionPhase.UP)

        async def bytes_come() -> None:
            while True:
                session.alive()
                await asyncio.sleep(0.01)

        coming = owner.spawn(bytes_come(), name="come")
        silent.set()
        await reach(session, lambda s: s.phase is SessionPhase.DEGRADED)
        await session.wait_up()  # readers go on
        asked = len(told)
        await reach(session, lambda s: len(told) >= asked + 2)  # two misses in a row, twice
        assert SessionPhase.RETRYING not in {state.phase for state in told}
        coming.cancel()
        await reach(session, lambda s: s.phase is SessionPhase.RETRYING)
        hanging.set()
        silent.clear()
        await reach(session, lambda s: s.phase is SessionPhase.UP)
        await session.aclose()


def book_for(folder: Path, port: int, *names: str) -> ProfileBook:
    book = ProfileBook(folder / "profiles.toml")
    book.profiles = {name: profile_for(folder, port, name=name) for name in names}
    return book


async def test_a_profile_that_is_edited_while_up_runs_on_and_says_so(tmp_path: Path) -> None:
    names = ("one", "two", "three")
    async with SmallServer(version) as server, Sessions(book_for(tmp_path, server.port, *names)) as sessions:
        opened = [sessions.open(name) for name in names]
        for session in opened:
            await reach(session, lambda s: s.phase is SessionPhase.UP)
        changed = book_for(tmp_path, server.port, "one", "two")
        changed.profiles["two"] = replace(changed.profiles["two"], namespaces=("payments",))
        sessions.adopt(changed)
        assert [bool(session.state.warnings) for session in opened] == [False, True, True]
        assert {session.state.phase for session in opened} == {SessionPhase.UP}
        assert opened[1].profile.namespaces == ()


def ticking() -> bool:
    return any(task.get_name().startswith("alarms") for task in asyncio.all_tasks())


async def test_clocks_are_watched_while_sessions_are_open_only(tmp_path: Path) -> None:
    async with SmallServer(version) as server, Sessions(book_for(tmp_path, server.port, "one", "two")) as sessions:
        assert not ticking()
        for name in ("one", "two"):
            sessions.open(name)
        assert ticking()
        await sessions.close("one")
        assert ticking()
        await sessions.close("two")
        assert not ticking()


async def test_after_sleep_every_session_looks_at_once(tmp_path: Path) -> None:
    async with SmallServer(version) as server, Sessions(book_for(tmp_path, server.port, "one", "two")) as sessions:
        opened = [sessions.open(name) for name in ("one", "two")]
        for session in opened:
            await reach(session, lambda s: s.phase is SessionPhase.UP)
        asked, news = len(server.requests), asyncio.Event()
        sessions.on_change(lambda _: news.set())  # of any of them: either may be the last to ask
        sessions.verify_all("it slept")
        async with asyncio.timeout(LIMIT):
            while len(server.requests) < asked + 2:
                news.clear()
                await news.wait()
        assert {session.state.phase for session in opened} == {SessionPhase.UP}


async def test_after_sleep_no_wait_is_waited_out(tmp_path: Path) -> None:
    server = SmallServer(version)
    await server.start()
    async with Sessions(book_for(tmp_path, server.port, "one")) as sessions:
        await server.stop()
        session = sessions.open("one")
        await reach(session, lambda s: s.phase is SessionPhase.RETRYING)
        session._pacing._backoff.floor = 600.0  # waits that the test does not outlive
        await reach(session, lambda s: s.phase is SessionPhase.RETRYING and s.tries > 1)
        await server.start()
        sessions.verify_all("it slept")
        await reach(session, lambda s: s.phase is SessionPhase.UP)
    await server.aclose()
