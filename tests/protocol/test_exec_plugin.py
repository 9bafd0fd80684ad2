"""Commands of a kubeconfig: they run only after trust, bounded, and a failing one never means no credential."""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web

from app.cluster import exec_plugin
from app.cluster.access import resolve_access
from app.cluster.api import ApiClient
from app.cluster.exec_plugin import ExecCredentials, describe_command, read_answer, run_command
from app.cluster.kubeconfig import ClusterEntry, ExecEntry
from app.errors import JumpdeckError, SignInError
from app.profiles.model import KubeconfigCluster, Profile
from app.routes.direct import DirectDialer
from app.trust import CommandTrust, TrustedCommand, find_program
from tests.fakes import FakeAsker
from tests.tls_servers import api_server, kubeconfig_text

V1 = "client.authentication.k8s.io/v1"
CLUSTER = ClusterEntry("c1", "https://api.test:6443", "api.test", 6443, "", ca=b"PEM", tls_server_name="x.test")


def plugin(code: str, *more: str, env: tuple[tuple[str, str], ...] = (), info: bool = False) -> ExecEntry:
    """An entry that runs Python code."""
    return ExecEntry(sys.executable, ("-I", "-c", code, *more), env, V1, provide_cluster_info=info)


def answering(expires: float | None = 3600.0, **status: str) -> str:
    """Code that answers with a credential, its token counting the runs in the file of its first argument."""
    stamp = f'time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + {expires}))' if expires else "None"
    return (
        "import json, os, sys, time\n"
        "log = open(sys.argv[1], 'a'); log.write('x'); log.close()\n"
        "runs = os.path.getsize(sys.argv[1])\n"
        f"status = {{'token': 'token-%d' % runs, 'expirationTimestamp': {stamp}, **{status!r}}}\n"
        f"print(json.dumps({{'apiVersion': '{V1}', 'kind': 'ExecCredential', 'status': status}}))\n"
    )


async def trusted(entry: ExecEntry) -> ExecCredentials:
    return await ExecCredentials.trusted("p", entry, CLUSTER, FakeAsker(trusts=True))


async def test_without_trust_nothing_runs_and_the_error_names_the_command_to_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    entry = plugin(answering(), str(touched))
    for asker in (None, FakeAsker()):
        with pytest.raises(SignInError) as caught:
            await ExecCredentials.trusted("prod", entry, CLUSTER, asker)
        error = caught.value
        assert (error.code, int(error.exit_code), error.layer) == ("JD-TRUST-COMMAND", 4, "trust")
        assert "jumpdeck trust prod" in error.hint
    assert "touched" not in os.listdir(tmp_path)


async def test_trust_is_for_exactly_this_command(tmp_path: Path) -> None:
    count = tmp_path / "count"
    entry = plugin(answering(), str(count), env=(("A", "1"),))
    person = FakeAsker(trusts=True)
    first = await ExecCredentials.trusted("p", entry, CLUSTER, person)
    await ExecCredentials.trusted("p", entry, CLUSTER, person)
    assert len(person.asked) == 1
    shown = person.asked[0].describe()
    assert os.path.basename(sys.executable) in shown
    assert "SHA-256" in shown
    for other in (plugin(answering(), str(count), env=(("A", "2"),)), plugin(answering(), str(count), "more"),
                  plugin(answering(), str(count))):  # fmt: skip
        with pytest.raises(SignInError):
            await ExecCredentials.trusted("p", other, CLUSTER, None)
    assert await first.headers() == {"Authorization": "Bearer token-1"}


async def test_another_program_in_the_same_place_is_not_run(tmp_path: Path) -> None:
    script = tmp_path / "login"
    answer = json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {"token": "t"}})
    write_script(script, f"#!/bin/sh\necho '{answer}'\n")
    entry = ExecEntry("./login", (), (), V1, folder=tmp_path)
    credentials = await trusted(entry)
    assert await credentials.headers() == {"Authorization": "Bearer t"}
    touched = tmp_path / "touched"
    write_script(script, f"#!/bin/sh\ntouch {touched}\n")
    credentials._ran_at = -100.0
    with pytest.raises(SignInError) as caught:
        await credentials.refresh()
    assert caught.value.code == "JD-TRUST-COMMAND"
    assert "touched" not in os.listdir(tmp_path)


