"""Runs the tails of `jumpdeck logs` and prints them: lines on standard output, everything else on standard error."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
from datetime import UTC, datetime
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any

from app.cli.frame import open_profile_session, say, say_error
from app.cli.log_format import LogPrinter, Look, PodFacts, paint, pod_colours
from app.cli.log_output import Output
from app.cluster.log_lines import MAX_LINE, MAX_RAW_LINE
from app.cluster.log_query import TailQuery
from app.cluster.tail import Tail, TailNews, What
from app.errors import ExitCode, JumpdeckError, ProfileError
from app.rows import LogBatch, LogSource
from app.tasks import TaskOwner
from app.text import clean

if TYPE_CHECKING:
    from app.cluster.invoke_logs import InvokeTail

QUIET_AFTER = 3.0
"""Seconds without a line after which standard error says which pods are read and when each last wrote."""

MOST_NAMED = 20
"""Containers named in such a report; more are counted."""


async def tail_profiles(args: argparse.Namespace, query: TailQuery, look: Look) -> int:
    """Tail one profile, or every profile of a tag. Returns the exit code; raises what ended a single one."""
    names = _names(args.profile)
    async with Output() as output, TaskOwner("logs") as owner:
        printing = Printing(look, output, quiet=args.only_log_lines)
        runs = [owner.spawn(_one(name, args, query, printing), name=name) for name in names]
        done = owner.spawn(_all(runs, single=len(names) == 1 and not args.profile.startswith("@")), name="all")
        ends: list[asyncio.Future[Any]] = [done, output.broken]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if output.broken.done():
            for run in [done, *runs]:
                run.cancel()
            await asyncio.wait([done, *runs])
            output.broken.result()  # raises what is not just a reader that has left
            return int(ExitCode.DONE)
        failure = done.result()
    if output.broken.done():
        output.broken.result()  # what was still on its way out when all was read: not silently lost
    if failure is not None and len(names) == 1 and not args.profile.startswith("@"):
        raise failure
    return int(failure.exit_code) if failure else int(ExitCode.DONE)


def _names(word: str) -> list[str]:
    if not word.startswith("@"):
        return [word]
    from app.profiles.store import load

    names = [name for name, profile in load().profiles.items() if word[1:] in profile.tags]
    if not names:
        raise ProfileError(
            f"No profile has the tag {clean(word[1:])}", "none of the profiles has it among its tags",
            "See the tags with `jumpdeck profiles list -o json`.", code="JD-PROFILE-TAG",
        )  # fmt: skip
    return names


async def _all(runs: list[asyncio.Task[JumpdeckError | None]], *, single: bool) -> JumpdeckError | None:
    """The first failure of the runs, when all have ended; the others' are said as they come."""
    first: JumpdeckError | None = None
    for run in asyncio.as_completed(runs):
        failure = await run
        if failure is not None and not single:
            say_error(failure)
        first = first or failure
    return first


async def _one(
    name: str, args: argparse.Namespace, query: TailQuery, printing: Printing
) -> JumpdeckError | None:
    """One profile's tail; returns what ended it, so that the others go on."""
    from app.cli.pods import chosen_namespaces

    try:
        async with open_profile_session(name, args, lasting=query.follow) as session:
            reader = session.reader
            own = dataclasses.replace(
                query, namespaces=chosen_namespaces(args, reader), profile=name if printing.look.profiled else ""
            )
            if not reader.live:
                from app.cli.snapshots import print_logs

                await print_logs(reader, own, printing)
                return None
            tail = reader.tail(own, printing.news)
            async with TaskOwner(f"quiet {name}") as owner:
                owner.spawn(printing.say_when_quiet(tail), name="report")
                await tail.run(printing.batch)
            await printing.end(tail, own)
    except JumpdeckError as error:
        return error
    return None


