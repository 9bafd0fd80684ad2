"""Label and field selectors, with the error texts of a Kubernetes API server."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from app.lab.resources import Resource
from app.lab.statuses import bad_request
from app.lab.store import Object

Match = Callable[[Object], bool]
"""Whether an object is selected."""

MAX_SELECTOR = 8_192
"""Characters of a selector: far more than a URL of a client carries, and no more work than that."""

_TOKEN = re.compile(r"\s*(==|!=|[=!<>(),]|[^\s=!<>(),]+)")
_SYMBOLS = frozenset(("==", "!=", "=", "!", "<", ">", "(", ")", ","))


@dataclass(frozen=True, slots=True)
class _Requirement:
    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        present = self.key in labels
        value = labels.get(self.key, "")
        if self.operator == "exists":
            return present
        if self.operator == "absent":
            return not present
        if self.operator == "in":
            return present and value in self.values
        if self.operator == "notin":
            return not present or value not in self.values
        if not (present and re.fullmatch(r"-?\d+", value) and re.fullmatch(r"-?\d+", self.values[0])):
            return False
        return int(value) > int(self.values[0]) if self.operator == ">" else int(value) < int(self.values[0])


class _LabelParser:
    """The grammar of apimachinery's labels.Parse: requirements joined by commas."""

    def __init__(self, text: str) -> None:
        self._tokens = [match.group(1) for match in _TOKEN.finditer(text)]
        self._at = 0

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        symbol = self._peek()
        self._at += 1
        return symbol

    @staticmethod
    def _fail(found: str, expected: str) -> Exception:
        return bad_request(f"unable to parse requirement: found '{found}', expected: {expected}")

    def _identifier(self, expected: str = "identifier") -> str:
        symbol = self._next()
        if not symbol or symbol in _SYMBOLS:
            raise self._fail(symbol, expected)
        return symbol

    def parse(self) -> list[_Requirement]:
        found: list[_Requirement] = []
        while self._peek():
            found.append(self._requirement())
            symbol = self._next()
            if symbol not in ("", ","):
                raise self._fail(symbol, "',' or 'end of string'")
            if symbol == "," and not self._peek():
                raise self._fail("", "identifier after ','")
        return found

    def _requirement(self) -> _Requirement:
        if self._peek() == "!":
            self._next()
            return _Requirement(self._identifier(), "absent")
        key = self._identifier("!, identifier, or ','")
        operator = self._peek()
        if operator in ("", ","):
            return _Requirement(key, "exists")
        self._next()
        if operator in ("=", "==", "!="):
            return _Requirement(key, "notin" if operator == "!=" else "in", (self._exact(),))
        if operator in ("in", "notin"):
            return _Requirement(key, operator, self._values())
        if operator in ("<", ">"):
            return _Requirement(key, operator, (self._identifier(),))
        raise self._fail(operator, "in, notin, =, ==, !=, gt, lt")

    def _exact(self) -> str:
        return "" if self._peek() in ("", ",") else self._identifier()

    def _values(self) -> tuple[str, ...]:
        if (symbol := self._next()) != "(":
            raise self._fail(symbol, "'('")
        values: list[str] = []
        if self._peek() == ")":
            self._next()
            return ("",)
        while True:
            values.append("" if self._peek() in (",", ")") else self._identifier("',', ')' or identifier"))
            symbol = self._next()
            if symbol == ")":
                return tuple(values)
            if symbol != ",":
                raise self._fail(symbol, "',' or ')'")


def label_selector(text: str) -> Match | None:
    """Parse a label selector; None selects everything. Raises StatusError 400."""
    if len(text) > MAX_SELECTOR:
        raise bad_request("the label selector is too long")
    requirements = _LabelParser(text).parse()
    if not requirements:
        return None

    def match(obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(requirement.matches(labels) for requirement in requirements)

    return match


def field_value(obj: Object, path: str) -> str:
    """The value at a dotted path as selectors compare it: text, empty when absent."""
    value: object = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


_FIELD_TERM = re.compile(r"((?:[^=!\\]|\\.)*?)(!=|==|=)(.*)", re.DOTALL)


def field_selector(text: str, resource: Resource) -> Match | None:
    """Parse a field selector for a resource; None selects everything. Raises StatusError 400."""
    if len(text) > MAX_SELECTOR:
        raise bad_request("the field selector is too long")
    known = {"metadata.name": "metadata.name", **dict(resource.fields)}
    if resource.namespaced:
        known["metadata.namespace"] = "metadata.namespace"
    terms: list[tuple[str, bool, str]] = []
    for part in re.split(r"(?<!\\),", text):
        if not part:
            continue
        term = _FIELD_TERM.fullmatch(part)
        if term is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        label, operator, value = term.groups()
        if label not in known:
            raise bad_request(f"field label not supported: {label}")
        terms.append((known[label], operator != "!=", re.sub(r"\\(.)", r"\1", value)))
    if not terms:
        return None
    return lambda obj: all((field_value(obj, path) == value) is equal for path, equal, value in terms)


def selection(labels: str, fields: str, resource: Resource) -> Match | None:
    """Both selectors as one; None selects everything. Raises StatusError 400."""
    by_label, by_field = label_selector(labels), field_selector(fields, resource)
    if by_label is None or by_field is None:
        return by_label or by_field
    return lambda obj: by_label(obj) and by_field(obj)
