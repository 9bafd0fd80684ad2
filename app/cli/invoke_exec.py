"""`exec` where there is no network path: kubectl or helm run in the cluster, with the files that they name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import UsageError
from app.text import clean, clean_block

if TYPE_CHECKING:
    from app.profiles.model import Profile

PROGRAMS = ("kubectl", "helm")
"""What the image of run command has, of what asks a cluster something."""
_FILE_FLAGS = {
    "kubectl": ("-f", "--filename", "-k", "--kustomize", "--patch-file"), "helm": ("-f", "--values"),
}  # fmt: skip
_STREAMS = ("attach", "edit", "port-forward", "proxy")
"""Commands of kubectl that need a stream or a terminal."""
_FOLLOWING = ("-w", "--watch", "--watch-only", "--follow", "-it", "-ti", "-i", "--stdin", "-t", "--tty")
MAX_FILES = 500
"""Files that go along: a chart has some dozens."""


def check(profile: Profile, command: Sequence[str]) -> None:
    """Raise UsageError for what cannot be run there: other programs, and what needs a stream."""
    program = os.path.basename(command[0]).removesuffix(".exe")
    if program not in PROGRAMS:
        raise UsageError(
            f"{clean(program)} cannot run through command invoke",
            f"{profile.name} has no network path: Azure runs the command in a pod that has kubectl and helm alone",
            "Run kubectl or helm, or use a profile with a network path.", code="JD-INVOKE-PROGRAM",
        )  # fmt: skip
    words = list(command[1:])
    own = words[: words.index("--")] if "--" in words else words
    verb = _verb(own)
    wanted = next((word for word in own if word.partition("=")[0] in _FOLLOWING and not word.endswith("=false")), None)
    if program == "kubectl" and verb == "logs" and "-f" in own:
        wanted = "-f"
    if program == "kubectl" and verb in _STREAMS:
        wanted = verb
    if program == "kubectl" and wanted:
        raise UsageError(
            f"{clean(wanted)} does not work through command invoke",
            "it gives one answer at the end, and has no stream and no terminal",
            f"Leave {clean(wanted)} out, or use a profile with a network path.", code="JD-INVOKE-NO-STREAM",
        )  # fmt: skip


def _verb(words: Sequence[str]) -> str:
    return next((word for word in words if not word.startswith("-")), "")


class Attached:
    """A command with its files: paths become the names that the files have beside it in the cluster."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._folder = folder
        self.files: dict[str, bytes] = {}
        self._names: dict[Path, str] = {}
        self._size = 0
        program = os.path.basename(command[0]).removesuffix(".exe")
        self._flags = _FILE_FLAGS[program]
        self.command = [program, *self._rewritten(list(command[1:]), helm=program == "helm")]

    def _rewritten(self, words: list[str], *, helm: bool) -> list[str]:
        made: list[str] = []
        of_flag = verbatim = False
        for word in words:
            flag, equals, value = word.partition("=")
            if verbatim or word == "--":
                verbatim = True
                made.append(word)
            elif of_flag:
                made.append(self._list(word))
            elif equals and flag in self._flags:
                made.append(f"{flag}={self._list(value)}")
            elif word == "." or (helm and word.startswith(("./", "../", "/", ".\\", "..\\"))):
                made.append(self._attach(word))
            else:
                made.append(word)
            of_flag = not of_flag and not verbatim and word in self._flags
        return made

    def _list(self, value: str) -> str:
        return ",".join(self._attach(one) for one in value.split(","))

    def _attach(self, value: str) -> str:
        if "://" in value:
            return value
        if value == "-":
            self._add("stdin", sys.stdin.buffer.read(_limit() + 1))
            return "stdin"
        path = Path(os.path.abspath(self._folder / value))
        if (known := self._names.get(path)) is not None:
            return known
        try:
            if not path.is_dir():
                name = self._free(path.name)
                self._add(name, _read(path))
            else:
                name = "." if value == "." else self._free(path.name or "files")
                self._add_tree(path, "" if name == "." else f"{name}/")
        except OSError as error:
            raise UsageError(f"{clean(value)} cannot be read", clean(error.strerror or type(error).__name__),
                             "Check the path.", code="JD-INVOKE-FILES") from error  # fmt: skip
        self._names[path] = name
        return name

    def _add_tree(self, folder: Path, prefix: str) -> None:
        for where, folders, names in os.walk(folder):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for name in sorted(names):
                path = Path(where, name)
                if not name.startswith(".") and path.is_file():
                    self._add(prefix + path.relative_to(folder).as_posix(), _read(path))

    def _free(self, name: str) -> str:
        """The name, with a number before it when another file has it: names are flat there."""
        taken = {each.partition("/")[0] for each in self.files}
        names = (name, *(f"{number}-{name}" for number in range(2, MAX_FILES + 2)))
        return next(each for each in names if each not in taken)

    def _add(self, name: str, data: bytes) -> None:
        self._size += len(data)
        if self._size > _limit() or len(self.files) >= MAX_FILES:
            raise UsageError(
                "The files are too large for command invoke",
                f"at most {_limit() >> 20} MiB in {MAX_FILES} files goes along, and they are more with {clean(name)}",
                "Name fewer files, or use a profile with a network path.", code="JD-INVOKE-FILES",
            )  # fmt: skip
        self.files[name] = data


