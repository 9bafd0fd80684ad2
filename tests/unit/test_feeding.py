"""The guarded protocol above a carried stream: what it raises ends this one stream, and its end is told once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.routes.feeding import Guarded, Traffic


class Faulty(asyncio.Protocol):
    """Notes what it is called for, and raises where it is told to."""

    def __init__(self, *where: str) -> None:
        self.where = where
        self.calls: list[str] = []

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if call in self.where:
            raise ZeroDivisionError(call)

    def data_received(self, data: bytes) -> None:
        self._called("data_received")

    def eof_received(self) -> None:
        self._called("eof_received")

    def pause_writing(self) -> None:
        self._called("pause_writing")

    def resume_writing(self) -> None:
        self._called("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self._called(f"connection_lost {exc}")


class Stream:
    """Below a guarded protocol: ends once, as a transport does."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        self.traffic = Traffic()
        self.above = Guarded("a stream", self.traffic, self.abort)
        self.above.protocol = protocol
        self.aborted = 0
        self.reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.reported.append(context))

    def abort(self) -> None:
        self.aborted += 1
        self.above.lost(None)


def use(above: Guarded) -> None:
    """Every call that whoever carries a stream makes."""
    above.received(b"abc")
    above.pause(True)
    above.pause(False)
    above.eof_received()


@pytest.mark.parametrize("call", ["data_received", "pause_writing", "resume_writing", "eof_received"])
async def test_what_a_protocol_raises_is_reported_and_ends_its_stream(call: str) -> None:
    protocol = Faulty(call)
    stream = Stream(protocol)
    use(stream.above)
    assert stream.aborted == 1
    (report,) = stream.reported
    assert report["message"] == f"protocol.{call}() call failed on a stream"
    assert isinstance(report["exception"], ZeroDivisionError) and report["protocol"] is protocol
    assert protocol.calls[-1] == call  # nothing comes after it but the end, and that from the loop
    await asyncio.sleep(0)
    assert protocol.calls[-1] == "connection_lost None"
    use(stream.above)
    assert protocol.calls[-1] == "connection_lost None"


async def test_the_end_is_told_once_and_never_within_a_call() -> None:
    protocol = Faulty()
    stream = Stream(protocol)
    stream.above.lost(ConnectionResetError("gone"))
    stream.above.lost(None)
    assert protocol.calls == []
    await asyncio.sleep(0)
    assert protocol.calls == ["connection_lost gone"]


async def test_pauses_are_told_when_they_are_news_and_bytes_are_counted() -> None:
    protocol = Faulty()
    stream = Stream(protocol)
    for full in (False, True, True, False, False):
        stream.above.pause(full)
    assert protocol.calls == ["pause_writing", "resume_writing"]
    stream.above.received(b"abc")
    assert (stream.traffic.received, stream.reported) == (3, [])


async def test_a_protocol_whose_buffer_is_empty_ends_its_stream_and_holds_nothing_up() -> None:
    class Empty(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            return bytearray()

        def buffer_updated(self, nbytes: int) -> None:
            raise AssertionError

    stream = Stream(Empty())
    stream.above.received(b"abc")
    assert stream.aborted == 1 and isinstance(stream.reported[0]["exception"], RuntimeError)
