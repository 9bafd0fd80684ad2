"""`jumpdeck logs`: tail the logs of pods, with stern's query and flags and kubectl's."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import tzinfo

    from app.cli.log_format import Look
    from app.cluster.log_query import TailQuery

DEFAULT_TAIL = 100
"""Lines of each container with none of --since, --since-time, --tail; stern would send 48 hours."""

OUTPUTS = ("default", "raw", "json", "extjson", "ppextjson")


def configure(parser: argparse.ArgumentParser) -> None:
    """The words and flags of the command."""
    from app.cli.arguments import add_connection_flags, seconds

    parser.add_argument("profile", metavar="PROFILE", help="a profile, or @TAG for every profile with the tag")
    query = parser.add_argument(
        "query", metavar="QUERY", default=".*", help="a regex on pod names, or kind/name (optional with -l)"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("-f", "--follow", action="store_true", help="follow (this is so anyway)")
    mode.add_argument("--no-follow", action="store_true", help="print what there is and end")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", action="append", default=[], metavar="NS,NS", help="namespaces")
    where.add_argument("-A", "--all-namespaces", action="store_true", help="all namespaces")
    parser.add_argument("-l", "--selector", action=_Selector, default="", metavar="SEL", help="label selector")
    parser.set_defaults(query_action=query)
    add = parser.add_argument
    add("-c", "--container", default=".*", metavar="REGEX", help="containers, init and ephemeral ones included")
    add("--exclude-pod", action="append", default=[], metavar="REGEX", help="leave these pods out")
    add("--container-state", default="all", metavar="STATE", help="running, waiting, terminated or all (with commas)")
    add("-i", "--include", action="append", default=[], metavar="REGEX", help="only lines that match")
    add("-e", "--exclude", action="append", default=[], metavar="REGEX", help="no lines that match")
    add("-H", "--highlight", action="append", default=[], metavar="REGEX", help="paint what matches")
    add("-s", "--since", type=seconds, metavar="TIME", help="lines of the last 30s, 15m, 1h30m")
    add("--since-time", metavar="STAMP", help="lines since an RFC 3339 time")
    add("--tail", type=int, metavar="N", help=f"last lines of each container (-1: all; default {DEFAULT_TAIL})")
    add("-p", "--previous", action="store_true", help="the run before the last restart")
    add(
        "-t", "--timestamps", dest="timestamps", action="store_const", const="default", default="",
        help="with the API's stamp; --timestamps=short for month, day and time",
    )  # fmt: skip
    for value in ("default", "short"):  # a value only with `=`: the word after a bare -t is another argument
        add(f"-t={value}", f"--timestamps={value}", dest="timestamps", action="store_const", const=value,
            help=argparse.SUPPRESS)  # fmt: skip
    add("--timezone", metavar="ZONE", help="show stamps in this zone, e.g. Local or Europe/Berlin")
    add("--prefix", action="store_true", help="[pod/NAME/CONTAINER] before each line, as kubectl does")
    add("--only-log-lines", action="store_true", help="nothing on standard error but failures")
    add("-o", "--output", default="default", choices=OUTPUTS)
    add("--template", default="", metavar="TEXT", help="a template such as '{{.PodName}} {{.Message}}{{\"\\n\"}}'")
    add("--color", default="auto", choices=("auto", "always", "never"))
    add("--max-log-requests", type=int, metavar="N", help="logs read at a time (50; 5 with --no-follow)")
    add_connection_flags(parser)


class _Selector(argparse.Action):
    """A label selector: with one, QUERY may be left out."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.query_action.required = False


def run(args: argparse.Namespace) -> int:
    """Tail, and return the exit code. Raises JumpdeckError; a bad flag before anything is opened."""
    from app.cli.frame import run_async
    from app.cli.log_tail import tail_profiles

    return run_async(tail_profiles(args, query_of(args), look_of(args)))


def query_of(args: argparse.Namespace) -> TailQuery:
    """What to tail, without its namespaces (they may depend on the profile). Raises UsageError."""
    from app.cluster.log_lines import MAX_LINE, MAX_RAW_LINE
    from app.cluster.log_query import STATES, TailQuery, check, compiled

    states = tuple(state.strip() for state in args.container_state.split(","))
    for state in states:
        if state not in STATES:
            raise _usage("--container-state", f"`{state}` is none of {', '.join(STATES)}")
    for flag, number, least in (("--tail", args.tail, -1), ("--max-log-requests", args.max_log_requests, 1)):
        if number is not None and number < least:
            raise _usage(flag, f"{number} is less than {least}")
    if args.since is not None and args.since_time is not None:
        raise _usage("--since-time", "it does not go with --since")
    tail = None if args.tail == -1 else args.tail
    if args.tail is None and args.since is None and args.since_time is None:
        tail = DEFAULT_TAIL
    query = TailQuery(
        text=args.query,
        labels=args.selector,
        container=compiled(args.container, "--container"),
        exclude_pods=tuple(compiled(text, "--exclude-pod") for text in args.exclude_pod),
        states=states,
        follow=not args.no_follow and not args.previous,
        previous=args.previous,
        tail=tail,
        since=args.since,
        since_time=_moment(args.since_time) if args.since_time else None,
        max_requests=args.max_log_requests,
        max_line=MAX_RAW_LINE if _untouched(args) else MAX_LINE,
    )
    check(query)
    return query


def look_of(args: argparse.Namespace) -> Look:
    """How to print. Raises UsageError."""
    from app.cli.log_format import Look
    from app.cluster.log_query import compiled

    shape = None
    colour = coloured(args.color)
    if args.template:
        from app.cli.log_template import template

        shape = template(args.template, colour=colour)
    return Look(
        output=args.output,
        timestamps=args.timestamps,
        zone=_zone(args.timezone) if args.timezone else None,
        prefix=args.prefix,
        include=tuple(compiled(text, "--include") for text in args.include),
        exclude=tuple(compiled(text, "--exclude") for text in args.exclude),
        highlight=tuple(compiled(text, "--highlight") for text in args.highlight),
        template=shape,
        colour=colour,
        untouched=_untouched(args),
        namespaced=args.all_namespaces,
        profiled=args.profile.startswith("@"),
    )


def coloured(choice: str) -> bool:
    """Whether to colour: as told, else on a terminal without NO_COLOR (https://no-color.org)."""
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _untouched(args: argparse.Namespace) -> bool:
    """Whether bytes pass as received: only where no terminal can be harmed by them."""
    return args.output == "raw" and not args.template and not sys.stdout.isatty()


def _moment(text: str) -> float:
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _usage("--since-time", f"`{text}` is not a time such as 2026-01-31T12:00:00Z")
    return moment.timestamp()


def _zone(name: str) -> tzinfo:
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name == "UTC":
        return UTC
    if name == "Local":
        local = datetime.now().astimezone().tzinfo
        assert local is not None
        return local
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _usage("--timezone", f"`{name}` is not known here") from error


def _usage(flag: str, why: str) -> Exception:
    from app.errors import UsageError
    from app.text import clean

    return UsageError(f"{flag} is not right", clean(why), "See `jumpdeck logs --help`.", code="JD-USAGE-ARGUMENTS")