def write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o700)


def test_what_was_trusted_is_kept_without_values_and_can_be_forgotten(tmp_path: Path) -> None:
    trust = CommandTrust(tmp_path / "state" / "trusted-commands.json")
    command = TrustedCommand("p", ("/bin/x", "--a", "\x1b[31m"), (("KEY", "hidden-value"),), "00" * 32)
    assert not trust.trusts(command)
    assert not trust.remove(command.fingerprint)
    trust.add(command)
    assert trust.trusts(command)
    assert not trust.trusts(TrustedCommand("p", command.argv, (("KEY", "other"),), command.program_hash))
    raw = trust.path.read_bytes()
    assert b"hidden-value" not in raw
    if os.name == "posix":
        assert trust.path.stat().st_mode & 0o777 == 0o600
    assert [entry.fingerprint for entry in trust.entries()] == [command.fingerprint]
    assert "\x1b" not in command.describe()
    assert "hidden-value" not in command.describe()
    assert trust.remove(command.fingerprint[:20])
    assert not trust.trusts(command)
    trust.path.write_text("{")
    with pytest.raises(JumpdeckError):
        trust.entries()


async def test_ten_requests_at_once_run_the_command_once(tmp_path: Path) -> None:
    credentials = await trusted(plugin(answering(), str(tmp_path / "count")))
    headers = await asyncio.gather(*(credentials.headers() for _ in range(10)))
    assert headers == [{"Authorization": "Bearer token-1"}] * 10
    assert credentials.runs == 1
    assert await asyncio.gather(*(credentials.refresh() for _ in range(10))) == [True] * 10
    assert credentials.runs == 1  # it has just run: what failed together renews once
    credentials._ran_at = -100.0
    assert await asyncio.gather(*(credentials.refresh() for _ in range(10))) == [True] * 10
    assert credentials.runs == 2
    assert await credentials.headers() == {"Authorization": "Bearer token-2"}


async def test_a_credential_is_renewed_before_it_ends(tmp_path: Path) -> None:
    credentials = await trusted(plugin(answering(exec_plugin.EARLY / 2), str(tmp_path / "count")))
    assert await credentials.headers() == {"Authorization": "Bearer token-1"}
    assert await credentials.headers() == {"Authorization": "Bearer token-2"}
    assert credentials.expires_at is not None
    assert credentials.expires_at > time.time()


async def test_a_failing_command_is_an_error_and_never_a_request_without_credential(tmp_path: Path) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(text="{}")

    code = "import sys; sys.stderr.write('no \\x1b[31m login'); sys.exit(3)"
    async with api_server(answer) as port:
        user = f"exec: {{command: '{sys.executable}', apiVersion: {V1}, args: ['-I', '-c', {json.dumps(code)}]}}"
        path = tmp_path / "config"
        write_script(path, kubeconfig_text(port, user=user))
        access = await resolve_access(Profile("p", KubeconfigCluster(path)), asker=FakeAsker(trusts=True))
        api = ApiClient(access, DirectDialer())
        with pytest.raises(SignInError) as caught:
            await api.get("/api")
        await api.aclose()
    assert seen == []
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-EXEC-FAILED", 4)
    assert "code 3" in caught.value.title
    assert "login" in caught.value.detail
    assert "\x1b" not in caught.value.detail


async def run(code: str, *, limit: float = 20.0, **env: str) -> bytes:
    return await run_command(describe_command("p", plugin(code, env=tuple(env.items()))), "{}", limit=limit)


async def test_the_command_gets_little_and_nothing_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "sentinel")
    code = "import json, os, sys; print(json.dumps([sys.stdin.read(), dict(os.environ), sys.stdout.isatty()]))"
    found = json.loads(await run(code, ADDED="yes"))
    assert found[0] == ""
    assert found[1]["ADDED"] == "yes"
    assert found[1]["KUBERNETES_EXEC_INFO"] == "{}"
    assert "SOME_SECRET" not in found[1]


