"""The sanitising door: whatever goes in, nothing harmful comes out, and nothing is lost in silence."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import text

HARMLESS_CATEGORIES_NOT = ("Cc", "Cf", "Cs", "Zl", "Zp")


def harmful(value: str, keep: str = "") -> list[str]:
    return [c for c in value if unicodedata.category(c) in HARMLESS_CATEGORIES_NOT and c not in keep]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("a\tb\nc", "a␉b␊c"),
        ("\x9d0;title\x9c", "\\x9d0;title\\x9c"),
        ("evil\u202egnp.exe", "evil<U+202E>gnp.exe"),
        ("zero\u200bwidth", "zero<U+200B>width"),
        ("del\x7f", "del␡"),
        (b"bad \xff utf-8", "bad \ufffd utf-8"),
        ("[red]markup[/red]", "[red]markup[/red]"),
        ("tag\U000e0041", "tag<U+E0041>"),
        ("\ud800", "<U+D800>"),
    ],
)
def test_names(raw: str | bytes, shown: str) -> None:
    assert text.clean(raw) == shown


@given(st.binary() | st.text())
def test_nothing_harmful_leaves(raw: str | bytes) -> None:
    assert not harmful(text.clean(raw))
    assert not harmful(text.clean_line(raw), keep="\t\n")
    assert not harmful(text.clean_block(raw), keep="\t\n")
    assert not harmful(text.prose(raw))
    assert not harmful(text.inked(raw)[0], keep="\t\n")


@given(st.binary(max_size=200))
def test_plain_chunks_need_no_cleaning(chunk: bytes) -> None:
    if text.is_plain(chunk):
        assert text.clean_line(chunk) == chunk.decode("ascii")


def test_a_colour_is_kept_and_every_other_sequence_is_shown() -> None:
    line, spans = text.inked("\x1b[1;31mERROR\x1b[0m ok \x1b[2Jx \x1b]8;;http://evil\x07y")
    assert line == "ERROR ok ␛[2Jx ␛]8;;http://evil␇y"
    assert spans == (text.Span(0, 5, text.Ink(fore=1, bold=True)),)


@pytest.mark.parametrize(
    ("sequence", "ink"),
    [
        ("38;5;208", text.Ink(fore=208)),
        ("48;2;1;2;300", text.Ink(back="#0102ff")),
        ("92", text.Ink(fore=10)),
        ("4;7;3", text.Ink(underline=True, reverse=True, italic=True)),
        ("31;39", text.PLAIN),
        ("38;5", text.PLAIN),
        ("38", text.PLAIN),
        ("9999", text.PLAIN),
    ],
)
def test_colour_parameters(sequence: str, ink: text.Ink) -> None:
    line, spans = text.inked(f"\x1b[{sequence}mx")
    assert line == "x"
    assert (spans[0].ink if spans else text.PLAIN) == ink


def test_prose_hides_a_signed_token_that_a_server_repeats() -> None:
    token = "eyJhbGciOiJub25lIn0.eyJ1cG4iOiJqbyJ9.c2lnbmF0dXJl"
    assert text.prose(f"token {token} is bad") == "token *** is bad"
    assert text.prose(f"<b>{token}</b>".encode()) == "<b>***</b>"
    assert text.prose(f"Bearer {'eyJ' + 'x' * 9000}", limit=20) == "Bearer ***"
    assert text.prose(f"auth=Bearer%20{token}") == "auth=Bearer%20***"
    assert text.prose("honeyJar of keyJoin") == "honeyJar of keyJoin"


def test_prose_is_one_short_line() -> None:
    assert text.prose("a\r\n  b\x1b[0m" + "x" * 5000, limit=10) == "a b␛[0mxx…"
