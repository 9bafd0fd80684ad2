"""Secrets of a running lab, over its control channel. Exists only where JUMPDECK_CONFIG_DIR is a lab's folder.

The channel is named by `lab.json`: a Unix socket, or a loopback port with a token; one JSON line there, one back. The
request is `{"command": "secret", "name": NAME}`, the answer `{"ok": true, "value": …}` or `{"error": {…}}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from app.errors import SignInError
from app.records import Record
from app.secrets.secret import Secret
from app.secrets.store import StoredName, StoreStatus
from app.text import prose

LINE_LIMIT = 64 * 1024
"""Bytes of an answer."""
ANSWER_LIMIT = 10.0
"""Seconds for a whole exchange with a lab on the same machine."""


class LabChannel(Record):
    """Where the lab listens."""

    socket: str = ""
    port: int = 0
    token: str = ""

    def __repr__(self) -> str:
        return f"LabChannel({self.socket or self.port})"


def lab_channel() -> LabChannel | None:
    """The channel of the lab whose folder JUMPDECK_CONFIG_DIR is, or None when it is no lab's."""
    folder = os.environ.get("JUMPDECK_CONFIG_DIR")
    if not folder:
        return None
    try:
        with (Path(folder).expanduser() / "lab.json").open("rb") as file:
            fields = json.loads(file.read(LINE_LIMIT))
        named = (str(fields.get(name) or "") for name in ("socket", "port", "token"))
        channel = LabChannel(next(named), int(next(named) or 0), next(named))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return channel if channel.socket or channel.port else None


async def ask_lab(channel: LabChannel, request: dict[str, object]) -> dict[str, object]:
    """The lab's answer to a request, also when it is an error. Raises SignInError when there is none."""
    line = json.dumps({**request, "token": channel.token}).encode() + b"\n"
    try:
        async with asyncio.timeout(ANSWER_LIMIT):
            answer = json.loads(await _exchange(channel, line))
        if not isinstance(answer, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
        raise SignInError(
            "The lab does not answer", prose(str(error)), "Start it again: jumpdeck lab",
            code="JD-SECRET-LAB", layer="secret",
        ) from error  # fmt: skip
    return answer


async def _exchange(channel: LabChannel, line: bytes) -> bytes:
    if sys.platform != "win32" and not channel.port:
        opening = asyncio.open_unix_connection(channel.socket, limit=LINE_LIMIT)
    else:
        opening = asyncio.open_connection("127.0.0.1", channel.port, limit=LINE_LIMIT)
    reader, writer = await opening
    try:
        writer.write(line)
        return await reader.readuntil(b"\n")
    finally:
        writer.close()


class LabStore:
    """Gives out the lab's own secrets; keeps none, and nobody is ever asked."""

    asks = False

    def __init__(self, channel: LabChannel) -> None:
        self._channel = channel

    async def status(self) -> StoreStatus:
        return StoreStatus("the lab", False, "secrets of practice profiles come from the lab")

    async def get(self, name: str) -> Secret | None:
        value = (await ask_lab(self._channel, {"command": "secret", "name": name})).get("value")
        return Secret(value) if isinstance(value, str) and value else None

    async def set(self, name: str, secret: Secret) -> str:
        raise practice_only()

    async def remove(self, name: str) -> None:
        raise practice_only()

    async def names(self) -> list[StoredName]:
        return []

    def drop(self, name: str) -> None:
        """Nothing is kept."""


def practice_only() -> SignInError:
    """The failure to change what is stored for a lab's profiles."""
    return SignInError(
        "Practice secrets come from the lab", "nothing is stored for its profiles",
        "Unset JUMPDECK_CONFIG_DIR to work with your own.", code="JD-SECRET-LAB", layer="secret",
    )  # fmt: skip
