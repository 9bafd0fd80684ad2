"""Key files: what they are, whether they may be used, and what is said when not."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest

from app.errors import ProfileError
from app.routes import ssh_keys
from app.routes.ssh_keys import KeyProblem, WrongPassphrase
from app.routes.ssh_wire import put_string
from app.secrets.secret import Secret
from tests.sshd import fingerprint, make_key


@pytest.mark.parametrize("form", ["RFC4716", "PKCS8", "PEM"])
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_forms_and_passphrases(tmp_path: Path, form: str, kind: str) -> None:
    path = make_key(tmp_path / "key", kind, passphrase="")
    subprocess.run(["ssh-keygen", "-qpm", form, "-N", "", "-f", str(path)], check=True, capture_output=True)
    plain = ssh_keys.load(path)
    assert plain.usable and not plain.encrypted
    subprocess.run(["ssh-keygen", "-qpm", form, "-N", "open sesame", "-f", str(path)], check=True, capture_output=True)
    key = ssh_keys.load(path)
    assert key.encrypted and not key.usable and key.public == plain.public
    assert key.label == f"{kind.upper()} {fingerprint(path)}"
    for wrong in (None, Secret(""), Secret("wrong")):
        with pytest.raises(WrongPassphrase):
            key.unlock(wrong)
    key.unlock(Secret("open sesame"))
    assert key.usable
    assert "PRIVATE" not in repr(key) and "PRIVATE" not in repr(vars(key))
    assert ssh_keys.load(path.with_suffix(".pub")).private is False


def test_an_encrypted_file_with_no_public_half_beside_it(tmp_path: Path) -> None:
    path = make_key(tmp_path / "id_rsa", "rsa", bits=2048)
    subprocess.run(["ssh-keygen", "-qpm", "PEM", "-N", "open sesame", "-f", str(path)], check=True, capture_output=True)
    (tmp_path / "id_rsa.pub").unlink()
    assert ssh_keys.load(path).public is None
    found, notes = ssh_keys.load_defaults(tmp_path)
    assert found == [] and "write id_rsa.pub beside it" in notes[0]


def test_a_public_half_of_another_key(tmp_path: Path) -> None:
    path, other = make_key(tmp_path / "key", "rsa", bits=2048), make_key(tmp_path / "other")
    subprocess.run(["ssh-keygen", "-qpm", "PEM", "-N", "open sesame", "-f", str(path)], check=True, capture_output=True)
    (tmp_path / "key.pub").write_text(Path(f"{other}.pub").read_text())
    with pytest.raises(KeyProblem, match="of another key"):
        ssh_keys.load(path).unlock(Secret("open sesame"))


SECURITY_KEY = b"sk-ssh-ed25519@openssh.com"
NOT_KEYS = [
    ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "PuTTY key", "puttygen"),
    ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAA\n", "ssh.com", "Convert"),
    ("ssh-rsa AAAA jo@here\n", "not a private key", "without .pub"),
    ("hello\n", "not a private key", "without .pub"),
    ("", "not a private key", "without .pub"),
    ("x" * 70_000, "larger than 64 KiB", "Name the key"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "damaged", "backup"),
    ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "", "ssh-keygen"),
]


@pytest.mark.parametrize(("content", "why", "hint"), NOT_KEYS)
def test_files_that_are_no_keys(tmp_path: Path, content: str, why: str, hint: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ProfileError) as caught:
        ssh_keys.load_named(path)
    assert caught.value.code == "JD-SSH-KEY" and str(path) in caught.value.detail
    assert why in caught.value.detail and hint in caught.value.hint


def test_a_key_on_a_security_key_says_what_is_missing(tmp_path: Path) -> None:
    public = put_string(SECURITY_KEY) + put_string(b"p" * 32) + put_string(b"ssh:")
    body = b"openssh-key-v1\0" + put_string(b"none") * 2 + put_string(b"") + (1).to_bytes(4, "big") + put_string(public)
    path = tmp_path / "id_ed25519_sk"
    text = base64.b64encode(body + put_string(b"x" * 64)).decode()
    path.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(ProfileError) as caught:
        ssh_keys.load_named(path)
    assert "ED25519-SK" in caught.value.detail and "fido2" in caught.value.detail and "ssh-add" in caught.value.hint


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no such file"):
        ssh_keys.load_named(tmp_path / "nothing")
    for path in (tmp_path, tmp_path / "pipe"):
        if path != tmp_path:
            os.mkfifo(path)
        with pytest.raises(ProfileError):
            ssh_keys.load_named(path)


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = make_key(tmp_path / "id_ed25519")
    path.chmod(0o644)
    with pytest.raises(ProfileError) as caught:
        ssh_keys.load_named(path)
    assert "permissions 0644 are too open" in caught.value.detail and caught.value.hint == f"Run: chmod 600 {path}"
    found, notes = ssh_keys.load_defaults(tmp_path)
    assert found == [] and "too open" in notes[0]
