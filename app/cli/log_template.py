"""Templates of `--template`: the part of Go's text/template that stern's users write.

Text with `{{…}}` actions: fields (`.PodName`, `.Labels.app`), variables, strings, numbers, pipelines, functions, and
`if`, `else`, `with`, `range`, `break`, `continue`, `end`. What is not known, a field of the line included, is a usage
error before anything is opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from app.cli.log_format import Fields
from app.cli.log_functions import Function, Line, as_text, functions, index
from app.errors import UsageError
from app.text import clean

FIELDS = (
    "Message", "NodeName", "Namespace", "PodName", "ContainerName", "Labels", "Profile", "PodColor", "ContainerColor",
)  # fmt: skip
"""What a line has; stern's `.Annotations` are not read."""

_STRING = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`'
_ACTION = re.compile(r"\{\{(-\s)?((?:/\*.*?\*/|" + _STRING + r'|[^"`])*?)(\s-)?\}\}', re.DOTALL)
_TOKEN = re.compile(r"\s*(" + _STRING + r"|:=|=|,|\||\(|\)(?:\.\w+)*|-?\d[\w.]*|\$?[\w.]+|\$)")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|[0-7]{3}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_BLOCKS = ("if", "with", "range")

_Evaluate = Callable[[Any, dict[int, Any]], Any]
"""A value, given what `.` is and what stands in each variable."""


class _LeaveLoop(Exception):
    """`break` or `continue`, with what the round had printed."""

    def __init__(self, word: str, out: str = "") -> None:
        self.word = word
        self.out = out


@dataclass
class _Node:
    """Text, an expression, or a block (`if`, `with`, `range`) with its two branches."""

    text: str = ""
    value: _Evaluate | None = None
    block: str = ""
    leave: str = ""
    variables: tuple[int, ...] = ()
    then: list[_Node] = field(default_factory=list)
    other: list[_Node] = field(default_factory=list)


def template(source: str, *, colour: bool = False) -> Callable[[Fields], str]:
    """A function from fields to text. Raises UsageError for what is not understood."""
    nodes = _Parser(source, functions(colour=colour)).nodes()

    def render(fields: Fields) -> str:
        line = Line(fields)
        try:
            return _render(nodes, line, {0: line})
        except (ValueError, RecursionError) as error:
            return f"[{clean(str(error))}] {fields.get('Message', '')}\n"

    return render


def _render(nodes: list[_Node], dot: Any, variables: dict[int, Any]) -> str:
    out: list[str] = []
    for node in nodes:
        if node.leave:
            raise _LeaveLoop(node.leave, "".join(out))
        if node.value is None:
            out.append(node.text)
            continue
        value = node.value(dot, variables)
        if node.block == "range":
            out.append(_repeated(node, value, dot, variables))
            continue
        variables.update(dict.fromkeys(node.variables, value))
        if node.block:
            inner = value if node.block == "with" else dot
            try:
                out.append(_render(node.then, inner, variables) if value else _render(node.other, dot, variables))
            except _LeaveLoop as left:
                raise _LeaveLoop(left.word, "".join(out) + left.out) from None
        elif not node.variables:
            out.append(as_text(value))
    return "".join(out)


def _repeated(node: _Node, value: Any, dot: Any, variables: dict[int, Any]) -> str:
    rounds: Iterable[tuple[Any, Any]]
    if isinstance(value, dict):
        rounds = sorted(value.items(), key=lambda pair: str(pair[0]))
    elif isinstance(value, list):
        rounds = enumerate(value)
    elif value is None:
        rounds = ()
    else:
        raise ValueError("range needs a map or a list")
    out: list[str] = []
    for key, each in rounds:
        variables.update(zip(node.variables, (key, each) if len(node.variables) == 2 else (each,), strict=False))
        try:
            out.append(_render(node.then, each, variables))
        except _LeaveLoop as left:
            out.append(left.out)
            if left.word == "break":
                break
    return "".join(out) if value else _render(node.other, dot, variables)


