"""The second door: nothing leaves for the terminal but printable text, whatever a widget was given (S-17)."""

from __future__ import annotations

import re

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


class Sanitise(LineFilter):
    """Takes control characters and links out of every segment that is drawn."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, harmless."""
        return [_harmless(segment) for segment in segments]


def _harmless(segment: Segment) -> Segment:
    text, style, control = segment
    if control:
        return segment
    linked = style is not None and style.link is not None
    if not linked and not _CONTROLS.search(text):
        return segment
    return Segment(_CONTROLS.sub("", text), style.update_link(None) if style is not None and linked else style, None)


SANITISE = Sanitise()
