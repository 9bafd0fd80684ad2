"""A followed log against a scripted API server: cuts, clean ends, restarts, replacement, waiting, back-pressure."""

from __future__ import annotations

import asyncio
import json
import tracemalloc

import pytest

from app.cluster.log_follow import LogFollow, LogRequest
from app.errors import JumpdeckError, NotFoundError, RefusedError
from app.rows import LogBatch, MarkKind
from tests.protocol.log_world import Following, Shown, World, stamped
from tests.protocol.pod_server import FakeLink, PodServer, Reply, status


async def test_follows_lines_as_they_come() -> None:
    async with World() as world, Following(world) as reading:
        world.write((1, "a"), (2, "b"))
        await reading.shown.lines(2)
        world.write((3, "c"))
        await reading.shown.lines(3)
        assert reading.shown.text == stamped(1, "a") + stamped(2, "b") + stamped(3, "c")
        assert reading.shown.marks == []
        assert reading.link.heard > 0
        assert world.log_requests == [{"container": "app", "follow": "true", "timestamps": "true"}]


async def test_a_cut_stream_goes_on_where_it_was_with_a_mark() -> None:
    async with World() as world, Following(world) as reading:
        world.write((10, "a"), (10, "a"), (10, "b"))
        await reading.shown.lines(3)
        world.cut()
        world.write((10, "a"), (11, "c"))
        await reading.shown.lines(5)
        assert reading.shown.story == ["a", "a", "b", "<cut>", "a", "c"]
        assert [error.transient for error in reading.link.reported] == [True]
        assert world.log_requests[1]["sinceTime"].endswith("14:13:28Z")  # two seconds before the newest
        assert "tailLines" not in world.log_requests[1]


@pytest.mark.parametrize(("settled", "tries"), [(0.0, 1), (3600.0, 5)])
async def test_a_cut_after_a_long_time_is_the_first_again(settled: float, tries: int) -> None:
    """Else a log that was cut a few times in a day would come back half a minute behind its session."""
    async with World() as world, Following(world, settled=settled) as reading:
        for cut in range(1, 6):
            world.write((cut, "a"))
            await reading.shown.lines(cut)
            world.cut()
        world.write((9, "b"))
        await reading.shown.lines(6)
        assert reading.backoff.tries == tries


async def test_a_refusal_that_was_long_in_coming_is_no_time_of_a_stream() -> None:
    body = status(504, "Timeout", "the server was unable to return a response in the time allotted")
    async with World() as world:
        world.refuse = [(504, body)] * 4
        world.write((1, "a"))
        async with Following(world, settled=1e-6) as reading:
            await reading.shown.lines(1)
            assert reading.backoff.tries == 4, "an overloaded server has more and more rest"


