"""The programs of the lab's containers: a few deterministic ones, worded as BusyBox has them."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.lab.exec_files import Files
from app.lab.exec_pipe import Pipe
from app.lab.exec_terminal import Terminal

INTERRUPTED, BROKEN_PIPE = 130, 141
"""Exit codes of a program that a signal ended: 128 and SIGINT or SIGPIPE."""

Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class Container:
    """Where a program runs. `clock` in epoch seconds."""

    namespace: str
    pod: str
    name: str
    files: Files
    clock: Callable[[], float]
    terminal: Terminal | None = None

    def environment(self) -> dict[str, str]:
        """The variables that a program starts with."""
        known = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME": self.pod,
            "KUBERNETES_SERVICE_HOST": "10.96.0.1",
            "KUBERNETES_SERVICE_PORT": "443",
            "HOME": "/root",
        }
        return known | {"TERM": "xterm"} if self.terminal else known


@dataclass
class Process:
    """One running program. Writing raises BrokenPipeError (or another ConnectionError) when nobody reads."""

    args: list[str]
    container: Container
    stdin: Pipe
    out: Write
    err: Write
    env: dict[str, str] = field(default_factory=dict)
    folder: str = "/"

    @property
    def name(self) -> str:
        return posixpath.basename(self.args[0])

    async def say(self, text: str) -> None:
        """Write text to standard output."""
        await self.out(text.encode())

    async def complain(self, text: str, code: int = 1) -> int:
        """Write `NAME: text` to standard error; returns the exit code."""
        await self.err(f"{self.name}: {text}\n".encode())
        return code

    def path(self, text: str) -> str:
        """An absolute path without `.` and `..`."""
        return posixpath.normpath(posixpath.join(self.folder, text)).replace("//", "/")


class Trouble(Exception):
    """A program cannot go on: what it says on standard error, and its exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text, self.code = text, code


def _why(error: OSError) -> str:
    kinds = {IsADirectoryError: "Is a directory", NotADirectoryError: "Not a directory"}
    return kinds.get(type(error), "No such file or directory")


async def _content(process: Process, name: str, most: int | None = None) -> AsyncIterator[bytes]:
    """The bytes of a file, or of standard input for `-`; leaves the loop to others between two pieces."""
    if name != "-":
        try:
            pieces = process.container.files.read(process.path(name), most)
        except OSError as error:
            raise Trouble(f"can't open '{name}': {_why(error)}") from error
        for piece in pieces:
            yield piece
            await asyncio.sleep(0)
        return
    while most != 0 and (data := await process.stdin.read()):
        piece = data if most is None else data[:most]
        most = None if most is None else most - len(piece)
        yield piece


async def _cat(process: Process) -> int:
    code = 0
    for name in process.args[1:] or ["-"]:
        try:
            async for piece in _content(process, name):
                await process.out(piece)
        except Trouble as trouble:
            code = await process.complain(trouble.text)
    return code


def _count(text: str) -> int:
    """A count with BusyBox's units. Raises Trouble."""
    units = {"k": 1024, "K": 1024, "m": 1024**2, "M": 1024**2, "b": 512}
    digits, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise Trouble(f"invalid number '{text}'")
    return int(digits) * unit


def _head_options(words: list[str]) -> tuple[int | None, int, list[str]]:
    """Bytes (or None), lines, files. Raises Trouble."""
    size, lines, names = None, 10, []
    rest = iter(words)
    for word in rest:
        if word[:2] in ("-c", "-n"):
            number = _count(word[2:] or next(rest, ""))
            size, lines = (number, 0) if word[1] == "c" else (None, number)
        elif word[:1] == "-" and word[1:].isdigit():
            size, lines = None, int(word[1:])
        else:
            names.append(word)
    return size, lines, names or ["-"]


def _first_lines(data: bytes, count: int) -> tuple[bytes, int]:
    """The first `count` lines of `data`, and how many are still missing then."""
    parts = data.split(b"\n", count)
    if len(parts) <= count:
        return data, count - len(parts) + 1
    return data[: len(data) - len(parts[-1])], 0


async def _head(process: Process) -> int:
    size, lines, names = _head_options(process.args[1:])
    for name in names:
        left = lines
        async for piece in _content(process, name, size):
            if size is None:
                piece, left = _first_lines(piece, left)
            await process.out(piece)
            if size is None and left <= 0:
                break
    return 0


