"""The pod watch against a scripted API server: what it asks for, and that no pod is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.cluster.pods import PodScope, PodWatch, list_pods
from app.errors import JumpdeckError
from app.rows import PodSnapshot, Staleness
from app.tasks import TaskOwner
from tests.protocol.pod_server import (
    FakeLink,
    PodServer,
    Reply,
    Seen,
    bookmark,
    event,
    gone,
    pod,
    pod_list,
    status,
    stream,
    whole,
)

ONE = PodScope(("shop",))


@asynccontextmanager
async def watching(
    server: PodServer, link: FakeLink | None = None, scope: PodScope = ONE, link_check: float = 5.0
) -> AsyncIterator[Seen]:
    """A running watch on the server; at its end the watch is cancelled."""
    api = server.client()
    seen = Seen()
    async with TaskOwner("test") as owner:
        owner.spawn(PodWatch(api, link or FakeLink(), scope, link_check=link_check).run(seen), name="watch")
        yield seen
    await api.aclose()


def names(snapshot: PodSnapshot) -> list[str]:
    return [row.name for row in snapshot.rows.values()]


def has(*wanted: str, staleness: Staleness = Staleness.LIVE):
    return lambda snapshot: names(snapshot) == list(wanted) and snapshot.staleness is staleness


def restarts(name: str, count: int):
    return lambda snapshot: any(row.name == name and row.restarts == count for row in snapshot.rows.values())


async def test_list_then_watch_from_its_version() -> None:
    script = [
        whole(pod_list(7, pod("a"), pod("b"))),
        stream(event("ADDED", pod("c", 8)), event("MODIFIED", pod("a", 9)), event("DELETED", pod("b", 10))),
    ]
    scope = PodScope(("shop",), "app=x", "spec.nodeName=n")
    async with PodServer(*script) as server, watching(server, scope=scope) as seen:
        await seen.until(has("a", "c"))
        asked_list, asked_watch = server.seen
    assert asked_list.path == asked_watch.path == "/api/v1/namespaces/shop/pods"
    assert asked_list.query == {"limit": "500", "labelSelector": "app=x", "fieldSelector": "spec.nodeName=n"}
    assert asked_watch.query["resourceVersion"] == "7"
    assert asked_watch.query["allowWatchBookmarks"] == "true"
    assert 300 <= int(asked_watch.query["timeoutSeconds"]) <= 600
    assert asked_watch.query["labelSelector"] == "app=x"


async def test_pages_show_while_they_load_and_are_one_list_in_the_end() -> None:
    async def second(reply: Reply) -> None:
        await loading.wait()
        await reply.send(pod_list(7, pod("b")))

    loading = asyncio.Event()
    async with PodServer(whole(pod_list(7, pod("a"), token="next")), second) as server, watching(server) as seen:
        first = await seen.until(has("a", staleness=Staleness.LOADING))
        loading.set()
        await seen.until(lambda snapshot: names(snapshot) == ["a", "b"] and snapshot.staleness is Staleness.LIVE)
        assert names(first) == ["a"], "a snapshot that was handed over does not change"
        assert server.seen[1].query["continue"] == "next"
    assert [snapshot.revision for snapshot in seen.all] == list(range(1, len(seen.all) + 1))


@pytest.mark.parametrize("how", ["event", "http"])
async def test_410_lists_again_and_forgets_what_has_vanished(how: str) -> None:
    script = [
        whole(pod_list(7, pod("a"), pod("b"))),
        stream(gone()) if how == "event" else whole(status(410, "Expired"), 410),
        whole(pod_list(20, pod("b", 12), pod("c", 20))),
        stream(),
    ]
    link = FakeLink()
    async with PodServer(*script) as server, watching(server, link) as seen:
        await seen.until(has("b", "c"))
        assert (await server.watched(2))[1].query["resourceVersion"] == "20"
    assert not link.reported, "an old version says nothing against the link"


async def test_a_bookmark_alone_moves_the_version() -> None:
    script = [
        whole(pod_list(7, pod("a"))),
        stream(bookmark(31), then="end"),
        stream(event("ADDED", pod("b", 40))),
    ]
    async with PodServer(*script) as server, watching(server) as seen:
        await seen.until(has("a", "b"))
        assert [reply.query["resourceVersion"] for reply in server.watches()] == ["7", "31"]
        assert len(server.lists()) == 1


async def test_a_clean_end_is_no_failure() -> None:
    script = [whole(pod_list(7, pod("a"))), stream(then="end"), stream(event("ADDED", pod("b", 9)))]
    link = FakeLink()
    async with PodServer(*script) as server, watching(server, link) as seen:
        await seen.until(has("a", "b"))
        assert [reply.query["resourceVersion"] for reply in server.watches()] == ["7", "7"]
    assert not link.reported
    assert {snapshot.staleness for snapshot in seen.all} <= {Staleness.LIVE, Staleness.LOADING}


async def test_a_cut_marks_stale_keeps_the_version_and_loses_no_delete() -> None:
    script = [
        whole(pod_list(7, pod("a"), pod("b"))),
        stream(event("MODIFIED", pod("a", 9)), then="cut"),
        stream(event("DELETED", pod("b", 10))),
    ]
    link = FakeLink()
    async with PodServer(*script) as server, watching(server, link) as seen:
        await seen.until(has("a"))
        assert [reply.query["resourceVersion"] for reply in server.watches()] == ["7", "9"]
        assert len(server.lists()) == 1
    stale = [snapshot for snapshot in seen.all if snapshot.staleness is Staleness.STALE]
    assert stale and names(stale[0]) == ["a", "b"] and stale[0].error is not None
    assert link.reported
    assert seen.all[-1].error is None


@pytest.mark.parametrize(("code", "headers"), [(429, "Retry-After: 1\r\n"), (500, ""), (503, "")])
async def test_a_busy_server_is_asked_again_later_from_the_same_version(code: int, headers: str) -> None:
    script = [
        whole(pod_list(7, pod("a"))),
        whole(b"Too many requests, please try again later.\n", code, headers),
        stream(event("ADDED", pod("b", 9))),
    ]
    async with PodServer(*script) as server, watching(server) as seen:
        await seen.until(has("a", "b"))
        assert [reply.query["resourceVersion"] for reply in server.watches()] == ["7", "7"]
        assert len(server.lists()) == 1


async def test_a_refused_connection_is_tried_again_without_a_new_list() -> None:
    link = FakeLink()
    seen = Seen()
    server = PodServer(whole(pod_list(7, pod("a"))), stream(then="cut"))
    async with TaskOwner("test") as owner:
        async with server:
            api = server.client()
            owner.spawn(PodWatch(api, link, ONE).run(seen), name="watch")
            await seen.until(has("a", staleness=Staleness.STALE))
        refused = await seen.until(lambda snapshot: snapshot.error is not None and "REFUSED" in snapshot.error.code)
        assert names(refused) == ["a"]
        server.script = [stream(event("ADDED", pod("b", 9)))]
        async with server:
            await seen.until(has("a", "b"))
            await owner.aclose()
    await api.aclose()
    assert len(server.lists()) == 1
    assert server.watches()[-1].query["resourceVersion"] == "7"


async def test_it_waits_for_the_session_and_then_resumes() -> None:
    link = FakeLink()
    script = [whole(pod_list(7, pod("a"))), stream(), stream(event("ADDED", pod("b", 9)))]
    async with PodServer(*script) as server, watching(server, link, link_check=0.05) as seen:
        await seen.until(has("a"))
        link.up.clear()  # a hung tunnel: the stream says nothing, the session knows
        stale = await seen.until(has("a", staleness=Staleness.STALE))
        assert stale.error is not None and stale.error.code == "JD-ROUTE-LOST"
        link.up.set()
        await seen.until(has("a", "b"))
        assert [reply.query["resourceVersion"] for reply in server.watches()] == ["7", "7"]


async def test_a_session_that_has_failed_ends_it_with_the_reason() -> None:
    link = FakeLink()
    async with PodServer(whole(pod_list(7, pod("a"))), stream(then="cut")) as server:
        api, seen = server.client(), Seen()
        closed = JumpdeckError("closed", code="JD-SESSION-CLOSED")

        def publish(snapshot: PodSnapshot) -> None:
            if snapshot.rows:
                link.failed = closed
            seen(snapshot)

        await PodWatch(api, link, ONE).run(publish)
        await api.aclose()
    assert seen.all[-1].staleness is Staleness.STALE
    assert seen.all[-1].error is closed
    assert names(seen.all[-1]) == ["a"]


async def test_forbidden_ends_it_with_the_refusal() -> None:
    body = status(403, "Forbidden", 'pods is forbidden: User "nobody" cannot list resource "pods" in API group ""'
                  ' at the cluster scope')  # fmt: skip
    async with PodServer(whole(body, 403)) as server:
        api, seen = server.client(), Seen()
        await PodWatch(api, FakeLink(), PodScope()).run(seen)
        await api.aclose()
    assert server.seen[0].path == "/api/v1/pods"
    last = seen.all[-1]
    assert last.error is not None and last.error.code == "JD-API-FORBIDDEN"
    assert last.staleness is Staleness.STALE and not last.rows


async def test_several_namespaces_are_one_view_even_when_one_is_forbidden() -> None:
    async def answer(reply: Reply) -> None:
        place = reply.path.split("/")[4]
        if place == "secret":
            await reply.send(status(403, "Forbidden"), 403)
        elif reply.query.get("watch"):
            await reply.start()
            await reply.events(event("ADDED", pod("late", 9, namespace=place)))
            await reply.hold()
        else:
            await reply.send(pod_list(7, pod("early", namespace=place)))

    async with PodServer(*[answer] * 5) as server, watching(server, scope=PodScope(("x", "secret", "y"))) as seen:
        last = await seen.until(lambda snapshot: len(snapshot.rows) == 4 and snapshot.error is not None)
    assert [(row.namespace, row.name) for row in last.rows.values()] == [
        ("x", "early"), ("x", "late"), ("y", "early"), ("y", "late"),
    ]  # fmt: skip
    assert last.staleness is Staleness.LIVE
    assert last.error is not None and last.error.code == "JD-API-FORBIDDEN"


async def test_a_three_megabyte_event_comes_through() -> None:
    big = event("MODIFIED", pod("a", 9, padding=3 << 20))
    pieces = [big[at : at + 65_536] for at in range(0, len(big), 65_536)]
    async with PodServer(whole(pod_list(7, pod("a"))), stream(*pieces)) as server, watching(server) as seen:
        await seen.until(restarts("a", 9))


async def test_an_event_without_end_is_cut_off_and_the_list_read_again() -> None:
    async def flood(reply: Reply) -> None:
        await reply.start()
        for _ in range(20):
            await reply.chunk(b"x" * (1 << 20))
        await reply.hold()

    script = [whole(pod_list(7, pod("a"))), flood, whole(pod_list(8, pod("b"))), stream()]
    async with PodServer(*script) as server, watching(server) as seen:
        await seen.until(has("b"))
    assert any(snapshot.error and snapshot.error.code == "JD-API-TOO-LARGE" for snapshot in seen.all)


async def test_events_byte_by_byte_are_the_same_events() -> None:
    line = event("ADDED", pod("b", 9)) + event("MODIFIED", pod("a", 10)) + event("DELETED", pod("b", 11))
    pieces = [line[at : at + 1] for at in range(len(line))]
    async with PodServer(whole(pod_list(7, pod("a"))), stream(*pieces)) as server, watching(server) as seen:
        await seen.until(restarts("a", 10))
        await seen.until(has("a"))


async def test_junk_in_the_watch_leads_to_a_new_list() -> None:
    script = [
        whole(pod_list(7, pod("a"))),
        stream(event("ADDED", pod("b", 8)), b"<html>\n"),
        whole(pod_list(9, pod("c"))),
        stream(),
    ]
    async with PodServer(*script) as server, watching(server) as seen:
        await seen.until(has("c"))
        assert len(server.lists()) == 2


async def test_an_expired_continue_token_starts_the_list_again() -> None:
    script = [
        whole(pod_list(7, pod("a"), pod("b"), token="old")),
        whole(status(410, "Expired"), 410),
        whole(pod_list(9, pod("b"), token="new")),
        whole(pod_list(9, pod("c"))),
    ]
    async with PodServer(*script) as server:
        api = server.client()
        found = await list_pods(api, ONE)
        await api.aclose()
    assert [row.name for row in found.rows] == ["b", "c"]
    assert found.versions == {"shop": "9"}
    assert [reply.query.get("continue") for reply in server.seen] == [None, "old", None, "new"]


async def test_snapshots_are_coalesced() -> None:
    changes = [event("MODIFIED", pod("a", version)) for version in range(8, 508)]
    async with PodServer(whole(pod_list(7, pod("a"))), stream(*changes)) as server, watching(server) as seen:
        await seen.until(restarts("a", 507))
    assert len(seen.all) < 100
