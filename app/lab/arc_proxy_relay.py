"""The stand-in's side of Azure Relay: the sender's WebSocket of its open protocol, and bytes both ways after it.

Azure Relay, Hybrid Connections protocol: `wss://NAMESPACE/$hc/PATH?sb-hc-action=connect&sb-hc-id=…&sb-hc-token=…`.
Few imports: the stand-in starts in a moment.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import ssl
import uuid
from urllib.parse import quote, urlsplit

FRAME = 32 * 1024
"""Bytes of a frame at most."""
HELD = 256 * 1024
"""Bytes that wait to be read, or a head that goes on for so long."""
OPEN_LIMIT = 20.0
"""Seconds to reach the relay and agree with it."""

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


class RelayRefused(Exception):
    """The relay says no, or is not there; `status` is its HTTP status, 0 without one."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class RelayStream:
    """One stream to the cluster's agent. Made by `open_stream`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.close_code = 0
        """The code of the relay's close frame; 0 before one has come."""

    async def read(self) -> bytes:
        """The next bytes; empty once the relay or the cluster has closed."""
        try:
            while True:
                op, data = await self._frame()
                if op == _CLOSE:
                    self.close_code = int.from_bytes(data[:2], "big") or 1005
                    await self._send(_CLOSE, data[:2])
                    return b""
                if op == _PING:
                    await self._send(_PONG, data)
                elif op in (0, 1, _BINARY) and data:
                    return data
        except (OSError, EOFError):
            return b""

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self._reader.readexactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
        return first & 0x0F, await self._reader.readexactly(size)

    async def write(self, data: bytes) -> None:
        """Send. Raises OSError when the relay has gone."""
        for start in range(0, len(data), FRAME):
            await self._send(_BINARY, data[start : start + FRAME])

    async def _send(self, op: int, data: bytes) -> None:
        size, key = len(data), os.urandom(4)
        if size < 126:
            head = bytes((0x80 | op, 0x80 | size))
        elif size < 1 << 16:
            head = bytes((0x80 | op, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | op, 0x80 | 127)) + size.to_bytes(8, "big")
        mask = (key * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")
        self._writer.write(head + key + masked)
        await self._writer.drain()

    async def aclose(self) -> None:
        """Say that it is over, and close."""
        with contextlib.suppress(OSError):
            if not self.close_code:
                await self._send(_CLOSE, (1000).to_bytes(2, "big"))
        self._writer.close()


async def open_stream(namespace: str, path: str, token: str, tls: ssl.SSLContext) -> RelayStream:
    """A stream through the relay `NAME.SUFFIX[:PORT]`. Names below `localhost` are this machine (RFC 6761, 6.3).

    Any other name is refused: the stand-in never leaves the machine. Raises RelayRefused.
    """
    host, _, port = namespace.partition(":")
    if not host.endswith(".localhost"):
        raise RelayRefused(0, f"{host} is not the lab's relay")
    try:
        async with asyncio.timeout(OPEN_LIMIT):
            reader, writer = await _connect(host, int(port or 443), tls)
            try:
                await _agree(reader, writer, namespace, f"/$hc/{quote(path)}", token)
            except BaseException:
                writer.transport.abort()
                raise
    except (OSError, EOFError, ValueError) as error:  # a time-out too
        raise RelayRefused(0, f"{host} cannot be reached: {error or 'it does not answer'}") from error
    return RelayStream(reader, writer)


def web_proxy(host: str) -> tuple[str, int] | None:
    """The proxy of HTTPS_PROXY for this host, unless NO_PROXY has it, as Go programs read them.

    Unlike there an entry `localhost` is that name alone: the lab's names below it stand for ones outside.
    """
    env = {name.upper(): value for name, value in os.environ.items()}
    for entry in env.get("NO_PROXY", "").split(","):
        name = entry.strip().lower()
        if name == "*" or host == name or (name not in ("", "localhost") and host.endswith(f".{name.lstrip('.')}")):
            return None
    parts = urlsplit(env.get("HTTPS_PROXY", ""))
    return (parts.hostname, parts.port or 80) if parts.hostname else None


async def _connect(host: str, port: int, tls: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """TLS to the host, through a web proxy when there is one (CONNECT, RFC 9110, 9.3.6). Raises OSError."""
    if (through := web_proxy(host)) is None:
        return await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=host, limit=HELD)
    reader, writer = await asyncio.open_connection(*through, limit=HELD)
    try:
        writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        await writer.drain()
        first = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
        if first.split(b" ")[1:2] != [b"200"]:
            raise OSError(f"the web proxy answered {first.decode('latin-1')}")
        await writer.start_tls(tls, server_hostname=host)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


async def _agree(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str, token: str
) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    query = f"sb-hc-action=connect&sb-hc-id={uuid.uuid4()}&sb-hc-token={quote(token, safe='')}"
    lines = [f"GET {path}?{query} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
    writer.write("\r\n".join(lines).encode())
    await writer.drain()
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.LimitOverrunError as error:
        raise RelayRefused(0, "the relay's answer is too long") from error
    _, status, reason = (*head[0].split(" ", 2), "", "")[:3]
    if status != "101":
        raise RelayRefused(int(status) if status.isdigit() else 0, f"the relay answered {status} {reason}".strip())
    proof = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
    if f"sec-websocket-accept: {proof}".lower() not in {line.lower() for line in head}:
        raise RelayRefused(0, "the relay's answer does not belong to the question")
