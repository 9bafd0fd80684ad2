"""Verdicts on host keys, what is told of them, and what our own file gets. The matrix beside OpenSSH is elsewhere."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import asyncssh
import pytest

from app import audit
from app.records import replace
from app.routes.host_keys import Finding, HostKeyError, HostKeys, Server, Verdict, default_files
from app.routes.known_hosts import hash_name

ROOT = Path(__file__).parents[2]
VM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/jump01"
SERVER = Server("p", "Jump01", 2222, address="10.4.0.7:2222")


@pytest.fixture(scope="module")
def keys() -> list[asyncssh.SSHKey]:
    return [asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(3)]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUMPDECK_STATE_DIR", str(tmp_path / "state"))


def text(key: asyncssh.SSHKey) -> str:
    return key.export_public_key("openssh").decode().strip()


def judge(theirs: Path, key: asyncssh.SSHKey, server: Server = SERVER) -> Finding:
    return HostKeys(others=(theirs,)).check_for(server).judge(key)


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "theirs"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def events() -> list[str]:
    return [json.loads(line)["event"] for file in audit.audit_dir().glob("*") for line in file.read_text().splitlines()]


def test_an_unknown_key_is_told_with_what_to_run(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    finding = judge(written(tmp_path, f"jump01 {text(keys[1])}"), keys[0], replace(SERVER, vm=VM))
    assert finding.verdict is Verdict.UNKNOWN
    error = finding.error()
    told = " ".join(error.lines())
    assert (error.code, int(error.exit_code), error.layer) == ("JD-SSH-HOST-KEY-UNKNOWN", 5, "host-key")
    assert keys[0].get_fingerprint() in told
    assert "ED25519" in told
    assert "jumpdeck trust p" in error.hint
    assert f"--fingerprint {keys[0].get_fingerprint()}" in error.hint
    question = finding.question()
    assert (question.host, question.address, question.key_type) == ("Jump01", "10.4.0.7:2222", "ED25519")
    assert question.proof == keys[0].get_fingerprint()[-4:]
    assert keys[1].get_fingerprint() in question.notes[0], "the other key without the port is worth a word"
    assert f"--ids {VM} --command-id RunShellScript" in question.notes[-1]
    assert "ssh_host_ed25519_key.pub" in question.notes[-1]


def test_a_changed_key_is_told_with_both_and_the_line(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    finding = judge(written(tmp_path, "#", f"[jump01]:2222 {text(keys[1])}"), keys[0], replace(SERVER, vm=VM))
    error = finding.error()
    assert error.code == "JD-SSH-HOST-KEY-CHANGED"
    assert keys[0].get_fingerprint() in error.detail
    assert f"{keys[1].get_fingerprint()} ({tmp_path}/theirs:2)" in error.detail
    assert "jumpdeck trust p --replace" in error.hint
    assert "az vm run-command invoke" in error.hint
    with pytest.raises(HostKeyError):
        HostKeys(others=()).trust(finding)


def test_a_revoked_key_is_told_with_the_line_and_nothing_accepts_it(
    tmp_path: Path, keys: list[asyncssh.SSHKey]
) -> None:
    path = written(tmp_path, f"[jump01]:2222 {text(keys[0])}", f"@revoked jump01 {text(keys[0])}")
    finding = judge(path, keys[0])
    assert finding.verdict is Verdict.REVOKED
    assert f"{path}:2" in finding.error().detail
    assert not finding.error().transient
    for accept in (HostKeys(others=()).trust, HostKeys(others=()).replace):
        with pytest.raises(HostKeyError, match="revoked"):
            accept(finding)


def test_a_pin_is_all_that_counts_but_for_revocation(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    path = written(tmp_path, f"[jump01]:2222 {text(keys[1])}", f"@revoked * {text(keys[2])}")
    pinned = replace(SERVER, policy="pinned", pin=keys[0].get_fingerprint())
    assert judge(path, keys[0], pinned).verdict is Verdict.KNOWN
    wrong = judge(path, keys[1], pinned)
    assert wrong.error().code == "JD-SSH-HOST-KEY-PINNED"
    assert keys[0].get_fingerprint() in wrong.error().detail
    assert keys[1].get_fingerprint() in wrong.error().detail
    with pytest.raises(HostKeyError):
        HostKeys(others=()).replace(wrong)
    revoked = replace(pinned, pin=keys[2].get_fingerprint())
    assert judge(path, keys[2], revoked).verdict is Verdict.REVOKED
    assert judge(path, keys[2], revoked).error().detail.count(f"{path}:2") == 1, "a line for all hosts is told once"
    assert judge(path, keys[0], replace(SERVER, policy="pinned")).error().code == "JD-SSH-HOST-KEY-PINNED"


def test_what_we_trust_is_kept_in_our_file_and_on_record(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    path = written(tmp_path, f"[jump01]:2222 {text(keys[1])}")
    hosts = HostKeys(others=(path,))
    changed = hosts.check_for(SERVER).judge(keys[0])
    (left,) = hosts.replace(changed)
    assert left.path == path
    assert hosts.check_for(SERVER).judge(keys[0]).verdict is Verdict.KNOWN, "any entry of any file, as in OpenSSH"
    assert [key.hosts for key in hosts.entries()] == ["[jump01]:2222"]
    assert [key.hosts for key in hosts.remove("jump01:2222")] == ["[jump01]:2222"]
    assert hosts.check_for(SERVER).judge(keys[0]).verdict is Verdict.CHANGED
    assert events() == ["host-key.replaced", "host-key.removed"]
    assert path.read_text().count("\n") == 1


def test_an_answer_to_a_question_that_is_out_of_date_adds_no_second_key(keys: list[asyncssh.SSHKey]) -> None:
    """Two sessions ask about one server, one after the other; both saw it unknown."""
    hosts = HostKeys(others=())
    first, again, other = (hosts.check_for(SERVER).judge(key) for key in (keys[0], keys[0], keys[1]))
    hosts.trust(first)
    hosts.trust(again)
    with pytest.raises(HostKeyError) as caught:
        hosts.trust(other)
    assert caught.value.code == "JD-SSH-HOST-KEY-CHANGED"
    assert [key.fingerprint for key in hosts.entries()] == [first.fingerprint] and events() == ["host-key.trusted"]


def test_names_are_hidden_where_the_person_hides_them(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    hosts = HostKeys(others=(written(tmp_path, f"{hash_name('elsewhere')} {text(keys[1])}"),))
    hosts.trust(hosts.check_for(SERVER).judge(keys[0]))
    assert b"jump01" not in hosts.own.read().lower()
    assert hosts.check_for(SERVER).judge(keys[0]).verdict is Verdict.KNOWN
    assert len(hosts.remove("[jump01]:2222")) == 1


def test_an_alias_keeps_two_targets_behind_one_port_apart(keys: list[asyncssh.SSHKey]) -> None:
    """S-04: swapping them is refused."""
    hosts = HostKeys(others=())
    one, two = (replace(SERVER, host="127.0.0.1", alias=f"vm:/subscriptions/{name}") for name in ("a", "b"))
    hosts.trust(hosts.check_for(one).judge(keys[0]))
    hosts.trust(hosts.check_for(two).judge(keys[1]))
    assert hosts.check_for(one).judge(keys[1]).verdict is Verdict.CHANGED
    assert hosts.check_for(two).judge(keys[0]).verdict is Verdict.CHANGED
    assert hosts.check_for(one).judge(keys[0]).verdict is Verdict.KNOWN
    loopback = replace(SERVER, host="127.0.0.1")
    assert hosts.check_for(loopback).judge(keys[0]).verdict is Verdict.UNKNOWN


def test_known_types_are_asked_for_first(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    rsa = asyncssh.generate_private_key("ssh-rsa", key_size=2048).convert_to_public()
    check = HostKeys(others=(written(tmp_path, f"[jump01]:2222 {text(rsa)}"),)).check_for(SERVER)
    assert check.algorithms is not None
    assert check.algorithms[:3] == ("rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519")
    assert not any("cert" in name for name in check.algorithms)
    check = HostKeys(others=(written(tmp_path, f"@cert-authority * {text(rsa)}"),)).check_for(SERVER)
    assert check.algorithms is not None
    assert check.algorithms[0] == "ssh-ed25519-cert-v01@openssh.com"
    assert "ssh-ed25519" in check.algorithms
    assert not any(name in ("ssh-rsa", "ssh-dss") for name in check.algorithms)
    assert check.judge(rsa).key_type == "RSA 2048"


def test_hostile_names_are_harmless_where_they_are_shown(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    server = Server("p", "ho\x1b]0;st\u202e", 22, alias="al\nias")
    finding = judge(written(tmp_path), keys[0], server)
    question = finding.question()
    for shown in (question.host, question.address, question.alias, *finding.error().lines()):
        assert shown.isprintable()
    hosts = HostKeys(others=())
    hosts.trust(finding)
    assert hosts.own.read().count(b"\n") == 1, "no name of a profile makes a second line"
    assert hosts.check_for(server).judge(keys[0]).verdict is Verdict.KNOWN


def test_the_files_of_openssh_are_read() -> None:
    assert [path.name for path in default_files()] == [
        "known_hosts", "known_hosts2", "ssh_known_hosts", "ssh_known_hosts2",
    ]  # fmt: skip


def test_no_code_path_turns_the_check_off() -> None:
    """S-01: `known_hosts=None` means "connect to anything" to asyncssh, and so does leaving it to its configuration."""
    connects = 0
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "screens").rglob("*.py"), *(ROOT / "widgets").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "known_hosts":
                assert not (isinstance(node.value, ast.Constant) and node.value.value is None), path
            if isinstance(node, ast.Dict):
                named = dict(zip((getattr(key, "value", None) for key in node.keys), node.values, strict=True))
                if "known_hosts" in named:
                    assert isinstance(named["known_hosts"], ast.Tuple), path
                    assert isinstance(named["config"], ast.Constant), path
                    assert named["config"].value is None, path
                    connects += 1
    assert connects == 1, "one place makes SSH connections"
