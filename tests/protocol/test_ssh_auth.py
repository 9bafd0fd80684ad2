"""Logging in: keys, certificates and agents at OpenSSH's server, passwords and questions at one in this process."""

from __future__ import annotations

import logging
import re
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from app.errors import ExitCode, JumpdeckError, Recovery
from app.profiles.model import SshHop
from app.secrets.secret import password_name
from tests.logins import Gate, MemoryStore, add_key, agent, context, log_in, person
from tests.sshd import USER, Sshd, fingerprint, make_key, sshd

pytestmark = pytest.mark.timeout(60)


def hop(**fields: object) -> SshHop:
    return SshHop(("127.0.0.1",), **fields)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with no keys, and no agent."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(mode=0o700, parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


def rewrite(key: Path, *options: str) -> None:
    """Give the key file a passphrase, and perhaps another form."""
    command = ["ssh-keygen", "-q", "-p", *options, "-N", "open sesame", "-f", str(key)]
    subprocess.run(command, check=True, capture_output=True)


async def at(server: Sshd, spec: SshHop, home: Path, asker=None, store=None, **more):
    return await log_in(spec, server.port, server.public_key, context(home, asker, store), **more)


async def refused(server: Sshd, spec: SshHop, home: Path, asker=None, **more) -> JumpdeckError:
    with pytest.raises(JumpdeckError) as caught:
        await at(server, spec, home, asker, **more)
    assert caught.value.exit_code in (ExitCode.SIGN_IN, ExitCode.PROFILE)
    return caught.value


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_a_named_key_logs_in(tmp_path: Path, home: Path, kind: str) -> None:
    key = make_key(tmp_path / "key", kind)
    async with sshd(tmp_path / "sshd") as server:
        server.authorize(key)
        login = await at(server, hop(key=key), home)
        assert login.method == f"key {kind.upper()} {fingerprint(key)}"
        await server.logged_in(1)
        assert login.prompt_seconds == 0 and not login.asking


@pytest.mark.parametrize("form", ["PKCS8", "PEM"])
async def test_keys_in_older_forms_log_in(tmp_path: Path, home: Path, form: str) -> None:
    key = make_key(tmp_path / "key", "rsa", bits=2048)
    rewrite(key, "-m", form)
    async with sshd(tmp_path / "sshd") as server:
        server.authorize(key)
        asker = person("open sesame")
        assert (await at(server, hop(key=key), home, asker)).method.startswith("key RSA SHA256:")
        assert asker.asked == [f"Passphrase of {key}"]
        key.with_suffix(".pub").unlink()
        assert (await at(server, hop(key=key), home, person("open sesame"))).method.startswith("key RSA SHA256:")


async def test_a_passphrase_is_asked_for_only_once_the_server_would_take_the_key(tmp_path: Path, home: Path) -> None:
    key = make_key(home / ".ssh" / "id_ed25519", passphrase="open sesame")
    asker = person("wrong", "open sesame")
    around = context(home, asker)
    async with sshd(tmp_path / "sshd") as server:
        with pytest.raises(JumpdeckError) as caught:
            await log_in(hop(), server.port, server.public_key, around)
        assert caught.value.code == "JD-SSH-DENIED" and fingerprint(key) in caught.value.detail
        assert asker.asked == []
        server.authorize(key)
        login = await log_in(hop(), server.port, server.public_key, around)
        assert login.method == f"key ED25519 {fingerprint(key)}"
        assert asker.asked == [f"Passphrase of {key}", f"Passphrase of {key} (the last one was refused)"]
        assert login.prompt_seconds > 0
        await log_in(hop(), server.port, server.public_key, around)
        assert len(asker.asked) == 2, "it is remembered"


async def test_a_wrong_passphrase_is_said(tmp_path: Path, home: Path) -> None:
    key = make_key(tmp_path / "key", passphrase="open sesame")
    async with sshd(tmp_path / "sshd") as server:
        server.authorize(key)
        error = await refused(server, hop(key=key), home, person("a", "b", "c"))
        assert (error.code, error.recovery) == ("JD-SSH-PASSPHRASE", Recovery.NEEDS_PERSON)
        error = await refused(server, hop(key=key), home)
        assert (error.code, error.recovery) == ("JD-SECRET-NEEDED", Recovery.NEEDS_PERSON)
        error = await refused(server, hop(key=key), home, store=MemoryStore(**{f"passphrase {key}": "old"}))
        assert error.code == "JD-SSH-PASSPHRASE"
        error = await refused(server, hop(key=key), home, person())
        assert error.code == "JD-SECRET-NEEDED"
        assert server.logins == 0


