"""The log pane: a followed log with search, times, and a title that says how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive, var

from widgets.log_ring import LogRing
from widgets.log_search import compile_search, find_row
from widgets.ring_view import RingView


def _key(keys: str, action: str, what: str, name: str, tip: str, *, show: bool = False) -> Binding:
    return Binding(keys, action, what, id=f"log.{name}", tooltip=tip, show=show)


class LogPane(RingView):
    """Follows a log; scrolling up holds the text still and counts what comes meanwhile."""

    DEFAULT_CSS = """
    LogPane {
        border-top: solid $panel-lighten-2; border-title-color: $text; border-title-background: $surface;
        &:focus { border-top: solid $accent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("f,end,G", "follow", "follow", "follow", "Go to the newest line and stay there.", show=True),
        _key("home,g", "top", "oldest", "top", "Go to the oldest line that is kept."),
        _key("t", "stamps", "timestamps", "stamps", "Show or hide the API server's time of each line.", show=True),
        _key("n", "next(1)", "next match", "next", "Go to the next line that matches."),
        _key("N", "next(-1)", "match before", "back", "Go to the line before that matches."),
        _key("j,down", "scroll_down", "down", "down", "One line down."),
        _key("k,up", "scroll_up", "up", "up", "One line up; the text is then held still."),
        _key("ctrl+f,pagedown,space", "page_down", "page down", "page-down", "One page down."),
        _key("ctrl+b,pageup", "page_up", "page up", "page-up", "One page up."),
    ]

    @dataclass
    class SearchEnded(Message):
        """A search for `text` came to its end: at `row`, or nowhere."""

        text: str
        row: int | None

    WORD: ClassVar[str] = "LOGS"
    """What the title begins with."""

    search = reactive("")
    heading = var("")
    """Whose log it is; cleaned text."""
    fetched = var(False)
    """Whether it was fetched once and grows no more."""
    cut_off = var("")
    """Why nothing may come for now, in words; empty: all is well."""

    def __init__(self, *, id: str | None = None, follow: bool = True) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id, follow=follow)
        self._held_from = 0
        self._rate = 0
        self._rate_from = 0
        self._titled = ""

    def on_mount(self) -> None:
        """Begin to measure."""
        self.set_interval(1.0, self._measure)
        self._title()

    def watch_ring(self) -> None:
        """Show another log, from its newest line."""
        self._rate = 0
        self._rate_from = self.ring.received if self.ring else 0
        super().watch_ring()
        self._title()

    def look(self) -> bool:
        """Take over what is new and say how many there are."""
        changed = super().look()
        if changed:
            self._title()
        return changed

    def watch_following(self, following: bool) -> None:
        """Count from here what the reader does not see."""
        self._held_from = self.end
        self._title()

    def watch_search(self, text: str) -> None:
        """Highlight another text."""
        self.pattern = compile_search(text) if text else None
        self.current = None
        self.redraw()
        self._title()

    def watch_fetched(self) -> None:
        """Say that it is a snapshot."""
        self._title()

    def watch_cut_off(self) -> None:
        """Say that nothing comes for now."""
        self._title()

    def watch_heading(self) -> None:
        """Say whose log it is."""
        self._title()

    def _measure(self) -> None:
        if self.ring is not None:
            self._rate = max(0, self.ring.received - self._rate_from)
            self._rate_from = self.ring.received
            self._title()

    @property
    def unseen(self) -> int:
        """Rows that came since the text is held."""
        return 0 if self.following else max(0, self.end - self._held_from)

    def status(self) -> str:
        """How it stands: following, ended, cut off or held, with what was missed and what was dropped."""
        over = "as fetched" if self.fetched else "ended" if self.ring is not None and self.ring.ended else ""
        at_end = over or self.cut_off or "following"
        words = [at_end if self.following else f"held, +{self.unseen:,} lines"]
        if self.cut_off and not self.following and not over:
            words.append(self.cut_off)
        if self.following and self._rate:
            words.append(f"{self._rate:,} lines/s")
        if self.ring is not None and self.ring.dropped:
            words.append(f"{self.ring.dropped:,} older dropped")
        if self.search:
            words.append(f"/{self.search}")
        return "  ".join(words)

    def _title(self) -> None:
        status = self.status()
        if self.heading + status == self._titled or not self.is_attached:
            return
        self._titled = self.heading + status
        title = Content.assemble((f" {self.WORD} ", "bold"), (self.heading, "bold"), ("  " + status + " ", "not bold"))
        self.border_title = title

    def action_follow(self) -> None:
        """To the newest line, and stay there."""
        self.following = True
        self.place()

    def action_top(self) -> None:
        """To the oldest line."""
        self.following = False
        self.scroll_to(y=0, animate=False)

    def action_stamps(self) -> None:
        """Show or hide the times."""
        self.stamps = not self.stamps

    def action_next(self, step: int) -> None:
        """Go to the nearest match from the row last found (else from the top row shown) on; posts `SearchEnded`."""
        if self.pattern is not None and self.ring is not None:
            self.run_worker(
                self._find(self.ring, step),
                group="log-search",
                exclusive=True,
                exit_on_error=False,
                description="search the log",
            )

    async def _find(self, ring: LogRing, step: int) -> None:
        pattern, back = self.pattern, step < 0
        if pattern is None:
            return
        if self.current is not None:
            start = self.current + step
        else:
            start = self.first + self.scroll_offset.y + (self.size.height - 1 if back else 0)
        row = await find_row(ring, pattern, start, back=back)
        if row is None:  # around the end, as less does
            row = await find_row(ring, pattern, ring.end - 1 if back else ring.first, back=back)
        if self.ring is ring and row is not None:
            self.current = row
            self.following = False
            self.scroll_to(y=max(0, row - self.first - self.size.height // 2), animate=False, force=True)
            self.redraw()
        self.post_message(self.SearchEnded(self.search, row))
