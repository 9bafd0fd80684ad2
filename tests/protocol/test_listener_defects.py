"""A defect behind the listener ends the connection that met it: the other program does not wait for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.dialer import ProtocolFactory
from app.routes.listener import Listener

LIMIT = 10.0


async def test_a_defect_while_dialling_resets_the_connection_and_is_reported() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def dial(factory: ProtocolFactory) -> asyncio.Transport:
        raise ZeroDivisionError

    async with Listener(dial) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), LIMIT)
        writer.close()
        assert listener.facts.open == 0
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]
