"""Two free ports of this computer for the program that will listen on them."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_AZ_PORTS = frozenset((47010, 47011))
"""What az takes when it is not told otherwise: left free for it."""
_TRIES = 50
"""Pairs of neighbours that are tried: about one in five hundred has a taken one."""


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
            port = _bind(self._held.enter_context(socket.socket()), 0)
            if port not in _AZ_PORTS:
                return port


def free_neighbours() -> int:
    """A free port whose neighbour below is free too: az gives the lower one to the control side. Raises OSError."""
    for _ in range(_TRIES):
        with socket.socket() as one, socket.socket() as other:
            port = _bind(one, 0)
            with suppress(OSError):
                _bind(other, port - 1)
                if not {port, port - 1} & _AZ_PORTS:
                    return port
    raise OSError(errno.EADDRINUSE, "no two free ports next to each other")


def _bind(sock: socket.socket, port: int) -> int:
    if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: nobody else may share it
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    sock.bind((HOST, port))
    return int(sock.getsockname()[1])