async def _wc(process: Process) -> int:
    options = [word for word in process.args[1:] if word.startswith("-") and word != "-"]
    names = [word for word in process.args[1:] if word not in options]
    shown = "".join(options).replace("-", "") or "lwc"
    for name in names or ["-"]:
        lines = words = size = 0
        middle = False
        async for piece in _content(process, name):
            size += len(piece)
            if "l" in shown:
                lines += piece.count(b"\n")
            if "w" in shown:
                words += len(piece.split()) - (middle and not piece[:1].isspace())
                middle = not piece[-1:].isspace()
        counts = [str(number) for letter, number in (("l", lines), ("w", words), ("c", size)) if letter in shown]
        await process.say(" ".join([*counts, *([name] if names else [])]) + "\n")
    return 0


async def _sha256sum(process: Process) -> int:
    for name in process.args[1:] or ["-"]:
        digest = hashlib.sha256()
        async for piece in _content(process, name):
            digest.update(piece)
        await process.say(f"{digest.hexdigest()}  {name}\n")
    return 0


async def _echo(process: Process) -> int:
    words = process.args[1:]
    end = "\n"
    if words[:1] == ["-n"]:
        words, end = words[1:], ""
    await process.say(" ".join(words) + end)
    return 0


async def _env(process: Process) -> int:
    await process.say("".join(f"{name}={value}\n" for name, value in process.env.items()))
    return 0


async def _printenv(process: Process) -> int:
    names = process.args[1:]
    if not names:
        return await _env(process)
    known = [name for name in names if name in process.env]
    await process.say("".join(f"{process.env[name]}\n" for name in known))
    return 0 if len(known) == len(names) else 1


async def _date(process: Process) -> int:
    now = datetime.fromtimestamp(process.container.clock(), UTC)
    form = process.args[1][1:] if process.args[1:] and process.args[1].startswith("+") else "%a %b %e %H:%M:%S UTC %Y"
    await process.say(now.strftime(form.replace("%e", f"{now.day:2}").replace("%s", f"{int(now.timestamp())}")) + "\n")
    return 0


async def _ls(process: Process) -> int:
    code = 0
    names = [word for word in process.args[1:] if not word.startswith("-")]
    for name in names or ["."]:
        path = process.path(name)
        try:
            lines = process.container.files.names(path)
        except NotADirectoryError:
            lines = [name]
        except FileNotFoundError:
            code = await process.complain(f"{name}: No such file or directory")
            continue
        await process.say("".join(f"{line}\n" for line in lines))
    return code


async def _sleep(process: Process) -> int:
    for word in process.args[1:]:
        unit = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}.get(word[-1:])
        number = word[:-1] if unit else word
        if not number.replace(".", "", 1).isdigit():
            raise Trouble(f"invalid number '{word}'")
        await asyncio.sleep(float(number) * (unit or 1))
    return 0 if process.args[1:] else await process.complain("missing operand")


async def _hostname(process: Process) -> int:
    await process.say(f"{process.container.pod}\n")
    return 0


async def _id(process: Process) -> int:
    await process.say("0\n" if "-u" in process.args else "uid=0(root) gid=0(root) groups=0(root)\n")
    return 0


async def _pwd(process: Process) -> int:
    await process.say(f"{process.folder}\n")
    return 0


async def _stty(process: Process) -> int:
    terminal = process.container.terminal
    if terminal is None:
        return await process.complain("standard input: Not a tty")
    if process.args[1:] != ["size"]:
        return await process.complain("only 'size' is known here")
    await process.say(f"{terminal.height} {terminal.width}\n")
    return 0


async def _true(_process: Process) -> int:
    return 0


async def _false(_process: Process) -> int:
    return 1


async def _sh(process: Process) -> int:
    from app.lab.exec_shell import shell  # it looks programs up here

    return await shell(process)


PROGRAMS: Mapping[str, Callable[[Process], Awaitable[int]]] = {
    "cat": _cat, "date": _date, "echo": _echo, "env": _env, "false": _false, "head": _head, "hostname": _hostname,
    "id": _id, "ls": _ls, "printenv": _printenv, "pwd": _pwd, "sh": _sh, "sha256sum": _sha256sum, "sleep": _sleep,
    "stty": _stty, "true": _true, "wc": _wc,
}  # fmt: skip
_FOLDERS = ("/bin", "/usr/bin")


def find_program(word: str) -> Callable[[Process], Awaitable[int]] | None:
    """The program that a word means, by its name or by its path in /bin; None when there is none."""
    folder, _, name = word.rpartition("/")
    return PROGRAMS.get(name) if "/" not in word or folder in _FOLDERS else None


async def run(process: Process) -> int:
    """Run a program that exists to its end; returns its exit code. Raises KeyError when there is none."""
    program = find_program(process.args[0])
    if program is None:
        raise KeyError(process.args[0])
    try:
        return await program(process)
    except Trouble as trouble:
        return await process.complain(trouble.text, trouble.code)
    except BrokenPipeError:
        return BROKEN_PIPE
