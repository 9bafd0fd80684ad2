"""As much of Go's text/template as `kubectl get -o go-template` is used with: range, with, if, else, end, printf "%q",
index, eq, variables of a range, fields. Values are decoded JSON; what is missing counts as empty, as kubectl has it.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')
_SHORT = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\",
          '"': '\\"'}  # fmt: skip

Node = tuple[str, str, list[Any], list[Any]]
"""Kind (text, value, range, with, if), its text or pipeline, the nodes inside, those behind `else`."""


class BadTemplate(Exception):
    """It cannot be parsed or carried out; the words are as kubectl's."""


def render(template: str, value: Any) -> str:
    """The template carried out on a value. Raises BadTemplate."""
    pieces: list[str] = []
    nodes, rest = _parse(_tokens(template))
    if rest:
        raise BadTemplate("unexpected {{end}}")
    _run(nodes, value, {}, pieces)
    return "".join(pieces)


def _tokens(template: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    for action in _ACTION.finditer(template):
        found += [("text", template[at : action.start()]), ("action", action[2])]
        at = action.end()
    return [*found, ("text", template[at:])]


def _parse(tokens: list[tuple[str, str]]) -> tuple[list[Node], list[tuple[str, str]]]:
    """The nodes up to the `else` or `end` that is not theirs, which stands first in the rest."""
    nodes: list[Node] = []
    while tokens:
        (kind, text), tokens = tokens[0], tokens[1:]
        word, _, pipeline = text.partition(" ")
        if kind == "text":
            nodes.append(("text", text, [], []))
        elif word in ("range", "with", "if"):
            inside, tokens = _parse(tokens)
            other: list[Node] = []
            if tokens and tokens[0][1] == "else":
                other, tokens = _parse(tokens[1:])
            if not tokens:
                raise BadTemplate("unexpected EOF")
            nodes.append((word, pipeline, inside, other))
            tokens = tokens[1:]
        elif word in ("else", "end"):
            return nodes, [(kind, text), *tokens]
        else:
            nodes.append(("value", text, [], []))
    return nodes, []


def _run(nodes: list[Node], dot: Any, variables: dict[str, Any], pieces: list[str]) -> None:
    for kind, text, inside, other in nodes:
        if kind == "text":
            pieces.append(text)
        elif kind == "value":
            pieces.append(_shown(_value(text, dot, variables)))
        elif kind == "range":
            names, _, pipeline = text.rpartition(":=")
            found = _value(pipeline.strip(), dot, variables)
            items = sorted(found.items()) if isinstance(found, dict) else list(enumerate(found or ()))
            for key, item in items:
                own = dict(zip([name.strip() for name in names.split(",")], (key, item), strict=False))
                _run(inside, item, {**variables, **own}, pieces)
            if not items:
                _run(other, dot, variables, pieces)
        else:
            found = _value(text, dot, variables)
            if found:
                _run(inside, found if kind == "with" else dot, variables, pieces)
            else:
                _run(other, dot, variables, pieces)


def _value(pipeline: str, dot: Any, variables: dict[str, Any]) -> Any:
    words = _WORD.findall(pipeline)
    if not words:
        raise BadTemplate("missing value for command")
    head, values = words[0], [_operand(word, dot, variables) for word in words[1:]]
    if head == "printf" and values[:1] == ["%q"] and len(values) == 2:
        return _quoted(values[1])
    if head == "index" and len(values) == 2:
        return values[0].get(values[1]) if isinstance(values[0], dict) else None
    if head == "eq" and len(values) >= 2:
        return values[0] in values[1:]
    if values:
        raise BadTemplate(f'function "{head}" not defined')
    return _operand(head, dot, variables)


def _operand(word: str, dot: Any, variables: dict[str, Any]) -> Any:
    if word.startswith('"'):
        return json.loads(word)
    if word in variables:
        return variables[word]
    if not word.startswith("."):
        raise BadTemplate(f'function "{word}" not defined')
    for name in filter(None, word.split(".")):
        dot = dot.get(name) if isinstance(dot, dict) else None
    return dot


def _shown(value: Any) -> str:
    if value is None:
        return "<no value>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(value: Any) -> str:
    """As Go's strconv.Quote."""
    if not isinstance(value, str):
        raise BadTemplate(f"%q of {type(value).__name__}")
    return '"' + "".join(_SHORT.get(sign) or _letter(sign) for sign in value) + '"'


def _letter(sign: str) -> str:
    if sign.isprintable():
        return sign
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x1_0000 else f"\\U{code:08x}"
