"""Standard output behind a thread: what is said about lines comes after them."""

from __future__ import annotations

import io
import threading

from app.cli import log_output
from app.cli.log_output import Output


class Slow(io.RawIOBase):
    """A reader that reads only while its gate is open; keeps the order of everything."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.seen: list[str] = []

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.gate.wait(10)
        self.seen.append(piece.decode())
        return len(piece)


async def test_a_word_waits_for_the_bytes_before_it_and_the_next_stays_behind() -> None:
    slow = Slow()
    async with Output(slow) as output:  # type: ignore[arg-type]
        output.after(lambda: slow.seen.append("at once"))
        await output.write(b"line")
        output.after(lambda: slow.seen.append("now"), behind=False)
        output.after(lambda: slow.seen.append("left"))
        output.after(lambda: slow.seen.append("joined"), behind=False)
        assert slow.seen == ["at once", "now"]
        slow.gate.set()
    assert slow.seen == ["at once", "now", "line", "left", "joined"]


async def test_words_that_wait_have_a_maximum() -> None:
    slow = Slow()
    said: list[int] = []
    async with Output(slow) as output:  # type: ignore[arg-type]
        await output.write(b"line")
        for number in range(log_output.MAX_AFTERWARDS + 3):
            output.after(lambda number=number: said.append(number))  # type: ignore[misc]
        assert said == [0, 1, 2]
        slow.gate.set()
    assert said == list(range(log_output.MAX_AFTERWARDS + 3))