class Printing:
    """Where batches and news go."""

    def __init__(self, look: Look, output: Output, *, quiet: bool) -> None:
        self.look = look
        self._output = output
        self._quiet = quiet
        self._printer = LogPrinter(look)
        self._printed = False
        self._found = False

    async def batch(self, batch: LogBatch) -> None:
        """Print one batch: its mark on standard error, after the lines before it are out."""
        if batch.mark is not None and not self._quiet:
            await self._output.drain()
            say(f"! {self._name(batch.source)}: {batch.mark.text}")
        if data := self._printer.text(batch):
            self._printed = True
            await self._output.write(data)
        if batch.cut_bytes and not self._quiet:
            limit = MAX_RAW_LINE if self.look.untouched else MAX_LINE
            say(f"! {self._name(batch.source)}: {batch.cut_bytes} bytes left out of lines above {limit >> 20} MiB")

    def news(self, news: TailNews) -> None:
        """Say who joined, who left, and what is waited for."""
        source = news.source
        if news.what is What.FAILED and news.error is not None:
            say_error(news.error)
        elif news.what is What.JOINED and source is not None:
            self._found = True
            pod = news.pod
            self._printer.joined(source, PodFacts(pod.node, pod.labels) if pod else PodFacts())
            self._say(f"{self._sign('+', 92)} {self._name(source)}")
        elif news.what is What.LEFT and source is not None:
            self._printer.left(source)
            self._say(f"{self._sign('-', 91)} {self._name(source)}", behind=True)
        elif news.what is What.NOT_STARTED and source is not None:
            status = f" ({news.pod.status})" if news.pod else ""
            self._say(f"{self._name(source)} has not started{status}")
        elif news.what is What.WAITING_TURN:
            waiting = "1 container waits its turn" if news.count == 1 else f"{news.count} containers wait their turn"
            self._say(f"{waiting} (--max-log-requests)")
        elif news.what is What.NOTHING:
            self._say("No pod matches, or none has a log.")

    async def say_when_quiet(self, tail: Tail) -> None:
        """After some silence: which pods are read, and when each last wrote."""
        await asyncio.sleep(QUIET_AFTER)
        if not self._printed and not self._quiet:
            await self._report(tail)

    def note(self, text: str) -> None:
        """Say something of ours behind all lines, unless only lines are wanted."""
        self._say(f"jumpdeck: {text}", behind=True)

    async def end(self, tail: Tail | InvokeTail, query: TailQuery) -> None:
        """After a tail that does not follow: when it printed nothing, say what there would have been."""
        if not self._printed and not self._quiet and not query.follow and self._found:
            await self._report(tail)

    async def _report(self, tail: Tail | InvokeTail) -> None:
        found = await tail.last_lines()
        if self._printed:
            return
        if not found:
            say("No line yet: no container that matches has started." if self._found else "Waiting for a pod to match.")
            return
        why = " that passes --include and --exclude" if self.look.include or self.look.exclude else ""
        say(f"No line yet{why}. The last line of each container:")
        for source, stamp in found[:MOST_NAMED]:
            say(f"  {self._name(source)}  {_age(stamp)}")
        if len(found) > MOST_NAMED:
            say(f"  and {len(found) - MOST_NAMED} more")

    def _say(self, text: str, *, behind: bool = False) -> None:
        """On standard error; `behind`: after the lines before it, and what follows stays behind it."""
        if not self._quiet:
            self._output.after(partial(say, text), behind=behind)

    def _sign(self, sign: str, sgr: int) -> str:
        return paint(sign, sgr) if self.look.colour else sign

    def _name(self, source: LogSource) -> str:
        look = self.look
        pod, container = pod_colours(source)
        words = [source.profile] if look.profiled else []
        words += [source.namespace] if look.namespaced else []
        words += [paint(source.pod, pod) if look.colour else source.pod, "›"]
        words += [paint(source.container, container) if look.colour else source.container]
        return " ".join(words)


def _age(stamp: bytes) -> str:
    """`2026-11-22T05:56:36Z (3m ago)`, or that there is none."""
    from app.ages import human_duration

    try:
        moment = datetime.fromisoformat(stamp.decode("ascii"))
    except ValueError:
        return "no line"
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} ({human_duration(time() - moment.timestamp())} ago)"
