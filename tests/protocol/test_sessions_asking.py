"""A session while a person is asked: where it stands, what it gives back, how long it waits."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
from aiohttp import web

from app.asking import Asker
from app.cli.frame import wait_first_up
from app.errors import JumpdeckError, RouteError
from app.profiles.model import Profile, ServerCluster
from app.profiles.store import ProfileBook
from app.rows import SessionPhase, SessionState
from app.secrets.secret import MEMORY, Secret, SecretItem, SecretSource
from app.sessions.asking import Desk
from app.sessions.route import RouteGround
from app.sessions.states import is_asking
from app.sessions.supervisor import Session, Sessions
from tests.fakes import SlowAsker, SmallServer, profile_for
from tests.states import LIMIT, reach

P = SessionPhase


async def version(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Authorization") != "Bearer good":
        return web.json_response({"code": 401}, status=401)
    return web.json_response({"gitVersion": "v1.36.2"})


@pytest.fixture(autouse=True)
def no_secrets_yet() -> None:
    MEMORY._known.clear()


def asking_profile(name: str, port: int) -> Profile:
    return Profile(name=name, cluster=ServerCluster(f"http://127.0.0.1:{port}", auth="token"))


async def test_while_a_person_is_asked_it_stands_there_without_an_error() -> None:
    told: list[SessionState] = []
    asker = SlowAsker("good")
    async with SmallServer(version) as server:
        profile = asking_profile("asks", server.port)
        session = Session(profile, desk=Desk(), ground=RouteGround(None), tell=told.append, asker=asker)
        session.start()
        state = await reach(session, is_asking)
        assert (state.phase, state.error) == (P.NEEDS_SECRET, None)
        waiting = asyncio.ensure_future(session.wait_up())
        asker.typed.set()
        await asyncio.wait_for(waiting, LIMIT)
        phases = [state.phase for state in told]
        moves = [phase for at, phase in enumerate(phases) if at == 0 or phases[at - 1] is not phase]
        assert moves == [P.CONNECTING, P.NEEDS_SECRET, P.CONNECTING, P.UP]
        await session.aclose()


async def test_questions_come_one_at_a_time_and_hold_up_nobody_else(tmp_path: Path) -> None:
    asker = SlowAsker("good")
    async with SmallServer(version) as server:
        book = ProfileBook(tmp_path / "profiles.toml")
        for number in range(6):
            book.profiles[f"asks-{number}"] = asking_profile(f"asks-{number}", server.port)
        book.profiles["plain"] = profile_for(tmp_path, server.port, name="plain")
        async with Sessions(book, asker=asker) as sessions:
            asking = [sessions.open(f"asks-{number}") for number in range(6)]
            for session in asking:
                await reach(session, is_asking)
            await reach(sessions.open("plain"), lambda state: state.phase is P.UP)
            asker.typed.set()
            for session in asking:
                await reach(session, lambda state: state.phase is P.UP)
            assert (asker.most, len(asker.asked)) == (1, 6)


async def test_who_does_not_answer_has_given_up() -> None:
    async with SmallServer(version) as server:
        desk = Desk(answer_limit=0.05)
        profile = asking_profile("asks", server.port)
        session = Session(profile, desk=desk, ground=RouteGround(None), tell=lambda _: None, asker=SlowAsker("good"))
        session.start()
        state = await reach(session, lambda state: state.error is not None)
        assert state.phase is P.NEEDS_SECRET
        assert server.requests == []
        with pytest.raises(JumpdeckError):
            await session.wait_up()
        await session.aclose()


async def test_the_time_of_an_answer_does_not_count_for_the_command_line() -> None:
    asker = SlowAsker("good")
    async with SmallServer(version) as server:
        profile = asking_profile("asks", server.port)
        session = Session(profile, desk=Desk(), ground=RouteGround(None), tell=lambda _: None, asker=asker)
        session.start()
        await reach(session, is_asking)  # what it took to come here counts, but is not what this is about
        waiting = asyncio.ensure_future(wait_first_up(session, 2.5))
        asyncio.get_running_loop().call_later(3.0, asker.typed.set)  # longer than the limit, which therefore rests
        await asyncio.wait_for(waiting, LIMIT)
        assert session.state.phase is P.UP
        await session.aclose()


async def test_closing_ends_a_question() -> None:
    asker = SlowAsker("good")
    async with SmallServer(version) as server:
        profile = asking_profile("asks", server.port)
        session = Session(profile, desk=Desk(), ground=RouteGround(None), tell=lambda _: None, asker=asker)
        session.start()
        await reach(session, is_asking)
        await session.aclose()
        assert (session.state.phase, asker.open) == (P.CLOSED, 0)


class LateSecrets(SecretSource):
    """Fails at the moment when nobody waits for it any more, as a program does that ends while it is being ended."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked, self.withdrawn = asyncio.Event(), asyncio.Event()

    async def get(self, item: SecretItem, *, asker: Asker | None = None) -> Secret:
        self.asked.set()
        try:
            await self.withdrawn.wait()
        except asyncio.CancelledError:
            self.withdrawn.set()
        raise RouteError("It could not start", code="JD-TEST-START")


async def test_a_try_that_fails_as_it_is_given_up_is_reported_to_nobody() -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    ground = RouteGround(None)
    ground._secrets = late = LateSecrets()
    session = Session(asking_profile("late", 1), desk=Desk(), ground=ground, tell=lambda _: None)
    session.start()
    await asyncio.wait_for(late.asked.wait(), LIMIT)
    await session.aclose()
    assert late.withdrawn.is_set()
    del session
    gc.collect()  # a task whose failure nobody has looked at says so when it goes
    assert reported == []