async def test_what_was_refused_is_said(tmp_path: Path, home: Path) -> None:
    key = make_key(tmp_path / "key")
    async with sshd(tmp_path / "sshd") as server:
        error = await refused(server, hop(key=key), home)
        assert (error.code, error.recovery, error.layer) == ("JD-SSH-DENIED", Recovery.PERMANENT, "hop")
        assert "publickey" in error.detail and USER in error.detail and fingerprint(key) in error.detail
        assert "authorized_keys" in error.hint
        error = await refused(server, hop(), home)
        assert "no key was there to try" in error.detail and "Name a key" in error.hint


async def test_only_what_the_profile_names_is_tried(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default, other = make_key(home / ".ssh" / "id_ed25519"), make_key(tmp_path / "other")
    async with sshd(tmp_path / "sshd") as server, agent(tmp_path, default) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        server.authorize(default)
        for spec in (hop(key=other), hop(password=True)):
            error = await refused(server, spec, home)
            assert fingerprint(default) not in error.detail
        login = await at(server, hop(), home)
        assert login.method == f"agent key ED25519 {fingerprint(default)}", "and the file of the same key is not"
        monkeypatch.delenv("SSH_AUTH_SOCK")
        assert (await at(server, hop(), home)).method == f"key ED25519 {fingerprint(default)}"


async def test_a_server_that_wants_two_keys(tmp_path: Path, home: Path) -> None:
    first, second = make_key(tmp_path / "first"), make_key(tmp_path / "second", "ecdsa")
    async with (
        sshd(tmp_path / "sshd", AuthenticationMethods="publickey,publickey") as server,
        agent(tmp_path, second) as socket,
    ):
        server.authorize(first)
        server.authorize(second)
        assert (await at(server, hop(key=first, agent=socket), home)).method == f"agent key ECDSA {fingerprint(second)}"
        assert (await refused(server, hop(key=first), home)).code == "JD-SSH-DENIED"


async def test_a_server_that_cuts_after_too_many_tries(tmp_path: Path, home: Path) -> None:
    keys = [make_key(tmp_path / f"key{number}") for number in range(4)]
    async with sshd(tmp_path / "sshd", MaxAuthTries="2") as server, agent(tmp_path, *keys) as socket:
        error = await refused(server, hop(agent=socket), home)
        assert (error.code, error.recovery) == ("JD-SSH-DENIED", Recovery.PERMANENT)
        assert "the server says: Too many authentication failures" in error.detail


def certify(authority: Path, key: Path, *, names: str = USER, validity: str = "-1d:+1d", options: tuple[str, ...] = ()):
    command = ["ssh-keygen", "-q", "-s", authority, "-I", "jo's laptop", "-z", "7", "-V", validity]
    subprocess.run([*command, "-n", names, *options, f"{key}.pub"], check=True, capture_output=True)
    return Path(f"{key}-cert.pub")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_a_certificate_logs_in(tmp_path: Path, home: Path, kind: str) -> None:
    authority, key = make_key(tmp_path / "ca"), make_key(tmp_path / "key", kind)
    certificate = certify(authority, key).rename(tmp_path / "elsewhere.pub")
    async with sshd(tmp_path / "sshd", TrustedUserCAKeys=f"{authority}.pub") as server:
        login = await at(server, hop(key=key, certificate=certificate), home)
        assert re.fullmatch(r"certificate ID .jo's laptop., serial 7, valid until \d{4}-.* UTC", login.method)
        assert login.notes == ()
        certificate.rename(f"{key}-cert.pub")
        assert (await at(server, hop(key=key), home)).method.startswith("certificate"), "found beside its key"
        async with agent(tmp_path, key) as socket:
            assert (await at(server, hop(agent=socket), home)).method.startswith("certificate"), "held by the agent"


async def test_a_certificate_that_will_not_do_is_said(tmp_path: Path, home: Path) -> None:
    authority, key, other = make_key(tmp_path / "ca"), make_key(tmp_path / "key"), make_key(tmp_path / "other")
    async with sshd(tmp_path / "sshd", TrustedUserCAKeys=f"{authority}.pub") as server:
        for validity, words in (("-2d:-1d", "expired at"), ("+1d:+2d", "valid only from")):
            error = await refused(server, hop(key=key, certificate=certify(authority, key, validity=validity)), home)
            assert error.code == "JD-SSH-CERTIFICATE" and words in error.detail and "serial 7" in error.detail
        error = await refused(server, hop(key=other, certificate=certify(authority, key)), home)
        assert error.code == "JD-SSH-CERTIFICATE" and fingerprint(other) in error.detail
        assert server.refusals == 0, "nothing of it went to the server"
        certificate = certify(authority, key, names="nobody-here,root-everywhere")
        error = await refused(server, hop(key=key, certificate=certificate), home)
        assert error.code == "JD-SSH-CERTIFICATE"
        assert f"it is for nobody-here, root-everywhere, not for user {USER}" in error.detail
        login = None
        server.authorize(key)
        certificate = certify(authority, key, validity="-2d:-1d")
        login = await at(server, hop(key=key), home)
        assert login.method == f"key ED25519 {fingerprint(key)}"
        assert any("was left out: it expired" in note for note in login.notes), "nobody named it, the key will do"


async def test_a_certificate_for_other_names_logs_in_where_the_server_maps_them(tmp_path: Path, home: Path) -> None:
    authority, key = make_key(tmp_path / "ca"), make_key(tmp_path / "key")
    names = tmp_path / "principals"
    names.write_text("ops-team\n")
    options = {"TrustedUserCAKeys": f"{authority}.pub", "AuthorizedPrincipalsFile": str(names)}
    async with sshd(tmp_path / "sshd", **options) as server:
        certificate = certify(authority, key, names="ops-team", options=("-O", "no-port-forwarding"))
        login = await at(server, hop(key=key, certificate=certificate), home)
        assert login.method.startswith("certificate")
        assert login.notes == ("the certificate does not permit port forwarding, which a hop needs",)


async def test_an_agent_signs(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = make_key(tmp_path / "locked", "rsa")
    keys = [make_key(tmp_path / f"key{number}") for number in range(8)]
    async with sshd(tmp_path / "sshd") as server, agent(tmp_path, locked, keys[0]) as socket:
        rewrite(locked)
        server.authorize(locked)
        login = await at(server, hop(agent=socket), home)
        assert login.method == f"agent key RSA {fingerprint(locked)}"
        login = await at(server, hop(key=locked, agent=socket), home)
        assert login.method.startswith("agent key RSA"), "no passphrase is asked for what the agent holds"
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        assert (await at(server, hop(), home)).method.startswith("agent key RSA")
        assert (await at(server, hop(agent=True), home)).method.startswith("agent key RSA")
        for key in keys:
            await add_key(socket, key)
        (tmp_path / "sshd" / "authorized_keys").unlink()
        server.authorize(keys[7])
        error = await refused(server, hop(agent=True), home)
        assert "only 5 of 9 keys are offered" in error.detail
        assert error.detail.count("agent key") == 5
        login = await at(server, hop(key=Path(f"{keys[7]}.pub"), agent=True), home)
        assert login.method == f"agent key ED25519 {fingerprint(keys[7])}", "a .pub file picks the agent's key"


async def test_an_agent_that_will_not_sign_is_said(tmp_path: Path, home: Path) -> None:
    key = make_key(tmp_path / "key")
    async with sshd(tmp_path / "sshd") as server:
        server.authorize(key)
        known = home / "known"
        known.write_text(server.known_hosts_line)
        bound = ("-H", str(known), "-h", f"[127.0.0.1]:{server.port}")
        async with agent(tmp_path, key, options=bound) as socket:
            error = await refused(server, hop(agent=socket), home)
        assert error.code == "JD-SSH-DENIED"
        assert "the agent would not sign with it" in error.detail and "ssh-add -h" in error.detail
        assert "without -h" in error.hint


async def test_an_agent_that_is_not_there(tmp_path: Path, home: Path) -> None:
    key = make_key(tmp_path / "key")
    async with sshd(tmp_path / "sshd") as server:
        server.authorize(key)
        error = await refused(server, hop(agent=tmp_path / "nothing"), home)
        assert error.code == "JD-SSH-AGENT" and "No such file" in error.detail
        error = await refused(server, hop(agent=True), home)
        assert error.code == "JD-SSH-AGENT" and "SSH_AUTH_SOCK is not set" in error.detail
        login = await at(server, hop(agent=True, key=key), home)
        assert login.method.startswith("key") and login.notes[0].startswith("the agent cannot be used")


async def test_a_password_is_sent_once_when_it_is_right(home: Path) -> None:
    async with Gate(password="open sesame") as gate:
        asker = person("open sesame")
        around = context(home, asker)
        for _ in range(2):
            login = await log_in(hop(password=True), gate.port, gate.host_key, around, user="ops")
            assert login.method == "password"
        assert asker.asked == [f"Password of ops@127.0.0.1:{gate.port}"]
        assert gate.passwords == ["open sesame"] * 2


async def test_a_wrong_password_is_asked_for_once_more(home: Path) -> None:
    async with Gate(password="open sesame") as gate:
        login = await log_in(
            hop(password=True), gate.port, gate.host_key, context(home, person("wrong", "open sesame")), user="ops"
        )
        assert login.method == "password" and gate.passwords == ["wrong", "open sesame"]
        asker = person("a", "b", "c")
        with pytest.raises(JumpdeckError) as caught:
            await log_in(hop(password=True), gate.port, gate.host_key, context(home, asker), user="ops")
        assert gate.passwords[2:] == ["a", "b"] and asker.secrets == ["c"]
        assert caught.value.code == "JD-SSH-DENIED" and "2 passwords or answers refused" in caught.value.detail


async def test_a_stored_password_that_is_refused_is_sent_exactly_once(home: Path) -> None:
    async with Gate(password="open sesame", questions=[("", "", "", [("Password: ", False)])], answers=[["x"]]) as gate:
        name = password_name("ops", "127.0.0.1", gate.port)
        around = context(home, None, MemoryStore(**{name: "old"}))
        for code in ("JD-SSH-DENIED", "JD-SECRET-NEEDED", "JD-SECRET-NEEDED"):
            with pytest.raises(JumpdeckError) as caught:
                await log_in(hop(password=True), gate.port, gate.host_key, around, user="ops")
            assert caught.value.code == code and not caught.value.transient
        assert gate.responses + [(sent,) for sent in gate.passwords] == [("old",)], "a lockout counter reads 1"


async def test_a_stored_password_serves_where_nobody_is_asked(home: Path) -> None:
    questions = [("", "", "", [("Password: ", False)])]
    for gate in (Gate(password="open sesame"), Gate(questions=questions, answers=[["open sesame"]])):
        async with gate:
            store = MemoryStore(**{password_name("ops", "127.0.0.1", gate.port): "open sesame"})
            for spec in (hop(password=True), hop()):
                login = await log_in(spec, gate.port, gate.host_key, context(home, None, store), user="ops")
                assert login.method == ("password" if gate.password else "keyboard-interactive")


async def test_without_a_person_or_a_secret_nothing_is_sent(home: Path) -> None:
    async with Gate(password="open sesame") as gate:
        for spec, code in ((hop(password=True), "JD-SECRET-NEEDED"), (hop(), "JD-SSH-DENIED")):
            with pytest.raises(JumpdeckError) as caught:
                await log_in(spec, gate.port, gate.host_key, context(home), user="ops")
            assert caught.value.code == code
        assert gate.passwords == []


async def test_a_server_that_asks_several_questions(home: Path) -> None:
    questions = [
        ("", "", "", [("(ops@jump) Password: ", False)]),
        ("Two factors\x1b[2J", "Look at\x07 your phone", "", [("Code\x1b]52;c;x\x07: ", False), ("Name: ", True)]),
        ("", "Welcome", "", []),
    ]
    async with Gate(questions=questions, answers=[["open sesame"], ["123456", "jo"], []]) as gate:
        asker = person("open sesame", prompts=[("123456", "jo")])
        login = await log_in(hop(), gate.port, gate.host_key, context(home, asker), user="ops")
        assert login.method == "keyboard-interactive"
        assert gate.responses == [("open sesame",), ("123456", "jo"), ()]
        fields = asker.asked[1]
        assert isinstance(fields, tuple)
        assert [field.echo for field in fields] == [False, True]
        assert not any("\x1b" in field.text or "\x07" in field.text for field in fields)
        assert asker.told == [(f"ops@127.0.0.1:{gate.port}", "Welcome")]


async def test_questions_that_nobody_answers(home: Path) -> None:
    questions = [("", "", "", [("Code: ", False)])]
    async with Gate(password="x", questions=questions, answers=[["123456"]]) as gate:
        for asker in (person(), None):
            with pytest.raises(JumpdeckError) as caught:
                await log_in(hop(password=True), gate.port, gate.host_key, context(home, asker), user="ops")
            assert (caught.value.code, caught.value.recovery) == ("JD-SECRET-NEEDED", Recovery.NEEDS_PERSON)
        assert gate.responses == [] and gate.passwords == []
        asker = person(prompts=[("1",), ("2",), ("3",)])
        with pytest.raises(JumpdeckError) as caught:
            await log_in(hop(), gate.port, gate.host_key, context(home, asker), user="ops")
        assert caught.value.code == "JD-SSH-DENIED"
        assert gate.responses == [("1",), ("2",)] and gate.passwords == []


async def test_too_many_fields_are_not_asked(home: Path) -> None:
    questions = [("", "", "", [(f"{number}: ", True) for number in range(40)])]
    async with Gate(questions=questions, answers=[[]]) as gate:
        asker = person(prompts=[("x",) * 40])
        with pytest.raises(JumpdeckError) as caught:
            await log_in(hop(), gate.port, gate.host_key, context(home, asker), user="ops")
        assert asker.asked == [] and "asked too much" in caught.value.detail


async def test_a_banner_is_shown_as_the_servers_words(home: Path) -> None:
    async with Gate(password="open sesame", banner="Keep\x1b[2J out\r\n" + "x" * 9000) as gate:
        asker = person("open sesame")
        await log_in(hop(password=True), gate.port, gate.host_key, context(home, asker), user="ops")
        ((server, text),) = asker.told
        assert server == f"ops@127.0.0.1:{gate.port}"
        assert text.startswith("Keep␛[2J out\n") and len(text) == 2048


@pytest.fixture
def ssh_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All that the SSH library logs, also once the hop has taken its log over."""
    library = logging.getLogger("asyncssh")
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="asyncssh")
    library.addHandler(caplog.handler)
    yield caplog
    library.removeHandler(caplog.handler)


async def test_secrets_show_nowhere(tmp_path: Path, home: Path, ssh_log: pytest.LogCaptureFixture) -> None:
    asyncssh.set_debug_level(2)
    sentinel = "sentinel-5e7b"
    key = make_key(tmp_path / "key", passphrase="open sesame")
    shown = []
    async with Gate(password="open sesame") as gate, sshd(tmp_path / "sshd") as server:
        server.authorize(key)
        for spec, port, host_key in (
            (hop(password=True), gate.port, gate.host_key),
            (hop(key=key), server.port, server.public_key),
        ):
            for secrets in ((sentinel, sentinel, sentinel), (sentinel, "open sesame")):
                try:
                    login = await log_in(spec, port, host_key, context(home, person(*secrets)))
                    shown += [repr(login), login.method, *login.notes, repr(vars(login)), repr(vars(login._answers))]
                except JumpdeckError as error:
                    shown += ["".join(traceback.format_exception(error)), *error.lines()]
        assert gate.passwords == [sentinel, sentinel, "open sesame"] or sentinel in gate.passwords
    text = "\n".join([*shown, ssh_log.text])
    assert "JD-SSH-DENIED" in text and "JD-SSH-PASSPHRASE" in text and "Trying password auth" in text
    assert sentinel not in text and "open sesame" not in text
