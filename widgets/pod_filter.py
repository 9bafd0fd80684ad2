"""Which pods are shown: text or regular expression, inverse, label selector, faults only."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from app.rows import PodRow
from app.text import clean

_GOOD = {"Running", "Completed", "Succeeded"}
_LABEL = re.compile(r"\s*([\w./-]+)\s*(?:(==|=|!=)\s*([\w.-]*))?\s*")


@dataclass(frozen=True, slots=True)
class PodFilter:
    """What a person typed after `/`, and whether only faults are wanted."""

    text: str = ""
    faults: bool = False

    def __bool__(self) -> bool:
        return bool(self.text.strip()) or self.faults

    def test(self) -> Callable[[PodRow], bool]:
        """Whether a pod is shown."""
        matches = _text_test(self.text.strip())
        if self.faults:
            return lambda row: is_fault(row) and matches(row)
        return matches


def filter_note(filtered: PodFilter, shown: int, known: int) -> str:
    """What narrows the rows, and to how many: a table that lacks pods must say why. Empty without a filter."""
    if not filtered:
        return ""
    what = " ".join(filter(None, ("faults" if filtered.faults else "", clean(filtered.text))))
    return f" /{what}  {shown} of {known} "


def empty_note(filtered: PodFilter, *, loading: bool) -> str:
    """Why there are no rows."""
    if loading:
        return " loading"
    return " no pod matches; esc clears the filter" if filtered else " no pods here; 0 shows all namespaces"


def is_fault(row: PodRow) -> bool:
    """Whether a pod is not as it should be: neither all ready nor done well."""
    return row.status not in _GOOD or (row.status == "Running" and row.ready < row.total)


def _text_test(text: str) -> Callable[[PodRow], bool]:
    if not text or text in ("!", "-l"):
        return lambda row: True
    if text.startswith("-l"):
        return _label_test(text[2:])
    if text.startswith("!"):
        inner = _text_test(text[1:])
        return lambda row: not inner(row)
    try:
        search = re.compile(text, re.IGNORECASE).search
    except re.error:  # half-typed, or meant as it stands
        search = re.compile(re.escape(text), re.IGNORECASE).search
    return lambda row: search(f"{row.namespace}/{row.name} {row.status} {row.node} {row.ip}") is not None


def _label_test(text: str) -> Callable[[PodRow], bool]:
    """`a=b,c!=d,e,!f`: equality and presence, as kubectl's `-l`."""
    terms: list[tuple[str, str, str]] = []
    for part in text.split(","):
        absent = part.strip().startswith("!")
        match = _LABEL.fullmatch(part.strip().lstrip("!"))
        if match:
            key, operator, value = match.group(1), match.group(2) or "", match.group(3) or ""
            terms.append((key, "!" if absent else operator, value))

    def test(row: PodRow) -> bool:
        labels = dict(row.labels)
        for key, operator, value in terms:
            if operator in ("=", "==") and labels.get(key) != value:
                return False
            if operator == "!=" and labels.get(key) == value:
                return False
            if operator == "" and key not in labels:
                return False
            if operator == "!" and key in labels:
                return False
        return True

    return test
