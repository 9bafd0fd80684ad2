"""Draws what is visible of a log ring on the line API, at frame rate, however fast lines come."""

from __future__ import annotations

import re
from typing import ClassVar

from rich.segment import Segment
from textual.cache import LRUCache
from textual.events import Resize
from textual.geometry import Size
from textual.reactive import reactive, var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from widgets.glyphs import UNICODE, Glyphs
from widgets.log_ring import LogRing
from widgets.log_row import divider, read_row, row_segments

FRAME = 1 / 30
"""Seconds between two looks at the ring: more frames cost CPU and no eye sees them."""
STRIPS = 1_024
"""Drawn rows remembered: several screens."""
MAX_WIDTH = 20_000
"""Columns that can be scrolled to; a drawn line is at most 16 KiB."""


class RingView(ScrollView, can_focus=True):
    """Shows a `LogRing`. Following keeps the newest row in view; scrolling up holds the text still.

    The ring is appended to by whoever reads the log; the view looks at it once a frame and draws nothing when nothing
    has changed.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "log-pane--line",
        "log-pane--stamp",
        "log-pane--match",
        "log-pane--current",
        "log-pane--mark",
    }
    DEFAULT_CSS = """
    RingView {
        background: $surface; color: $text; scrollbar-size: 1 1;
        & .log-pane--stamp { color: $text-muted; }
        & .log-pane--match { background: $warning-muted; color: $text-warning; text-style: bold; }
        & .log-pane--current { background: $boost; text-style: bold; }
        & .log-pane--mark { color: $text-accent; text-style: bold; }
    }
    """

    following = var(True)
    stamps = reactive(False)
    ring: var[LogRing | None] = var(None)
    glyphs: var[Glyphs] = var(UNICODE)

    def __init__(self, *, id: str | None = None, follow: bool = True) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.set_reactive(RingView.following, follow)
        self.pattern: re.Pattern[str] | None = None
        """What is highlighted."""
        self.current: int | None = None
        """The row that a search has found last."""
        self.first = 0
        """The oldest row as last looked at."""
        self.end = 0
        """The row after the newest as last looked at."""
        self._strips: LRUCache[tuple[int, int], Strip] = LRUCache(STRIPS)
        self._widest = 0
        self._placing = False

    def on_mount(self) -> None:
        """Begin to look at the ring."""
        self.set_interval(FRAME, self.look)

    def watch_ring(self) -> None:
        """Show another log."""
        self.first = self.end = self._widest = 0
        self.current = None
        self.virtual_size = Size(0, 0)
        self.redraw()
        self.look()

    def look(self) -> bool:
        """Take over what the ring has got since the last look; whether there was anything."""
        ring = self.ring
        if ring is None or not self.is_attached or (ring.end == self.end and ring.first == self.first):
            return False
        gone, self.first, self.end = ring.first - self.first, ring.first, ring.end
        self.place(gone)
        return True

    def place(self, gone: int = 0) -> None:
        """Fit the scrolled area to the rows, with the reader's text where it was when `gone` rows have left."""
        self._placing = True
        try:
            self.virtual_size = Size(self._widest, self.end - self.first)
            if self.following:
                self.scroll_to(y=self.max_scroll_y, animate=False, force=True)
                self.refresh()
            elif gone:
                self.scroll_to(y=max(0, self.scroll_y - gone), animate=False, force=True)
                self.refresh()
        finally:
            self._placing = False

    def on_resize(self, event: Resize) -> None:
        """Keep the newest row in view."""
        if self.following:
            self.call_after_refresh(self.place)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Any scrolling that is not ours holds the text, or follows again when it reaches the end."""
        super().watch_scroll_y(old_value, new_value)
        if not self._placing and self.end > self.first:
            self.following = new_value >= self.max_scroll_y

    def watch_stamps(self) -> None:
        """Draw all rows anew."""
        self.redraw()

    def notify_style_update(self) -> None:
        """The theme has changed: all rows are drawn anew."""
        super().notify_style_update()
        self.redraw()

    def redraw(self) -> None:
        """Forget what was drawn and draw again."""
        self._strips.clear()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of the view."""
        x, top = self.scroll_offset
        number = self.first + top + y
        width = self.size.width
        base = self.get_component_rich_style("log-pane--line")
        if self.ring is None or number >= self.end:
            return Strip.blank(width, base)
        strip = self._strip(number, width)
        if strip.cell_length > max(self._widest, width):
            self._widest = min(strip.cell_length, MAX_WIDTH)
            self.call_later(self.place)
        return strip.crop_extend(x, x + width, base)

    def _strip(self, number: int, width: int) -> Strip:
        if (strip := self._strips.get((number, width))) is not None:
            return strip
        assert self.ring is not None
        row = read_row(self.ring, number, stamps=self.stamps)
        base = self.get_component_rich_style("log-pane--line")
        if row is None:
            return Strip.blank(width, base)
        if row.mark is not None:
            text = divider(row, width, ascii_only=self.glyphs.ascii_only)
            strip = Strip([Segment(text, self.get_component_rich_style("log-pane--mark"))])
        else:
            if number == self.current:
                base = self.get_component_rich_style("log-pane--current")
            stamp = self.get_component_rich_style("log-pane--stamp", partial=True)
            match = self.get_component_rich_style("log-pane--match", partial=True)
            strip = Strip(row_segments(row, base, stamp, self.pattern, match))
        self._strips[(number, width)] = strip
        return strip
