"""The functions of `--template`: stern's (its README, "templates") and Go's own.

Painting follows `--color`, as everything else does. What comes out of parsed JSON is cleaned again: `\\u001b` in a log
line is harmless, the escape that it stands for is not.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

from app.cli.go_time import RFC3339_NANO, ZERO, Moment, moment, zone_of
from app.cli.log_format import Fields, ext_json, json_record, json_text, load_json, paint
from app.text import clean_block

Function = Callable[..., Any]

_COLOURS = {"Black": 30, "Red": 31, "Green": 32, "Yellow": 33, "Blue": 34, "Magenta": 35, "Cyan": 36, "White": 37}
_LEVELS = {
    "debug": 35, "info": 34, "warn": 33, "warning": 33, "error": 31, "dpanic": 31, "panic": 31, "fatal": 36,
    "critical": 36,
}  # fmt: skip
_BUNYAN = ((30, 35), (40, 34), (50, 33), (60, 31), (100, 36))
"""Below this number, this colour."""
_VERB = re.compile(r"%([-+ 0#]*)(\d*)(?:\.(\d+))?([a-zA-Z%])")
MAX_WIDTH = 1000
"""Columns that a verb of printf may fill."""


class Line(dict[str, object]):
    """The fields of one log line: what `.` is at first."""


def as_text(value: Any) -> str:
    """A value as it is printed. Maps and lists are JSON."""
    if value is None:
        return "<no value>"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Moment):
        return value.text()
    return _json(value)


def _json(value: Any) -> str:
    if isinstance(value, Line):
        return json_text(json_record(value))
    if isinstance(value, Moment):
        return json_text(value.text(RFC3339_NANO))
    return json_text(value)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_block(value)
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    if isinstance(value, dict):
        return {clean_block(name): _cleaned(each) for name, each in value.items()}
    return value


def _parse_json(text: Any) -> Any:
    try:
        value = load_json(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return _cleaned(value)


def _try_parse_json(text: Any) -> Any:
    try:
        return _parse_json(text)
    except ValueError:
        return None


def _extract(text: Any, *keys: Any) -> str:
    value = _parse_json(text)
    return ", ".join("<nil>" if value.get(key) is None else as_text(value[key]) for key in keys)


def _try_extract(text: Any, *keys: Any) -> str:
    try:
        return _extract(text, *keys)
    except ValueError:
        return as_text(text)


def _ext_json(value: Any, *, pretty: bool = False) -> str:
    return ext_json(value if isinstance(value, str) else _json(value), pretty=pretty)


def _pretty_json(value: Any) -> str:
    try:
        return json_text(_parse_json(_json(value) if isinstance(value, Line) else value), indent=2)
    except ValueError:
        return as_text(value)


def _nanos(value: Any) -> str:
    return _time(value).text(RFC3339_NANO)


def _time(value: Any) -> Moment:
    try:
        return moment(value)
    except ValueError:
        return ZERO


def _timestamp(value: Any, layout: str, zone: str = "") -> str:
    return moment(value).at(zone_of(zone)).text(layout)


def _printf(form: Any, *values: Any) -> str:
    rest = list(values)
    return _VERB.sub(lambda match: _verb(match, rest), str(form))


def _verb(match: re.Match[str], rest: list[Any]) -> str:
    flags, width, digits, verb = match.groups()
    if verb == "%":
        return "%"
    if not rest:
        return f"%!{verb}(MISSING)"
    value = rest.pop(0)
    text = _shown(value, verb, int(digits) if digits else None, flags)
    room = min(int(width or 0), MAX_WIDTH)
    if "-" in flags:
        return text.ljust(room)
    return text.zfill(room) if "0" in flags else text.rjust(room)


def _shown(value: Any, verb: str, digits: int | None, flags: str) -> str:
    if verb in "feg" and isinstance(value, int | float):
        return format(value, f"{'+' if '+' in flags else ''}.{min(6 if digits is None else digits, MAX_WIDTH)}{verb}")
    if verb in "xXob" and isinstance(value, int):
        return format(value, verb)
    if verb == "d" and isinstance(value, int | float):
        return format(int(value), "+d" if "+" in flags else "d")
    if verb == "q":
        return json_text(as_text(value))
    if verb in "svdt":
        text = "<nil>" if value is None else as_text(value)
        return text if digits is None else text[:digits]
    return f"%!{verb}({as_text(value)})"


def index(value: Any, *keys: Any) -> Any:
    """What stands in a map or list at these keys, one after the other; None where there is nothing."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            return None
    return value


def _slice(value: Any, start: int = 0, end: int | None = None) -> Any:
    if not isinstance(value, str | list) or start < 0 or (end is not None and not start <= end <= len(value)):
        raise ValueError("slice does not fit")
    return value[start:end]


_PLAIN: dict[str, Function] = {
    "json": _json,
    "extjson": _ext_json,
    "ppextjson": lambda value: _ext_json(value, pretty=True),
    "prettyJSON": _pretty_json,
    "parseJSON": _parse_json,
    "tryParseJSON": _try_parse_json,
    "extractJSONParts": _extract,
    "tryExtractJSONParts": _try_extract,
    "toRFC3339Nano": _nanos,
    "toUTC": lambda value: _time(value).at(zone_of("UTC")),
    "toTimestamp": _timestamp,
    "printf": _printf,
    "print": lambda *values: "".join(as_text(value) for value in values),
    "println": lambda *values: " ".join(as_text(value) for value in values) + "\n",
    "html": lambda *values: html.escape("".join(as_text(value) for value in values)),
    "js": lambda *values: json.dumps("".join(as_text(value) for value in values))[1:-1],
    "urlquery": lambda *values: quote_plus("".join(as_text(value) for value in values)),
    "index": index,
    "slice": _slice,
    "len": lambda value: len(value),
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda first, other: first != other,
    "lt": lambda first, other: first < other,
    "le": lambda first, other: first <= other,
    "gt": lambda first, other: first > other,
    "ge": lambda first, other: first >= other,
    "not": lambda value: not value,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
}


def functions(*, colour: bool) -> dict[str, Function]:
    """Every function by its name; those that paint do so only with `colour`."""

    def painted(text: str, *codes: int) -> str:
        sgr = ";".join(str(int(code)) for code in codes if code)
        return paint(text, sgr) if colour and sgr else text

    def level(value: Any) -> str:
        return painted(value, _LEVELS.get(value.lower(), 0)) if isinstance(value, str) else ""

    def bunyan(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ""
        return painted(str(int(value)), next((sgr for below, sgr in _BUNYAN if value < below), 0))

    def fixed(sgr: int) -> Function:
        return lambda text, *values: painted(_printf(text, *values) if values else as_text(text), sgr)

    return {
        **_PLAIN,
        "color": lambda sgr, text: painted(as_text(text), sgr),
        "colorCustom": lambda text, *codes: painted(as_text(text), *codes),
        "levelColor": level,
        "bunyanLevelColor": bunyan,
        **{f"color{name}": fixed(sgr) for name, sgr in _COLOURS.items()},
    }


__all__ = ["Fields", "Function", "Line", "as_text", "functions", "index"]
