"""The shell of the lab's containers: simple commands, lists, pipelines, `while`, redirections, variables.

No substitution of commands, no patterns, no writing to files: enough for what people type to see that they are in.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from app.lab.exec_pipe import Pipe
from app.lab.exec_programs import BROKEN_PIPE, INTERRUPTED, Process, find_program, run
from app.tasks import TaskOwner

_TOKEN = re.compile(
    r"""[ \t]*(?:(?P<op>&&|\|\||[;|\n])|(?P<redirect>[0-2]?(?:>&|<|>>?)[ ]*[\w/.-]+)"""
    r"""|(?P<word>(?![()])(?:[^\s;|&<>'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+))"""
)
_PART = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^'"\\]+)""")
_VARIABLE = re.compile(r"\$(?:\{(\w+|\?)\}|(\w+|\?))")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_KEYWORDS = ("while", "until", "do", "done", "if", "then", "else", "elif", "fi", "for", "case", "esac", "{", "}", "(")


class SyntaxTrouble(Exception):
    """The text is no command that this shell knows."""


class Exit(Exception):
    """Leave the shell with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Simple:
    """One command: its words as written, and where its output goes."""

    words: list[str] = field(default_factory=list)
    redirects: list[str] = field(default_factory=list)


@dataclass
class Loop:
    """`while CONDITION; do BODY; done`; with `wanted` False it is `until`."""

    condition: Sequence
    body: Sequence
    wanted: bool


@dataclass
class Sequence:
    """Pipelines, each with the operator before it: `;`, `&&` or `||`."""

    items: list[tuple[str, list[Simple | Loop]]] = field(default_factory=list)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(text.rstrip(" \t"))
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise SyntaxTrouble(f'unexpected "{text[at:].strip()[:1]}"')
        at = found.end()
        kind = str(found.lastgroup)
        yield kind, found[kind]


class Parser:
    """Reads one text."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), ("end", "end of file")]
        self._at = 0

    def whole(self) -> Sequence:
        """All of the text. Raises SyntaxTrouble."""
        found = self._sequence()
        self._expect("end", "end of file")
        return found

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _expect(self, kind: str, text: str) -> None:
        token = self._next()
        if token != (kind, text):
            raise SyntaxTrouble(f'unexpected "{token[1]}"')

    def _sequence(self) -> Sequence:
        found = Sequence()
        operator = ";"
        while True:
            while self._tokens[self._at] in (("op", ";"), ("op", "\n")):
                self._at += 1
            if self._tokens[self._at] in (("end", "end of file"), ("word", "do"), ("word", "done")):
                return found
            found.items.append((operator, self._pipeline()))
            kind, operator = self._tokens[self._at]
            if kind != "op":
                return found
            self._at += 1
            operator = ";" if operator == "\n" else operator

    def _pipeline(self) -> list[Simple | Loop]:
        commands = [self._command()]
        while self._tokens[self._at] == ("op", "|"):
            self._at += 1
            commands.append(self._command())
        return commands

    def _command(self) -> Simple | Loop:
        kind, text = self._tokens[self._at]
        if kind == "word" and text in ("while", "until"):
            self._at += 1
            condition = self._sequence()
            self._expect("word", "do")
            body = self._sequence()
            self._expect("word", "done")
            return Loop(condition, body, text == "while")
        if kind not in ("word", "redirect") or text in _KEYWORDS:
            raise SyntaxTrouble(f'unexpected "{text}"')
        found = Simple()
        while self._tokens[self._at][0] in ("word", "redirect"):
            kind, text = self._next()
            (found.words if kind == "word" else found.redirects).append(text)
        return found


class Shell:
    """One shell: its variables, its folder, the code of its last command."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.code = 0

    async def text(self, text: str) -> int:
        """Run a text; returns the code of its last command. Raises Exit, and SyntaxTrouble before anything ran."""
        await self._sequence(Parser(text).whole(), self.process)
        return self.code

    async def _sequence(self, found: Sequence, process: Process) -> None:
        for operator, pipeline in found.items:
            if operator == ";" or (operator == "&&") == (self.code == 0):
                self.code = await self._pipeline(pipeline, process)

    async def _pipeline(self, commands: list[Simple | Loop], process: Process) -> int:
        if len(commands) == 1:
            return await self._command(commands[0], process)
        async with TaskOwner("lab shell") as owner:
            stdin, tasks = process.stdin, []
            for command in commands[:-1]:
                pipe = Pipe()
                part = replace(process, stdin=stdin, out=pipe.put, env=dict(process.env))
                tasks.append(owner.spawn(self._part(command, part, pipe), name="part of a pipeline"))
                stdin = pipe
            code = await self._command(commands[-1], replace(process, stdin=stdin, env=dict(process.env)))
            stdin.shut()
            await asyncio.gather(*tasks)
        return code

    async def _part(self, command: Simple | Loop, process: Process, pipe: Pipe) -> None:
        try:
            with suppress(BrokenPipeError):
                await self._command(command, process)
        finally:
            pipe.end()
            if process.stdin is not self.process.stdin:
                process.stdin.shut()

    async def _command(self, command: Simple | Loop, process: Process) -> int:
        try:
            if isinstance(command, Loop):
                return await self._loop(command, process)
            return await self._simple(command, process)
        except Exit:
            if process is self.process:
                raise
            return self.code

    async def _loop(self, loop: Loop, process: Process) -> int:
        code = 0
        while True:
            await self._sequence(loop.condition, process)
            if (self.code == 0) != loop.wanted:
                return code
            await self._sequence(loop.body, process)
            code = self.code
            await asyncio.sleep(0)

    async def _simple(self, command: Simple, process: Process) -> int:
        part = self._redirected(command, process)
        words = [word for raw in command.words if (word := self._expanded(raw)) or raw[:1] in "'\""]
        extra: dict[str, str] = {}
        while words and (found := _ASSIGNMENT.fullmatch(words[0])):
            extra[found[1]] = found[2]
            words.pop(0)
        if not words:
            process.env |= extra
            return 0
        if words[0] in ("exit", "cd", "export", ":", "break"):
            return await self._builtin(words, process, part)
        if find_program(words[0]) is None:
            await part.err(f"sh: {words[0]}: not found\n".encode())
            return 127
        return await run(replace(part, args=words, env=process.env | extra))

    async def _builtin(self, words: list[str], process: Process, part: Process) -> int:
        if words[0] == "exit":
            raise Exit(int(words[1]) & 0xFF if words[1:] and words[1].isdigit() else self.code)
        if words[0] == "export":
            found = (_ASSIGNMENT.fullmatch(word) for word in words[1:])
            process.env |= {each[1]: each[2] for each in found if each}
        elif words[0] == "cd":
            place = process.path(words[1] if words[1:] else process.env.get("HOME", "/"))
            try:
                process.container.files.names(place)
            except OSError:
                await part.err(f"sh: cd: can't cd to {words[1]}: No such file or directory\n".encode())
                return 2
            process.folder = place
            process.env["PWD"] = place
        return 0

    def _redirected(self, command: Simple, process: Process) -> Process:
        part = replace(process)
        for text in command.redirects:
            number, sign, target = re.fullmatch(r"([0-2]?)(>&|<|>>?)[ ]*(.*)", text).groups()  # type: ignore[union-attr]
            if sign == "<":
                part.stdin = Pipe()
                part.stdin.end()
                continue
            write = {"1": part.out, "2": part.err, "/dev/null": _nowhere}.get(target)
            if write is None or target.isdigit() != (sign == ">&"):
                raise SyntaxTrouble(f"can't create {target}: Read-only file system")
            if number == "2":
                part.err = write
            else:
                part.out = write
        return part

    def _expanded(self, raw: str) -> str:
        pieces = []
        for single, double, escaped, bare in _PART.findall(raw):
            if double or bare:
                text = re.sub(r'\\(["\\$`])', r"\1", double) if double else bare
                if "$(" in text or "`" in text:
                    raise SyntaxTrouble("this shell does not substitute commands")
                pieces.append(_VARIABLE.sub(self._value, text))
            else:
                pieces.append(single or escaped)
        return "".join(pieces)

    def _value(self, found: re.Match[str]) -> str:
        name = found[1] or found[2]
        return str(self.code) if name == "?" else self.process.env.get(name, "")


async def _nowhere(_data: bytes) -> None:
    """/dev/null."""


async def shell(process: Process) -> int:
    """`sh`, `sh -c TEXT`, or `sh` with its commands on standard input; returns the exit code."""
    words = [word for word in process.args[1:] if word not in ("-i", "-l", "--")]
    inner = replace(process, args=["sh"], env=dict(process.env))
    one = Shell(inner)
    if words and words[0] in ("-c", "-lc", "-ec"):
        return await _guarded(one, words[1] if words[1:] else "")
    if words:
        return await process.complain(f"can't open '{words[0]}': No such file or directory", 2)
    return await _interactive(one)


async def _guarded(one: Shell, text: str) -> int:
    try:
        return await one.text(text)
    except Exit as leaving:
        return leaving.code
    except SyntaxTrouble as trouble:
        return await one.process.complain(f"syntax error: {trouble}", 2)


async def _interactive(one: Shell) -> int:
    """Commands line by line; with a terminal also prompts, and Ctrl-C ends the command only."""
    process = one.process
    terminal = process.container.terminal
    if terminal is not None:
        terminal.foreground = None
    while True:
        if terminal is not None:
            await process.say(f"{process.folder} # ")
        line = await process.stdin.readline()
        if not line:
            if terminal is not None:
                await process.say("\n")
            return one.code
        try:
            one.code = await _attended(one, line.decode(errors="replace").rstrip("\n"))
        except Exit as leaving:
            return leaving.code
        except SyntaxTrouble as trouble:
            one.code = await process.complain(f"syntax error: {trouble}", 2)


async def _attended(one: Shell, text: str) -> int:
    """Run a line; with a terminal as a task of its own that Ctrl-C cancels."""
    terminal = one.process.container.terminal
    if terminal is None:
        return await one.text(text)
    async with TaskOwner("lab shell") as owner:
        task = owner.spawn(_outcome(one, text), name="line")
        terminal.foreground = task
        try:
            await asyncio.wait({task})
        finally:
            terminal.foreground = None
        if task.cancelled():
            return INTERRUPTED
        found = task.result()
    if isinstance(found, Exception):
        raise found
    return found


async def _outcome(one: Shell, text: str) -> int | Exception:
    try:
        return await one.text(text)
    except (Exit, SyntaxTrouble) as error:
        return error
    except BrokenPipeError:
        return BROKEN_PIPE
