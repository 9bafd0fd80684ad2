"""The flags of `jumpdeck logs`, before anything is opened."""

from __future__ import annotations

import argparse
import io
import sys

import pytest

from app.cli import logs
from app.cli.arguments import CommandParser
from app.cluster.log_query import TailQuery, _selector, compiled
from app.errors import UsageError
from app.rows import ContainerKind, ContainerRow, PodRow


def parsed(*words: str) -> argparse.Namespace:
    parser = CommandParser(prog="jumpdeck logs")
    logs.configure(parser)
    return parser.parse_args(list(words))


def query(*words: str) -> TailQuery:
    return logs.query_of(parsed("p", *words))


@pytest.mark.parametrize(
    ("words", "tail", "since"),
    [
        (("q",), 100, None),
        (("q", "--tail", "200"), 200, None),
        (("q", "--tail=200"), 200, None),
        (("q", "--tail", "-1"), None, None),
        (("q", "--tail=0"), 0, None),
        (("q", "-s", "15m"), None, 900.0),
        (("q", "--since", "1h30m", "--tail", "5"), 5, 5400.0),
    ],
)
def test_where_a_log_begins(words: tuple[str, ...], tail: int | None, since: float | None) -> None:
    made = query(*words)
    assert (made.tail, made.since) == (tail, since)


def test_since_time_alone_has_no_tail() -> None:
    made = query("q", "--since-time", "2026-11-22T05:56:36Z")
    assert (made.tail, made.since_time) == (None, 1_795_326_996.0)


def test_a_bare_t_leaves_the_next_word_alone() -> None:
    assert (parsed("p", "-t", "q").timestamps, parsed("p", "-t", "q").query) == ("default", "q")
    assert parsed("p", "q", "--timestamps=short").timestamps == "short"
    assert parsed("p", "q", "-t=short").timestamps == "short"
    with pytest.raises(UsageError):
        parsed("p", "q", "--timestamps=long")


def test_follow_is_the_default_and_previous_does_not() -> None:
    assert query("q").follow
    assert query("q", "-f").follow
    assert not query("q", "--no-follow").follow
    assert not query("q", "-p").follow
    assert (query("q").requests, query("q", "--no-follow").requests) == (50, 5)
    assert query("q", "--max-log-requests", "7").requests == 7


def test_the_query_may_be_left_out_with_a_selector() -> None:
    assert query("-l", "app=web").text == ".*"
    with pytest.raises(UsageError):
        parsed("p")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("(",), "QUERY"),
        (("q", "-i", "["), "--include"),
        (("q", "-e", "*"), "--exclude"),
        (("q", "-H", "("), "--highlight"),
        (("q", "-c", "("), "--container"),
        (("q", "--exclude-pod", "("), "--exclude-pod"),
        (("thing/x",), "thing"),
        (("q", "--since-time", "yesterday"), "--since-time"),
        (("q", "--since-time", "2026-11-22T05:56:36"), "--since-time"),
        (("q", "--since-time", "2026-11-22T05:56:36Z", "-s", "1m"), "--since-time"),
        (("q", "--since", "soon"), "since"),
        (("q", "--timezone", "Nowhere/Here"), "--timezone"),
        (("q", "--container-state", "dead"), "--container-state"),
        (("q", "--tail", "-2"), "--tail"),
        (("q", "--max-log-requests", "0"), "--max-log-requests"),
        (("q", "--template", "{{nope}}"), "--template"),
        (("q", "-f", "--no-follow"), "--no-follow"),
        (("q", "-n", "a", "-A"), "-A"),
    ],
)
def test_what_is_wrong_is_named_with_exit_2(words: tuple[str, ...], named: str) -> None:
    with pytest.raises(UsageError) as failure:
        args = parsed("p", *words)
        logs.query_of(args)
        logs.look_of(args)
    assert failure.value.exit_code == 2
    assert named in failure.value.title + failure.value.detail


def test_colour_follows_the_terminal_and_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    before = sys.stdout
    try:
        sys.stdout = Screen()
        assert logs.coloured("auto")
        monkeypatch.setenv("NO_COLOR", "1")
        assert not logs.coloured("auto")
        assert logs.coloured("always")
        sys.stdout = io.StringIO()
        monkeypatch.delenv("NO_COLOR")
        assert not logs.coloured("auto")
    finally:
        sys.stdout = before


def pod(name: str, *containers: ContainerRow) -> PodRow:
    return PodRow("u", "shop", name, 1, 1, "Running", 0, None, None, containers=containers)


APP = ContainerRow("app", ContainerKind.APP, "id", "running")
SETUP = ContainerRow("setup", ContainerKind.INIT, "id2", "terminated")


def test_which_containers_a_query_wants() -> None:
    web = pod("web-1", APP, SETUP)
    assert TailQuery("web").wants(web, APP)
    assert TailQuery("web").wants(web, SETUP)
    assert not TailQuery("^eb").wants(web, APP)
    assert not TailQuery("web", container=compiled("^app$", "-c")).wants(web, SETUP)
    assert not TailQuery("web", exclude_pods=(compiled("-1$", "x"),)).wants(web, APP)
    assert not TailQuery("web", states=("running",)).wants(web, SETUP)
    assert TailQuery("pod/anything").wants(web, APP)  # an exact query is answered by its scope


def test_selectors_of_workloads() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "old", "operator": "DoesNotExist"},
    ]
    workload = {"spec": {"selector": {"matchLabels": {"app": "web"}, "matchExpressions": expressions}}}
    assert _selector(workload) == "app=web,tier in (a,b),!old"
    assert _selector({"spec": {"selector": {"app": "web", "x": "y"}}}) == "app=web,x=y"
    assert _selector({"spec": {}}) == ""
