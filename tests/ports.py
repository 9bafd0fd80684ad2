"""Ports of loopback that a test names before anything listens there, and that nobody takes meanwhile."""

from __future__ import annotations

import contextlib
import random
import socket
import sys

HOST = "127.0.0.1"
RANGE = range(20_000, 32_000)
"""Ports that no system gives out by itself: Linux begins at 32,768, others at 49,152."""
_chance = random.SystemRandom()


def bound(port: int = 0) -> socket.socket:
    """A socket that has the port (0: any free one) and does not listen: who connects is refused. Raises OSError.

    It is what listens later, or on Linux what keeps the port for another program that sets SO_REUSEADDR, as servers do.
    """
    made = socket.socket()
    try:
        if sys.platform != "win32":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
    except OSError:
        made.close()
        raise
    return made


def unused_port() -> int:
    """A port on which nothing listens, and which no system gives to anybody by itself."""
    while True:
        port = _chance.choice(RANGE)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind((HOST, port))
            return port
