"""A log on a screen outlives what stops its session: it goes on where it was once somebody has put that right."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.cluster.log_stream import LogRequest
from app.errors import JumpdeckError
from app.rows import LogBatch, SessionPhase
from app.sessions.link import PatientLink
from tests.ssh_world import BACK_LIMIT, ssh_world
from tests.sshd import make_key, public_key
from tests.states import LIMIT, is_up, reach


async def test_a_log_goes_on_after_a_failure_that_needed_a_person(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        session = world.session()
        await reach(session, is_up)
        lines: list[bytes] = []
        news = asyncio.Event()

        async def deliver(batch: LogBatch) -> None:
            lines.extend(line.partition(b" ")[2] for line in batch.text.splitlines())
            news.set()

        async def complete() -> None:
            async with asyncio.timeout(LIMIT):
                while len(lines) < world.written:
                    news.clear()
                    await news.wait()

        log = session.reader.log(LogRequest("default", "web-1", "app"), PatientLink(session))
        task = world.tasks.spawn(log.run(deliver), name="log")
        world.write(5)
        await complete()
        known = world.known_hosts.read_text()
        stranger = public_key(make_key(tmp_path / "stranger"))
        world.known_hosts.write_text(f"[127.0.0.1]:{world.chaos[0].port} {stranger}")
        world.chaos[0].reset()
        await reach(session, lambda state: state.phase is SessionPhase.NEEDS_TRUST and state.error is not None)
        world.write(5)
        world.known_hosts.write_text(known)
        world.chaos[0].heal()
        session.retry_now()
        await reach(session, is_up, BACK_LIMIT)
        world.write(5)
        await complete()
        assert lines == [b"line %d" % number for number in range(1, world.written + 1)]
        assert not task.done()


async def test_a_closed_session_ends_its_logs(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        session = world.session()
        await reach(session, is_up)
        link = PatientLink(session)
        await session.aclose()
        with pytest.raises(JumpdeckError) as caught:
            await link.wait_up()
        assert caught.value.code == "JD-SESSION-CLOSED"
