"""Pods as `kubectl get pods -o json` prints them: whole objects, sorted keys, four blanks."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from app.cluster.malformed import malformed

_ESCAPED = re.compile(r"[^\x00-\x7e]|[<>&]")
"""What goes out as an escape, which means the same: all that a terminal could take for something else, and the three
letters that kubectl escapes (encoding/json: SetEscapeHTML)."""
_SCRIPT = re.compile(r"[\x7f<>&]")
"""What is ASCII and is escaped."""


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
    if not text.isascii() or _SCRIPT.search(text):
        text = _ESCAPED.sub(_escape, text)
    return text.replace("\n", "\n        ")


def _escape(found: re.Match[str]) -> str:
    letter = found.group()
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x80 else json.dumps(letter)[1:-1]
