"""`jumpdeck pods`: pods as `kubectl get pods` prints them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.cluster.invoke import InvokeReader
    from app.cluster.paging import PodScope
    from app.cluster.reader import ClusterReader
    from app.errors import OutputLost
    from app.rows import PodRow, PodSnapshot

MIN_WIDTH = 6
"""Least width of a column with its padding, as kubectl's tab writer has it."""

PADDING = 3
"""Blanks between two columns."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The words and flags of the command."""
    from app.cli.arguments import add_connection_flags

    parser.add_argument("profile", metavar="PROFILE")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-n", "--namespace", action="append", default=[], metavar="NS,NS",
        help="namespaces, separated by commas or given several times",
    )  # fmt: skip
    where.add_argument("-A", "--all-namespaces", action="store_true", help="all namespaces")
    parser.add_argument("-l", "--selector", default="", metavar="SEL", help="label selector, as kubectl takes it")
    parser.add_argument("-o", "--output", default="table", choices=("table", "wide", "json", "name"))
    parser.add_argument("-w", "--watch", action="store_true", help="after the list, print every change")
    parser.add_argument("--no-headers", action="store_true", help="without the line of headings")
    add_connection_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print the pods and return the exit code. Raises JumpdeckError."""
    from app.cli.frame import run_async
    from app.errors import UsageError

    if args.watch:
        check_watch(args.profile)
    if args.watch and args.output == "json":
        raise UsageError(
            "-o json does not go with -w", "a watch prints rows", "Leave one of them out.", code="JD-USAGE-ARGUMENTS"
        )
    return run_async(_main(args))


def check_watch(profile: str) -> None:
    """Raise UsageError where nothing can be watched: a watch without changes is none, so no list stands in for it."""
    from app.errors import UsageError
    from app.profiles.store import load
    from app.sessions.invoke import by_invoke

    if by_invoke(load().get(profile)):
        raise UsageError(
            f"{profile} cannot be watched", "command invoke fetches when asked and has no stream",
            "Leave -w out and run it again for a newer list, or use a profile with a network path.",
            code="JD-INVOKE-NO-STREAM",
        )  # fmt: skip


async def _main(args: argparse.Namespace) -> int:
    from app.cli.frame import open_profile_session
    from app.cluster.paging import PodScope

    async with open_profile_session(args.profile, args, lasting=args.watch) as session:
        reader = session.reader
        scope = PodScope(chosen_namespaces(args, reader), args.selector)
        if not reader.live:
            from app.cli.snapshots import print_pods

            return await print_pods(reader, scope, args)
        if args.watch:
            return await _watch(reader, scope, args)
        if args.output == "json":
            return await _print_json(reader, scope)
        return await _print_list(reader, scope, args)


def chosen_namespaces(args: argparse.Namespace, reader: ClusterReader | InvokeReader) -> tuple[str, ...]:
    """The namespaces to look in; empty means all."""
    if args.all_namespaces:
        return ()
    named = [name.strip() for part in args.namespace for name in part.split(",") if name.strip()]
    return tuple(dict.fromkeys(named)) or reader.home_namespaces


class Columns:
    """Lines set in columns as kubectl sets them: widths never shrink from one piece to the next."""

    def __init__(self, headers: Sequence[str] | None) -> None:
        self._widths: list[int] = []
        self._headers = headers

    def text(self, lines: list[tuple[str, ...]]) -> str:
        """These lines, the headings before the first ones."""
        if not lines:
            return ""
        if self._headers is not None:
            lines = [tuple(self._headers), *lines]
            self._headers = None
        widths = [max(MIN_WIDTH, PADDING + max(map(len, column))) for column in zip(*lines, strict=True)]
        self._widths = [max(pair) for pair in zip(widths, self._widths or widths, strict=True)]
        # The last column is not padded.
        form = "".join(f"%-{width}s" for width in self._widths[:-1]) + "%s\n"
        return "".join([form % line for line in lines])


class RowLines:
    """Rows as lines of cells, the namespace first where several are shown."""

    def __init__(self, *, wide: bool, namespaced: bool) -> None:
        self._wide, self._namespaced = wide, namespaced

    @property
    def headers(self) -> tuple[str, ...]:
        """The headings of these lines."""
        from app.pod_cells import HEADERS, WIDE_HEADERS

        headers = WIDE_HEADERS if self._wide else HEADERS
        return ("NAMESPACE", *headers) if self._namespaced else headers

    def lines(self, rows: Iterable[PodRow], now: float) -> list[tuple[str, ...]]:
        """The cells of each row; `now` (POSIX seconds) dates the ages."""
        from app.pod_cells import cells

        if self._namespaced:
            return [(row.namespace, *cells(row, now, wide=self._wide)) for row in rows]
        return [cells(row, now, wide=self._wide) for row in rows]


async def _print_list(reader: ClusterReader, scope: PodScope, args: argparse.Namespace) -> int:
    from app.errors import JumpdeckError

    try:
        headers, lines = await _server_table(reader, scope, args)
    except JumpdeckError as error:
        if error.code != "JD-API-NO-TABLE":
            raise
        headers, lines = await _own_table(reader, scope, args)
    print_table((headers, lines), scope, args)
    return 0


def print_table(table: Table, scope: PodScope, args: argparse.Namespace) -> None:
    """Headings and lines as the flags want them."""
    headers, lines = table
    if not lines:
        _say_nothing_found(scope)
    elif args.output == "name":
        name = headers.index("NAME")
        sys.stdout.write("".join([f"pod/{line[name]}\n" for line in lines]))
    else:
        sys.stdout.write(Columns(None if args.no_headers else headers).text(lines))
    sys.stdout.flush()


Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


async def _server_table(reader: ClusterReader, scope: PodScope, args: argparse.Namespace) -> Table:
    """Headings and lines as the API server makes them: what kubectl prints."""
    from itertools import compress

    from app.cluster.pod_table import list_table

    table = await list_table(reader.api, scope)
    shown = [_namespaced(scope), *(args.output == "wide" or not wide for wide in table.wide[1:])]
    if all(shown):
        return table.headers, table.lines
    return tuple(compress(table.headers, shown)), [tuple(compress(line, shown)) for line in table.lines]


async def _own_table(reader: ClusterReader, scope: PodScope, args: argparse.Namespace) -> Table:
    """The same worked out here, for a server that makes no tables."""
    import time

    from app.cluster.pods import list_pods

    found = await list_pods(reader.api, scope)
    form = row_lines(scope, args)
    return form.headers, form.lines(found.rows, time.time())


def _namespaced(scope: PodScope) -> bool:
    return len(scope.namespaces) != 1


def row_lines(scope: PodScope, args: argparse.Namespace) -> RowLines:
    return RowLines(wide=args.output == "wide", namespaced=_namespaced(scope))


def _say_nothing_found(scope: PodScope) -> None:
    from app.cli.frame import say
    from app.text import clean

    names = clean(", ".join(scope.namespaces))
    many = "s" if len(scope.namespaces) > 1 else ""
    say(f"No resources found in {names} namespace{many}." if names else "No resources found")


async def _print_json(reader: ClusterReader, scope: PodScope) -> int:
    return await print_json(_item_pages(reader, scope))


async def _item_pages(reader: ClusterReader, scope: PodScope) -> AsyncIterator[list[str]]:
    from app.cli.pod_json import items_of_page
    from app.cluster.paging import pods_path, raw_pages, selectors

    for namespace in scope.namespaces or ("",):
        async for body, token in raw_pages(reader.api, pods_path(namespace), selectors(scope)):
            items, token.value = items_of_page(body)
            yield items


async def print_json(pages: AsyncIterator[list[str]]) -> int:
    """All items as one `List`, as kubectl prints it."""
    out = sys.stdout
    out.write('{\n    "apiVersion": "v1",\n    "items": [')
    count = 0
    async for items in pages:
        for item in items:
            out.write(("," if count else "") + "\n        " + item)
            count += 1
    out.write("\n    ]," if count else "],")
    out.write('\n    "kind": "List",\n    "metadata": {\n        "resourceVersion": ""\n    }\n}\n')
    out.flush()
    return 0


async def _watch(reader: ClusterReader, scope: PodScope, args: argparse.Namespace) -> int:
    import asyncio

    from app.tasks import TaskOwner

    printer = WatchPrinter(row_lines(scope, args), headers=not args.no_headers, names=args.output == "name")
    async with TaskOwner("pods -w") as owner:
        watch = owner.spawn(reader.pods(scope).run(printer.on_snapshot, printer.on_change), name="watch")
        lost = owner.spawn(printer.lost(), name="output")
        await asyncio.wait({watch, lost}, return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            raise lost.result()
        watch.result()
    printer.flush()
    assert printer.error is not None
    raise printer.error


class WatchPrinter:
    """Prints the first list as one table and then a line for every change.

    A failure to print is no failure of the watch: nothing is raised into it; `lost` tells.
    """

    def __init__(self, form: RowLines, *, headers: bool, names: bool) -> None:
        import asyncio

        self._form = form
        self._columns = Columns(form.headers if headers else None)
        self._names = names
        self._listed: list[PodRow] = []
        self._stale = False
        self._trouble: OSError | None = None
        self._told = asyncio.Event()
        self.error: Exception | None = None

    async def lost(self) -> OutputLost:
        """Return, with the reason, when standard output takes no more."""
        from app.errors import OutputLost

        await self._told.wait()
        assert self._trouble is not None
        return OutputLost(self._trouble)

    def on_change(self, kind: str, row: PodRow) -> None:
        """One pod, as the list or an event told it."""
        if kind == "LISTED":
            self._listed.append(row)
            return
        self.flush()
        self._write([row])

    def on_snapshot(self, snapshot: PodSnapshot) -> None:
        """How the watch stands: the first list is complete, or the link is lost, or back."""
        from app.cli.frame import say
        from app.rows import Staleness

        self.error = snapshot.error
        if snapshot.staleness is Staleness.LIVE:
            self.flush()
        stale = snapshot.staleness is Staleness.STALE
        if stale and not self._stale and snapshot.error is not None:
            say(f"jumpdeck: not up to date: {snapshot.error.title}")
        elif self._stale and not stale:
            say("jumpdeck: up to date again")
        self._stale = stale
        self._put("")

    def flush(self) -> None:
        """Print what was listed."""
        rows, self._listed = self._listed, []
        self._write(rows)

    def _write(self, rows: list[PodRow]) -> None:
        import time

        if self._names:
            text = "".join(f"pod/{row.name}\n" for row in rows)
        else:
            text = self._columns.text(self._form.lines(rows, time.time()))
        self._put(text)

    def _put(self, text: str) -> None:
        """Write and, at the end of a snapshot (no text), flush."""
        if self._trouble is not None:
            return
        try:
            sys.stdout.write(text) if text else sys.stdout.flush()
        except OSError as error:
            self._trouble = error
            self._told.set()
