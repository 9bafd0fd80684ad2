"""Names of namespaces, read with only what that needs."""

from __future__ import annotations

import msgspec

from app.cluster.api import ApiClient
from app.cluster.malformed import malformed
from app.errors import JumpdeckError
from app.text import clean

PAGE = 500
"""Namespaces per page."""

MAX_PAGES = 200
"""Pages that are read: a hundred thousand namespaces are more than any cluster bears, so a server that goes on lies."""


class _Meta(msgspec.Struct, gc=False):
    name: str = ""


class _Namespace(msgspec.Struct, gc=False):
    metadata: _Meta


class _ListMeta(msgspec.Struct, gc=False, rename={"token": "continue"}):
    token: str = ""


class _Namespaces(msgspec.Struct, gc=False):
    metadata: _ListMeta
    items: list[_Namespace] | None = None


async def list_namespaces(api: ApiClient) -> list[str]:
    """Names of all namespaces in the server's order. Raises JumpdeckError; RefusedError where it is forbidden."""
    names: list[str] = []
    token = ""
    restarted = False
    for _ in range(MAX_PAGES):
        more = {"continue": token} if token else {}
        try:
            body = await api.get("/api/v1/namespaces", {"limit": PAGE, **more})
        except JumpdeckError as error:
            if error.code != "JD-API-GONE" or restarted:
                raise
            names, token, restarted = [], "", True
            continue
        try:
            page = msgspec.json.decode(body, type=_Namespaces)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise malformed("the list of namespaces", error) from error
        names += [clean(item.metadata.name) for item in page.items or ()]
        token = page.metadata.token
        if not token:
            break
    return names
