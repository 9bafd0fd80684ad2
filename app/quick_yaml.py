"""The plain part of YAML that tools write into kubeconfigs, read in a tenth of the time that a YAML library loads in.

`read` gives up (UNSURE) on everything that is not clearly within it: anchors, tags, folded or multi-line text, escapes,
comments behind values, characters outside ASCII. What it does read, the library reads alike; a property test says so.
"""

from __future__ import annotations

import re

UNSURE: object = object()
"""The answer for a document that the library must read."""

MAX_DEPTH = 16
"""Levels; below the limit of the library's door, so that both refuse alike."""

_CONSTANTS: dict[str, object] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?[0-9]{1,17}\.[0-9]{1,17}")
_ENTRY = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_./-]{0,99}):(?: (.+))?")
_PLAIN = re.compile(r"(?:[A-Za-z0-9_/.+~=]|-[A-Za-z0-9_-])(?:[A-Za-z0-9_./+=@%~:\\,;-]*[A-Za-z0-9_./+=@%~\\,;-])?")
_QUOTED = re.compile(r'"[^"\\]*"|\'[^\']*\'')
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,99}"
_FLOW = re.compile(rf"\{{{_WORD}: {_WORD}(?:, {_WORD}: {_WORD})*\}}")
"""A map of words in one line."""
_EMPTY: dict[str, type[dict[object, object]] | type[list[object]]] = {"{}": dict, "[]": list}


def plain_value(text: str) -> object:
    """What a scalar without quotes and tags means: null, a boolean, a plain number, else the text itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def read(data: bytes) -> object:
    """The document, or UNSURE."""
    if not data.isascii() or b"\t" in data or b"\r" in data:
        return UNSURE
    text = data.decode("ascii")
    try:
        return _read_json(text) if text[:1] == "{" else _Blocks(text).document()
    except _GiveUp:
        return UNSURE


class _GiveUp(Exception):
    """This document is for the library."""


class _Blocks:
    """Block maps and lists, a line each."""

    def __init__(self, text: str) -> None:
        self._lines: list[tuple[int, str]] = []
        for line in text.removeprefix("---\n").split("\n"):
            content = line.lstrip(" ")
            if content and not content.startswith("#"):
                self._lines.append((len(line) - len(content), content))
        self._at = 0

    def document(self) -> object:
        if not self._lines or self._lines[0][0] != 0:
            raise _GiveUp
        found = self._block(0, 1)
        if self._at < len(self._lines):
            raise _GiveUp
        return found

    def _next(self) -> tuple[int, str]:
        return self._lines[self._at] if self._at < len(self._lines) else (-1, "")

    def _block(self, indent: int, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise _GiveUp
        return self._list(indent, depth) if self._next()[1].startswith("- ") else self._map(indent, depth)

    def _list(self, indent: int, depth: int) -> list[object]:
        found: list[object] = []
        while (line := self._next())[0] == indent and line[1].startswith("- "):
            content = line[1][2:]
            if content.startswith((" ", "- ")):
                raise _GiveUp
            if _ENTRY.fullmatch(content):
                self._lines[self._at] = (indent + 2, content)
                found.append(self._map(indent + 2, depth + 1))
            else:
                self._at += 1
                found.append(_scalar(content))
        return found

    def _map(self, indent: int, depth: int) -> dict[object, object]:
        found: dict[object, object] = {}
        if depth > MAX_DEPTH:
            raise _GiveUp
        while (line := self._next())[0] == indent and not line[1].startswith("- "):
            entry = _ENTRY.fullmatch(line[1])
            if entry is None:
                raise _GiveUp
            key = plain_value(entry[1])
            if key in found:
                raise _GiveUp
            self._at += 1
            if entry[2] is not None:
                found[key] = _scalar(entry[2])
            else:
                found[key] = self._below(indent, depth)
        if self._next()[0] > indent:
            raise _GiveUp
        return found

    def _below(self, indent: int, depth: int) -> object:
        """The value of a key that stands alone in its line."""
        deeper, content = self._next()
        if deeper > indent or (deeper == indent and content.startswith("- ")):
            return self._block(deeper, depth + 1)
        return None


def _scalar(text: str) -> object:
    if text in _EMPTY:
        return _EMPTY[text]()
    if _QUOTED.fullmatch(text):
        return text[1:-1]
    if _FLOW.fullmatch(text):
        pairs = [pair.split(": ") for pair in text[1:-1].split(", ")]
        found = {plain_value(key): plain_value(value) for key, value in pairs}
        if len(found) == len(pairs):
            return found
    if not _PLAIN.fullmatch(text):
        raise _GiveUp
    return plain_value(text)


def _read_json(text: str) -> object:
    """JSON is YAML too; escapes are left to the library, which reads some of them otherwise."""
    import json

    if "\\" in text:
        raise _GiveUp
    try:
        found = json.loads(
            text, object_pairs_hook=_once, parse_int=plain_value, parse_float=plain_value, parse_constant=_give_up
        )
    except (ValueError, RecursionError):
        raise _GiveUp from None
    _check_depth(found, 1)
    return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs) or any(len(name) > 100 or "\x7f" in name for name in found):
        raise _GiveUp
    return found


def _give_up(_: str) -> object:
    raise _GiveUp


def _check_depth(value: object, depth: int) -> None:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if inside and depth > MAX_DEPTH:
        raise _GiveUp
    for one in inside:
        _check_depth(one, depth + 1)
