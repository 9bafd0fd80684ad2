"""What is printed for a batch: stamps, prefixes, filters, colours, JSON shapes, and that nothing harmful passes."""

from __future__ import annotations

import json
import re
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.log_format import LogPrinter, Look, PodFacts, clean_chunk, colour_number
from app.rows import LogBatch, LogSource
from app.text import clean_line

APP = LogSource("shop", "web-1", "app", "u1")
SIDE = LogSource("shop", "web-1", "proxy", "u1")
STAMP = b"2026-11-22T05:56:36.496078360Z "
FACTS = PodFacts("node-a", (("app", "web"),))


def printed(text: bytes, *joined: LogSource, stamped: bool = True, **look: Any) -> bytes:
    printer = LogPrinter(Look(**look))
    for source in joined or (APP,):
        printer.joined(source, FACTS)
    return printer.text(LogBatch(APP, text, text.count(b"\n"), stamped=stamped))


TWO = STAMP + b"one\n" + STAMP + b"\x1b[31mtwo\x1b[0m\n"


def test_a_single_container_is_printed_as_it_is() -> None:
    assert printed(TWO) == b"one\ntwo\n"
    assert printed(TWO, timestamps="default") == STAMP + b"one\n" + STAMP + b"two\n"
    assert printed(STAMP + b"\n" + STAMP + b" x\n") == b"\n x\n"


def test_several_containers_get_sterns_prefix_and_kubectls_on_request() -> None:
    assert printed(TWO, APP, SIDE) == b"web-1 app one\nweb-1 app two\n"
    assert printed(TWO, APP, SIDE, namespaced=True) == b"shop web-1 app one\nshop web-1 app two\n"
    assert printed(TWO, prefix=True) == b"[pod/web-1/app] one\n[pod/web-1/app] two\n"
    assert printed(TWO, prefix=True, timestamps="default").startswith(b"[pod/web-1/app] 2026-")


def test_the_profile_leads_when_several_are_tailed() -> None:
    printer = LogPrinter(Look(profiled=True))
    source = LogSource("shop", "web-1", "app", "u1", "prod")
    printer.joined(source, FACTS)
    assert printer.text(LogBatch(source, TWO, 2)) == b"prod web-1 app one\nprod web-1 app two\n"


def test_raw_into_a_pipe_is_what_was_received() -> None:
    odd = b"\xff \x1b]52;c;x\x07 \r\n"
    assert printed(STAMP + odd, output="raw", untouched=True) == odd
    assert b"\x1b" not in printed(STAMP + odd, output="raw")
    assert printed(STAMP + odd, output="raw", untouched=True, include=(re.compile("52"),)) == odd


@pytest.mark.parametrize("text", [b"no stamp at all\n", b"2026-13-99Tx y\nz\n", b"\n"])
def test_lines_without_a_stamp_are_whole(text: bytes) -> None:
    assert printed(text) == text


def test_stamps_of_another_width_are_cut_line_by_line() -> None:
    mixed = b"2026-11-22T07:56:36.496078360+02:00 one\n" + STAMP + b"two\nthree\n"
    assert printed(mixed) == b"one\ntwo\nthree\n"


def test_filters_look_at_the_message_only() -> None:
    text = STAMP + b"ERROR a\n" + STAMP + b"health ERROR\n" + STAMP + b"info\n"
    assert printed(text, include=(re.compile("ERR"),), exclude=(re.compile("^health"),)) == b"ERROR a\n"
    assert printed(text, include=(re.compile("2026"),)) == b""
    assert printed(text, include=(re.compile("nothing"), re.compile("info"))) == b"info\n"


def test_highlights_only_in_colour() -> None:
    assert printed(STAMP + b"a hit b\n", highlight=(re.compile("hit"),)) == b"a hit b\n"
    assert printed(STAMP + b"a hit b\n", highlight=(re.compile("hit"),), colour=True) == b"a \x1b[1;31mhit\x1b[0m b\n"


def test_short_stamps_and_zones() -> None:
    zone = timezone(timedelta(hours=2))
    assert printed(STAMP + b"x\n", timestamps="short") == b"11-22 05:56:36 x\n"
    assert printed(STAMP + b"x\n", timestamps="short", zone=zone) == b"11-22 07:56:36 x\n"
    assert printed(STAMP + b"x\n", timestamps="default", zone=zone) == b"2026-11-22T07:56:36.496078360+02:00 x\n"


def test_json_shapes_are_sterns() -> None:
    line = json.loads(printed(STAMP + b'say "hi"\n', output="json"))
    assert line == {
        "message": 'say "hi"', "nodeName": "node-a", "namespace": "shop", "podName": "web-1", "containerName": "app",
        "labels": {"app": "web"},
    }  # fmt: skip
    assert printed(STAMP + b'{"a": 1}\n', output="extjson") == (
        b'{"pod": "web-1", "container": "app", "message": {"a": 1}}\n'
    )
    assert printed(STAMP + b"plain\n", output="extjson", namespaced=True) == (
        b'{"namespace": "shop", "pod": "web-1", "container": "app", "message": "plain"}\n'
    )
    pretty = printed(STAMP + b'{"a": {"b": 1}}\n', output="ppextjson")
    assert json.loads(pretty) == {"pod": "web-1", "container": "app", "message": {"a": {"b": 1}}}
    assert pretty.startswith(b'{\n  "pod": "web-1",\n  "container": "app",\n  "message": {\n    "a"')


def test_colours_are_sterns() -> None:
    assert colour_number("web-1") == colour_number("web-1") < 6
    assert b"\x1b[" in printed(TWO, APP, SIDE, colour=True)


HOSTILE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\x1b[31m", b"\x1b]52;c;eA==\x07", b"\xc2\x9b", b"\xe2\x80\xae", b"\r\n", b"\x1b\x1b[0m[31m"]),
)


@given(st.lists(HOSTILE, max_size=20).map(b"".join))
def test_no_control_passes_the_chunk_cleaner(raw: bytes) -> None:
    cleaned = clean_chunk(raw + b"\n").decode()
    assert clean_line(cleaned) == cleaned
    assert cleaned.endswith("\n")
    assert cleaned.count("\n") == raw.count(b"\n") + 1


@given(st.lists(st.sampled_from([b"a\n", "é ü\n".encode(), b"\x1b[32mok\x1b[0m\n", b"\x07bell\n", b"\xff\n"])))
def test_a_chunk_is_cleaned_as_its_lines_are(lines: list[bytes]) -> None:
    chunk = b"".join(lines) * 300
    assert clean_chunk(chunk) == b"".join(clean_line(line).encode() for line in lines) * 300


def test_many_colours_and_one_odd_byte_in_a_large_chunk() -> None:
    line = b"".join(b"\x1b[38;5;%dmx" % number for number in range(200)) + b"\n"
    assert clean_chunk(line * 200 + b"\x00\n" + line * 200) == (b"x" * 200 + b"\n") * 200 + "␀\n".encode() + (
        b"x" * 200 + b"\n"
    ) * 200
