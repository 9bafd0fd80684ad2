"""Who stands aside while a person is asked: those that wait for the same hop, as long as the question is open."""

from __future__ import annotations

from contextlib import AsyncExitStack

from app.rows import SessionPhase
from app.sessions.asking import Attempt, Desk
from app.sessions.states import StateBoard

P = SessionPhase
HUB, OTHER = ("hub",), ("other",)


async def test_who_comes_later_to_the_same_hop_joins_the_question_and_none_that_is_over() -> None:
    desk, boards = Desk(), [StateBoard(name, lambda _: None) for name in ("asks", "joins", "elsewhere")]
    async with AsyncExitStack() as stack:
        attempts = []
        for board in boards:
            board.move(P.CONNECTING)
            attempts.append(await stack.enter_async_context(Attempt(desk, board)))
        asks, joins, elsewhere = attempts
        asks.arrive(HUB)
        async with asks.aside(P.NEEDS_SECRET):
            joins.arrive(HUB)
            elsewhere.arrive(OTHER)
            assert [board.state.phase for board in boards] == [P.NEEDS_SECRET, P.NEEDS_SECRET, P.CONNECTING]
        assert [board.state.phase for board in boards] == [P.CONNECTING] * 3
        elsewhere.arrive(HUB)
        assert boards[2].state.phase is P.CONNECTING
