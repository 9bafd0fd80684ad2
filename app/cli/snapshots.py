"""`pods` and `logs` where the cluster is read by command invoke: once for each command, and said so."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from app.cli.frame import WaitingLine, stderr_is_tty

if TYPE_CHECKING:
    import argparse

    from app.cli.log_tail import Printing
    from app.cluster.invoke import InvokeReader
    from app.cluster.log_query import TailQuery
    from app.cluster.paging import PodScope


async def print_pods(reader: InvokeReader, scope: PodScope, args: argparse.Namespace) -> int:
    """The list of pods, by one command in the cluster. Raises JumpdeckError."""
    from app.cli.pods import print_json, print_table, row_lines

    with waiting_line() as reader.told:
        if args.output == "json":
            bodies = await reader.pod_lists(scope)
        else:
            rows = await reader.list_pods(scope, wide=args.output == "wide", rows=False)
    if args.output == "json":
        return await print_json(_pages(bodies))
    form = row_lines(scope, args)
    print_table((form.headers, form.lines(rows, time.time())), scope, args)
    return 0


async def _pages(bodies: list[bytes]) -> AsyncIterator[list[str]]:
    from app.cli.pod_json import items_of_page

    for body in bodies:
        yield items_of_page(body)[0]


async def print_logs(reader: InvokeReader, query: TailQuery, printing: Printing) -> None:
    """The logs as they are now. What was asked to follow ends here, with a note: its lines are of use all the same."""
    tail = reader.tail(replace(query, follow=False), printing.news)
    with waiting_line() as reader.told:
        await tail.run(printing.batch)
    await printing.end(tail, replace(query, follow=False))
    if query.follow:
        printing.note("these are the logs as of now: command invoke cannot follow; run it again for what comes.")


@contextmanager
def waiting_line() -> Iterator[WaitingLine | None]:
    """A line on a terminal's standard error that says what is waited for; nothing elsewhere."""
    if not stderr_is_tty():
        yield None
        return
    line = WaitingLine()
    try:
        yield line
    finally:
        line.clear()
