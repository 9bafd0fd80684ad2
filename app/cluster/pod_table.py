"""Pods as the API server's own table (meta.k8s.io/v1 Table): what kubectl prints, at a tenth of the bytes.

Ages are those of the moment of the answer, by the server's clock, so a table is for printing once; what lives on a
screen is made of rows (`app.cluster.pods`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.cluster.malformed import malformed
from app.cluster.paging import MAX_RESTARTS, PodScope, pods_path, raw_pages, selectors
from app.errors import JumpdeckError
from app.text import clean

if TYPE_CHECKING:
    from app.cluster.api import ApiClient

ACCEPT = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

Cell = str | int | float | bool | None


class _Column(msgspec.Struct, gc=False):
    name: str = ""
    priority: int = 0


class _ObjectMeta(msgspec.Struct, gc=False):
    namespace: str = ""


class _Object(msgspec.Struct, gc=False):
    metadata: _ObjectMeta | None = None


class _Row(msgspec.Struct, gc=False):
    cells: list[Cell]
    object: _Object | None = None


class _Meta(msgspec.Struct, gc=False, rename={"token": "continue"}):
    token: str = ""


class _Table(msgspec.Struct, gc=False):
    kind: str = ""
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    columnDefinitions: list[_Column] | None = None
    rows: list[_Row] | None = None


_DECODER = msgspec.json.Decoder(_Table)


class PodTable:
    """Headings and lines, cleaned; the namespace stands first in each line."""

    def __init__(self) -> None:
        self.headers: tuple[str, ...] = ()
        """As kubectl prints them: in capitals, NAMESPACE first."""
        self.wide: tuple[bool, ...] = ()
        """Which columns belong to `-o wide` only."""
        self.lines: list[tuple[str, ...]] = []


async def list_table(api: ApiClient, scope: PodScope) -> PodTable:
    """The table of a scope, all pages joined. Raises JumpdeckError (JD-API-NO-TABLE when the server has no tables)."""
    table = PodTable()
    for namespace in scope.namespaces or ("",):
        table.lines += await _list_one(api, namespace, scope, table)
    return table


async def _list_one(api: ApiClient, namespace: str, scope: PodScope, table: PodTable) -> list[tuple[str, ...]]:
    # The object is only asked for where its namespace is not known already.
    params = {**selectors(scope), "includeObject": "None" if namespace else "Metadata"}
    for attempt in range(MAX_RESTARTS):
        lines: list[tuple[str, ...]] = []
        try:
            async for body, token in raw_pages(api, pods_path(namespace), params, ACCEPT):
                token.value = _read_page(body, clean(namespace), table, lines)
        except JumpdeckError as error:
            if error.code != "JD-API-GONE" or attempt == MAX_RESTARTS - 1:
                raise
            continue
        return lines
    raise AssertionError("unreachable")


def _read_page(body: bytes, namespace: str, table: PodTable, lines: list[tuple[str, ...]]) -> str:
    """Add a page's lines; returns the continue token."""
    try:
        page = _DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise malformed("the table of pods", error) from error
    if page.kind != "Table":
        raise JumpdeckError(
            "The server makes no tables", f"it answered with {clean(page.kind)!r}", code="JD-API-NO-TABLE", layer="api"
        )
    if page.columnDefinitions and not table.headers:
        table.headers = ("NAMESPACE", *(clean(column.name).upper() for column in page.columnDefinitions))
        table.wide = (False, *(column.priority > 0 for column in page.columnDefinitions))
    for row in page.rows or ():
        if len(row.cells) != len(table.headers) - 1:
            raise malformed("the table of pods", "a row does not fit its columns")
        meta = row.object.metadata if row.object is not None else None
        lines.append(_line(meta.namespace if meta is not None and not namespace else namespace, row.cells))
    return page.metadata.token


def _line(namespace: str, cells: list[Cell]) -> tuple[str, ...]:
    line = (namespace, *["" if cell is None else str(cell) for cell in cells])
    text = "".join(line)
    return line if text.isascii() and text.isprintable() else tuple(map(clean, line))
