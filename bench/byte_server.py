"""A server of plain bytes in a process of its own: what stands behind a tunnel when the tunnel is measured.

`python -m bench.byte_server` prints one line `ready PORT` and serves until its standard input ends. The first line of
a connection says what it is for: `down N` sends N bytes, `up N` takes N bytes and answers `.`, `echo` sends every
byte back, `web` answers each request line with a head and a body in two writes, as HTTP servers do. With
`--tls FOLDER` it speaks TLS (server.pem and server.key of that folder).
"""

from __future__ import annotations

import argparse
import socket
import ssl
import time
from pathlib import Path

from bench.listening import listen, server_tls

BLOCK = bytes(1 << 20)
PIECE = 1 << 18
"""Bytes taken at once, into the same place: the server is not what is measured."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 512\r\n\r\n"
BODY = b"{" + b" " * 510 + b"}"
PAUSE = 0.001
"""Seconds between head and body of a small answer: a server makes the body while the head is on its way."""


def begin(plain: socket.socket, context: ssl.SSLContext | None) -> None:
    """Serve one connection, with TLS if asked for."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connection = plain if context is None else context.wrap_socket(plain, server_side=True)
    except OSError:
        plain.close()
        return
    serve(connection)


def serve(connection: socket.socket) -> None:
    """Do what the first line asks, until the client goes."""
    reader = connection.makefile("rb")
    try:
        what, _, count = reader.readline().decode().strip().partition(" ")
        if what == "down":
            left = int(count)
            while left:
                left -= connection.send(BLOCK[: min(left, len(BLOCK))])
            reader.read(1)
        elif what == "up":
            left = int(count)
            space = memoryview(bytearray(PIECE))
            while left:
                left -= reader.readinto1(space[: min(left, PIECE)]) or left
            connection.sendall(b".")
            reader.read(1)
        elif what == "web":
            while reader.readline():
                connection.sendall(HEAD)
                time.sleep(PAUSE)
                connection.sendall(BODY)
        else:
            while data := reader.read1(1 << 16):
                connection.sendall(data)
    except (OSError, ValueError):
        pass
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", type=Path)
    context = server_tls(parser.parse_args().tls)
    listen(lambda plain: begin(plain, context))


if __name__ == "__main__":
    main()
