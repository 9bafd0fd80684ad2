"""Pods as `kubectl get pods -o json` prints them: whole objects, sorted keys, four blanks."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from app.cluster.malformed import malformed

_NOT_ASCII = re.compile(r"[^\x00-\x7e]")
"""Everything that a terminal could take for something else goes out as an escape; the JSON means the same."""


class _Meta(msgspec.Struct, gc=False, rename={"token": "continue"}):
    token: str = ""


class _Page(msgspec.Struct, gc=False):
    kind: str = ""
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    items: list[dict[str, Any]] | None = None


def items_of_page(body: bytes) -> tuple[list[str], str]:
    """The items of a PodList page, or of kubectl's List, as indented text for a list's second level.

    Also the continue token. Raises JumpdeckError JD-API-MALFORMED.
    """
    try:
        page = msgspec.json.decode(body, type=_Page)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise malformed("the list of pods", error) from error
    if page.kind not in ("PodList", "List"):
        raise malformed("the list of pods", f"it is of kind {page.kind!r}")
    return [_item(item) for item in page.items or ()], page.metadata.token


def _item(item: dict[str, Any]) -> str:
    # Items of a list carry no type of their own; kubectl adds it.
    whole = {"apiVersion": "v1", "kind": "Pod", **item}
    text = msgspec.json.format(msgspec.json.encode(whole, order="sorted"), indent=4).decode()
    if not text.isascii() or "\x7f" in text:
        text = _NOT_ASCII.sub(lambda found: json.dumps(found.group())[1:-1].replace("\x7f", "\\u007f"), text)
    return text.replace("\n", "\n        ")
