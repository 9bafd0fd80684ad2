"""WebSocket frames (RFC 6455, 5) as Azure Bastion's tunnel uses them: binary ones whose boundaries carry no meaning.

The client's payload is passed on piece by piece, so that frames of any size need no buffer of their size. Continuation
frames from the client are an error: the service rejects them, as a published client in Go says.
"""

from __future__ import annotations

from app.lab.websocket import PROTOCOL_ERROR, Broken, Op, unmask

UNSUPPORTED = 1003
"""The status of a close frame for a kind of data that is not understood (RFC 6455, 7.4.1)."""

RSV1 = 0x40
_FIN, _RESERVED, _KIND, _MASKED, _SIZE = 0x80, 0x70, 0x0F, 0x80, 0x7F
_CONTROL_MOST = 125

Piece = tuple[Op, bytes]
"""A piece of a binary frame's payload, or a whole control frame; unmasked."""


def head(op: Op, length: int, *, last: bool = True, rsv1: bool = False) -> bytes:
    """The head of an unmasked frame with `length` bytes."""
    first = op | (_FIN if last else 0) | (RSV1 if rsv1 else 0)
    if length <= _CONTROL_MOST:
        return bytes((first, length))
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")


def message(data: bytes, size: int, *, rsv1: bool = False) -> bytes:
    """`data`, not empty, as whole binary frames of at most `size` bytes each."""
    parts: list[bytes] = []
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        parts += [head(Op.BINARY, len(piece), rsv1=rsv1), piece]
    return b"".join(parts)


def fragmented(data: bytes, size: int, ping: bytes) -> bytes:
    """`data`, not empty, as one binary message in fragments of at most `size` bytes, a ping after each but the last.

    An empty `data` would be an empty message, which the published client takes for the end.
    """
    parts: list[bytes] = []
    for start in range(0, len(data), size):
        piece, last = data[start : start + size], start + size >= len(data)
        parts += [head(Op.CONTINUATION if start else Op.BINARY, len(piece), last=last), piece]
        if not last:
            parts += [head(Op.PING, len(ping)), ping]
    return b"".join(parts)


class FrameDecoder:
    """Takes the bytes of a client apart."""

    def __init__(self) -> None:
        self._rest = b""
        """The beginning of a head, or of a control frame: less than 140 bytes."""
        self._left = 0
        """Bytes of the present binary frame that are still to come, masked with `_key` turned to its next byte."""
        self._key = b""

    def feed(self, data: bytes) -> list[Piece]:
        """What is known now. Raises Broken, after which the decoder is of no use."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        pieces: list[Piece] = []
        at = 0
        while at < len(data):
            if self._left:
                at = self._payload(data, at, pieces)
            elif (after := self._head(data, at, pieces)) is None:
                self._rest = data[at:]
                break
            else:
                at = after
        return pieces

    def _payload(self, data: bytes, at: int, pieces: list[Piece]) -> int:
        piece = data[at : at + self._left]
        pieces.append((Op.BINARY, unmask(piece, self._key)))
        self._left -= len(piece)
        turn = len(piece) % 4
        self._key = self._key[turn:] + self._key[:turn]
        return at + len(piece)

    def _head(self, data: bytes, at: int, pieces: list[Piece]) -> int | None:
        """Where the head at `at`, and its frame if that is a control frame, end; None when they are not whole."""
        if len(data) - at < 2:
            return None
        op, control = self._kind(data[at], data[at + 1])
        size, key_at = data[at + 1] & _SIZE, at + 2
        if size > _CONTROL_MOST:
            more = 2 if size == 126 else 8
            size, key_at = int.from_bytes(data[key_at : key_at + more], "big"), key_at + more
        start = key_at + 4
        if len(data) < start + (size if control else 0):
            return None
        key = data[key_at:start]
        if control:
            pieces.append((op, unmask(data[start : start + size], key)))
            return start + size
        self._left, self._key = size, key
        return start

    @staticmethod
    def _kind(first: int, second: int) -> tuple[Op, bool]:
        """The frame's kind and whether it is a control frame. Raises Broken for one that must not come."""
        if first & _RESERVED:
            raise Broken(PROTOCOL_ERROR, "reserved bits are set")
        if not second & _MASKED:
            raise Broken(PROTOCOL_ERROR, "a client has to mask its frames")
        try:
            op = Op(first & _KIND)
        except ValueError:
            raise Broken(PROTOCOL_ERROR, "an unknown kind of frame") from None
        if op == Op.CONTINUATION or not first & _FIN:
            raise Broken(PROTOCOL_ERROR, "a message in fragments")
        if op == Op.TEXT:
            raise Broken(UNSUPPORTED, "a text message")
        if op >= Op.CLOSE and second & _SIZE > _CONTROL_MOST:
            raise Broken(PROTOCOL_ERROR, "a control frame is short")
        return op, op >= Op.CLOSE
