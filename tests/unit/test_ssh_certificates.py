"""What stands in an OpenSSH certificate, and why it will not do, as ssh-keygen makes and prints it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from app.errors import JumpdeckError
from app.routes import ssh_certificates
from app.routes.ssh_certificates import Certificate, Kind
from app.routes.ssh_wire import WireError, fingerprint_of, kind_of, put_string
from tests.sshd import fingerprint, make_key


def signed(folder: Path, kind: str = "ed25519", *options: str) -> Path:
    """A certificate for a new key, by a new authority."""
    authority, key = make_key(folder / "ca"), make_key(folder / "key", kind)
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "jo\x1b]0;x", "-z", "9", *options, f"{key}.pub"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "key-cert.pub"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_it_says_what_ssh_keygen_says(tmp_path: Path, kind: str) -> None:
    found = ssh_certificates.read(signed(tmp_path, kind, "-n", "jo,ops", "-V", "20260101000000Z:20270101000000Z"))
    assert (found.kind, found.serial, found.principals) == (Kind.USER, 9, ("jo", "ops"))
    assert (found.valid_after, found.valid_before) == (1767225600, 1798761600)
    assert fingerprint_of(found.key_blob) == fingerprint(tmp_path / "key")
    assert found.signed_by == f"ED25519 {fingerprint(tmp_path / 'ca')}"
    assert found.critical == () and "permit-port-forwarding" in found.extensions
    assert "valid until 2027-01-01 00:00:00 UTC" in found.facts and "\x1b" not in found.facts
    assert kind_of(found.algorithm) == kind.upper()


def test_times(tmp_path: Path) -> None:
    found = ssh_certificates.read(signed(tmp_path, "ed25519", "-n", "jo", "-V", "20260101000000Z:20270101000000Z"))
    start, end = found.valid_after, found.valid_before
    for now, words in ((start - 1, "valid only from"), (start, None), (end - 1, None), (end, "expired")):
        problem = ssh_certificates.time_problem(found, now)
        assert problem is None if words is None else words in str(problem), "the end itself does not count any more"
    with pytest.raises(JumpdeckError) as caught:
        ssh_certificates.check(found, found.key_blob, 1798761600 + 7200)
    assert caught.value.code == "JD-SSH-CERTIFICATE"
    assert "expired at 2027-01-01 00:00:00 UTC, 120m ago" in caught.value.detail
    assert "clock says 2027-01-01 02:00:00 UTC" in caught.value.detail and "\x1b" not in caught.value.detail


def test_one_that_never_ends(tmp_path: Path) -> None:
    found = ssh_certificates.read(signed(tmp_path, "ed25519", "-n", "jo"))
    assert ssh_certificates.time_problem(found) is None
    assert "valid until the end of time" in found.facts
    assert ssh_certificates.moment(2**62) == "a time beyond the calendar"


def test_one_for_servers(tmp_path: Path) -> None:
    found = ssh_certificates.read(signed(tmp_path, "ed25519", "-h", "-n", "jump01"))
    assert ssh_certificates.time_problem(found, time.time()) == "it is a certificate for servers, not for users"


def test_names_and_options(tmp_path: Path) -> None:
    options = ("-n", "jo", "-O", "clear", "-O", "source-address=10.0.0.0/8", "-O", "force-command=/bin/true")
    found = ssh_certificates.read(signed(tmp_path, "ed25519", *options))
    assert found.critical == ("force-command", "source-address") and found.extensions == ()
    assert [note.split("(")[0].strip() for note in ssh_certificates.limits(found)] == [
        "the certificate does not permit port forwarding, which a hop needs",
        "the certificate counts only from certain addresses",
        "the certificate forces a command",
    ]
    assert ssh_certificates.principal_problem(found, "jo") is None
    assert ssh_certificates.principal_problem(found, "ops") == "it is for jo, not for user ops"


def test_one_for_nobody_and_one_for_many(tmp_path: Path) -> None:
    found = ssh_certificates.read(signed(tmp_path))
    assert ssh_certificates.principal_problem(found, "jo") == "it names no user (principal) that it is for"
    many = signed_for_many(tmp_path)
    assert ssh_certificates.principal_problem(many, "jo") == (
        "it is for p0, p1, p2, p3, p4, p5, p6, p7 and 92 more, not for user jo"
    )


def signed_for_many(folder: Path) -> Certificate:
    names = ",".join(f"p{number}" for number in range(100))
    command = ["ssh-keygen", "-q", "-s", str(folder / "ca"), "-I", "x", "-n", names, f"{folder / 'key'}.pub"]
    subprocess.run(command, check=True, capture_output=True)
    return ssh_certificates.read(folder / "key-cert.pub")


def test_damage_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    blob = ssh_certificates.read(signed(tmp_path, "ed25519", "-n", "jo")).blob
    for cut in range(len(blob)):
        with pytest.raises(WireError):
            ssh_certificates.parse(blob[:cut], "it")
    with pytest.raises(WireError):
        ssh_certificates.parse(blob + b"\0", "it")
    with pytest.raises(WireError):
        ssh_certificates.parse(put_string(b"ssh-unheard-of-cert-v01@openssh.com"), "it")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), ("ssh-ed25519 AAAA", "ends early"), ("x" * 70_000, "larger"), ("a %%", "as ssh-keygen")],
)
def test_a_named_file_that_is_no_certificate(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "it.pub"
    if content is not None:
        path.write_text(content)
    with pytest.raises(JumpdeckError) as caught:
        ssh_certificates.read_named(path)
    assert caught.value.code == "JD-SSH-CERTIFICATE" and words in caught.value.detail
