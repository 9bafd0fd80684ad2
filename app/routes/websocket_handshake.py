"""The handshake of a WebSocket client (RFC 6455 §4), as lenient as Azure Bastion needs it.

Status 101 alone is agreement; what is missing beside it is noted. Only a proof that is there and wrong is refused: it
belongs to the answer to another request.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re

from app.cluster.http_connection import request_bytes
from app.routes.websocket import WebSocket
from app.routes.websocket_frames import FRAME_SIZE

HEAD_LIMIT = 32 << 10
"""Bytes of the answer's head; the service's own has a few hundred, a gateway in between adds cookies."""
HELD_LIMIT = 2 * HEAD_LIMIT
"""Bytes from which nothing more is held; what is behind a 101 is taken over within one turn of the loop."""
REFUSAL_LIMIT = 16 << 10
"""Bytes of a refusal's body that are kept for the error."""
REFUSAL_WAIT = 1.0
"""Seconds that a refusal's body may take after its head; the status says enough without it."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?:[ \r\n]|$)")
_END = re.compile(rb"\r?\n\r?\n")


class Refused(Exception):
    """The server did not agree to a WebSocket. `status` 0: what came was no answer of HTTP."""

    def __init__(self, why: str, status: int = 0, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        super().__init__(why)
        self.status, self.headers, self.body = status, headers or {}, body


class Handshake(asyncio.Protocol):
    """Give it to a dialer as protocol, then `await agree(…)` for the WebSocket."""

    def __init__(self, *, frame_size: int = FRAME_SIZE) -> None:
        self._frame_size = frame_size
        self._transport: asyncio.Transport | None = None
        self._held = bytearray()
        self._head: bytes | None = None
        self._news = asyncio.Event()
        self._over = self._aborted = False
        self._more = False
        """More came behind the head than is held: it cannot be a stream any more."""
        self._lost: Exception | None = None
        self._heir: WebSocket | None = None

    async def agree(self, host: str, path: str) -> WebSocket:
        """Ask for a WebSocket at `path`. Put a limit around it. Raises Refused and OSError."""
        assert self._transport is not None, "the dialer has called connection_made"
        key = base64.b64encode(os.urandom(16))
        self._transport.write(_request(host, path, key.decode()))
        while self._head is None:
            if self._over:
                raise self._lost or ConnectionResetError("closed without an answer")
            await self._wait()
        status, headers = _read_head(self._head)
        if status != 101:
            await self._refusal(headers)
            raise Refused(f"it answered {status}", status, headers, bytes(self._held[:REFUSAL_LIMIT]))
        notes = _judge(headers, key)
        if self._more:
            raise ConnectionResetError("more came with its answer than can be held")
        socket = WebSocket(self._transport, frame_size=self._frame_size, notes=notes)
        if not self._over and not self._transport.is_closing():
            self._transport.set_protocol(socket)
        elif not self._over:  # a TLS transport that was closed twice takes no other protocol: hand on its end instead
            self._heir = socket
        if self._held:
            socket.feed(bytes(self._held))
        if self._over:
            socket.connection_lost(self._lost)
        return socket

    def abort(self) -> None:
        """Drop the connection, whoever has it now, also one that is still to come."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _refusal(self, headers: dict[str, str]) -> None:
        """Wait a moment for the body of a refusal."""
        length = headers.get("content-length", "")
        wanted = min(int(length), REFUSAL_LIMIT) if re.fullmatch("[0-9]{1,9}", length) else REFUSAL_LIMIT
        try:
            async with asyncio.timeout(REFUSAL_WAIT):
                while len(self._held) < wanted and not self._over:
                    await self._wait()
        except TimeoutError:
            return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._aborted:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._heir is not None:
            self._heir.feed(data)
            return
        if len(self._held) < HELD_LIMIT:
            self._held += data
        else:
            self._more = True
        if self._head is None:
            end = _END.search(self._held)
            begins = b"HTTP/".startswith(bytes(self._held[:5]))
            if end is None and begins and len(self._held) < HEAD_LIMIT:
                return
            self._head = bytes(self._held[: end.start()]) if end is not None else b""
            del self._held[: end.end() if end is not None else 0]
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over, self._lost = True, exc
        if self._heir is not None:
            self._heir.connection_lost(exc)
        self._news.set()


def _request(host: str, path: str, key: str) -> bytes:
    """The request of the published client, in its order. Raises ValueError."""
    return request_bytes("GET", path, {
        "Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13", "Origin": f"https://{host}",
    })  # fmt: skip


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, read as leniently as can be. Raises Refused when it is no HTTP."""
    first, *lines = re.split(rb"\r?\n", head)
    found = _STATUS.match(first + b"\n")
    if found is None:
        raise Refused("it does not answer in HTTP")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.strip().decode("latin-1").lower(), value.strip().decode("latin-1"))
    return int(found[1]), headers


def _judge(headers: dict[str, str], key: bytes) -> tuple[str, ...]:
    """What is wrong with a 101 and let pass. Raises Refused when it answers another request than ours."""
    notes: list[str] = []
    if headers.get("upgrade", "").lower() != "websocket":
        notes.append("no Upgrade: websocket")
    if "upgrade" not in headers.get("connection", "").lower():
        notes.append("no Connection: Upgrade")
    accept = headers.get("sec-websocket-accept")
    wanted = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    if accept is None:
        notes.append("no Sec-WebSocket-Accept")
    elif accept != wanted:
        raise Refused("its 101 answers another request than ours", 101)
    notes += [f"{name} though none was asked for" for name in ("Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol")
              if headers.get(name.lower())]  # fmt: skip
    return tuple(notes)
