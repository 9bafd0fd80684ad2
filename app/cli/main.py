"""Finds the command, loads only its file, runs it, and turns failures into lines and exit codes."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing would be a third of the time that --help takes
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence
    from types import ModuleType

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("the console over the built-in lab; without a terminal the same tour as text", "jumpdeck demo"),
    "lab": ("the lab alone, until interrupted; `lab fault` makes it misbehave", "jumpdeck lab fault cut 10"),
    "profiles": ("list, show, add, edit, remove, import, export and check profiles", "jumpdeck profiles list"),
    "trust": ("trust SSH servers, commands of imported kubeconfigs, Arc's program", "jumpdeck trust staging"),
    "pods": ("list or watch pods, columns as kubectl prints them", "jumpdeck pods staging -n shop -w"),
    "logs": ("tail the logs of pods", "jumpdeck logs staging checkout --since 15m -i ERROR"),
    "exec": ("run kubectl, helm or k9s against the profile's cluster", "jumpdeck exec staging -- k9s"),
    "connect": ("hold a route open for other programs; prints the kubeconfig to use", "jumpdeck connect staging"),
    "whoami": ("whom the cluster will see, and the roles to ask an administrator for", "jumpdeck whoami shop-edge"),
    "sign-in": ("sign in to Azure now; says who you are and for how long", "jumpdeck sign-in prod-weu"),
    "sign-out": ("forget what is kept of a profile's Azure sign-in", "jumpdeck sign-out prod-weu"),
    "secrets": ("keep passwords, passphrases and tokens in the system's store", "jumpdeck secrets set token shop-edge"),
    "completion": ("print a completion script for bash, zsh, fish or powershell", "jumpdeck completion bash"),
}
"""Every command: what it does in a line, and an example."""
HIDDEN = {"credential"}
"""Commands that other programs call, not people."""


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code. Nothing escapes as a traceback."""
    if argv and argv[0] in ("-h", "--help", "help"):
        try:
            return _print(_help())
        except OSError as error:
            return _output_ended(error)
    from app.errors import ExitCode, JumpdeckError, OutputLost

    words = [word for index, word in enumerate(argv) if not _is_verbose(argv, index)]
    if len(words) != len(argv):
        from app.program_log import start_program_log

        start_program_log(verbose=True)
    try:
        return _dispatch(words)
    except JumpdeckError as error:
        from app.cli.frame import say_error

        say_error(error)
        return int(error.exit_code)
    except BrokenPipeError as error:
        return _output_ended(error)
    except OutputLost as lost:
        return _output_ended(lost.cause)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return _output_ended(error)
        from app.cli.frame import say_crash

        say_crash(error)
        return int(ExitCode.FAILED)


def _is_verbose(argv: Sequence[str], index: int) -> bool:
    """`--verbose` stands before or after the command, but what follows `--` belongs to another program."""
    return argv[index] == "--verbose" and "--" not in argv[:index]


def _dispatch(words: list[str]) -> int:
    if not words:
        return _console(None)
    first = words[0]
    if first in ("-V", "--version"):
        from app import __version__

        return _print(f"jumpdeck {__version__}")
    if first in COMMANDS or first in HIDDEN:
        module = _load(first)
        parser = _parser(first, module)
        return int(module.run(parser.parse_args(words[1:])))
    return _console_by_name(words)


def _load(name: str) -> ModuleType:
    import importlib

    return importlib.import_module(f"app.cli.{name.replace('-', '_')}")


def _parser(name: str, module: ModuleType) -> ArgumentParser:
    from app.cli.arguments import CommandParser

    summary, example = COMMANDS.get(name, ("", ""))
    parser = CommandParser(
        prog=f"jumpdeck {name}",
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"example: {example}",
    )
    module.configure(parser)
    return parser


def _console_by_name(words: list[str]) -> int:
    from app.errors import UsageError

    name = words[0]
    ascii_only = "--ascii" in words
    rest = [word for word in words if word != "--ascii"]
    if name == "--ascii" and not rest:
        return _console(None, ascii_only=True)
    name = rest[0]
    if not name.startswith("-") and len(rest) == 1 and _is_profile(name):
        return _console(name, ascii_only=ascii_only)
    if len(rest) > 1 and not name.startswith("-") and _is_profile(name):
        detail = f"`{rest[1]}` is not a flag of the console"
        raise UsageError("Too many words", detail, "See `jumpdeck --help`.", code="JD-USAGE-ARGUMENTS")
    raise UsageError(
        f"`{_clean(name)}` is neither a command nor a profile", _near(name), "See `jumpdeck --help`.",
        code="JD-USAGE-WORD",
    )  # fmt: skip


def _is_profile(name: str) -> bool:
    from app.profiles.store import load

    book = load()
    return name in book.profiles or any(getattr(problem, "profile", None) == name for problem in book.problems)


def _near(name: str) -> str:
    import difflib

    from app.profiles.store import load

    known = [*COMMANDS, *load().profiles]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"nearest: {', '.join(near)}" if near else ""


def _clean(word: str) -> str:
    from app.text import clean

    return clean(word)


def _console(profile: str | None, *, ascii_only: bool = False) -> int:
    from app.errors import UsageError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "The console needs a terminal",
            "standard input or output is not one",
            "Use `jumpdeck pods PROFILE` or `jumpdeck logs PROFILE QUERY`, or see `jumpdeck --help`.",
            code="JD-USAGE-NO-TERMINAL",
        )
    from app.console import run_console

    return run_console(profile, ascii=ascii_only)


def _help() -> str:
    width = max(len(name) for name in COMMANDS) + 2
    lines = [
        "usage: jumpdeck [--verbose] [PROFILE | COMMAND …] [--ascii]",
        "",
        "The console for private Kubernetes clusters. With a PROFILE: connected to it.",
        "",
        *(f"  {name:<{width}}{summary}" for name, (summary, _) in COMMANDS.items()),
        "",
        "Each command has its own --help. --verbose writes detail to the log file.",
        "example: jumpdeck logs staging checkout --since 15m -i ERROR",
    ]
    return "\n".join(lines)


def _print(text: str) -> int:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 0


_NO_ROOM = (5, 27, 28, 122)
"""EIO, EFBIG, ENOSPC and EDQUOT: what a write says when its file can take no more."""


def _output_ended(error: OSError) -> int:
    """End when output goes nowhere: in silence where its reader has gone (`| head`), else with what the system said."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at exit
    if isinstance(error, BrokenPipeError):
        return 0
    from app.cli.frame import say_error
    from app.errors import JumpdeckError

    said = JumpdeckError("The output cannot be written", error.strerror or "", "Make room.", code="JD-LOCAL-OUTPUT")
    say_error(said)
    return int(said.exit_code)
