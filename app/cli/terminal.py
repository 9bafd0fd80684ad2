"""Lines from the controlling terminal: never standard input, which may be a pipe; modes are always put back.

A hidden line is read key by key, since a terminal that gathers lines itself takes 1,024 (macOS) or 4,096 characters and
a token may have more.
"""

from __future__ import annotations

import os
import signal
import sys

from app.text import clean_block

MAX_ANSWER = 64 * 1024
"""Bytes of an answer; what is typed beyond them is left out."""
_ERASE, _KILL, _END_OF_FILE = (0x7F, 0x08), 0x15, 0x04


def columns() -> int:
    """How many columns the controlling terminal has; 80 when it does not tell."""
    device = "CONOUT$" if sys.platform == "win32" else "/dev/tty"
    try:
        with open(device, "wb", buffering=0) as terminal:
            return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80


def show(text: str) -> None:
    """Write on the controlling terminal, whatever standard output and error are. Blocks. Raises OSError without one."""
    device = "CONOUT$" if sys.platform == "win32" else "/dev/tty"
    with open(device, "w", encoding="utf-8", errors="replace") as terminal:
        terminal.write(clean_block(text))


def in_foreground() -> bool:
    """Whether what is typed at the controlling terminal is for this program; False on Windows, which does not tell."""
    if sys.platform == "win32":
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


class Stopped(Exception):
    """The question was withdrawn while it was being answered."""


def read_answer(question: str, *, hidden: bool = False, stop: int | None = None) -> str | None:
    """Show a question and return the line typed, without its end; None at end of file. Blocks.

    What was typed before the question is dropped: it was no answer to it. `stop` is a descriptor that becomes readable
    when the question is withdrawn (POSIX). Raises OSError without a terminal, Stopped.
    """
    if sys.platform == "win32":
        return _read_console(question, hidden)
    else:
        return _read_terminal(question, hidden, stop)


if sys.platform == "win32":
    import msvcrt

    def _read_console(question: str, hidden: bool) -> str | None:
        with open("CONOUT$", "w", encoding="utf-8") as out:
            while msvcrt.kbhit():
                msvcrt.getwch()
            out.write(clean_block(question))
            out.flush()
            if not hidden:
                with open("CONIN$", encoding="utf-8", errors="replace") as answers:
                    line = answers.readline()
                return line.rstrip("\r\n") if line else None
            typed: list[str] = []
            while (key := msvcrt.getwch()) not in "\r\n":
                if key == "\x03":  # the console hands ctrl-c over as a key here
                    out.write("\n")
                    signal.raise_signal(signal.SIGINT)
                    return None
                if key == "\x1a" and not typed:
                    out.write("\n")
                    return None
                if key in "\x00\xe0":
                    msvcrt.getwch()  # the second half of an arrow or function key
                elif key == "\b":
                    del typed[-1:]
                elif len(typed) < MAX_ANSWER:
                    typed.append(key)
            out.write("\n")
            return "".join(typed)

else:
    import select
    import termios

    def _read_terminal(question: str, hidden: bool, stop: int | None) -> str | None:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            before = termios.tcgetattr(terminal)
            termios.tcflush(terminal, termios.TCIFLUSH)
            try:
                if hidden:
                    modes = termios.tcgetattr(terminal)
                    modes[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON)
                    modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
                    termios.tcsetattr(terminal, termios.TCSAFLUSH, modes)
                os.write(terminal, clean_block(question).encode("utf-8", "replace"))
                return _typed(terminal, hidden, stop)
            except (Stopped, KeyboardInterrupt):
                if not hidden:
                    os.write(terminal, b"\n")
                raise
            finally:
                if hidden:  # flushed: the rest of a paste is not for the shell
                    termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
                    os.write(terminal, b"\n")
        finally:
            os.close(terminal)

    def _typed(terminal: int, hidden: bool, stop: int | None) -> str | None:
        line = bytearray()
        while True:
            ready, _, _ = select.select([terminal] if stop is None else [terminal, stop], [], [])
            if stop is not None and stop in ready:
                raise Stopped
            data = os.read(terminal, 4096)
            if not data:
                return None
            if not hidden:
                line += data
                if line.endswith(b"\n") or len(line) > MAX_ANSWER:
                    return line.decode("utf-8", "replace").rstrip("\r\n")
                continue
            for key in data:
                if key in b"\r\n":
                    return line.decode("utf-8", "replace")
                if key == _END_OF_FILE:
                    return line.decode("utf-8", "replace") if line else None
                _edit(line, key)

    def _edit(line: bytearray, key: int) -> None:
        """One key of a hidden line: erase, start anew, or one more byte."""
        if key == _KILL:
            line.clear()
        elif key in _ERASE:
            while line and line[-1] & 0xC0 == 0x80:  # the rest of a character of several bytes
                line.pop()
            del line[-1:]
        elif len(line) < MAX_ANSWER:
            line.append(key)
