"""The door through which all text from outside enters: bytes or str in, harmless text out.

Cluster names, log lines, error bodies and file contents can hold terminal escapes (OSC 52 writes the clipboard), bidi
overrides and broken UTF-8. Here every control becomes something visible; nothing is ever parsed as markup anywhere.
"""

from __future__ import annotations

import re

from app.records import Record

MAX_PROSE = 2_048
"""Characters of server-supplied prose that are shown (requirement S-18)."""

_KEEP_IN_LINE = b"\t\n" + bytes(range(0x20, 0x7F))
"""ASCII that may pass in a log chunk: printable bytes, tab and the line feed between lines."""

# C0, DEL, C1; bidi marks, embeddings and isolates; zero-width and invisible operators; line and paragraph separators;
# the byte-order mark, interlinear annotations, the Mongolian vowel separator and the invisible tag block.
_HARMFUL_CLASS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_HARMFUL = re.compile(f"[{_HARMFUL_CLASS}]")
_HARMFUL_IN_NAME = re.compile(f"[\t\n{_HARMFUL_CLASS}]")
_SGR = re.compile(r"\x1b\[([0-9;:]*)m")


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if code < 0xA0:
        return f"\\x{code:02x}"
    return f"<U+{code:04X}>"


def _decode(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def clean(value: str | bytes) -> str:
    """One harmless line: for names, reasons and cells. Tab and line feed become visible too."""
    return _HARMFUL_IN_NAME.sub(_visible, _decode(value))


def clean_line(raw: str | bytes) -> str:
    """One harmless log line: tabs stay, colour sequences vanish, every other control becomes visible."""
    text = _decode(raw)
    if "\x1b" in text:
        text = _SGR.sub("", text)
    return _HARMFUL.sub(_visible, text)


def clean_block(value: str | bytes) -> str:
    """Harmless text of several lines: tab and line feed stay. CRLF counts as one line feed."""
    return _HARMFUL.sub(_visible, _decode(value).replace("\r\n", "\n"))


_SIGNED_TOKEN = re.compile(r"(?<![A-Za-z])eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*")
"""A JWT, whole or its beginning: `eyJ` is how base64 of a JSON object begins. `%20`, or `_`, may stand before."""


def prose(value: str | bytes, limit: int = MAX_PROSE) -> str:
    """A server's sentence for an error or dialog: one line, white space folded, at most `limit` characters.

    A signed token in it is hidden: some servers and gateways repeat what they were sent.
    """
    text = " ".join(_decode(value[: limit * 4]).split())
    text = _HARMFUL_IN_NAME.sub(_visible, text)
    if "eyJ" in text:
        text = _SIGNED_TOKEN.sub("***", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def is_plain(chunk: bytes) -> bool:
    """Whether a chunk of log bytes is printable ASCII, tabs and line feeds only, so that nothing needs cleaning.

    One pass in C over the whole chunk: this is what keeps cleaning off the hot path.
    """
    return not chunk.translate(None, _KEEP_IN_LINE)


class Ink(Record):
    """The look that a colour sequence asked for. Colours: 0-255 of the terminal's palette, or "#rrggbb", or None."""

    fore: int | str | None = None
    back: int | str | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    reverse: bool = False


PLAIN = Ink()


class Span(Record):
    """Characters `start` to `end` (excluded) of a cleaned line, drawn with `ink`."""

    start: int
    end: int
    ink: Ink


def inked(raw: str | bytes) -> tuple[str, tuple[Span, ...]]:
    """A log line as harmless text and the colours that it asked for.

    Only SGR (ECMA-48 8.3.117: `ESC [ … m`) is understood; links, titles, cursor moves and the rest become visible text.
    """
    text = _decode(raw)
    if "\x1b" not in text:
        return _HARMFUL.sub(_visible, text), ()
    parts: list[str] = []
    spans: list[Span] = []
    ink, at, length = PLAIN, 0, 0
    for match in (*_SGR.finditer(text), None):
        piece = _HARMFUL.sub(_visible, text[at : match.start() if match else len(text)])
        if piece:
            if ink != PLAIN:
                spans.append(Span(length, length + len(piece), ink))
            parts.append(piece)
            length += len(piece)
        if match:
            ink = _apply_sgr(ink, match.group(1))
            at = match.end()
    return "".join(parts), tuple(spans)


_SWITCHES: dict[int, dict[str, bool]] = {
    1: {"bold": True}, 2: {"dim": True}, 3: {"italic": True}, 4: {"underline": True}, 7: {"reverse": True},
    22: {"bold": False, "dim": False}, 23: {"italic": False}, 24: {"underline": False}, 27: {"reverse": False},
}  # fmt: skip


def _apply_sgr(ink: Ink, parameters: str) -> Ink:
    values = [int(part) if part.isdigit() and len(part) < 4 else 0 for part in re.split("[;:]", parameters)]
    look = dict(vars(ink))
    while values:
        value = values.pop(0)
        if value == 0:
            look = dict(vars(PLAIN))
        elif value in _SWITCHES:
            look.update(_SWITCHES[value])
        elif value in (38, 48):
            look["fore" if value == 38 else "back"] = _extended_colour(values)
        elif value in (39, 49):
            look["fore" if value == 39 else "back"] = None
        else:
            for first, name, offset in ((30, "fore", 0), (40, "back", 0), (90, "fore", 8), (100, "back", 8)):
                if first <= value < first + 8:
                    look[name] = value - first + offset
    return Ink(**look)


def _extended_colour(values: list[int]) -> int | str | None:
    """Takes the parameters of `38;5;n` or `38;2;r;g;b` off the front of `values`."""
    mode = values.pop(0) if values else 0
    if mode == 5 and values:
        return min(values.pop(0), 255)
    if mode == 2 and len(values) >= 3:
        red, green, blue = (min(values.pop(0), 255) for _ in range(3))
        return f"#{red:02x}{green:02x}{blue:02x}"
    return None
