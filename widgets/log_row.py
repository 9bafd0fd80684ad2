"""One row of a log as it is drawn: cleaned text, its colours, what a search found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from rich.color import Color
from rich.segment import Segment
from rich.style import Style

from app.rows import LogMark, MarkKind
from app.text import Ink, Span, inked
from widgets.log_ring import LogRing

DRAW_LIMIT = 16 << 10
"""Bytes of one line that are cleaned and drawn: eighty screens to the right; the rest is counted at its end."""
MAX_STAMP = 40
"""Bytes within which an RFC 3339 stamp ends."""
TAB = 8


@dataclass(frozen=True, slots=True)
class Row:
    """A line ready to be drawn or searched: `text` is harmless, `spans` are the colours that it asked for."""

    text: str
    spans: tuple[Span, ...] = ()
    stamp: str = ""
    mark: LogMark | None = None


def read_row(ring: LogRing, number: int, *, stamps: bool) -> Row | None:
    """The row as text, with its time of day in front when `stamps`; None when it is not kept."""
    if (block := ring.block_at(number)) is None:
        return None
    if block.mark is not None:
        return Row(block.mark.text, mark=block.mark)
    raw, left_out = block.line(number - block.first, DRAW_LIMIT)
    stamp = ""
    if block.stamped:
        end = raw.find(b" ", 0, MAX_STAMP)
        if end > 0 and raw[:4].isdigit():
            stamp = short_stamp(raw[:end].decode("ascii", "replace")) if stamps else ""
            raw = raw[end + 1 :]
    text, spans = inked(raw)
    if "\t" in text:
        text, spans = _expand(text, spans)
    if left_out:
        text += f" … (+{left_out:,} bytes)"
    return Row(text, spans, stamp)


def short_stamp(stamp: str) -> str:
    """`2026-01-02T12:00:01.123456789Z` as `12:00:01.123Z`; anything else as it is."""
    if len(stamp) >= 19 and stamp[10] == "T":
        zone = "Z" if stamp.endswith("Z") else ""
        return f"{stamp[11:19]}.{(stamp[20:23].rstrip('Z') if stamp[19:20] == '.' else '').ljust(3, '0')}{zone}"
    return "".join(char for char in stamp if char.isprintable())


def _expand(text: str, spans: tuple[Span, ...]) -> tuple[str, tuple[Span, ...]]:
    """Tabs as spaces up to the next stop, and the colours moved along."""
    places: list[int] = []
    parts: list[str] = []
    at = 0
    for char in text:
        places.append(at)
        piece = " " * (TAB - at % TAB) if char == "\t" else char
        parts.append(piece)
        at += len(piece)
    places.append(at)
    return "".join(parts), tuple(Span(places[s.start], places[s.end], s.ink) for s in spans)


@lru_cache(512)
def ink_style(ink: Ink) -> Style:
    """The terminal style of a colour sequence; never a link."""
    return Style(
        color=_colour(ink.fore),
        bgcolor=_colour(ink.back),
        bold=ink.bold or None,
        dim=ink.dim or None,
        italic=ink.italic or None,
        underline=ink.underline or None,
        reverse=ink.reverse or None,
    )


def _colour(value: int | str | None) -> Color | None:
    if value is None:
        return None
    return Color.from_ansi(value) if isinstance(value, int) else Color.parse(value)


def row_segments(row: Row, base: Style, stamp: Style, found: re.Pattern[str] | None, match: Style) -> list[Segment]:
    """The pieces of a row, from left to right."""
    pieces = [Segment(f"{row.stamp} ", base + stamp)] if row.stamp else []
    layers = [(span.start, span.end, ink_style(span.ink)) for span in row.spans]
    if found is not None:
        layers += [(hit.start(), hit.end(), match) for hit in found.finditer(row.text) if hit.end() > hit.start()]
    if not layers:
        return [*pieces, Segment(row.text, base)]
    edges = sorted({0, len(row.text), *(edge for start, end, _ in layers for edge in (start, end))})
    for start, end in pairwise(edges):
        style = base
        for left, right, layer in layers:
            if left <= start and end <= right:
                style += layer
        pieces.append(Segment(row.text[start:end], style))
    return pieces


MARK_WORDS = {
    MarkKind.CUT: "reconnected",
    MarkKind.GAP: "gap",
    MarkKind.RESTARTED: "restarted",
    MarkKind.ENDED: "ended",
    MarkKind.DROPPED: "dropped",
    MarkKind.NOTE: "note",
}


def divider(row: Row, width: int, *, ascii_only: bool) -> str:
    """A mark as a line across the pane."""
    assert row.mark is not None
    line = "-" if ascii_only else "─"
    word = MARK_WORDS[row.mark.kind]
    said = row.text if row.text.lower().startswith(word) or not row.text else f"{word}: {row.text}"
    return f"{line * 2} {said or word} ".ljust(width, line)
