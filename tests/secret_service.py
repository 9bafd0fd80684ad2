"""A Secret Service on a bus of its own: what keyring's Linux backend talks to, with no desktop and no bus daemon.

The client's connection ends here: authentication, the bus's own calls and org.freedesktop.secrets (Secret Service API
0.2, transfer "plain") are all answered by one Unix socket.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from jeepney import HeaderFields, Message, MessageType, new_error, new_method_return
from jeepney.low_level import Parser

_COLLECTION = "/org/freedesktop/secrets/aliases/default"


class SecretService:
    """Keeps items in memory. Use as an async context manager; `address` is for DBUS_SESSION_BUS_ADDRESS."""

    def __init__(self, folder: Path, *, silent: bool = False) -> None:
        self._path = folder / "bus"
        self.address = f"unix:path={self._path}"
        self.silent = silent
        """Takes an item and never says so, like a store that waits for a person."""
        self.items: dict[str, tuple[dict[str, str], bytes]] = {}
        """Object path to attributes and secret."""
        self._made = 0
        self._serial = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> SecretService:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    def services(self) -> list[str]:
        """The service names of what is kept."""
        return sorted(attributes["service"] for attributes, _ in self.items.values())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while (line := await reader.readline()) and not line.startswith(b"BEGIN"):
            writer.write(b"OK 0123456789abcdef0123456789abcdef\r\n" if b"AUTH" in line else b"ERROR\r\n")
        parser = Parser()
        while data := await reader.read(1 << 16):
            parser.add_data(data)
            while (message := parser.get_next_message()) is not None:
                if message.header.message_type is MessageType.method_call and (reply := self._answer(message)):
                    self._serial += 1
                    writer.write(reply.serialise(self._serial))

    def _answer(self, call: Message) -> Message | None:
        fields = call.header.fields
        path, member = fields[HeaderFields.path], fields[HeaderFields.member]
        if member == "OpenSession" and call.body[0] != "plain":
            return new_error(call, "org.freedesktop.DBus.Error.NotSupported", "s", ("plain only",))
        if member == "Get" and path not in (_COLLECTION, *self.items):
            return new_error(call, "org.freedesktop.DBus.Error.UnknownObject", "s", ("no such object",))
        if self.silent and member == "CreateItem":
            return None
        signature, body = getattr(self, f"_{member}")(path, call.body)
        return new_method_return(call, signature, body)

    def _Hello(self, path: str, body: Any) -> Any:
        return "s", (":1.1",)

    def _AddMatch(self, path: str, body: Any) -> Any:
        return "", ()

    def _NameHasOwner(self, path: str, body: Any) -> Any:
        return "b", (True,)

    def _OpenSession(self, path: str, body: Any) -> Any:
        return "vo", (("s", ""), "/session")

    def _Get(self, path: str, body: Any) -> Any:
        values = {"Locked": ("b", False), "Label": ("s", "label")}
        return "v", (values[body[1]],)

    def _Unlock(self, path: str, body: Any) -> Any:
        return "aoo", (body[0], "/")

    def _SearchItems(self, path: str, body: Any) -> Any:
        return "ao", ([found for found, (held, _) in self.items.items() if body[0].items() <= held.items()],)

    def _CreateItem(self, path: str, body: Any) -> Any:
        properties, secret, _replace = body
        attributes = dict(properties["org.freedesktop.Secret.Item.Attributes"][1])
        there = [found for found, (held, _) in self.items.items() if held == attributes]
        self._made += 1
        item = there[0] if there else f"/item/{self._made}"
        self.items[item] = attributes, bytes(secret[2])
        return "oo", (item, "/")

    def _GetSecret(self, path: str, body: Any) -> Any:
        return "(oayays)", (("/session", b"", self.items[path][1], "text/plain"),)

    def _Delete(self, path: str, body: Any) -> Any:
        del self.items[path]
        return "o", ("/",)
