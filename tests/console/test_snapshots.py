"""How the console looks, at the smallest size and at a large one, with the clock stopped."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from app.asking import HostKeyQuestion, Prompt
from app.cluster.who import Seen
from app.errors import ProfileError, RouteError
from app.identity.claims import Kind, Who
from app.rows import HopState, LogMark, MarkKind, SessionPhase, Staleness, Step, StepState
from screens.questions import HostKeyScreen, PromptsScreen
from tests.console.conftest import settle
from tests.console.fakes_console import NOW, Stage, lines, link_error, pod, snapshot
from widgets.log_ring import LogRing

SIZES = pytest.mark.parametrize("size", [(80, 24), (200, 60)], ids=["80x24", "200x60"])
BROKEN = ProfileError(
    "Profile office cannot be used", "~/profiles.toml: unknown field 'clutser'", "Did you mean cluster?",
    code="JD-PROFILE-UNKNOWN-FIELD",
)  # fmt: skip


def estate() -> list:
    return [
        pod("checkout-7d9f6c-x2x4k", namespace="payments", ready=2, total=2, created=NOW - 273_600),
        pod("ledger-5f8b-k2p9q", namespace="payments", ready=0, status="CrashLoopBackOff", restarts=5,
            restarted_at=NOW - 120, created=NOW - 2_460),
        pod("report-28400-abcde", namespace="payments", ready=0, status="Completed", finished=True),
        *(pod(f"web-{n}", namespace="shop", node=f"aks-pool-{n}") for n in range(6)),
        pod("a-name-that-is-much-longer-than-the-others-6c5d9f7b8-zx81q", namespace="shop", status="Pending", ready=0),
    ]  # fmt: skip


async def main_screen(stage: Stage, pilot: Pilot) -> None:
    await settle(pilot)
    await stage.app.main.open("prod-weu")
    await settle(pilot)
    stage.reader("prod-weu").snapshot = snapshot(*estate())
    stage.session("prod-weu").up()
    await settle(pilot)


async def with_log(stage: Stage, pilot: Pilot) -> None:
    await main_screen(stage, pilot)
    ring = LogRing()
    ring.append(lines(*(f'level=info msg="captured" order={81_200 + n}' for n in range(40))))
    ring.append(
        lines(b"\x1b[31mERROR\x1b[0m [/] payment refused", mark=LogMark(MarkKind.RESTARTED, "exit code 137", NOW))
    )
    ring.append(lines("order 4711 done", mark=LogMark(MarkKind.CUT, "", NOW)))
    view = stage.app.main.active_view
    view.log_ring = ring
    view.log_heading = "payments/checkout-7d9f6c-x2x4k/app"
    view.log_pane.focus()
    await pilot.press("t")
    view.log_pane.search = "order"
    await settle(pilot)


async def ask(stage: Stage, pilot: Pilot, screen: HostKeyScreen | PromptsScreen) -> None:
    """Show a question whose cursor stands still: on a busy machine the picture was taken in its dark half."""
    await main_screen(stage, pilot)
    await stage.app.push_screen(screen)
    await settle(pilot)
    for field in screen.query(Input):
        field.cursor_blink = False
    await settle(pilot)


def stage_of(**more) -> Stage:
    return Stage("prod-weu", "staging", "shop-edge", broken={"office": BROKEN}, **more)


@SIZES
def test_main(snap_compare, size):
    stage = stage_of()
    assert snap_compare(stage.app, terminal_size=size, run_before=lambda pilot: with_log(stage, pilot))


@SIZES
def test_connecting(snap_compare, size):
    stage = stage_of()

    async def play(pilot: Pilot) -> None:
        await settle(pilot)
        await stage.app.main.open("staging")
        steps = (Step("profile and credentials", StepState.DONE, 0.02), Step("jump01 (SSH)", StepState.RUNNING))
        stage.session("staging").move(SessionPhase.CONNECTING, steps=steps)
        await settle(pilot)

    assert snap_compare(stage.app, terminal_size=size, run_before=play)


@SIZES
def test_failed(snap_compare, size):
    stage = stage_of()

    async def play(pilot: Pilot) -> None:
        await settle(pilot)
        await stage.app.main.open("staging")
        steps = (
            Step("profile and credentials", StepState.DONE, 0.02),
            Step("API server 10.4.0.4:443", StepState.FAILED, 5.0, "Connection timed out"),
        )
        error = RouteError("Connection timed out", "10.4.0.4:443 did not answer within 5 s",
                           "Check that the VPN is up.", code="JD-TCP-TIMEOUT")  # fmt: skip
        stage.session("staging").move(SessionPhase.FAILED, steps=steps, error=error)
        await settle(pilot)

    assert snap_compare(stage.app, terminal_size=size, run_before=play)


@SIZES
def test_error_dialog(snap_compare, size):
    stage = stage_of()

    async def play(pilot: Pilot) -> None:
        await main_screen(stage, pilot)
        await stage.app.main.open("office")
        await settle(pilot)

    assert snap_compare(stage.app, terminal_size=size, run_before=play)


@SIZES
def test_help(snap_compare, size):
    stage = stage_of()

    async def play(pilot: Pilot) -> None:
        await settle(pilot)
        await pilot.press("question_mark")
        await settle(pilot)

    assert snap_compare(stage.app, terminal_size=size, run_before=play)


def test_production_with_a_lost_link_and_ascii_signs(snap_compare):
    stage = stage_of(production=("prod-weu",), ascii_only=True)

    async def play(pilot: Pilot) -> None:
        await main_screen(stage, pilot)
        stage.reader("prod-weu").publish(
            snapshot(*estate(), staleness=Staleness.STALE, heard_at=NOW - 12, error=link_error())
        )
        stage.session("prod-weu").move(SessionPhase.RETRYING, retry_at=NOW + 4, tries=1, error=link_error())
        await settle(pilot)

    assert snap_compare(stage.app, terminal_size=(120, 30), run_before=play)


def test_light(snap_compare):
    stage = stage_of()

    async def play(pilot: Pilot) -> None:
        await with_log(stage, pilot)
        await stage.app.main.run_command("theme light")
        await settle(pilot)

    assert snap_compare(stage.app, terminal_size=(120, 30), run_before=play)


@SIZES
def test_route(snap_compare, size):
    stage = stage_of()

    async def play(pilot: Pilot) -> None:
        await main_screen(stage, pilot)
        stage.session("prod-weu").hops = (
            HopState("Contoso VPN (VPN)", StepState.DONE, NOW - 7990),
            HopState("jump01 (SSH)", StepState.DONE, NOW - 7980, 0.012, 3_400_000, 40_960,
                     "key ED25519 SHA256:YpV5aR1p4Y; 3 profiles share it", "Authorised use only.\nAll is recorded."),
        )  # fmt: skip
        await pilot.press("i")
        await settle(pilot)

    assert snap_compare(stage.app, terminal_size=size, run_before=play)


def test_route_of_a_connected_cluster(snap_compare):
    stage = stage_of()

    async def play(pilot: Pilot) -> None:
        await main_screen(stage, pilot)
        note = (
            "Entra, arcProxy 1.3.035022, tunnel 2:51:03 left, token 04:10 left, "
            "correlation id 0a6f2c1e-54a5-4f0e-9a3e-2f1f6b6c7d8e, Identity valid for 04:10 more; "
            "sign-in needed: Sign in again: jumpdeck sign-in shop-edge"
        )
        stage.session("prod-weu").hops = (HopState("shop-01 (Azure Arc)", StepState.DONE, NOW - 540, note=note),)
        await pilot.press("i")
        await settle(pilot)

    assert snap_compare(stage.app, terminal_size=(80, 24), run_before=play)


def test_whoami(snap_compare):
    stage = stage_of()
    stage.sessions.seen = Seen(
        Who(Kind.PERSON, "ops@contoso.com", upn="ops@contoso.com", object_id="00000000-0000-0000-0000-0000000000c1",
            tenant="00000000-0000-0000-0000-00000000001a", overage=True, read_from="token for the API server"),
        notes=("More than 200 groups: an Arc cluster refuses this account, whatever roles it has.",),
    )  # fmt: skip

    async def play(pilot: Pilot) -> None:
        await main_screen(stage, pilot)
        await stage.app.main.run_command("whoami")
        await settle(pilot)

    assert snap_compare(stage.app, terminal_size=(100, 36), run_before=play)


@SIZES
def test_unknown_host_key(snap_compare, size):
    stage = stage_of()
    question = HostKeyQuestion(
        "prod-weu", "jump01.corp", "10.4.0.7:22", "ED25519", "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8",
        notes=("Read it on the machine itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",),
    )  # fmt: skip

    assert snap_compare(
        stage.app, terminal_size=size, run_before=lambda pilot: ask(stage, pilot, HostKeyScreen(question))
    )


def test_server_prompts(snap_compare):
    stage = stage_of()
    prompts = (Prompt("Password:"), Prompt("Code from your app:", echo=True))

    screen = PromptsScreen("jump01", "Two factors", "Both are needed.", prompts)
    assert snap_compare(stage.app, terminal_size=(80, 24), run_before=lambda pilot: ask(stage, pilot, screen))
