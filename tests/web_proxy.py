"""A web proxy (CONNECT) as a test's peer, in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.tls_servers import raw_server


@asynccontextmanager
async def web_proxy(answer: bytes | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A CONNECT proxy, or one that says `answer`; yields its port and the requests that it got."""
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        seen.append(request)
        if answer is not None:
            writer.write(answer)
            await writer.drain()
            await reader.read(1)
            return
        port = int(request.split(b" ")[1].rpartition(b":")[2])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
            sink.close()

        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            far_writer.transport.abort()

    async with raw_server(talk) as port:
        yield port, seen
