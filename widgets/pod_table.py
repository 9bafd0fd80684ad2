"""Live pods on the line API: keyed by uid, so the cursor stays on its pod whatever comes and goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive, var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from app.rows import PodRow, PodSnapshot, Staleness
from widgets.glyphs import UNICODE, Glyphs
from widgets.pod_columns import GAP, SORTS, Layout, clip, fit, headers, measure, texts
from widgets.pod_filter import PodFilter, empty_note, filter_note, is_fault

MEASURED = 200
"""Rows around the view whose cells decide the widths: enough to be steady, few enough to cost nothing."""


def _key(keys: str, action: str, what: str, name: str, tip: str, *, show: bool = False) -> Binding:
    return Binding(keys, action, what, id=f"pods.{name}", tooltip=tip, show=show)


class PodTable(ScrollView, can_focus=True):
    """Shows a `PodSnapshot`. The first line is the heading; it stays while the rows scroll."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "pod-table--row",
        "pod-table--heading",
        "pod-table--sorted",
        "pod-table--cursor",
        "pod-table--fault",
        "pod-table--done",
        "pod-table--stale",
    }
    DEFAULT_CSS = """
    PodTable {
        background: $surface; color: $text; scrollbar-size: 1 1;
        & .pod-table--heading { color: $text-muted; text-style: bold; }
        & .pod-table--sorted { color: $text-accent; text-style: bold underline; }
        & .pod-table--cursor { background: $panel-lighten-1; }
        & .pod-table--fault { color: $text-error; }
        & .pod-table--done { color: $text-muted; }
        & .pod-table--stale { color: $text-disabled; }
        &:focus .pod-table--cursor { background: $block-cursor-background; color: $block-cursor-foreground;
            text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("j,down", "move(1)", "down", "down", "Next pod."),
        _key("k,up", "move(-1)", "up", "up", "Pod before."),
        _key("ctrl+f,pagedown", "page(1)", "page down", "page-down", "One page down."),
        _key("ctrl+b,pageup", "page(-1)", "page up", "page-up", "One page up."),
        _key("g,home", "move(-1000000)", "first", "first", "First pod."),
        _key("G,end", "move(1000000)", "last", "last", "Last pod."),
        _key("N", "sort('NAME')", "sort by name", "sort-name", "Sort by name; again turns it round."),
        _key("P", "sort('NAMESPACE')", "sort by namespace", "sort-namespace", "Sort by namespace."),
        _key("S", "sort('STATUS')", "sort by status", "sort-status", "Sort by status."),
        _key("A", "sort('AGE')", "sort by age", "sort-age", "Youngest first."),
        _key("R", "sort('READY')", "sort by ready", "sort-ready", "Fewest ready containers first."),
        _key("T", "sort('RESTARTS')", "sort by restarts", "sort-restarts", "Most restarts first."),
        _key("O", "sort('')", "sort by chosen column", "sort-chosen", "Sort by the column chosen with shift+arrows."),
        _key("shift+left", "column(-1)", "column left", "column-left", "Choose the column to the left for sorting."),
        _key("shift+right", "column(1)", "column right", "column-right", "Choose the column to the right for sorting."),
        _key("ctrl+w", "wide", "wide", "wide", "Show or hide IP, node and readiness gates."),
        _key("ctrl+z", "faults", "faults only", "faults", "Show only pods that are not as they should be."),
    ]

    @dataclass
    class PodHighlighted(Message):
        """The cursor stands on another pod."""

        pod: PodRow | None

    @dataclass
    class PodClicked(Message):
        """A pod was clicked twice."""

        pod: PodRow

    snapshot: reactive[PodSnapshot] = reactive(PodSnapshot())
    now = reactive(0.0)
    """POSIX seconds that ages are told from."""
    wide = reactive(False)
    filtered: reactive[PodFilter] = reactive(PodFilter())
    order: reactive[tuple[str, bool]] = reactive(("", False))
    """Column and whether turned round; an empty column is the server's own order."""
    chosen_column = reactive(0)
    glyphs: var[Glyphs] = var(UNICODE)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.rows: list[PodRow] = []
        """What is shown, in the order shown."""
        self.cursor = 0
        self._uid: str | None = None
        self._wanted: list[int] = []
        self._layout = Layout((), ())

    # -- what is shown -------------------------------------------------------------------------------------------------

    @property
    def pod(self) -> PodRow | None:
        """The pod under the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def watch_snapshot(self) -> None:
        """Take over another snapshot: the cursor and what is on screen stay with their pods."""
        self._arrange()

    watch_filtered = watch_order = watch_snapshot

    def watch_wide(self) -> None:
        """More columns, or fewer."""
        self._wanted = []
        self._arrange()

    def narrow(self, text: str, *, faults: bool | None = None) -> None:
        """Show only what matches; `faults` None leaves that choice as it is."""
        self.filtered = PodFilter(text, self.filtered.faults if faults is None else faults)

    def _arrange(self) -> None:
        rows = list(self.snapshot.rows.values())
        if self.filtered:
            rows = list(filter(self.filtered.test(), rows))
        column, turned = self.order
        if column:
            rows.sort(key=SORTS[column], reverse=turned)
        self.rows = rows
        before = self.cursor
        found = next((index for index, row in enumerate(rows) if row.uid == self._uid), None)
        at = found if found is not None else min(before, max(0, len(rows) - 1))
        self._measure()
        self.virtual_size = Size(self._layout.width, len(rows) + 1)
        if found is not None and found != before and self.scroll_y:
            self.scroll_to(y=max(0, self.scroll_y + found - before), animate=False, force=True)
        self._place(at, keep_view=found is not None)
        self.refresh()

    def _measure(self) -> None:
        start = max(0, self.scroll_offset.y - MEASURED // 2)
        wanted = measure(self.rows[start : start + MEASURED], self.now, wide=self.wide)
        if len(self._wanted) == len(wanted):  # never narrower again: columns that jump are hard to read
            wanted = [max(pair) for pair in zip(wanted, self._wanted, strict=True)]
        self._wanted = wanted
        room = self.scrollable_content_region.width or 80
        if len(self.rows) >= self.size.height and not self.show_vertical_scrollbar:
            room -= self.scrollbar_size_vertical  # it is about to appear
        self._layout = fit(wanted, room, wide=self.wide)

    def on_resize(self, event: Resize) -> None:
        """Share the new width."""
        self._arrange()

    def _place(self, index: int, *, keep_view: bool = False) -> None:
        """Put the cursor on a row and, unless the view is to stay, bring it into view."""
        self.cursor = max(0, min(index, len(self.rows) - 1)) if self.rows else 0
        pod = self.pod
        gone = pod is None and self._uid is not None and not self.filtered
        if gone or (pod is not None and pod.uid != self._uid):
            self._uid = pod.uid if pod else None
            self.post_message(self.PodHighlighted(pod))
        height = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if not keep_view and not top <= self.cursor < top + height:
            to = self.cursor if self.cursor < top else self.cursor - height + 1
            self.scroll_to(y=to, animate=False, force=True)
        self.refresh()

    # -- drawing -------------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """The heading, or one pod."""
        x, top = self.scroll_offset
        width = self.size.width
        if y == 0:
            note = filter_note(self.filtered, len(self.rows), len(self.snapshot.rows))[: max(0, width - 20)]
            heading = self._heading().crop_extend(
                x, x + width - len(note), self.get_component_rich_style("pod-table--heading")
            )
            return Strip([*heading, Segment(note, self.get_component_rich_style("pod-table--sorted"))])
        index = top + y - 1
        if index >= len(self.rows):
            loading = self.snapshot.staleness is Staleness.LOADING
            text = empty_note(self.filtered, loading=loading) if y == 2 and not self.rows else ""
            return Strip([Segment(clip(text, width, "", ""), self.get_component_rich_style("pod-table--done"))])
        row = self.rows[index]
        style = self._look(row, index)
        shown = zip(self._layout.headers, self._layout.widths, texts(row, self.now, wide=self.wide), strict=True)
        gap = " " * GAP
        line = gap.join(clip(text, size, name, self.glyphs.ellipsis) for name, size, text in shown)
        return Strip([Segment(f" {line} ", style)]).crop_extend(x, x + width, style)

    def _heading(self) -> Strip:
        plain = self.get_component_rich_style("pod-table--heading")
        chosen = self.get_component_rich_style("pod-table--sorted")
        pieces = [Segment(" ", plain)]
        column, turned = self.order
        up, down = ("^", "v") if self.glyphs.ascii_only else ("↑", "↓")
        for index, (name, size) in enumerate(zip(self._layout.headers, self._layout.widths, strict=True)):
            sign = (down, up)[turned] if name == column else ""
            style = chosen if sign or (index == self.chosen_column and self.has_focus) else plain
            pieces += [Segment(clip(name + sign, max(size, len(name)), "", ""), style), Segment(" " * GAP, plain)]
        return Strip(pieces)

    def _look(self, row: PodRow, index: int) -> Style:
        name = "row"
        if self.snapshot.staleness is Staleness.STALE:
            name = "stale"
        elif row.finished or row.deleting:
            name = "done"
        elif is_fault(row):
            name = "fault"
        style = self.get_component_rich_style(f"pod-table--{name}")
        if index == self.cursor:
            style += self.get_component_rich_style("pod-table--cursor", partial=True)
        return style

    # -- what keys and the mouse do ------------------------------------------------------------------------------------

    def on_click(self, event: Click) -> None:
        """Select the pod that was clicked; twice tells that it was wanted."""
        offset = event.get_content_offset(self)
        if offset is None or offset.y == 0 or (index := self.scroll_offset.y + offset.y - 1) >= len(self.rows):
            return
        self._place(index)
        if event.chain == 2:
            self.post_message(self.PodClicked(self.rows[index]))

    def action_move(self, step: int) -> None:
        """Up or down by rows."""
        self._place(self.cursor + step)

    def action_page(self, step: int) -> None:
        """Up or down by pages."""
        self._place(self.cursor + step * max(1, self.size.height - 2))

    def action_sort(self, column: str) -> None:
        """Sort by a column (the chosen one when empty); the same again turns it round."""
        column = column or self._layout.headers[self.chosen_column]
        if column in SORTS:
            self.order = (column, not self.order[1] if self.order[0] == column else False)

    def action_column(self, step: int) -> None:
        """Choose the column to sort by."""
        self.chosen_column = (self.chosen_column + step) % len(headers(wide=self.wide))

    def action_wide(self) -> None:
        """More columns, or fewer."""
        self.wide = not self.wide

    def action_faults(self) -> None:
        """Only faults, or all."""
        self.filtered = PodFilter(self.filtered.text, not self.filtered.faults)
