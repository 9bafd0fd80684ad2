"""Two free ports of this computer for the program that will listen on them."""

from __future__ import annotations

import errno
import secrets
import socket
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_AZ_PORTS = frozenset((47010, 47011))
"""What az takes when it is not told otherwise: left free for it."""
RANGE = range(20_000, 32_000)
"""Ports that no system gives to a connection by itself (Linux begins at 32,768, others at 49,152): nobody gets one by
chance between our letting go of it and the program's listening."""
_TRIES = 50
"""Ports, or pairs of neighbours, that are tried: few are taken."""


class PortPair:
    """Two ports that are ours while the context lasts: bound, never listened on, so nothing lingers afterwards.

    Leave the context right before the program starts. Raises OSError when there is no free port.
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        self.http = 0
        self.https = 0

    def __enter__(self) -> Self:
        try:
            self.http, self.https = self._bind(), self._bind()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None,
                 _trace: TracebackType | None) -> None:  # fmt: skip
        self._held.close()

    def _bind(self) -> int:
        while True:
            port = _bind_free(self._held.enter_context(socket.socket()))
            if port not in _AZ_PORTS:
                return port


def free_neighbours() -> int:
    """A free port whose neighbour below is free too: az gives the lower one to the control side. Raises OSError."""
    for _ in range(_TRIES):
        with socket.socket() as one, socket.socket() as other:
            port = _bind_free(one)
            with suppress(OSError):
                _bind(other, port - 1)
                if not {port, port - 1} & _AZ_PORTS:
                    return port
    raise OSError(errno.EADDRINUSE, "no two free ports next to each other")


def _bind_free(sock: socket.socket) -> int:
    """Bind it to a free port of `RANGE`; where all is taken, to the one that the system chooses."""
    for _ in range(_TRIES):
        with suppress(OSError):  # taken, or kept back by the system
            return _bind(sock, secrets.choice(RANGE))
    return _bind(sock, 0)


def _bind(sock: socket.socket, port: int) -> int:
    if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: nobody else may share it
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    sock.bind((HOST, port))
    return int(sock.getsockname()[1])
