"""The vendor's arcProxy program from a registry, with everything checked before it may run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.arc.program import NEWEST, Program

REGISTRY = "https://mcr.microsoft.com"
"""Where the program is, for all clouds but disconnected ones."""

Progress = Callable[[int, int], None]
"""Bytes that are here, and of how many."""


async def download(
    *, registry: str = REGISTRY, version: str = NEWEST, proxy: str | None = None, ca_file: Path | None = None,
    cache: Path | None = None, progress: Progress | None = None,
) -> Program:  # fmt: skip
    """Fetch, check and install the program into our own folder; the caller has been given consent."""
    raise NotImplementedError
