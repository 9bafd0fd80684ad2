"""known_hosts files: what a lookup gives for any bytes, and that our own lines come back."""

from __future__ import annotations

import base64
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ProfileError
from app.routes import known_hosts
from app.routes.host_key_file import HostKeyFile
from app.routes.known_hosts import Marker, every_key, fingerprint, hash_name, host_name, look_up, read_file

PATH = Path("/nowhere/known_hosts")


def ed25519(seed: bytes = b"k") -> str:
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (b"ssh-ed25519", seed.ljust(32, b"\0")))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


KEY, OTHER = ed25519(b"a"), ed25519(b"b")
PIECES = ["host", "[host]:22", "*", "!", ",", "?", "|1|", "|", "@revoked", "@cert-authority", "@", " ", "\t", "\n",
          "\r", "\0", "#", "ssh-ed25519", "ssh-rsa", KEY.split()[1], "AAAA", "\xff", hash_name("host")]  # fmt: skip
nasty = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(PIECES)).map(lambda p: "".join(p).encode()))
names = st.text(min_size=1, max_size=60).filter(lambda name: name == name.lower() and not set(name) & set("\0\ud800"))


@given(nasty)
def test_no_bytes_are_too_odd(data: bytes) -> None:
    found = look_up(data, PATH, "[host]:22", "host")
    for key in (*found.own_name, *found.plain_name, *every_key(data, PATH)):
        assert key.fingerprint.startswith("SHA256:")
        assert key.kind.isprintable()
        assert 1 <= key.line <= data.count(b"\n") + 1
    assert len(found.notes) <= known_hosts.MAX_NOTES
    assert all(note.isprintable() for note in found.notes)


@given(nasty)
def test_a_good_line_is_found_after_any_others(data: bytes) -> None:
    text = data + b"\nplace.example " + KEY.encode() + b"\n"
    found = look_up(text, PATH, "place.example")
    assert any(key.line == data.count(b"\n") + 2 for key in found.own_name)


@given(st.text("abc*?.,!", max_size=20), st.text("abc.", max_size=10))
def test_wildcards_are_those_of_the_shell_without_brackets(pattern: str, name: str) -> None:
    import fnmatch

    expected, negated = False, False
    for part in pattern.split(","):
        fits = fnmatch.fnmatchcase(name, part.removeprefix("!"))
        negated = negated or (fits and part.startswith("!"))
        expected = expected or fits
    assert known_hosts.speaks_of(pattern, name) is (expected and not negated)


@given(name=names, port=st.integers(1, 65535), hashed=st.booleans(), alias=st.booleans())
def test_our_own_lines_come_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, port: int, hashed: bool, alias: bool
) -> None:
    file = HostKeyFile(tmp_path_factory.mktemp("own") / "known_hosts")
    full = name if alias else host_name(name, port)
    file.add(full, KEY, hashed=hashed)
    file.add("another", OTHER)
    found = look_up(file.read(), file.path, full)
    assert [(key.line, f"{key.key_type} {base64.b64encode(key.blob).decode()}") for key in found.own_name] == [(1, KEY)]
    assert look_up(file.read(), file.path, full + "x").own_name == ()
    if hashed:
        assert found.own_name[0].hashed
    assert [key.line for key in file.replace(full, OTHER)] == [1]
    assert [key.fingerprint for key in look_up(file.read(), file.path, full).own_name] == [
        fingerprint(base64.b64decode(OTHER.split()[1]))
    ]


def test_notes_name_the_line_that_was_skipped() -> None:
    data = f"@odd host {KEY}\nhost ssh-ed25519 rubbish\nelsewhere ssh-ed25519 rubbish\nhost {KEY}\n".encode()
    found = look_up(data, PATH, "host")
    assert [key.line for key in found.own_name] == [4]
    assert [note.partition(" ")[0] for note in found.notes] == [f"{PATH}:1", f"{PATH}:2"]


def test_markers_and_names_are_kept_apart() -> None:
    data = f"@revoked * {KEY}\n@cert-authority *.example,[a.example]:2 {OTHER}\n[a.example]:2 {KEY}\n".encode()
    found = look_up(data, PATH, "[a.example]:2", "a.example")
    assert [key.marker for key in found.own_name] == [Marker.REVOKED, Marker.AUTHORITY, Marker.HOST]
    assert [key.marker for key in found.plain_name] == [Marker.REVOKED, Marker.AUTHORITY]


def test_a_pattern_of_stars_takes_no_time_to_speak_of() -> None:
    assert not known_hosts.speaks_of("*a" * 400 + "b", "a" * 500)


@pytest.mark.parametrize("hashed", [False, True])
def test_a_file_of_many_thousand_lines_is_read_whole(hashed: bool) -> None:
    count = 20_000 if hashed else 200_000
    salt = os.urandom(20)
    line = (lambda n: hash_name(f"host-{n}", salt)) if hashed else (lambda n: f"host-{n},10.0.{n >> 8}.{n & 255}")
    data = "".join(f"{line(n)} {KEY}\n" for n in range(count)).encode()
    assert [key.line for key in look_up(data, PATH, f"host-{count - 1}", "nobody").own_name] == [count]


def test_files_that_cannot_be_read_are_noted_or_refused(tmp_path: Path) -> None:
    assert read_file(tmp_path / "none") == (b"", "")
    assert read_file(tmp_path / "none" / "deeper") == (b"", "")
    assert read_file(tmp_path / "none", private=True) == (b"", "")
    assert "not a regular file" in read_file(tmp_path)[1]
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
        assert "not a regular file" in read_file(tmp_path / "pipe")[1]
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(known_hosts.MAX_BYTES + 1)
    with pytest.raises(ProfileError) as caught:
        read_file(large)
    assert caught.value.code == "JD-SSH-KNOWN-HOSTS"


def test_removing_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    before = f"# a\r\n\nhost,more {KEY} note\nhost {OTHER}\n*.wild {KEY}\n@revoked host {KEY}\nlast {KEY}"
    path.write_bytes(before.encode())
    path.chmod(0o600)
    gone = HostKeyFile(path).replace("host", ed25519(b"c"))
    assert [key.line for key in gone] == [3, 4]
    after = f"# a\r\n\nmore {KEY} note\n*.wild {KEY}\n@revoked host {KEY}\nlast {KEY}\nhost {ed25519(b'c')}\n"
    assert path.read_bytes() == after.encode()
