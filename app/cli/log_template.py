"""Templates of `--template`: the part of Go's text/template that stern's users write.

Text with `{{…}}` actions: fields (`.PodName`, `.Labels.app`), variables, strings, numbers, pipelines, functions, and
`if`, `else`, `with`, `range`, `end`. What is not known is a usage error before anything is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.cli.log_format import ext_json, paint
from app.errors import UsageError
from app.text import clean

Fields = dict[str, object]

_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`|:=|[()|]|\$?[\w.]+|\$)')
_LEVELS = {"trace": 34, "debug": 35, "info": 32, "warn": 33, "warning": 33, "error": 31, "fatal": 31, "panic": 31}
_COLOURS = {"Black": 30, "Red": 31, "Green": 32, "Yellow": 33, "Blue": 34, "Magenta": 35, "Cyan": 36, "White": 37}


def _parse_json(text: Any) -> Any:
    value = json.loads(str(text))
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _try_parse_json(text: Any) -> Any:
    try:
        return _parse_json(text)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str:
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if isinstance(
        value, dict | list) else str(value)  # fmt: skip


def _printf(form: Any, *values: Any) -> str:
    rest = list(values)
    return re.sub(r"%(-?\d*)[svdq]", lambda match: _padded(match, rest), str(form))


def _padded(match: re.Match[str], rest: list[Any]) -> str:
    text = _text(rest.pop(0)) if rest else "%!v(MISSING)"
    text = json.dumps(text, ensure_ascii=False) if match.group().endswith("q") else text
    width = match.group(1)
    return text.ljust(int(width[1:])) if width.startswith("-") else text.rjust(int(width or 0))


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            return None
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, ensure_ascii=False),
    "extjson": lambda value: ext_json(str(value)),
    "ppextjson": lambda value: ext_json(str(value), pretty=True),
    "prettyJSON": lambda value: ext_json(value if isinstance(value, str) else json.dumps(value), pretty=True),
    "parseJSON": _parse_json,
    "tryParseJSON": _try_parse_json,
    "color": lambda sgr, text: paint(_text(text), sgr) if sgr else _text(text),
    "levelColor": lambda level: paint(_text(level), _LEVELS.get(_text(level).lower(), 0)),
    "printf": _printf,
    "print": lambda *values: "".join(_text(value) for value in values),
    "println": lambda *values: " ".join(_text(value) for value in values) + "\n",
    "index": _index,
    "len": len,
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda first, other: first != other,
    "not": lambda value: not value,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    **{f"color{name}": (lambda text, sgr=sgr: paint(_text(text), sgr)) for name, sgr in _COLOURS.items()},
}

_Evaluate = Callable[[Any, dict[str, Any]], Any]


@dataclass
class _Node:
    """Text, an expression, or a block (`if`, `with`, `range`) with its two branches."""

    text: str = ""
    value: _Evaluate | None = None
    block: str = ""
    variable: str = ""
    then: list[_Node] = field(default_factory=list)
    other: list[_Node] = field(default_factory=list)


def template(source: str) -> Callable[[Fields], str]:
    """A function from fields to text. Raises UsageError for what is not understood."""
    nodes = _Parser(source).nodes()

    def render(fields: Fields) -> str:
        try:
            return _render(nodes, fields, {"$": fields})
        except (ValueError, TypeError, KeyError, IndexError) as error:
            return f"[{clean(str(error))}] {fields.get('Message', '')}\n"

    return render


def _render(nodes: list[_Node], dot: Any, variables: dict[str, Any]) -> str:
    out: list[str] = []
    for node in nodes:
        if node.value is None:
            out.append(node.text)
            continue
        value = node.value(dot, variables)
        if node.variable:
            variables[node.variable] = value
        if node.block == "if":
            out.append(_render(node.then if value else node.other, dot, variables))
        elif node.block == "with":
            out.append(_render(node.then, value, variables) if value else _render(node.other, dot, variables))
        elif node.block == "range":
            out += [_render(node.then, each, variables) for each in value or ()]
        elif not node.variable:
            out.append(_text(value))
    return "".join(out)


class _Parser:
    """Recursive descent over the pieces between and inside the braces."""

    def __init__(self, source: str) -> None:
        self._pieces: list[tuple[bool, str]] = []
        at = 0
        trim = False
        for match in _ACTION.finditer(source):
            text = source[at : match.start()]
            text = text.lstrip() if trim else text
            self._pieces.append((False, text.rstrip() if match.group(1) else text))
            self._pieces.append((True, match.group(2).strip()))
            at, trim = match.end(), bool(match.group(3))
        rest = source[at:]
        if "{{" in rest:
            raise _bad("an action has no end", rest)
        self._pieces.append((False, rest.lstrip() if trim else rest))

    def nodes(self) -> list[_Node]:
        found, end = self._block()
        if end:
            raise _bad("an `end` or `else` without its `if`", end)
        return found

    def _block(self) -> tuple[list[_Node], str]:
        """Nodes up to `end` or `else`, which is returned, or to the end of all."""
        found: list[_Node] = []
        while self._pieces:
            action, text = self._pieces.pop(0)
            if not action:
                found.append(_Node(text))
                continue
            word, _, rest = text.partition(" ")
            if word in ("end", "else"):
                return found, text
            if word in ("if", "with", "range"):
                found.append(self._branch(word, rest))
            elif not text.startswith("/*"):
                found.append(self._expression(text))
        return found, ""

    def _branch(self, word: str, text: str) -> _Node:
        node = self._expression(text)
        node.block = word
        node.then, end = self._block()
        if end.startswith("else if "):
            node.other = [self._branch("if", end.removeprefix("else if "))]
            return node
        if end == "else":
            node.other, end = self._block()
        if end != "end":
            raise _bad(f"`{word}` has no `end`", text)
        return node

    def _expression(self, text: str) -> _Node:
        tokens: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise _bad("not understood", text)
            tokens.append(match.group(1))
            at = match.end()
        variable = ""
        if len(tokens) > 2 and tokens[1] == ":=":
            variable, tokens = tokens[0], tokens[2:]
        value = _pipeline(tokens, text)
        if tokens or value is None:
            raise _bad("not understood", text)
        return _Node(value=value, variable=variable)


def _pipeline(tokens: list[str], text: str) -> _Evaluate:
    value = _call(tokens, text, None)
    while tokens and tokens[0] == "|":
        tokens.pop(0)
        value = _call(tokens, text, value)
    return value


def _call(tokens: list[str], text: str, piped: _Evaluate | None) -> _Evaluate:
    if not tokens:
        raise _bad("something is missing", text)
    name = tokens[0]
    operands: list[_Evaluate] = []
    function = _FUNCTIONS.get(name)
    if function is not None:
        tokens.pop(0)
    while tokens and tokens[0] not in ("|", ")"):
        operands.append(_operand(tokens, text))
    if piped is not None:
        operands.append(piped)
    if function is None:
        if len(operands) != 1:
            raise _bad(f"no function `{name}`", text)
        return operands[0]
    return lambda dot, variables: function(*(operand(dot, variables) for operand in operands))


def _operand(tokens: list[str], text: str) -> _Evaluate:
    token = tokens.pop(0)
    if token == "(":  # noqa: S105
        inner = _pipeline(tokens, text)
        if not tokens or tokens.pop(0) != ")":
            raise _bad("a bracket is not closed", text)
        return inner
    if token[0] in "\"`":
        value: Any = json.loads(token) if token[0] == '"' else token[1:-1]
        return lambda dot, variables: value
    if re.fullmatch(r"-?\d+(\.\d+)?", token):
        number = float(token) if "." in token else int(token)
        return lambda dot, variables: number
    if token in ("true", "false", "nil"):
        constant = {"true": True, "false": False}.get(token)
        return lambda dot, variables: constant
    if token[0] not in ".$":
        raise _bad(f"no function `{token}`", text)
    first, *path = token.split(".")
    path = [part for part in path if part]
    if first:
        return lambda dot, variables: _index(variables.get(first), *path)
    return lambda dot, variables: _index(dot, *path)


def _bad(why: str, text: str) -> UsageError:
    return UsageError(
        "--template is not understood", f"{why}: {clean(text)}",
        "Fields: .Message .PodName .ContainerName .Namespace .NodeName .Labels; for example '{{.Message}}{{\"\\n\"}}'.",
        code="JD-USAGE-TEMPLATE",
    )  # fmt: skip
