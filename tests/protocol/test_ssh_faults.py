"""Sessions over real sshd through every kind of cut: lost, found again, every line once; what is tried only once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.errors import JumpdeckError, Recovery
from app.profiles.store import ProfileBook
from app.routes.host_keys import HostKeys
from app.rows import SessionPhase, StepState
from app.sessions.route import RouteGround
from app.sessions.states import is_asking
from app.sessions.supervisor import Sessions
from app.tasks import Backoff
from tests.fakes import FakeAsker, SlowAsker
from tests.ssh_world import BACK_LIMIT, Reading, World, ssh_world
from tests.sshd import fingerprint, make_key, public_key, sshd
from tests.states import LIMIT, is_lost, is_up, reach

SOAK = bool(os.environ.get("SOAK"))
AWAY = 20.0 if SOAK else 1.0
"""Seconds that a server stays away."""


Fault = Callable[[World], Awaitable[None]]


async def reset(world: World) -> None:
    world.chaos[0].reset()


async def kill(world: World) -> None:
    world.servers[0].signal_sessions(signal.SIGKILL)


async def half_close(world: World) -> None:
    world.chaos[0].half_close()


async def corrupt(world: World) -> None:
    world.chaos[0].corrupt()
    world.write()


@pytest.mark.parametrize("fault", [reset, kill, half_close, corrupt], ids=lambda fault: fault.__name__)
async def test_a_cut_link_comes_back_and_nothing_is_lost(tmp_path: Path, fault: Fault) -> None:
    async with ssh_world(tmp_path) as world:
        session = world.session()
        await reach(session, is_up)
        assert [hop.label for hop in session.state.hops] == ["127.0.0.1 (SSH)"]
        reading = Reading(world, session)
        world.write(5)
        await reading.complete()
        await fault(world)
        await reach(session, is_lost)
        world.chaos[0].heal()
        world.write(5)
        await reach(session, is_up, BACK_LIMIT)
        world.write(5)
        await reading.complete()
        await world.servers[0].logged_in(2)


async def test_a_server_that_was_away_is_found_within_five_seconds(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        session = world.session()
        await reach(session, is_up)
        reading = Reading(world, session)
        world.write(5)
        await world.servers[0].stop()
        lost = await reach(session, lambda state: is_lost(state) and state.tries > 1)
        assert lost.error is None or lost.error.transient
        world.write(5)
        await asyncio.sleep(AWAY)
        await world.servers[0].start()
        await reach(session, is_up, BACK_LIMIT)
        await reading.complete()


async def test_a_frozen_link_is_found_and_left(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        limits = {} if SOAK else {"probe_every": 0.5, "probe_limit": 1.0}
        session = world.session(**limits)
        await reach(session, is_up)
        reading = Reading(world, session)
        world.write(5)
        await reading.complete()
        world.chaos[0].freeze()
        world.write(5)
        await reach(session, lambda state: state.phase is SessionPhase.RETRYING, 30.0)
        world.chaos[0].heal()
        await reach(session, is_up, BACK_LIMIT)
        await reading.complete()


async def test_one_doubt_finds_a_frozen_link_for_all_who_share_it(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        sessions = [world.session(world.profile(name)) for name in ("one", "two", "three")]
        for session in sessions:
            await reach(session, is_up)
        world.chaos[0].freeze()
        sessions[1].report(JumpdeckError("stream lost", code="JD-TEST", recovery=Recovery.TRANSIENT))
        for session in sessions:
            await reach(session, is_lost)
        world.chaos[0].heal()
        for session in sessions:
            await reach(session, is_up, BACK_LIMIT)
        await world.servers[0].logged_in(2)


async def test_a_slow_link_stays_up(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        session = world.session()
        await reach(session, is_up)
        reading = Reading(world, session)
        world.chaos[0].slow(0.05)
        world.write(20)
        session.verify_now()
        await reading.complete()
        assert is_up(session.state)
        await world.servers[0].logged_in(1)


async def test_an_api_server_that_fails_costs_no_second_login(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        session = world.session()
        await reach(session, is_up)
        reading = Reading(world, session)
        world.write(3)
        await reading.complete()
        await world.lab.fault("cut", "api")
        await reach(session, lambda state: is_lost(state) and state.tries > 1)
        await world.lab.fault("cut", "api", on=False)
        await reach(session, is_up, BACK_LIMIT)
        world.write(3)
        await reading.complete()
        await world.servers[0].logged_in(1)


async def test_an_inner_server_that_is_away_costs_the_outer_one_a_single_login(tmp_path: Path) -> None:
    async with ssh_world(tmp_path, servers=2) as world:
        await world.servers[1].stop()
        outer, inner = world.hop(world.chaos[0].port), world.hop(world.chaos[1].port)
        session = world.session(world.profile(via=(outer, inner)))
        await reach(session, lambda state: is_lost(state) and state.tries > 2)
        assert [hop.state for hop in session.hop_states()][:1] == [StepState.DONE]
        await world.servers[1].start()
        await reach(session, is_up, BACK_LIMIT)
        await world.servers[0].logged_in(1)
        await world.servers[1].logged_in(1)
        await world.servers[1].stop()
        await reach(session, lambda state: is_lost(state) and state.tries > 1)
        await world.servers[1].start()
        await reach(session, is_up, BACK_LIMIT)
        await world.servers[0].logged_in(1)
        await world.servers[1].logged_in(2)


async def test_a_denied_login_is_tried_exactly_once(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        other = make_key(tmp_path / "other")
        session = world.session(world.profile(via=[world.hop(world.chaos[0].port, key=other)]))
        state = await reach(session, lambda state: state.phase is SessionPhase.FAILED)
        assert state.error is not None
        assert (state.error.code, int(state.error.exit_code), state.tries) == ("JD-SSH-DENIED", 4, 1)
        await session.aclose()
        await world.servers[0].until(lambda server: server.refusals > 0)
        assert (world.servers[0].refusals, world.chaos[0].accepted) == (1, 1)


async def test_a_changed_host_key_is_tried_exactly_once(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        stranger = make_key(tmp_path / "stranger")
        key = public_key(stranger)
        world.known_hosts.write_text(f"[127.0.0.1]:{world.chaos[0].port} {key}\n")
        session = world.session(asker=FakeAsker(host_keys=True))
        state = await reach(session, lambda state: state.phase is SessionPhase.NEEDS_TRUST and state.error is not None)
        assert state.error is not None
        assert (state.error.code, int(state.error.exit_code)) == ("JD-SSH-HOST-KEY-CHANGED", 5)
        assert world.servers[0].fingerprint in " ".join(state.error.lines())
        assert fingerprint(stranger) != world.servers[0].fingerprint
        await session.aclose()
        assert (world.chaos[0].accepted, world.servers[0].logins) == (1, 0)


async def test_the_second_server_serves_when_the_first_is_killed(tmp_path: Path) -> None:
    async with ssh_world(tmp_path, servers=2) as world:
        session = world.session(world.profile(via=[world.hop(*(chaos.port for chaos in world.chaos))]))
        await reach(session, is_up)
        await world.servers[0].logged_in(1)
        assert world.servers[1].logins == 0
        reading = Reading(world, session)
        world.write(5)
        await world.servers[0].stop()
        await reach(session, is_lost)
        await reach(session, is_up, 10.0 if SOAK else 15.0)  # some for a busy machine
        world.write(5)
        await reading.complete()
        await world.servers[1].logged_in(1)


async def test_the_second_servers_key_never_passes_as_the_firsts(tmp_path: Path) -> None:
    async with ssh_world(tmp_path, servers=2) as world:
        first, second = world.chaos
        known = world.known_hosts.read_text().splitlines(keepends=True)
        world.known_hosts.write_text("".join(line for line in known if f":{second.port} " not in line))
        session = world.session(world.profile(via=[world.hop(first.port, second.port)]))
        await reach(session, is_up)
        await world.servers[0].stop()
        state = await reach(session, lambda state: state.phase is SessionPhase.NEEDS_TRUST and state.error is not None)
        assert state.error is not None and state.error.code == "JD-SSH-HOST-KEY-UNKNOWN"
        assert world.servers[1].logins == 0


async def test_six_profiles_behind_one_jump_box_ask_once_and_log_in_once(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        key = make_key(tmp_path / "locked", passphrase="open sesame")
        world.servers[0].authorize(key)
        asker = FakeAsker(["open sesame"])
        via = [world.hop(world.chaos[0].port, key=key)]
        world.ground = RouteGround(asker, host_keys=HostKeys(own=world.known_hosts, others=()))
        sessions = [world.session(world.profile(f"p{number}", via=via), asker=asker) for number in range(6)]
        for session in sessions:
            await reach(session, is_up)
        assert len(asker.asked) == 1
        await world.servers[0].logged_in(1)
        assert world.chaos[0].accepted == 1
        await asyncio.gather(*(session.aclose() for session in sessions[1:]))
        sessions[0].verify_now()
        await sessions[0].wait_up()
        reading = Reading(world, sessions[0])
        world.write(3)
        await reading.complete()
        await world.servers[0].logged_in(1)
        assert world.chaos[0].accepted == 1


async def test_all_who_wait_for_one_answer_stand_there_and_hold_up_nobody_else(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        key = make_key(tmp_path / "locked", passphrase="open sesame")
        world.servers[0].authorize(key)
        asker = SlowAsker("open sesame")
        via = [world.hop(world.chaos[0].port, key=key)]
        waiting = [world.session(world.profile(f"p{number}", via=via), asker=asker) for number in range(6)]
        for session in waiting:
            state = await reach(session, is_asking)
            assert state.phase is SessionPhase.NEEDS_SECRET
        plain = world.session(world.profile("plain", via=[]))
        await reach(plain, is_up)
        late = world.session(world.profile("late", via=via), asker=asker)
        await reach(late, is_asking)
        asker.typed.set()
        for session in (*waiting, late):
            await reach(session, is_up)
        assert (asker.most, len(asker.asked)) == (1, 1)
        await world.servers[0].logged_in(1)


async def test_a_try_under_way_begins_anew_when_the_network_changes(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        world.chaos[0].freeze()
        session = world.session()
        await reach(session, lambda state: len(state.steps) == 2)
        await world.chaos[0].came.wait()
        world.chaos[0].reroute()
        session.verify_now()
        await reach(session, is_up, BACK_LIMIT)
        assert world.chaos[0].accepted == 2


async def test_sessions_close_within_their_limit_on_a_frozen_link(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world:
        book = ProfileBook(tmp_path / "profiles.toml")
        for name in ("one", "two"):
            book.profiles[name] = world.profile(name)
        sessions = Sessions(book, ground=world.ground)
        opened = [sessions.open(name) for name in ("one", "two")]
        for session in opened:
            await reach(session, is_up)
        world.chaos[0].freeze()
        async with asyncio.timeout(5.0 if SOAK else 7.0):  # some for a busy machine
            await sessions.aclose()
        assert {session.state.phase for session in opened} == {SessionPhase.CLOSED}


async def test_an_unknown_server_is_asked_about_once_and_then_known(tmp_path: Path) -> None:
    async with ssh_world(tmp_path) as world, sshd(tmp_path / "new") as server:
        server.authorize(world.key)
        asker = FakeAsker(host_keys=True)
        via = [world.hop(server.port)]
        sessions = [world.session(world.profile(f"p{number}", via=via), asker=asker) for number in range(3)]
        for session in sessions:
            await reach(session, is_up)
        assert len(asker.asked) == 1
        await server.logged_in(1)


async def test_a_port_that_closes_before_ssh_starts_is_given_up(tmp_path: Path) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(1)
        writer.close()

    seen: list[int] = []
    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with ssh_world(tmp_path, servers=0) as world, server:
        session = world.session(world.profile(via=(world.hop(port),)), backoff=Backoff(base=0.01, cap=0.01, floor=0.01))
        async with asyncio.timeout(LIMIT):
            while session.state.phase is not SessionPhase.FAILED:
                await session.changed()
        assert (len(seen), session.state.error and session.state.error.code) == (5, "JD-SSH-CLOSED-EARLY")