async def test_cut_at_every_byte_loses_and_doubles_nothing() -> None:
    source = [(10.0, "a"), (10.0, "a"), (10.5, "bb"), (11.0, "")]
    written = b"".join(stamped(at, text) for at, text in source)
    for place in range(1, len(written), 7):
        async with World() as world, Following(world) as reading:
            world.chop = [place, place // 2 + 1]
            world.write(*source)
            await reading.shown.lines(len(source))
            world.write((12, "end"))
            await reading.shown.lines(len(source) + 1)
            assert reading.shown.text == written + stamped(12, "end"), place
            assert MarkKind.GAP not in reading.shown.kinds()


async def test_a_clean_end_while_the_container_runs_is_no_end() -> None:
    async with World() as world, Following(world) as reading:
        world.write((1, "a"))
        await reading.shown.lines(1)
        world.end_streams()
        await world.opened(2)
        world.write((1, "a"), (2, "b"))
        await reading.shown.lines(3)
        assert reading.shown.story == ["a", "a", "b"]


async def test_a_rotation_during_the_outage_is_marked() -> None:
    async with World() as world, Following(world) as reading:
        world.write((1, "a"))
        await reading.shown.lines(1)
        world.write((2, "lost with the file"))
        world.rotate()
        world.cut()
        world.write((9, "b"))
        await reading.shown.until(lambda shown: "b" in shown.story)
        assert reading.shown.story[-2:] == ["<gap>", "b"]


async def test_a_restart_shows_the_end_the_divider_and_the_new_instance() -> None:
    async with World() as world, Following(world, tail=1) as reading:
        world.write((1, "old"), (1, "a"))
        await reading.shown.lines(1)
        world.cut()
        world.write((2, "dying"))
        world.exit(7)
        await reading.shown.until(lambda shown: MarkKind.ENDED in shown.kinds())
        world.restart()
        world.write((3, "new"), (4, "newer"))
        await reading.shown.until(lambda shown: "newer" in shown.story)
        story = [word for word in reading.shown.story if word != "<cut>"]
        assert story == ["a", "dying", "<ended>", "<restarted>", "new", "newer"]
        assert "exit code 7" in reading.shown.marks[-2].text


async def test_a_restart_during_an_outage_fetches_the_previous_log() -> None:
    async with World() as world, Following(world) as reading:
        world.write((1, "a"))
        await reading.shown.lines(1)
        reading.link.up.clear()
        world.cut()
        world.write(*((2, f"line {number}") for number in range(50)))
        world.exit(1)
        world.restart()
        world.write((5, "new"))
        reading.link.up.set()
        await reading.shown.until(lambda shown: "new" in shown.story)
        story = [word for word in reading.shown.story if word != "<cut>"]
        assert story == ["a", *(f"line {number}" for number in range(50)), "<ended>", "<restarted>", "new"]


async def test_a_restart_whose_previous_log_is_gone_is_marked() -> None:
    async with World() as world, Following(world) as reading:
        world.write((1, "a"))
        await reading.shown.lines(1)
        reading.link.up.clear()
        world.cut()
        world.exit(1)
        world.run.readable = False
        world.restart()
        world.write((5, "new"))
        reading.link.up.set()
        await reading.shown.until(lambda shown: "new" in shown.story)
        assert [mark.kind.value for mark in reading.shown.marks] == ["note", "gap", "ended", "restarted"]
        assert b"unable to retrieve" not in reading.shown.text


async def test_several_restarts_during_an_outage_are_marked() -> None:
    async with World() as world, Following(world) as reading:
        world.write((1, "a"))
        await reading.shown.lines(1)
        reading.link.up.clear()
        world.cut()
        for number in range(2):
            world.exit(1)
            world.restart()
            world.write((5 + number, f"run {number}"))
        reading.link.up.set()
        await reading.shown.until(lambda shown: "run 1" in shown.story)
        assert reading.shown.story == ["a", "<gap>", "run 0", "<ended>", "<restarted>", "run 1"]


async def test_a_replaced_pod_has_a_new_cursor() -> None:
    async with World() as world, Following(world) as reading:
        world.write((1, "a"))
        await reading.shown.lines(1)
        world.replace()
        world.write((1, "a"))
        world.cut()
        await reading.shown.lines(2)
        assert reading.shown.story == ["a", "<restarted>", "a"]


async def test_a_deleted_pod_ends_the_log() -> None:
    async with World() as world, Following(world) as reading:
        world.write((1, "a"))
        await reading.shown.lines(1)
        world.delete()
        await reading.ended()
        assert reading.shown.story == ["a", "<ended>"]


async def test_a_finished_pod_ends_with_its_exit_code() -> None:
    async with World() as world:
        world.policy = "Never"
        world.write((1, "a"))
        world.exit(3)
        async with Following(world) as reading:
            await reading.ended()
            assert reading.shown.story == ["a", "<ended>"]
            assert "exit code 3 (Error)" in reading.shown.marks[0].text


async def test_waits_for_a_container_by_one_watch() -> None:
    async with World() as world:
        world.started = False
        async with Following(world) as reading:
            await world.watched(1)
            world.started = True
            world.write((1, "a"))
            world._change()
            await reading.shown.lines(1)
            assert len(world.watches()) == 1
            assert [reply.path for reply in world.seen[:2]] == [
                "/api/v1/namespaces/shop/pods/web",
                "/api/v1/namespaces/shop/pods",
            ]


async def test_a_node_that_does_not_answer_is_said_once_and_tried_again() -> None:
    body = status(500, "", 'Get "https://10.0.0.4:10250/containerLogs/shop/web/app": dial tcp: connection refused')
    async with World() as world:
        world.refuse = [(500, body)] * 2
        async with Following(world) as reading:
            world.write((1, "a"))
            await reading.shown.lines(1)
            assert reading.shown.story == ["<note>", "a"]
            assert reading.link.reported == []  # the link is well: the server answered


async def test_what_cannot_be_tried_again_is_raised() -> None:
    forbidden = status(403, "Forbidden", 'pods "web" is forbidden: User "jo" cannot get resource "pods/log"')
    async with World() as world:
        world.refuse = [(403, forbidden)]
        async with Following(world) as reading:
            with pytest.raises(RefusedError):
                await reading.ended()
    async with World() as world:
        world.exists = False
        async with Following(world) as reading:
            with pytest.raises(NotFoundError):
                await reading.ended()


async def test_a_silent_stream_on_a_link_that_is_down_is_given_up() -> None:
    async with World() as world, Following(world) as reading:
        world.write((1, "a"))
        await reading.shown.lines(1)
        world.write((1, "b"))
        await reading.shown.lines(2)
        reading.link.up.clear()  # nothing is cut: the far end is just silent
        while not reading.link.reported:  # the look at the link comes after a tenth of a second of silence
            await asyncio.sleep(0)
            await asyncio.wait({reading.task}, timeout=0.05)
        reading.link.up.set()
        await world.opened(2)
        world.write((2, "c"))
        await reading.shown.lines(3)
        assert reading.shown.story == ["a", "b", "<cut>", "c"]


async def test_tail_zero_misses_nothing_that_came_during_an_outage() -> None:
    async with World() as world, Following(world, tail=0) as reading:
        await world.opened(1)
        world.cut()
        await world.opened(2)
        assert "sinceTime" in world.log_requests[1]
        assert "tailLines" not in world.log_requests[1]
        assert reading.shown.text == b""


async def test_waiting_in_deliver_stops_reading() -> None:
    gate, got = asyncio.Event(), []

    async def slow(batch: LogBatch) -> None:
        got.append(batch)
        await gate.wait()

    async with World() as world, Following(world) as reading:
        reading.task.cancel()
        task = reading._owner.spawn(reading.follow.run(slow), name="slow")
        world.write(*((1, "x" * 100_000) for _ in range(300)))
        while not got:
            await asyncio.wait({task}, timeout=0.01)
        await asyncio.wait({task}, timeout=0.3)
        assert len(got) == 1
        gate.set()
        while sum(batch.count for batch in got) < 300:
            await asyncio.wait({task}, timeout=0.01)


async def test_a_snapshot_ends_and_keeps_a_last_line_without_line_feed() -> None:
    async with World() as world:
        world.write((1, "a"))
        world.run.lines.append((2, stamped(2, "half")[:-1]))
        async with Following(world, follow=False) as reading:
            await reading.ended()
            assert reading.shown.text == stamped(1, "a") + stamped(2, "half")
            assert len(world.seen) == 1  # one request: the pod is not read


async def test_previous_asks_for_the_run_before() -> None:
    async with World() as world:
        world.write((1, "a"))
        world.exit(1)
        world.restart()
        async with Following(world, previous=True, tail=5) as reading:
            await reading.ended()
            assert reading.shown.text == stamped(1, "a")
            assert world.log_requests == [
                {"container": "app", "previous": "true", "tailLines": "5", "timestamps": "true"}
            ]


async def test_a_snapshot_of_a_missing_pod_raises() -> None:
    async with World() as world:
        world.refuse = [(404, json.dumps({"kind": "Status", "code": 404, "message": 'pods "web" not found'}).encode())]
        async with Following(world, follow=False) as reading:
            with pytest.raises(JumpdeckError) as failure:
                await reading.ended()
            assert failure.value.exit_code == 7


async def test_a_line_of_200_megabytes_costs_less_than_64() -> None:
    piece = b"x" * (1 << 20)

    async def send(reply: Reply) -> None:
        await reply.start()
        await reply.chunk(b"2026-11-22T05:56:36.496078360Z ")
        for _ in range(200):
            await reply.chunk(piece)
        await reply.chunk(b"\n" + stamped(1, "next"))
        await reply.end()

    async with PodServer(send) as server:
        api = server.client()
        shown = Shown()
        tracemalloc.start()
        try:
            await LogFollow(api, FakeLink(), LogRequest("shop", "web", "app", follow=False)).run(shown)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            await api.aclose()
    assert peak < 64 << 20
    first, second = shown.text.splitlines()
    assert len(first) < (1 << 20) + 40
    assert second + b"\n" == stamped(1, "next")
    assert sum(batch.cut_bytes for batch in shown.batches) == len(b"2026-11-22T05:56:36.496078360Z ") + 199 * (1 << 20)
