"""What a person does before an Arc cluster opens: whoami, the token through a pipe, trust in the program."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from app import audit
from app.arc.consent import fetch_agreed
from app.arc.processes import MARK
from app.asking import ConsentQuestion
from app.cli.secret_token import token_from
from app.errors import SignInError
from app.rows import SessionPhase
from app.secrets.secret import Secret
from app.sessions.asking import Attempt, Desk, SessionAsker
from app.sessions.states import StateBoard
from tests.audit_lines import records
from tests.fakes import Consenting, FakeAsker
from tests.peers import require_linux
from tests.protocol.test_arc_orphans import gone, written
from tests.running import jumpdeck
from tests.terminal import Terminal
from tests.unit.test_who import ARC, BOUND, LONG_LIVED, jwt

CONTENT = b"a program"
PROGRAM = "arcProxy_linux_amd64_1_3_035022"


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path) -> Path:
    """Profiles of the tests; the program of one of them is there."""
    program = tmp_path / "vendor" / PROGRAM
    program.parent.mkdir(mode=0o700)
    program.write_bytes(CONTENT)
    program.chmod(0o700)
    (tmp_path / "kubeconfig").write_text(
        'apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: "https://api.test"}}]\n'
        f"users: [{{name: u, user: {{token: {jwt(BOUND)}}}}}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
    )
    (tmp_path / "config").mkdir(mode=0o700)
    (tmp_path / "config" / "profiles.toml").write_text(
        "version = 1\n"
        f'[profile.plain]\ncluster = {{ kubeconfig = "{tmp_path}/kubeconfig" }}\n'
        f'[profile.edge]\ncluster = {{ arc = "{ARC}", auth = "token" }}\narc-proxy = "{program}"\n'
        f'[profile.bare]\ncluster = {{ arc = "{ARC}" }}\n'
        '[profile.server]\ncluster = { server = "https://127.0.0.1:1", auth = "token" }\n'
    )
    return program


async def test_whoami_prints_to_a_pipe_and_says_what_it_cannot_know() -> None:
    done = await jumpdeck("whoami", "plain", "-o", "json")
    told = json.loads(done.out)
    assert (done.code, done.err, told["name"]) == (0, "", "system:serviceaccount:shop:reader")
    assert told["token-seconds"] > 0 and [grant["gate"] for grant in told["ask-for"]] == ["kubernetes"]
    asked = await jumpdeck("whoami", "edge", "--for", "service-account:shop/reader")
    assert (asked.code, asked.err) == (0, "") and asked.out.startswith("# 1. Azure: may open the tunnel")
    for words, code, error in (
        (("bare",), 4, "JD-SIGN-IN-KIND"),
        (("nowhere",), 3, "JD-PROFILE-UNKNOWN"),
        (("edge", "--for", "group:ops"), 2, "JD-USAGE-SUBJECT"),
    ):
        done = await jumpdeck("whoami", *words, "--no-input")
        assert (done.code, done.out) == (code, "") and error in done.err, done


# -- the token --------------------------------------------------------------------------------------------------------


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_token_is_taken_as_it_is_and_as_kubectl_prints_it() -> None:
    token = jwt({**LONG_LIVED, "exp": None})
    folded = "\r\n".join(coded(token)[at : at + 76] for at in range(0, len(coded(token)), 76))
    for given in (token, f"\ufeff  {token}\r\n"[1:], coded(token), folded, coded(token + "\n")):
        assert token_from(Secret(given), "edge").reveal() == token
    opaque = "sha256~" + coded("abc")
    assert token_from(Secret(opaque), "server").reveal() == opaque, "other clusters have other tokens"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("Error from server (NotFound): secrets not found", "white space"),
        ('{"apiVersion": "v1", "kind": "Secret"}', "white space"),
        ("two\nlines", "white space"),
        ("tökén", "white space or signs"),
        ("hunter2", "three parts"),
        (coded("hunter2"), "three parts"),
        (jwt({**BOUND, "exp": 1_000}), "it has ended"),
    ],
)
def test_what_is_no_token_is_not_kept_and_not_shown(given: str, why: str) -> None:
    with pytest.raises(SignInError) as caught:
        token_from(Secret(given), "edge")
    assert caught.value.code == "JD-SIGN-IN-TOKEN-FORM" and why in caught.value.detail
    assert given not in " ".join(caught.value.lines())


# -- the program ------------------------------------------------------------------------------------------------------


async def test_trust_shows_the_program_that_would_run(profiles: Path) -> None:
    done = await jumpdeck("trust", "edge")
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert (done.code, done.err) == (0, "")
    for said in (str(profiles), "1.3.035022", digest, "the profile's arc-proxy"):
        assert said in done.out
    other = await jumpdeck("trust", "edge", "--fingerprint", "0" * 64)
    assert other.code == 4 and "JD-TRUST-MISMATCH" in other.err


async def test_the_download_is_offered_at_a_terminal_only_and_no_is_no() -> None:
    require_linux("a pseudo-terminal")
    done = await jumpdeck("trust", "bare")
    assert done.code == 5 and "JD-ARC-PROGRAM" in done.err and "jumpdeck trust bare" in done.err
    shown = Terminal("trust", "bare")
    try:
        await shown.until(lambda seen: b"Download it? [y/N] " in seen)
        assert b"mcr.microsoft.com/azureconnectivity/proxy/linux/" in shown.written
        shown.type(b"\r")
        assert await shown.ended() == 5
        await shown.until(lambda seen: b"not downloaded" in seen)
    finally:
        shown.close()


async def test_nothing_is_fetched_for_who_cannot_be_asked_or_does_not_want_it() -> None:
    no = Consenting(False)
    assert await fetch_agreed(FakeAsker()) is None and await fetch_agreed(no) is None
    assert [question.default for question in no.asked] == [False]
    assert "az downloads the same program by itself" in " ".join(no.asked[0].lines)


async def test_a_session_stands_aside_while_consent_is_asked() -> None:
    question = ConsentQuestion("Fetch it", ("from there",))
    phases: list[SessionPhase] = []
    board = StateBoard("p", lambda state: phases.append(state.phase))
    for person, agreed, stood in ((Consenting(True), True, True), (FakeAsker(), False, False)):
        phases.clear()
        asker = SessionAsker(person, Desk())
        async with Attempt(Desk(), board) as attempt:
            asker.attempt = attempt
            board.move(SessionPhase.CONNECTING)
            assert await asker.ask_consent(question) is agreed
        assert (SessionPhase.NEEDS_TRUST in phases) is stood


async def test_what_an_earlier_run_left_is_ended_on_yes_and_put_on_record(tmp_path: Path) -> None:
    require_linux("looks at processes in /proc")
    folder = written(tmp_path / "state", owner=gone(), process=None)
    with subprocess.Popen(  # noqa: ASYNC220
        ["/bin/sleep", "600"], env={MARK: folder.name}, start_new_session=True
    ) as left:
        shown = Terminal("trust", "edge")
        try:
            await shown.until(lambda seen: b"End it? [Y/n] " in seen)
            assert b"of shop-01 (process %d)" % left.pid in shown.written
            shown.type(b"\r")
            assert await shown.ended() == 0
            await shown.until(lambda seen: b"Ended: 1" in seen)
        finally:
            shown.close()
            left.kill()
    assert not folder.path.exists()
    assert "arc-program.orphan-ended" in [record["event"] for record in records()]
    assert audit.verify(audit.audit_dir()) == []
