"""Columns of the pod table: headings, what sorts them, and how they share the width there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from app.pod_cells import HEADERS, WIDE_HEADERS, cells
from app.rows import PodRow

SortKey = Callable[[PodRow], tuple[object, ...]]
GAP = 2
"""Columns between two cells."""
SHORTENING = (
    ("STATUS", 20), ("NAME", 40), ("NAMESPACE", 12), ("NAME", 24), ("STATUS", 16), ("NAME", 16), ("RESTARTS", 8),
    ("NAMESPACE", 9), ("STATUS", 9),
)  # fmt: skip
"""In which order columns give room, and down to what: names tell pods apart, so one odd status goes before them."""
NAME_TAIL = 6
"""Characters kept at the end of a shortened name: the random part tells pods of one set apart."""


def _namespace(row: PodRow) -> tuple[object, ...]:
    return row.namespace, row.name


def _ready(row: PodRow) -> tuple[object, ...]:
    return row.ready - row.total, row.total, row.namespace, row.name


def _age(row: PodRow) -> tuple[object, ...]:
    return -(row.created or 0.0), row.namespace, row.name


def _by(field: str) -> SortKey:
    return lambda row: (getattr(row, field), row.namespace, row.name)


SORTS: dict[str, SortKey] = {
    "NAMESPACE": _namespace,
    "NAME": lambda row: (row.name, row.namespace),
    "READY": _ready,
    "STATUS": _by("status"),
    "RESTARTS": lambda row: (-row.restarts, row.namespace, row.name),
    "AGE": _age,
    "IP": _by("ip"),
    "NODE": _by("node"),
}
"""Columns that can be sorted; most restarts and youngest first, as they are looked for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Headings with their widths in cells."""

    headers: tuple[str, ...]
    widths: tuple[int, ...]

    @property
    def width(self) -> int:
        """Cells from the left edge to the end of the last column."""
        return sum(self.widths) + GAP * len(self.widths)


def headers(*, wide: bool) -> tuple[str, ...]:
    """The headings, NAMESPACE always first: a console shows pods of several."""
    return ("NAMESPACE", *(WIDE_HEADERS if wide else HEADERS))


def texts(row: PodRow, now: float, *, wide: bool) -> tuple[str, ...]:
    """The cells of a pod under `headers`, as kubectl prints them."""
    return (row.namespace, *cells(row, now, wide=wide))


def measure(rows: Iterable[PodRow], now: float, *, wide: bool) -> list[int]:
    """The width that each column wants for these rows."""
    widest = [len(name) for name in headers(wide=wide)]
    for row in rows:
        for index, text in enumerate(texts(row, now, wide=wide)):
            if len(text) > widest[index] - 1:
                widest[index] = max(widest[index], cell_len(text))
    return widest


def fit(wanted: Sequence[int], available: int, *, wide: bool) -> Layout:
    """Give each column what it wants; when there is too little room, shorten in the order of SHORTENING."""
    names = headers(wide=wide)
    widths = list(wanted)
    if not wide:
        for column, least in SHORTENING:
            over = sum(widths) + GAP * len(widths) - available
            if over > 0:
                index = names.index(column)
                widths[index] = max(min(least, widths[index]), widths[index] - over)
    return Layout(names, tuple(widths))


def clip(text: str, width: int, header: str, ellipsis: str) -> str:
    """A cell at its exact width; a name that is too long keeps its end."""
    length = cell_len(text)
    if length <= width:
        return text + " " * (width - length)
    if header == "NAME" and text.isascii() and width > NAME_TAIL * 2:
        return text[: width - NAME_TAIL - 1] + ellipsis + text[-NAME_TAIL:]
    return set_cell_size(text, width - 1) + ellipsis