def _limit() -> int:
    from app.azure.run_command import FILES_LIMIT

    return FILES_LIMIT


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_limit() + 1)


def run(profile: Profile, command: Sequence[str], args: argparse.Namespace) -> int:
    """Run the command in the cluster and print what it said; its exit code is ours. Raises JumpdeckError."""
    from app.cli.frame import run_async
    from app.cli.lent_route import guard
    from app.policy import require

    require("command-invoke", profile.name)
    check(profile, command)
    attached = Attached(command, Path.cwd())
    if profile.namespaces and not _names_namespace(command):
        verb = attached.command.index(_verb(attached.command[1:]) or attached.command[0])
        attached.command[verb + 1 : verb + 1] = ["--namespace", profile.namespaces[0]]
    guard(profile, attached.command[0], write=args.write, may_ask=not args.no_input)
    return run_async(_run(profile, attached, args))


def _names_namespace(command: Sequence[str]) -> bool:
    words = (word.partition("=")[0] for word in command)
    return any(word in ("-A", "--all-namespaces", "--namespace") or word[:2] == "-n" for word in words)


async def _run(profile: Profile, attached: Attached, args: argparse.Namespace) -> int:
    import asyncio
    import shlex

    from app.cli.frame import open_profile_session, say
    from app.cli.snapshots import waiting_line
    from app.cluster.invoke import recorded

    line = shlex.join(attached.command)
    async with open_profile_session(profile.name, args) as session:
        assert session.invoke is not None, "the profile goes by command invoke"
        recorded(profile.name, attached.command, line, len(attached.files))
        heard: list[str] = []
        with waiting_line() as shown:

            def told(text: str) -> None:
                heard.append(text)
                if shown is not None:
                    shown(text)

            try:
                result = await session.invoke.command.run(line, files=attached.files, told=told)
            except asyncio.CancelledError:
                if heard:
                    say("jumpdeck: the command goes on in the cluster; Azure has no way to end it.")
                raise
    sys.stdout.write(shown_output(result.output, terminal=sys.stdout.isatty()))
    sys.stdout.flush()
    if result.cut:
        say("jumpdeck: Azure keeps the first 512 kB of a command's output; the rest of this one is lost.")
    return result.exit_code


def shown_output(output: str, *, terminal: bool) -> str:
    """As received into a pipe or file; harmless on a terminal."""
    return clean_block(output) if terminal else output.encode("utf-8", "replace").decode()
