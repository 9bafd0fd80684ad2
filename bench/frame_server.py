"""A bastion host that costs next to nothing, in a process of its own: what is measured against it is the client alone.

`python -m bench.frame_server FOLDER` prints `ready PORT` and speaks TLS (FOLDER has server.pem and server.key) until
its standard input ends. It gives a session to whoever asks; what the WebSocket then carries is that of
`bench.byte_server`: `down N` and `up N`. Frames are made once and sent again and again; masked bytes are only counted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import sys
from io import BufferedReader
from pathlib import Path
from typing import Any

from bench.listening import listen, server_tls

FRAME = 32 << 10
MANY = 32
"""Frames in one write: a block of bench.byte_server."""
BINARY = b"\x82"
PAYLOAD = BINARY + bytes((126,)) + FRAME.to_bytes(2, "big") + bytes(FRAME)
BLOCK = PAYLOAD * MANY
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SESSION = json.dumps({"authToken": "a", "websocketToken": "w", "nodeId": "bm9kZQ==", "username": "bench"}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(SESSION)


def read_head(reader: BufferedReader[Any]) -> tuple[str, dict[str, str]]:
    """First line and headers of a request; the line is empty at the end."""
    first = reader.readline().decode("latin-1").strip()
    headers: dict[str, str] = {}
    while line := reader.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return first, headers


def frame_size(reader: BufferedReader[Any]) -> int:
    """Bytes of the next frame's payload, after its head and its mask."""
    size = reader.read(2)[1] & 0x7F
    if size >= 126:
        size = int.from_bytes(reader.read(2 if size == 126 else 8), "big")
    return size


def tunnel(connection: ssl.SSLSocket, reader: BufferedReader[Any]) -> None:
    """Do what the first frame asks, until the client goes."""
    size = frame_size(reader)
    key, data = reader.read(4), reader.read(size)
    asked, _, more = bytes(byte ^ key[at % 4] for at, byte in enumerate(data)).partition(b"\n")
    what, _, count = asked.decode().partition(" ")
    left = int(count) - len(more)
    if what == "down":
        while left > 0:
            connection.sendall(BLOCK if left >= MANY * FRAME else PAYLOAD * -(-left // FRAME))
            left -= MANY * FRAME
    else:
        space = memoryview(bytearray(FRAME))
        while left > 0:
            size = frame_size(reader)
            reader.read(4)
            left -= size
            while size:
                size -= reader.readinto1(space[: min(size, FRAME)]) or size
        connection.sendall(BINARY + b"\x01.")
    reader.read(1)


def serve(plain: socket.socket, context: ssl.SSLContext) -> None:
    """Answer requests, and carry a WebSocket if one is asked for."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            reader = BufferedReader(socket.SocketIO(connection, "r"), 1 << 18)
            while True:
                first, headers = read_head(reader)
                reader.read(int(headers.get("content-length", "0")))
                if not first:
                    return
                if first.startswith("POST "):
                    connection.sendall(ANSWER + SESSION)
                elif first.startswith("DELETE "):
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                else:
                    key = headers["sec-websocket-key"].encode()
                    proof = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest()).decode()
                    lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
                             f"Sec-WebSocket-Accept: {proof}", "", "")  # fmt: skip
                    connection.sendall("\r\n".join(lines).encode())
                    tunnel(connection, reader)
                    return
    except (OSError, ValueError, IndexError):
        return


def main() -> None:
    context = server_tls(Path(sys.argv[1]))
    assert context is not None
    listen(lambda plain: serve(plain, context))


if __name__ == "__main__":
    main()
