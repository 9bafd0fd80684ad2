"""`jumpdeck lab`: the practice ground in the foreground, and the commands that make it misbehave."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `lab`, `lab fault` and `lab faults`."""
    parser.description = (
        "Runs the practice cluster on this machine until interrupted. Prints one line when everything listens: "
        "ready JUMPDECK_CONFIG_DIR=<folder> KUBECONFIG=<file>."
    )
    parser.epilog = "example: jumpdeck lab   (then, elsewhere)   jumpdeck lab fault cut 10"
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same number makes the same estate (1)")
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="lab_command", metavar="COMMAND", title="commands for the running lab")
    fault = commands.add_parser(
        "fault",
        help="make the running lab misbehave; returns when in effect",
        description="Switches a fault of the running lab; returns when it is in effect. `jumpdeck lab faults` lists.",
        epilog="example: jumpdeck lab fault cut@jump 10",
    )
    fault.add_argument(
        "fault",
        metavar="NAME[@PLACE]",
        help="the fault; without PLACE (api, jump, inner, bastion, arm, entra, relay, arc) every door from outside",
    )
    fault.add_argument(
        "state", metavar="on|off|SECONDS", nargs="?", default="on", help="on (default), off, or how long"
    )
    commands.add_parser(
        "faults",
        help="list the faults and what is on",
        description="Lists the faults with a sentence each, and which are on in the running lab.",
        epilog="example: jumpdeck lab faults",
    )


def run(args: argparse.Namespace) -> int:
    """Run the lab, or talk to the running one. Raises JumpdeckError."""
    if args.lab_command == "fault":
        return _fault(args.fault, args.state)
    if args.lab_command == "faults":
        return _faults()
    from app.cli.frame import run_async

    return run_async(_serve(args.seed, until_stdin_closes=args.until_stdin_closes))


async def _serve(seed: int, *, until_stdin_closes: bool) -> int:
    from app.lab.practice import Lab
    from app.program_log import keep_from_terminal

    keep_from_terminal("asyncio", "aiohttp", "asyncssh")
    async with Lab.open(seed=seed) as lab:
        if until_stdin_closes:
            _end_with_stdin(lab.ended)
        _print(f"ready JUMPDECK_CONFIG_DIR={lab.config_dir} KUBECONFIG={lab.kubeconfig}")
        await lab.ended.wait()
    return 0


def _end_with_stdin(ended: asyncio.Event) -> None:
    """Set `ended` when standard input closes: that is how the parent's end, whatever its kind, reaches us."""
    import asyncio
    import os
    import threading

    loop = asyncio.get_running_loop()

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop ended first
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _print(line: str) -> None:
    """A line for another program to wait for: at once, also into a pipe that nobody reads any more."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def parse_fault(text: str, state: str) -> dict[str, Any]:
    """The request for `NAME[@PLACE]` and `on`, `off` or seconds. Raises UsageError; knows no lab."""
    from app.errors import UsageError
    from app.lab.fault_names import LONGEST, find_fault, find_places
    from app.text import clean

    name, _, place = text.partition("@")
    fault = find_fault(name)
    find_places(fault, place or None)
    request: dict[str, Any] = {"command": "fault", "name": fault.name, "place": place or None, "on": state != "off"}
    if state in ("on", "off"):
        return request
    try:
        seconds = float(state.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        detail = f"{clean(state)!r} is neither `on` nor `off` nor a number of seconds up to {LONGEST:g}."
        raise UsageError("cannot tell how long", detail, "Example: jumpdeck lab fault cut 10", code="JD-LAB-SECONDS")
    return {**request, "seconds": seconds}


def _fault(text: str, state: str) -> int:
    request = parse_fault(text, state)
    from app.lab.control import ask, find_lab

    ask(find_lab(), request)
    return 0


def _faults() -> int:
    from app.errors import JumpdeckError
    from app.lab.control import ask, find_lab
    from app.lab.fault_names import FAULTS

    try:
        on: dict[str, float | None] | None = ask(find_lab(), {"command": "faults"})["on"]
    except JumpdeckError as error:
        if error.code != "JD-LAB-NONE":
            raise
        on = None
    width = max(len(fault.name) for fault in FAULTS)
    places = max(len(" ".join(fault.places)) for fault in FAULTS)
    for fault in FAULTS:
        state = "".join(
            _state(place, on[label]) for place in fault.places if on and (label := fault.label(place)) in on
        )
        _print(f"{fault.name:<{width}}  {' '.join(fault.places):<{places}}  {fault.sentence}{state}")
    if on is None:
        from app.cli.frame import say

        say("No lab is running; start one with `jumpdeck lab`.")
    return 0


def _state(place: str, left: float | None) -> str:
    return f"  [on at {place}]" if left is None else f"  [on at {place}, {left:.0f} s left]"
