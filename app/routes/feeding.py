"""Bytes for a protocol that brings its own buffer, as asyncio's TLS does."""

from __future__ import annotations

import asyncio
from typing import Any


def feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Give bytes to a protocol that brings its own buffer, in as many parts as that takes."""
    rest = memoryview(data)
    while rest:
        buffer: Any = protocol.get_buffer(len(rest))
        size = min(len(buffer), len(rest))
        if not size:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:size] = rest[:size]
        protocol.buffer_updated(size)
        rest = rest[size:]
