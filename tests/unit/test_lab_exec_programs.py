"""The programs, the shell and the terminal of the lab's containers."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from app.lab.exec_files import BIG_SHA256, BIG_SIZE, BLOCK, Files, big
from app.lab.exec_pipe import ROOM, Pipe
from app.lab.exec_programs import Container, Process, run
from app.lab.exec_terminal import Terminal
from app.tasks import spawn

NOON = 1_795_608_000.0


class Screen:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.out, self.err = b"", b""
        self.news = asyncio.Event()

    async def to_out(self, data: bytes) -> None:
        self.out += data
        self.news.set()

    async def to_err(self, data: bytes) -> None:
        self.err += data

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(10):
            while not self.out.endswith(text):
                self.news.clear()
                await self.news.wait()


async def ran(*args: str, stdin: bytes | None = None) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    screen, pipe = Screen(), Pipe()
    if stdin:
        await pipe.put(stdin)
    pipe.end()
    place = Container("default", "clock-0", "clock", Files("clock-0"), lambda: NOON)
    code = await run(Process(list(args), place, pipe, screen.to_out, screen.to_err, place.environment()))
    return code, screen.out.decode(), screen.err.decode()


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (("true",), (0, "", "")),
        (("/bin/false",), (1, "", "")),
        (("echo", "a", "b"), (0, "a b\n", "")),
        (("echo", "-n", "a"), (0, "a", "")),
        (("cat", "/etc/hostname", "nosuch"), (1, "clock-0\n", "cat: can't open 'nosuch': No such file or directory\n")),
        (("cat", "/etc"), (1, "", "cat: can't open '/etc': Is a directory\n")),
        (("date",), (0, "Wed Nov 25 12:00:00 UTC 2026\n", "")),
        (("date", "+%Y-%m-%d"), (0, "2026-11-25\n", "")),
        (("hostname",), (0, "clock-0\n", "")),
        (("id",), (0, "uid=0(root) gid=0(root) groups=0(root)\n", "")),
        (("pwd",), (0, "/\n", "")),
        (("ls",), (0, "bin\ndata\netc\nroot\n", "")),
        (("ls", "-l", "/data"), (0, "big\nbig.sha256\n", "")),
        (("ls", "/nosuch"), (1, "", "ls: /nosuch: No such file or directory\n")),
        (("printenv", "HOSTNAME", "NOSUCH"), (1, "clock-0\n", "")),
        (("sleep", "0"), (0, "", "")),
        (("sleep", "x"), (1, "", "sleep: invalid number 'x'\n")),
        (("head", "-c", "x"), (1, "", "head: invalid number 'x'\n")),
        (("stty", "size"), (1, "", "stty: standard input: Not a tty\n")),
        (("sh", "nosuch"), (2, "", "sh: can't open 'nosuch': No such file or directory\n")),
    ],
)
async def test_programs(args: tuple[str, ...], found: tuple[int, str, str]) -> None:
    assert await ran(*args) == found


async def test_programs_that_read_their_input() -> None:
    text = b"one two\nthree\nfour"
    assert await ran("cat", stdin=text) == (0, text.decode(), "")
    assert await ran("wc", stdin=text) == (0, "2 4 18\n", "")
    assert await ran("wc", "-l", stdin=text) == (0, "2\n", "")
    assert await ran("head", "-n", "1", stdin=text) == (0, "one two\n", "")
    assert await ran("head", "-2", stdin=text) == (0, "one two\nthree\n", "")
    assert await ran("head", "-c", "4", stdin=text) == (0, "one ", "")
    assert await ran("sha256sum", stdin=text) == (0, f"{hashlib.sha256(text).hexdigest()}  -\n", "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("echo out; echo err >&2; exit 3", (3, "out\n", "err\n")),
        ("false && echo no || echo yes", (0, "yes\n", "")),
        ("nosuch", (127, "", "sh: nosuch: not found\n")),
        ("nosuch; echo $?", (0, "127\n", "sh: nosuch: not found\n")),
        ("X=1; echo $X ${X}2 '$X' \"$X\" \\$X", (0, "1 12 $X 1 $X\n", "")),
        ("export Y=2; printenv Y", (0, "2\n", "")),
        ("Z=3 printenv Z; printenv Z", (1, "3\n", "")),
        ("cd /data && ls && pwd", (0, "big\nbig.sha256\n/data\n", "")),
        ("cd /nosuch", (2, "", "sh: cd: can't cd to /nosuch: No such file or directory\n")),
        ("cat /data/big | head -c 10 | wc -c", (0, "10\n", "")),
        ("exit 4 | true; echo $?", (0, "0\n", "")),
        ("ls /nosuch 2>&1 >/dev/null | wc -l", (0, "1\n", "")),
        ("cat </dev/null", (0, "", "")),
        ("while true; do echo x; exit 9; done", (9, "x\n", "")),
        ("until true; do echo x; done; echo end", (0, "end\n", "")),
        ("sh -c 'exit 6'", (6, "", "")),
        ("", (0, "", "")),
        ("echo a\necho b", (0, "a\nb\n", "")),
        ("echo (", (2, "", 'sh: syntax error: unexpected "("\n')),
        ("echo 'open", (2, "", 'sh: syntax error: unexpected "\'"\n')),
        ("echo $(date)", (2, "", "sh: syntax error: this shell does not substitute commands\n")),
        ("for x in a; do echo $x; done", (2, "", 'sh: syntax error: unexpected "for"\n')),
        ("echo x >/etc/passwd", (2, "", "sh: syntax error: can't create /etc/passwd: Read-only file system\n")),
    ],
)
async def test_the_shell(text: str, found: tuple[int, str, str]) -> None:
    assert await ran("sh", "-c", text) == found


async def test_the_shell_reads_commands_from_its_input() -> None:
    assert await ran("sh", stdin=b"echo one\nfalse\nif\necho $?\n") == (
        0, "one\n2\n", "sh: syntax error: unexpected \"if\"\n",
    )  # fmt: skip


def test_every_block_of_the_big_file_differs() -> None:
    pieces = b"".join(big(3 * BLOCK + 5))
    assert len(pieces) == 3 * BLOCK + 5
    assert [pieces[at : at + 8] for at in (0, BLOCK, 2 * BLOCK)] == [bytes(8 - 1) + bytes([n]) for n in range(3)]
    assert pieces[8:BLOCK] == pieces[BLOCK + 8 : 2 * BLOCK]


def test_the_digest_of_the_big_file() -> None:
    size = BIG_SIZE if os.environ.get("SOAK") else 8 * BLOCK
    digest, read = hashlib.sha256(), 0
    for piece in big(size):
        digest.update(piece)
        read += len(piece)
    assert read == size
    assert size < BIG_SIZE or digest.hexdigest() == BIG_SHA256


async def test_a_full_pipe_holds_its_writer_until_there_is_room_or_nobody_reads() -> None:
    pipe = Pipe()
    await pipe.put(b"x" * ROOM)
    writer = spawn(pipe.put(b"y"), name="test writer")
    await asyncio.sleep(0)
    assert not writer.done()
    assert await pipe.read() == b"x" * ROOM
    await writer
    await pipe.put(b"z" * ROOM)
    writer = spawn(pipe.put(b"y"), name="test writer")
    await asyncio.sleep(0)
    pipe.shut()
    with pytest.raises(BrokenPipeError):
        await writer


async def test_an_end_in_the_middle_is_read_where_it_was_typed() -> None:
    pipe = Pipe()
    await pipe.put(b"cat\n")
    pipe.mark_end()
    await pipe.put(b"exit\n")
    assert [await pipe.readline(), await pipe.readline(), await pipe.readline()] == [b"cat\n", b"", b"exit\n"]


class Session:
    """A shell in a terminal."""

    def __init__(self) -> None:
        self.screen = Screen()
        self.terminal = Terminal(self.screen.to_out)
        place = Container("default", "clock-0", "clock", Files("clock-0"), lambda: NOON, self.terminal)
        write = self.terminal.write
        self.shell = spawn(run(Process(["sh"], place, self.terminal.input, write, write, {})), name="test shell")

    async def type(self, keys: bytes, answer: bytes) -> None:
        """Type, and wait until what is on the screen ends so."""
        self.screen.out = b""
        await self.terminal.typed(keys)
        await self.screen.until(answer)


@pytest.fixture
async def session() -> Session:
    one = Session()
    await one.screen.until(b"/ # ")
    return one


async def test_a_terminal_echoes_edits_and_ends(session: Session) -> None:
    await session.type(b"echx\x7fo a b\x17c\r", b"echx\b \bo a b\b \bc\r\na c\r\n/ # ")
    await session.type(b"junk\x15pwd\r", b"\b \bpwd\r\n/\r\n/ # ")
    await session.type(b"nosuch\r", b"sh: nosuch: not found\r\n/ # ")
    await session.type(b"\x04", b"\r\n")
    assert await session.shell == 127


async def test_ctrl_c_ends_the_command_and_not_the_shell(session: Session) -> None:
    await session.type(b"abc\x03", b"abc^C\r\n/ # ")
    await session.type(b"echo on; sleep 1000\r", b"\non\r\n")
    await session.type(b"\x03", b"^C\r\n/ # ")
    await session.type(b"echo $?\r", b"130\r\n/ # ")
    await session.type(b"exit 5\r", b"exit 5\r\n")
    assert await session.shell == 5


async def test_ctrl_d_ends_the_input_of_a_program_only(session: Session) -> None:
    await session.type(b"cat\r", b"cat\r\n")
    await session.type(b"abc\r", b"abc\r\nabc\r\n")
    await session.type(b"\x04", b"/ # ")
    await session.type(b"\x04", b"\r\n")
    assert await session.shell == 0
