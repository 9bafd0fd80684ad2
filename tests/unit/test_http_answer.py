"""Answers of HTTP/1.1, however the network cuts them into pieces."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cluster.http_answer import HEAD_LIMIT, LINE_LIMIT, AnswerParser, BadAnswer
from app.cluster.http_date import seconds_of
from tests.recordings import cases, load

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BODIES = [
    (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    (OK + b"content-length:\t0 \r\n\r\n", b"", True),
    (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello", True),
    (CHUNKED + b"2;x=y\r\nhe\r\n003 \r\nllo\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", b"hello", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
     b"hi", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    (OK + b"Content-Length: 2\r\nConnection: Close\r\n\r\nhi", b"hi", False),
    (b"HTTP/1.0 200\r\nContent-Length: 2\r\n\r\nhi", b"hi", False),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", b"hi", True),
    (OK + b"Content-Length: 2, 2\r\n\r\nhi", b"hi", True),
]  # fmt: skip


def feed(pieces: list[bytes]) -> tuple[AnswerParser, bytes]:
    parser = AnswerParser()
    return parser, b"".join(part for piece in pieces for part in parser.feed(piece))


def cut(raw: bytes, places: set[int]) -> list[bytes]:
    borders = [0, *sorted(places), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(borders)]


@pytest.mark.parametrize(("raw", "body", "keep"), BODIES)
def test_every_way_to_cut_an_answer_in_two_or_into_bytes(raw: bytes, body: bytes, keep: bool) -> None:
    ways = [[raw[:at], raw[at:]] for at in range(len(raw) + 1)] + [[raw[at : at + 1] for at in range(len(raw))]]
    for pieces in ways:
        parser, got = feed(pieces)
        assert (got, parser.done, parser.excess, parser.reusable) == (body, True, False, keep), pieces


@given(st.data())
def test_any_cutting_of_a_chunked_answer(data: st.DataObject) -> None:
    chunks = data.draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    raw = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    parser, got = feed(cut(raw, data.draw(st.sets(st.integers(0, len(raw))))))
    assert (got, parser.reusable) == (b"".join(chunks), True)
    assert parser.feed(b"HTTP") == []
    assert (parser.excess, parser.reusable) == (True, False)


def test_a_body_without_a_length_lasts_to_the_end_of_the_connection() -> None:
    parser, got = feed([OK + b"\r\nhel", b"lo"])
    assert (got, parser.done) == (b"hello", False)
    assert parser.end()
    early, _ = feed([OK + b"Content-Length: 9\r\n\r\nhello"])
    assert not early.end()
    assert not AnswerParser().end()


@pytest.mark.parametrize("raw", [
    b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 20\r\n\r\n",
    b"HTTP/1.1 200 OK\n\n" + b" " * HEAD_LIMIT,
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n", OK + b"no colon\r\n\r\n", OK + b"A: b\r\n c: d\r\n\r\n",
    OK + b"A : b\r\n\r\n", OK + b"A: b\x00\r\n\r\n", OK + b"A: " + b"x" * HEAD_LIMIT,
    OK + b"Content-Length: -1\r\n\r\n", OK + b"Content-Length: 1, 2\r\n\r\n", OK + b"Content-Length: 0x1\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", CHUNKED[:-2] + b"Content-Length: 1\r\n\r\n",
    CHUNKED + b"g\r\n", CHUNKED + b"-1\r\n", CHUNKED + b"1\r\nab\r\n", CHUNKED + b"1" * (LINE_LIMIT + 2),
    CHUNKED + b"0\r\n" + b"a: b\r\n" * (HEAD_LIMIT // 6 + 1), CHUNKED + b"f" * 16 + b"\r\n",
])  # fmt: skip
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(BadAnswer):
        feed([raw])


@given(st.binary(max_size=200), st.sampled_from([b"", OK, CHUNKED, CHUNKED + b"5\r\n"]))
def test_anything_is_an_answer_or_refused(data: bytes, start: bytes) -> None:
    parser = AnswerParser()
    try:
        parser.feed(start + data)
    except BadAnswer:
        return
    parser.end()


def test_recorded_answers() -> None:
    """Whole answers and streams of a real server, the latter in the chunks in which they came."""
    for name in cases():
        recorded = load(name)
        if recorded.status < 200 or recorded.request["method"] == "HEAD":
            continue
        body = b"".join(recorded.chunks) or recorded.body
        fields = [f"{key}: {value}" for key, value in recorded.response["headers"]
                  if key.lower() not in ("content-length", "transfer-encoding")]  # fmt: skip
        if recorded.chunks:
            framing, sent = "Transfer-Encoding: chunked", b"".join(
                b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in recorded.chunks if chunk) + b"0\r\n\r\n"  # fmt: skip
        else:
            framing, sent = f"Content-Length: {len(body)}", body
        head = "\r\n".join([f"HTTP/1.1 {recorded.status} x", *fields, framing])
        raw = head.encode("latin-1") + b"\r\n\r\n" + sent
        parser, got = feed([raw[at : at + 1000] for at in range(0, len(raw), 1000)])
        assert parser.head is not None
        assert (parser.head.status, got, parser.done) == (recorded.status, body, True), name


def test_dates() -> None:
    assert seconds_of("Sun, 06 Nov 1994 08:49:37 GMT") == dt.datetime(1994, 11, 6, 8, 49, 37, tzinfo=dt.UTC).timestamp()
    for odd in (
        "",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 36 Nov 1994 08:49:37 GMT",
        "a b c d e GMT",
    ):
        assert seconds_of(odd) is None
