"""Two free ports of this computer for the program that will listen on them."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_AZ_PORTS = frozenset((47010, 47011))
"""What az takes when it is not told otherwise: left free for it."""


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
            bound = self._held.enter_context(socket.socket())
            if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: nobody else may share it
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            bound.bind((HOST, 0))
            port = int(bound.getsockname()[1])
            if port not in _AZ_PORTS:
                return port
