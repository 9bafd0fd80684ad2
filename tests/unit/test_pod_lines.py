"""A watch reads the same however its bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cluster.pod_decode import RawPodEvent, read_watch_event
from app.cluster.pods import EventLines
from app.errors import JumpdeckError
from tests.recordings import load

WATCHES = [
    "watch-json",
    "watch-bookmarks",
    "watch-server-killed",
    "watch-410",
    "watch-initial-events",
    "watch-real-crasher",
]


def read(chunks: list[bytes]) -> list[RawPodEvent]:
    lines = EventLines()
    return [read_watch_event(line) for chunk in chunks for line in lines.feed(chunk) if line]


def whole(case: str) -> list[RawPodEvent]:
    return [read_watch_event(line) for line in load(case).body.splitlines() if line.endswith(b"}")]


@pytest.mark.parametrize("case", WATCHES)
def test_at_the_recorded_borders(case: str) -> None:
    assert read(load(case).chunks) == whole(case)


@pytest.mark.parametrize("case", WATCHES)
@pytest.mark.parametrize("size", [1, 2, 7, 4096, 65_536])
def test_at_regular_borders(case: str, size: int) -> None:
    body = load(case).body[:200_000] + b"\n"
    body = body[: body.rindex(b"\n", 0, 200_000) + 1]
    assert read([body[at : at + size] for at in range(0, len(body), size)]) == read([body])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40_000), max_size=30))
def test_at_any_borders(borders: list[int]) -> None:
    body = load("watch-json").body[:40_000]
    cuts = [0, *sorted(borders), len(body)]
    assert read([body[a:b] for a, b in pairwise(cuts)]) == read([body])


def test_a_line_beyond_the_limit_is_refused_in_one_piece_or_many() -> None:
    for chunks in ([b"x" * 11 + b"\n"], [b"xxxx"] * 3, [b"xxxxxx", b"xxxxxx\n"]):
        with pytest.raises(JumpdeckError) as raised:
            lines = EventLines(limit=10)
            for chunk in chunks:
                lines.feed(chunk)
        assert raised.value.code == "JD-API-TOO-LARGE"
