"""The main screen: keys, prompt and commands, and what they ask of the sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.reactive import var

from app.errors import JumpdeckError
from screens.roaming import RoamingScreen
from widgets.profile_list import ProfileList
from widgets.prompt import Prompt
from widgets.steps import Steps

NOT_READY = "Still starting; try again in a moment"
_ALT_DIGITS = ("inverted_exclamation_mark", "trade_mark_sign", "pound_sign", "cent_sign", "infinity", "section_sign",
               "pilcrow_sign", "bullet", "ª")  # fmt: skip
"""What Textual makes of alt+1 … alt+9 where a terminal sends escape and the digit, as most do: the signs that a Mac
types with these keys."""


if TYPE_CHECKING:
    from app.rows import PodRow
    from screens.bridge import Bridge
    from widgets.log_pane import LogPane
    from widgets.session_view import SessionView


class MainScreen(RoamingScreen):
    """Turns keys, commands and wishes of the views into calls of the bridge."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "filter", key_display="/", id="main.find", tooltip="Filter pods, or search the log."),
        Binding("colon", "command", "command", key_display=":", id="main.command", tooltip="Type a command."),
        Binding("question_mark", "help", "help", key_display="?", id="main.help", tooltip="Keys and commands."),
        Binding("escape", "back", "back", id="main.back", tooltip="Clear the search or filter, then go back."),
        Binding("q", "leave", "back, quit", id="main.leave", tooltip="Go back; from the profiles, leave Jumpdeck."),
        Binding("i", "route", "route", id="main.route", tooltip="The way in, hop by hop.", show=False),
        Binding("tab", "pane(1)", "next pane", id="main.next-pane", tooltip="Profiles, pods, log.", show=False),
        Binding("shift+tab", "pane(-1)", "pane before", id="main.pane-before", tooltip="The other way.", show=False),
        *(
            Binding(
                f"alt+{number}",
                f"session({number})",
                f"session {number}",
                id=f"main.session-{number}",
                tooltip="Go to the first, second … session that is open.",
                show=False,
            )
            for number in range(1, 10)
        ),
        *(
            Binding(key, f"session({number})", id=f"main.session-{number}", show=False)
            for number, key in enumerate(_ALT_DIGITS, 1)
        ),
    ]

    bridge: var[Bridge | None] = var(None)

    # -- profiles ------------------------------------------------------------------------------------------------------

    @on(ProfileList.ProfileChosen)
    async def open_chosen(self, event: ProfileList.ProfileChosen) -> None:
        """Show a profile's session; open it first when it is not."""
        await self.open(event.name)

    async def open(self, name: str) -> None:
        """Open a profile and go to it; what its file says wrong is shown."""
        if self.bridge is None:
            self.flash(NOT_READY)
            return
        try:
            self.bridge.sessions.book.get(name)
        except JumpdeckError as error:
            from app.messages import FailureMet

            self.post_message(FailureMet(error))
            return
        view = await self.show(name)
        self.bridge.open(name)
        (view.table if view.has_class("-pods") else view.query_one(Steps)).focus()

    async def action_session(self, number: int) -> None:
        """Go to an open session."""
        names = self.bridge.open_names if self.bridge else ()
        if number <= len(names):
            await self.open(names[number - 1])

    # -- what views want -----------------------------------------------------------------------------------------------

    def on_session_view_log_wanted(self, event: SessionView.LogWanted) -> None:
        """Show the only container's log, or ask which."""
        from app.rows import ContainerKind
        from screens.dialogs import ChoiceScreen

        pod, names = event.pod, [container.name for container in event.pod.containers]
        if len(names) == 1:
            self._follow(event.profile, pod, names[0], event.previous)
        elif names:
            apps = [container.name for container in pod.containers if container.kind is ContainerKind.APP]
            first = pod.default_container or (apps or names)[0]
            choices = [
                (container.name, " ".join(filter(None, (container.kind.value, container.state, container.reason))))
                for container in pod.containers
            ]

            def chosen(name: str | None) -> None:
                if name is not None:
                    self._follow(event.profile, pod, name, event.previous)

            self.app.push_screen(ChoiceScreen(f"Container of {pod.name}", choices, first), chosen)

    def _follow(self, profile: str, pod: PodRow, container: str, previous: bool) -> None:
        self.run_worker(
            self._show_log(profile, pod, container, previous),
            group=f"log-{profile}",
            exit_on_error=True,
            description="open the log",
        )

    async def _show_log(self, profile: str, pod: PodRow, container: str, previous: bool) -> None:
        view, feed = self.view(profile), self.bridge.feed(profile) if self.bridge else None
        if view is None or feed is None:
            return
        view.log_pane.search = ""
        view.log_pane.following = True
        view.log_ring = await feed.follow(pod, container, previous=previous)
        view.log_pane.fetched = not feed.live
        view.log_heading = f"{pod.namespace}/{pod.name}/{container}{' (previous)' if previous else ''}"
        if self.active == profile:
            view.log_pane.focus()

    def on_session_view_description_wanted(self, event: SessionView.DescriptionWanted) -> None:
        """Ask for a description."""
        if self.bridge and self.bridge.describe(event.profile, event.pod):
            self.flash(f"Describing {event.pod.name} …")

    async def on_session_view_namespace_wanted(self, event: SessionView.NamespaceWanted) -> None:
        """Show other namespaces."""
        if self.bridge and (feed := self.bridge.feed(event.profile)):
            await feed.show((event.wanted,) if event.wanted else ())

    async def on_session_view_retry_wanted(self, event: SessionView.RetryWanted) -> None:
        """Try again, or fetch again."""
        if self.bridge:
            await self.bridge.retry(event.profile)

    # -- the prompt ----------------------------------------------------------------------------------------------------

    def action_find(self) -> None:
        """Search the log when it is read, else filter the pods."""
        view = self.active_view
        if view is None:
            return
        if view.log_pane.has_focus:
            self.query_one(Prompt).ask("search", "/", view.log_pane.search)
        else:
            self.query_one(Prompt).ask("filter", "/", view.table.filtered.text)

    def action_command(self) -> None:
        """Type a command."""
        self.query_one(Prompt).ask("command", ":")

    @on(Prompt.Typed)
    def filter_as_typed(self, event: Prompt.Typed) -> None:
        """Pods are filtered while one types."""
        if event.kind == "filter" and (view := self.active_view):
            view.table.narrow(event.text)

    @on(Prompt.Cancelled)
    @on(Prompt.Submitted)
    async def take_prompt(self, event: Prompt.Submitted | Prompt.Cancelled) -> None:
        """Do what was typed, and go back to where one was."""
        meant = event.text if isinstance(event, Prompt.Submitted) else None
        view = self.active_view
        if view is None:
            self.query_one(ProfileList).focus()
        elif event.kind == "search":
            view.log_pane.focus()
            if meant is not None:
                view.log_pane.search = meant
                view.log_pane.action_next(-1)
        else:
            (view.table if view.has_class("-pods") else view.query_one(Steps)).focus()
            if event.kind == "filter" and meant is None:
                view.table.narrow("")
        if event.kind == "command" and meant:
            await self.run_command(meant)

    def on_log_pane_search_ended(self, event: LogPane.SearchEnded) -> None:
        """Say when nothing matched."""
        from app.text import clean

        if event.row is None:
            self.flash(f"Not found: {clean(event.text)[:60]}")

    async def run_command(self, line: str) -> None:
        """Do what a command says."""
        from screens.commands import parse_command

        try:
            name, argument = parse_command(line, tuple(entry.name for entry in self.entries))
        except JumpdeckError as error:
            self.flash(f"{error.title}. {error.hint}")
            return
        view = self.active_view
        wanted = "" if argument in ("all", "*") else argument
        on_view: dict[str, Callable[[SessionView], object]] = {
            "ns": lambda view: view.post_message(view.NamespaceWanted(view.profile, wanted)),
            "pods": lambda view: argument and view.post_message(view.NamespaceWanted(view.profile, wanted)),
            "logs": lambda view: view.action_logs(),
            "previous": lambda view: view.action_logs(True),
            "describe": lambda view: view.action_describe(),
            "retry": lambda view: view.action_retry(),
            "whoami": lambda view: self.who(view.profile, argument),
        }
        if name in on_view:
            if view is None:
                self.flash("No profile is open")
            else:
                on_view[name](view)
        elif name == "profile" and argument:
            await self.open(argument)
        elif name in ("profile", "profiles"):
            self.focus_profiles()
        elif name == "close" and self.bridge and self.active:
            closed = self.active
            await self.drop(closed)
            await self.bridge.close(closed)
        elif name == "theme":
            self.app.theme = "textual-light" if argument == "light" else "textual-dark"
        elif name == "reload":
            await self.app.run_action("reload")
        elif name == "route":
            self.action_route()
        elif name == "help":
            self.action_help()
        elif name == "quit":
            await self.app.run_action("quit")

    def who(self, profile: str, subject: str) -> None:
        """Ask whom a profile's cluster will see, or what somebody else needs there."""
        if self.bridge is not None:
            self.flash("Reading the credential …")
            self.bridge.who(profile, subject)

    def action_route(self) -> None:
        """Draw the way in of the session that is shown."""
        bridge, name = self.bridge, self.active
        if bridge is None or not name:
            self.flash("No profile is open")
            return
        from screens.route import RouteScreen

        self.app.push_screen(RouteScreen(lambda: bridge.route(name), self._clock, self.glyphs))

    # -- moving about --------------------------------------------------------------------------------------------------

    async def action_leave(self) -> None:
        """Back; from the list of profiles, out."""
        if self.query_one(ProfileList).has_focus:
            await self.app.run_action("interrupt")
        else:
            await self.action_back()

    async def action_back(self) -> None:
        """Undo the last thing: a page that is to come, then what narrows the view: search, log, filter, session."""
        if self.bridge is not None and self.bridge.forget_page():
            self.flash("No longer asked for")
            return
        view = self.active_view
        if view is None or self.query_one(ProfileList).has_focus:
            return
        log, table = view.log_pane, view.table
        if log.has_focus and log.search:
            log.search = ""
        elif view.has_class("-logs") and (log.has_focus or view.has_class("-log-full")):
            view.remove_class("-log-full")
            view.log_ring = None
            table.focus()
            if self.bridge and (feed := self.bridge.feed(view.profile)):
                await feed.stop_log()
        elif table.filtered:
            table.narrow("", faults=False)
        else:
            self.focus_profiles()
