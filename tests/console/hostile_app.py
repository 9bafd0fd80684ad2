"""Run in a pty by the tests: the console over fakes whose every string is an attack."""

from __future__ import annotations

import asyncio
import sys

from msgspec.structs import replace
from textual.content import Content

from app.asking import ConsentQuestion, HostKeyQuestion, Prompt
from app.errors import RouteError
from app.rows import HopState, LogBatch, LogMark, MarkKind, StepState
from screens.app import ConsoleApp
from tests.console.fakes_console import NOW, Stage, lines, pod, snapshot
from widgets.glyphs import UNICODE
from widgets.lines import Banner

EVIL = (
    "\x1b]52;c;ZXZpbA==\x07", "\x1b]0;title\x07", "\x1b[2J", "\x9d52;c;eA\x9c", "\u202eevil", "[@click=app.exit()]x[/]",
    "[/]", "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "\x07\x08\r\n\x00", "\u2066\u200b\ufeff",
)  # fmt: skip
"""Given raw: the first door (`app.text`) is left out on purpose, so that the second one is what is tested."""


async def painted(app: ConsoleApp) -> None:
    """Return when what was set has been drawn."""
    for _ in range(3):
        drawn = asyncio.Event()
        app.screen.call_after_refresh(drawn.set)
        await drawn.wait()


async def play(stage: Stage) -> None:
    """Put hostile text everywhere, then leave."""
    app = stage.app
    await app.main.open("prod-weu")
    session = stage.session("prod-weu")
    text = " ".join(EVIL)
    session.reader.snapshot = snapshot(*(pod(evil, uid=str(n), status=evil, node=evil) for n, evil in enumerate(EVIL)))
    session.reader.description = text
    session.up()
    session.move(session.state.phase, route=("workstation", text, text), identity=text, warnings=(text,))
    await painted(app)
    view = app.main.active_view
    view.table.wide = True
    view.action_logs()
    await painted(app)
    view.log_heading = text
    mark = LogMark(MarkKind.NOTE, text, NOW)
    view.log_ring.append(LogBatch(lines().source, mark=mark))
    view.log_ring.append(lines(*(evil.replace("\n", "") for evil in EVIL), b"\xff\xfe\x80", b"\x1b[31mred\x1b[0m"))
    app.main.flash(text)
    view.query_one(Banner).text = text
    app.main.set_class(True, "-choosing")
    await painted(app)
    from screens.dialogs import ChoiceScreen, ErrorScreen
    from screens.questions import ConsentScreen, HostKeyScreen, PromptsScreen, SecretScreen, TrustScreen
    from screens.route import RouteScreen
    from screens.texts import TextScreen
    from screens.who import WhoScreen

    error = RouteError(text, text, text, code="JD-TEST")
    question = HostKeyQuestion(text, text, text, text, text, text, (text,))
    hop = HopState(text, StepState.DONE, NOW, 0.1, 1, 2, text, text)
    state = replace(session.state, hops=(hop,), error=error, cluster=text, server_version=text)
    prompts = PromptsScreen(text, text, text, (Prompt(text), Prompt(text, echo=True)))
    for screen in (
        HostKeyScreen(question), prompts, RouteScreen(lambda: state, lambda: NOW, UNICODE), ErrorScreen(error),
        ChoiceScreen(text, [(text, text)]), SecretScreen(text, may_keep=True), TrustScreen(text, text),
        TextScreen(text, text), WhoScreen(text, text, text), ConsentScreen(ConsentQuestion(text, (text,), text)),
    ):  # fmt: skip
        await app.push_screen(screen)
        await painted(app)
        app.pop_screen()
    app.notify(Content(text).plain, title=text, markup=False)
    await painted(app)


def main() -> None:
    """Run it; leave with 0."""
    stage = Stage("prod-weu", "staging")
    mode = sys.argv[1]
    app = stage.app

    async def script() -> None:
        await play(stage)
        if mode == "leave":
            app._end(0)
        else:
            tell_played()

    if mode == "crash":

        async def script() -> None:
            hunter = "hunter2-secret-local"
            assert hunter
            app.call_later(explode, hunter)

    async def load_then_play() -> None:
        await app._load_services()
        await script()

    def start() -> None:
        app._owner.spawn(load_then_play(), name="script")

    app._start_loading = start
    app.run()
    if mode == "leave":  # not earlier: the thread that draws may be in the middle of a sequence
        tell_played()
    sys.exit(app.return_code or 0)


def tell_played() -> None:
    """Say that everything was shown."""
    print("PLAYED", file=sys.__stderr__, flush=True)


def explode(password: str) -> None:
    """Fail with a secret in a local variable."""
    copy = password
    raise ValueError("it broke" if copy else "")


if __name__ == "__main__":
    main()
