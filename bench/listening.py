"""What the servers of bytes share: a port, TLS, and a thread for each connection until standard input ends."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path


def server_tls(folder: Path | None) -> ssl.SSLContext | None:
    """TLS with server.pem and server.key of this folder, if there is one."""
    if folder is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


def listen(serve: Callable[[socket.socket], None]) -> None:
    """Print `ready PORT`, call `serve` with each connection, and return when standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    sys.stdout.write(f"ready {listener.getsockname()[1]}\n")
    sys.stdout.flush()

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()
