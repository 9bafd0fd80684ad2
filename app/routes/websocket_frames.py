"""Frames of WebSockets (RFC 6455 §5) as a client needs them for a byte stream, without input or output of its own.

Lenient where Azure Bastion is known to need it: reserved bits are ignored, text counts as bytes, a message that goes on
without having begun is taken. Messages have no meaning here, so their bytes are handed on as they come.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import IntEnum

FRAME_SIZE = 4_096
"""Bytes of payload in a frame that we send: what the published client sends, and the largest of which all reports are
good. (A client that sent continuation frames was refused; nobody has shown the largest single frame that is taken.)"""
FRAME_SIZE_MAX = 32 << 10
"""Bytes of payload that a setting may ask for; 32 KiB are masked in a tenth of a millisecond."""
CONTROL_MAX = 125
"""Bytes of a control frame (RFC 6455 §5.5)."""

_FINAL, _MASKED = 0x80, 0x80


class Op(IntEnum):
    """Kinds of frames (RFC 6455 §5.2), and two findings of the reader that are none."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
    EMPTY = 16
    """An empty message: the published client takes it for the end of the stream."""
    BROKEN = 17
    """Bytes that are no frame; the payload says why. Nothing after it is read."""


_KNOWN = {int(op) for op in Op if op < Op.EMPTY}
Event = tuple[Op, bytes]
"""BINARY: bytes of the stream, of any number of frames. CLOSE, PING, PONG: the whole frame's payload."""


_quick: Callable[[bytes, bytearray], None] | None = None
"""Masks in place, in C; see `quicken`."""


def quicken() -> None:
    """Have masks made in C from now on, ten times as fast: by the part of aiohttp that does it, where there is one.

    Blocks while aiohttp is loaded, so it is for those who send much, in a thread. Not public there: what it makes is
    compared with our own, and without it (or with another result) nothing changes.
    """
    global _quick
    try:
        from aiohttp._websocket.helpers import websocket_mask

        sample = bytearray(b"some bytes of a stream")
        websocket_mask(b"\x01\x80\xff\x00", sample)
        right = bytes(sample) == mask(b"some bytes of a stream", b"\x01\x80\xff\x00")
    except (ImportError, TypeError):
        return
    if right and websocket_mask.__name__ != "_websocket_mask_python":
        _quick = websocket_mask


def mask(data: bytes | memoryview, key: bytes) -> bytes | bytearray:
    """XOR with the key over and over (RFC 6455 §5.3): as one big number, 50 times faster than byte by byte."""
    if _quick is not None:
        masked = bytearray(data)
        _quick(key, masked)
        return masked
    size = len(data)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")


def _parts(data: bytes | memoryview, op: Op, key: bytes) -> tuple[bytes, bytes, bytes | bytearray]:
    """Head, key and masked payload of a frame that is a whole message."""
    size = len(data)
    if size <= CONTROL_MAX:
        head = bytes((_FINAL | op, _MASKED | size))
    elif size < 1 << 16:
        head = bytes((_FINAL | op, _MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FINAL | op, _MASKED | 127)) + size.to_bytes(8, "big")
    return head, key, mask(data, key)


def frame(data: bytes, op: Op = Op.BINARY) -> bytes:
    """One masked frame that is a whole message."""
    return b"".join(_parts(data, op, os.urandom(4)))


def frames(data: bytes, size: int = FRAME_SIZE) -> bytes:
    """The bytes as frames of at most `size` bytes of payload each, every one a whole message."""
    if len(data) <= size:
        return frame(data)
    view = memoryview(data)
    starts = range(0, len(view), size)
    keys = os.urandom(4 * len(starts))  # one call for all: small frames would else take a fifth longer
    parts = (
        _parts(view[at : at + size], Op.BINARY, keys[4 * number : 4 * number + 4]) for number, at in enumerate(starts)
    )
    return b"".join([piece for part in parts for piece in part])


def close_code(payload: bytes) -> tuple[int, bytes]:
    """Code and reason of a CLOSE frame; 1005 stands for none (RFC 6455 §7.1.5)."""
    return (int.from_bytes(payload[:2], "big"), payload[2:]) if len(payload) >= 2 else (1005, b"")


class FrameReader:
    """Takes bytes as they come and gives events. Holds at most one frame's head or one control frame."""

    def __init__(self) -> None:
        self._held = b""
        self._left = 0
        """Bytes of the present data frame that are still to come."""
        self._empty = True
        """Whether the present message has had no bytes yet."""
        self.ended = False
        """A CLOSE, EMPTY or BROKEN has been given: what follows is not read."""
        self.reserved = False
        """Whether a frame had reserved bits set, though nothing was agreed on."""

    def feed(self, data: bytes | memoryview) -> list[Event]:
        """What is in `data`, which is not kept; bytes of neighbouring frames are joined."""
        if self._held:
            data, self._held = self._held + data, b""
        events: list[Event] = []
        pieces: list[memoryview] = []
        view = memoryview(data)
        at, size = 0, len(view)
        while at < size and not self.ended:
            if self._left:
                piece = view[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                pieces.append(piece)
                continue
            event, taken = self._frame(view, at)
            if not taken:
                self._held = bytes(view[at:])
                break
            at += taken
            if event is not None:
                _flush(pieces, events)
                events.append(event)
        _flush(pieces, events)
        return events

    def _frame(self, data: memoryview, at: int) -> tuple[Event | None, int]:
        """The head of a data frame, or a whole control frame: what it tells, and how many bytes it has; 0: too few."""
        if len(data) - at < 2:
            return None, 0
        first, second = data[at], data[at + 1]
        op, length, head = first & 0x0F, second & 0x7F, 2
        if op not in _KNOWN:
            return self._broken(f"a frame of the unknown kind {op}")
        if second & _MASKED:
            return self._broken("a masked frame, which only clients send")
        self.reserved = self.reserved or bool(first & 0x70)
        if op >= Op.CLOSE:
            return self._control(data, at, Op(op), length)
        if length >= 126:
            head = 4 if length == 126 else 10
            if len(data) - at < head:
                return None, 0
            length = int.from_bytes(data[at + 2 : at + head], "big")
            if length >> 63:
                return self._broken("a frame longer than any can be")
        if op != Op.CONTINUATION:
            self._empty = True
        self._empty = self._empty and not length
        self._left = length
        if self._empty and first & _FINAL:
            self.ended = True
            return (Op.EMPTY, b""), head
        return None, head

    def _control(self, data: memoryview, at: int, op: Op, length: int) -> tuple[Event | None, int]:
        if length > CONTROL_MAX:
            return self._broken("a control frame that is too long")
        if len(data) - at < 2 + length:
            return None, 0
        self.ended = op is Op.CLOSE
        return (op, bytes(data[at + 2 : at + 2 + length])), 2 + length

    def _broken(self, why: str) -> tuple[Event, int]:
        self.ended = True
        return (Op.BROKEN, why.encode()), 1


def _flush(pieces: list[memoryview], events: list[Event]) -> None:
    if pieces:
        events.append((Op.BINARY, b"".join(pieces)))
        pieces.clear()
