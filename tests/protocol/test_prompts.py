"""Questions at a real terminal: hidden answers, one question at a time, and modes that are always put back."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pyte

from tests.terminal import Terminal

ROOT = Path(__file__).parent.parent.parent
START = """
import asyncio, sys
from app.asking import HostKeyQuestion, Prompt
from app.cli.frame import run_async
from app.cli.prompts import TerminalAsker, ask_line
asker = TerminalAsker()
def show(what): print(repr(what), flush=True)
"""


@asynccontextmanager
async def terminal(body: str) -> AsyncIterator[Terminal]:
    """A terminal on which the body of `async def main()` runs."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    script = f"{START}\nasync def main():\n{lines}    return 0\nsys.exit(run_async(main()))\n"
    shown = Terminal(script=script, PYTHONPATH=str(ROOT))
    try:
        yield shown
    finally:
        shown.close()


def wrote(text: str) -> Callable[[bytes], bool]:
    return lambda written: text.encode() in written


async def test_a_secret_is_typed_unseen_edited_and_kept_on_yes() -> None:
    body = "a = await asker.ask_secret('Password of ops@jump01:22', may_keep=True)\nshow((a.value, a.keep))"
    async with terminal(body) as shown:
        await shown.until(wrote("Password of ops@jump01:22: "))
        shown.type("nonsense\x15sentinelö\x7fx\r".encode())
        await shown.until(wrote("Keep it in the operating system's store? [y/N] "))
        assert b"sentinel" not in shown.written and shown.modes() == shown.modes_before
        shown.type(b"y\n")
        await shown.until(wrote("('sentinelx', True)"))
        assert await shown.ended() == 0
        assert shown.modes() == shown.modes_before


async def test_a_long_pasted_token_arrives_whole_and_what_comes_after_it_is_dropped() -> None:
    body = "a = await asker.ask_secret('Token for p')\nshow(len(a.value))\nshow(await asker.ask_secret('More'))"
    async with terminal(body) as shown:
        await shown.until(wrote("Token for p: "))
        for _ in range(10):  # a terminal takes some thousand bytes at a time
            shown.type(b"x" * 600)
        shown.type(b"\rrm -rf /\r")
        await shown.until(wrote("6000"))
        await shown.until(wrote("More: "))
        shown.type(b"\x04")
        await shown.until(wrote("None"))
        assert await shown.ended() == 0


async def test_two_sessions_ask_one_after_the_other() -> None:
    body = (
        "one, two = await asyncio.gather(asker.ask_secret('First'), asker.ask_secret('Second'))\n"
        "show((one.value, two.value))"
    )
    async with terminal(body) as shown:
        await shown.until(wrote("First: "))
        assert b"Second" not in shown.written
        shown.type(b"a\r")
        await shown.until(wrote("Second: "))
        shown.type(b"b\r")
        await shown.until(wrote("('a', 'b')"))


async def test_signals_end_a_question_and_restore_the_terminal() -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143), (None, 130)):
        async with terminal("await asker.ask_secret('Passphrase')") as shown:
            await shown.until(wrote("Passphrase: "))
            assert shown.modes() != shown.modes_before
            if number is None:
                shown.type(b"half\x03")
            else:
                os.kill(shown.process.pid, number)
            assert await shown.ended() == code
            assert shown.modes() == shown.modes_before


async def test_a_withdrawn_question_makes_room_for_the_next() -> None:
    body = """
withdrawn = asyncio.Event()
asyncio.get_running_loop().add_signal_handler(10, withdrawn.set)
first = asyncio.ensure_future(asker.ask_secret('First'))
await withdrawn.wait()
first.cancel()
await asyncio.wait([first])
show((await asker.ask_secret('Second')).value)
"""
    async with terminal(body) as shown:
        await shown.until(wrote("First: "))
        os.kill(shown.process.pid, signal.SIGUSR1)
        await shown.until(wrote("Second: "))
        shown.type(b"b\r")
        await shown.until(wrote("'b'"))
        assert await shown.ended() == 0


async def test_a_servers_words_are_labelled_and_harmless() -> None:
    body = """
asker.tell('jump\\x1b[2J', 'Welcome\\x1b]52;c;evil\\x07\\nline two ' + 'x' * 9000)
prompts = (Prompt('Code\\x1b[31m: '), Prompt('Colour?', echo=True))
show(await asker.ask_prompts('jump01', 'Sign\\x07in', 'one\\ntwo', prompts))
"""
    async with terminal(body) as shown:
        await shown.until(wrote("[from jump01] Code␛[31m: "))
        shown.type(b"123456\r")
        await shown.until(wrote("Colour? "))
        shown.type(b"blue\n")
        await shown.until(wrote("('123456', 'blue')"))
        text = shown.written.decode()
        assert "\x1b" not in text and "\x07" not in text
        for line in ("[from jump␛[2J] Welcome␛]52;c;evil␇", "[from jump01] Sign␇in", "[from jump01] two"):
            assert line in text
        assert text.count("x") < 2100
        assert text.count("123456") == 1, "shown by the test alone"


async def test_a_servers_words_never_stand_where_ours_do() -> None:
    """A line that the terminal breaks would go on at the left edge, without its label."""
    body = """
for blank in (' ', '\u2800', '\t', '\uff0e'):
    asker.tell('ops@jump01:22', 'Welcome' + blank * 200 + 'Passphrase of /home/jo/.ssh/id: ')
asker.tell('ops@jump01:22', '\\n'.join('x' * 3000))
show(await asker.ask_prompts('ops@jump01:22', '', '', (Prompt('Code' + '\u2800' * 120 + 'Passphrase!'),)))
"""
    async with terminal(body) as shown:
        await shown.until(wrote("!"))
        screen = pyte.Screen(120, 200)
        pyte.Stream(screen).feed(shown.written.decode())
        lines = [line for line in screen.display if line.strip()]
        assert lines and all(line.startswith("[from ops@jump01:22] ") for line in lines)
        assert any("Passphrase of" in line for line in lines) and len(lines) < 120
        shown.type(b"1\r")
        await shown.until(wrote("('1',)"))


async def test_only_the_end_of_the_fingerprint_or_the_word_trust_says_yes() -> None:
    body = """
question = HostKeyQuestion('p', 'jump01', '10.0.0.7:22', 'ED25519', 'SHA256:abcdWXYZ')
show([await asker.ask_host_key(question) for _ in range(3)])
"""
    async with terminal(body) as shown:
        for at, answer in enumerate((b"yes\n", b"WXYZ\n", b"trust\n"), 1):
            await shown.until(lambda written, at=at: written.count(b"or `trust`: ") == at)
            shown.type(answer)
        await shown.until(wrote("[False, True, True]"))