async def test_the_cluster_is_told_only_when_asked_for() -> None:
    code = (
        "import json, os; info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"print(json.dumps({{'apiVersion': '{V1}', 'kind': 'ExecCredential', 'status': {{'token': info['spec'].get("
        "'cluster', {}).get('server', 'none')}}))"
    )
    assert await (await trusted(plugin(code))).headers() == {"Authorization": "Bearer none"}
    assert await (await trusted(plugin(code, info=True))).headers() == {"Authorization": "Bearer https://api.test:6443"}


async def test_a_command_that_sleeps_or_floods_is_ended() -> None:
    for code, expected in (
        ("import time; time.sleep(100)", "JD-EXEC-TIMEOUT"),
        ("import sys\nwhile True: sys.stderr.write('x' * 10000)", "JD-EXEC-OUTPUT"),
    ):
        with pytest.raises(SignInError) as caught:
            await run(code, limit=0.5 if "sleep" in code else 30.0)
        assert caught.value.code == expected


async def test_what_a_command_leaves_behind_is_ended_too(tmp_path: Path) -> None:
    if os.name != "posix":
        return  # there, a command that has gone has nothing left that could be found
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    code = (
        f"import os, time\nheld = os.open({str(fifo)!r}, os.O_WRONLY)\n"
        "if os.fork() == 0:\n    os.close(1); os.close(2); time.sleep(100)"
    )
    await run(code)
    # The write end closes when the last process that holds it has ended: then reading says so.
    assert await asyncio.to_thread(select.select, [reader], [], [], 20.0) == ([reader], [], [])
    assert os.read(reader, 1) == b""
    os.close(reader)


ANSWERS = [
    b"", b"nonsense", b"[]", b'{"kind": "Secret"}', b'{"kind": "ExecCredential", "apiVersion": "v2"}',
    *(json.dumps({"kind": "ExecCredential", "apiVersion": V1, "status": status}).encode() for status in (
        None, {}, {"token": 1}, {"token": ""}, {"clientCertificateData": "x"}, {"token": "a\nb"},
        {"token": "t", "expirationTimestamp": "soon"},
    )),
]  # fmt: skip


@pytest.mark.parametrize("raw", ANSWERS)
def test_an_answer_that_is_none(raw: bytes) -> None:
    with pytest.raises(SignInError) as caught:
        read_answer(raw, V1, "login")
    assert caught.value.code == "JD-EXEC-ANSWER"


def test_a_certificate_in_an_answer() -> None:
    status = {"clientCertificateData": "CERT", "clientKeyData": "KEY", "expirationTimestamp": "2030-01-01T00:00:00Z"}
    found = read_answer(json.dumps({"kind": "ExecCredential", "apiVersion": V1, "status": status}).encode(), V1, "x")
    assert found.certificate is not None
    assert found.certificate.key.reveal() == "KEY"
    assert found.expires_at == 1893456000.0
    assert "KEY" not in repr(found)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (ExecEntry("no-such-program-here", (), (), V1, install_hint="apt \x1b[1m it"), "JD-EXEC-MISSING"),
        (ExecEntry("kubelogin-not-there/kubelogin", (), (), V1), "JD-EXEC-MISSING"),
        (ExecEntry(sys.executable, (), (), "client.authentication.k8s.io/v1alpha1"), "JD-EXEC-VERSION"),
    ],
)
def test_a_command_that_cannot_be(entry: ExecEntry, code: str) -> None:
    with pytest.raises(SignInError) as caught:
        describe_command("p", entry)
    assert (caught.value.code, int(caught.value.exit_code)) == (code, 4)
    assert "\x1b" not in caught.value.hint


async def test_kubelogin_is_recognised(tmp_path: Path) -> None:
    write_script(tmp_path / "kubelogin", "#!/bin/sh\n")
    entry = ExecEntry(str(tmp_path / "kubelogin"), ("get-token",), (), V1)
    with pytest.raises(SignInError) as caught:
        await ExecCredentials.trusted("p", entry, CLUSTER, FakeAsker(trusts=True))
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-SIGN-IN-KUBELOGIN", 4)


def test_relative_folders_of_the_path_take_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "login.exe" if sys.platform == "win32" else "login"
    write_script(tmp_path / name, "#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join(["", "."]))
    assert find_program("login", tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("login", Path("/")) == tmp_path / name