class _Parser:
    """Recursive descent over the pieces between and inside the braces."""

    def __init__(self, source: str, known: dict[str, Function]) -> None:
        self._functions = known
        self._scopes: list[dict[str, int]] = [{"$": 0}]
        self._slots = 0
        self._loops = 0
        self._line = True
        """Whether `.` is the log line here, so that its fields are known."""
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
        self._scopes.append({})
        try:
            while self._pieces:
                action, text = self._pieces.pop(0)
                word, _, rest = text.partition(" ")
                if not action:
                    found.append(_Node(text))
                elif word in ("end", "else"):
                    return found, " ".join(text.split())
                elif word in _BLOCKS:
                    found.append(self._branch(word, rest))
                elif text in ("break", "continue") and self._loops:
                    found.append(_Node(leave=text))
                elif not text.startswith("/*"):
                    found.append(self._expression(text))
            return found, ""
        finally:
            self._scopes.pop()

    def _branch(self, word: str, text: str) -> _Node:
        line = self._line
        self._scopes.append({})
        node = self._expression(text, word)
        node.block = word
        self._line = line and (word == "if" or text.strip() == ".")
        self._loops += word == "range"
        node.then, end = self._block()
        self._line = line
        self._loops -= word == "range"
        again, _, more = end.removeprefix("else ").partition(" ")
        if end.startswith("else ") and again in ("if", "with"):
            node.other = [self._branch(again, more)]
            self._scopes.pop()
            return node
        if end == "else":
            node.other, end = self._block()
        if end != "end":
            raise _bad(f"`{word}` has no `end`", text)
        self._scopes.pop()
        return node

    def _expression(self, text: str, block: str = "") -> _Node:
        tokens: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise _bad("not understood", text)
            tokens.append(match.group(1))
            at = match.end()
        names: list[str] = []
        if len(tokens) > 4 and tokens[1] == "," and tokens[3] in (":=", "=") and block == "range":
            names, sign, tokens = [tokens[0], tokens[2]], tokens[3], tokens[4:]
        elif len(tokens) > 2 and tokens[1] in (":=", "="):
            names, sign, tokens = [tokens[0]], tokens[1], tokens[2:]
        value = self._pipeline(tokens, text)
        if tokens or any(not name.startswith("$") or "." in name for name in names):
            raise _bad("not understood", text)
        return _Node(value=value, variables=tuple(self._named(name, sign, text) for name in names))

    def _named(self, name: str, sign: str, text: str) -> int:
        if sign == "=":
            return self._slot(name, text)
        self._slots += 1
        self._scopes[-1][name] = self._slots
        return self._slots

    def _slot(self, name: str, text: str) -> int:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise _bad(f"no variable `{name}`", text)

    def _pipeline(self, tokens: list[str], text: str) -> _Evaluate:
        value = self._call(tokens, text, None)
        while tokens and tokens[0] == "|":
            tokens.pop(0)
            value = self._call(tokens, text, value)
        return value

    def _call(self, tokens: list[str], text: str, piped: _Evaluate | None) -> _Evaluate:
        if not tokens:
            raise _bad("something is missing", text)
        name = tokens[0]
        operands: list[_Evaluate] = []
        function = self._functions.get(name)
        if function is not None:
            tokens.pop(0)
        while tokens and tokens[0] != "|" and tokens[0][0] != ")":
            operands.append(self._operand(tokens, text))
        if piped is not None:
            operands.append(piped)
        if function is not None:
            return _applied(name, function, operands)
        if len(operands) != 1:
            raise _bad(f"no function `{name}`", text)
        return operands[0]

    def _operand(self, tokens: list[str], text: str) -> _Evaluate:
        token = tokens.pop(0)
        if token == "(":  # noqa: S105
            inner = self._pipeline(tokens, text)
            if not tokens or tokens[0][0] != ")":
                raise _bad("a bracket is not closed", text)
            keys = tokens.pop(0)[1:].split(".")[1:]
            return lambda dot, variables: index(inner(dot, variables), *keys)
        if token[0] in '"`':
            value = _ESCAPE.sub(_unescaped, token[1:-1]) if token[0] == '"' else token[1:-1]
            return lambda dot, variables: value
        if re.fullmatch(r"-?\d+(\.\d+)?", token):
            number = float(token) if "." in token else int(token)
            return lambda dot, variables: number
        if token in ("true", "false", "nil"):
            constant = {"true": True, "false": False}.get(token)
            return lambda dot, variables: constant
        if token in self._functions:
            return _applied(token, self._functions[token], [])
        if token[0] not in ".$":
            raise _bad(f"no function `{token}`", text)
        return self._field(token, text)

    def _field(self, token: str, text: str) -> _Evaluate:
        first, *path = token.split(".")
        path = [part for part in path if part]
        if path and (first == "$" or (not first and self._line)):
            if path[0] not in FIELDS:
                raise _bad(f"a line has no field `.{path[0]}`", text)
            if len(path) > 1 and path[0] != "Labels":
                raise _bad(f"`.{path[0]}` has no fields", text)
        if not first:
            return lambda dot, variables: index(dot, *path)
        slot = self._slot(first, text)
        return lambda dot, variables: index(variables.get(slot), *path)


def _applied(name: str, function: Function, operands: list[_Evaluate]) -> _Evaluate:
    def value(dot: Any, variables: dict[int, Any]) -> Any:
        given = [operand(dot, variables) for operand in operands]
        try:
            return function(*given)
        except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
            raise ValueError(f"{name} does not fit what it is given") from error

    return value


def _unescaped(match: re.Match[str]) -> str:
    code = match.group(1)
    if len(code) == 1:
        return _ESCAPES.get(code, code)
    number = int(code, 8) if code.isdigit() and len(code) == 3 else int(code[1:], 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "\ufffd"


def _bad(why: str, text: str) -> UsageError:
    return UsageError(
        "--template is not understood", f"{why}: {clean(text)}",
        "Fields: .Message .PodName .ContainerName .Namespace .NodeName .Labels; for example '{{.Message}}{{\"\\n\"}}'.",
        code="JD-USAGE-TEMPLATE",
    )  # fmt: skip
