"""The door of the lab: its port is its own for its whole life."""

from __future__ import annotations

import errno
import socket

import pytest

from app.lab.door import HOST, Door
from tests.tls_servers import echo, raw_server


async def test_nobody_else_gets_the_port_while_it_is_shut() -> None:
    async with raw_server(echo) as behind, Door(behind) as door:
        await door.shut("a")
        await door.shut("b")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, door.port), timeout=20).close()
        with pytest.raises(OSError) as caught, socket.socket() as other:
            other.bind((HOST, door.port))
        assert caught.value.errno in (errno.EADDRINUSE, errno.EACCES)
        await door.unshut("a")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, door.port), timeout=20).close()
        await door.unshut("b")
        socket.create_connection((HOST, door.port), timeout=20).close()
        await door.shut("for good")
