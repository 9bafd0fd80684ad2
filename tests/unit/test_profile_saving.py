"""Saves keep comments, order and everything else; bad input loses nothing that was stored."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ProfileError
from app.files import previous
from app.profiles.model import Profile
from app.profiles.rendering import profile_table, to_toml, value_text
from app.profiles.saving import add_entries, remove_profile, replace_text
from app.profiles.source import parse_source
from app.profiles.store import assemble
from tests.unit.test_profile_format import WHOLE

TEXT = b"""# first line
version = 1   # the format

[profile.b]   # the busy one
title = 'B'
cluster = { kubeconfig = "/k" }  # why

[hop.h] # between
ssh = "jump"

[profile.a]
# inside a
cluster = { kubeconfig = "/k", context = "a" }
via = [
    "h",   # first
]
# last line
"""
NEW = {"cluster": {"kubeconfig": "/k", "context": "new"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "profiles.toml"
    path.write_bytes(TEXT)
    return path


def test_adding_changes_no_byte_before(path: Path) -> None:
    add_entries(path, [("profile", "new", {**NEW, "via": ["h"]})])
    added = b'\n[profile.new]\ncluster = { kubeconfig = "/k", context = "new" }\nvia = ["h"]\n'
    assert path.read_bytes() == TEXT + added
    assert previous(path)[0].read_bytes() == TEXT


def test_adding_makes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "profiles.toml"
    add_entries(path, [("profile", "a", dict(NEW)), ("profile", "b", dict(NEW))])
    assert list(assemble(parse_source(path, path.read_bytes())).profiles) == ["a", "b"]


def test_adding_keeps_windows_line_ends(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n"))
    add_entries(path, [("profile", "new", dict(NEW))])
    data = path.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf# first")
    assert data.count(b"\n") == data.count(b"\r\n")


def test_removing_leaves_the_rest_as_it_was(path: Path) -> None:
    remove_profile(path, "b")
    text = path.read_bytes()
    assert b"[profile.b]" not in text
    for kept in (
        b"# first line\nversion = 1   # the format\n",
        b"[hop.h] # between\n",
        TEXT[TEXT.index(b"[profile.a]") :],
    ):
        assert kept in text
    remove_profile(path, "a")
    assert list(tomllib.loads(path.read_text())) == ["version", "hop"]


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([("profile", "a", NEW)], "JD-PROFILE-EXISTS"),
        ([("profile", "Bad", NEW)], "JD-PROFILE-NAME"),
        ([("profile", "logs", NEW)], "JD-PROFILE-NAME"),
        ([("profile", "x", {"cluster": {"kubeconfig": "/k", "token": "hunter2"}})], "JD-PROFILE-SECRET"),
        ([("profile", "x", NEW), ("profile", "y", {**NEW, "via": ["none"]})], "JD-PROFILE-FIELD"),
    ],
)
def test_bad_input_changes_nothing(path: Path, entries: list[tuple[str, str, dict[str, object]]], code: str) -> None:
    with pytest.raises(ProfileError) as caught:
        add_entries(path, entries)
    assert caught.value.code == code
    assert caught.value.exit_code == 3
    assert path.read_bytes() == TEXT


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"version = 2\n[future]\nx = 1\n[profile.a]\ncluster = { kubeconfig = '/k' }", "JD-PROFILE-READ-ONLY"),
        (b"[profile.a\n", "JD-PROFILE-SYNTAX"),
        (b"[profile]\na = { cluster = { kubeconfig = '/k' } }\n", None),
        (b"profile = { a = { cluster = { kubeconfig = '/k' } } }\n", "JD-PROFILE-SAVE"),
    ],
)
def test_files_that_cannot_be_added_to_stay_byte_for_byte(path: Path, data: bytes, code: str | None) -> None:
    path.write_bytes(data)
    try:
        add_entries(path, [("profile", "new", dict(NEW))])
    except ProfileError as error:
        assert error.code == code
        assert path.read_bytes() == data
    else:
        assert code is None


def test_a_newer_file_is_neither_removed_from_nor_replaced(path: Path) -> None:
    newer = b"version = 2\n[profile.a]\ncluster = { kubeconfig = '/k' }"
    path.write_bytes(newer)
    for attempt in (lambda: remove_profile(path, "a"), lambda: replace_text(path, newer, newer + b"\n")):
        with pytest.raises(ProfileError) as caught:
            attempt()
        assert caught.value.code == "JD-PROFILE-READ-ONLY"
    assert path.read_bytes() == newer


def test_a_bad_neighbour_does_not_stand_in_the_way(path: Path) -> None:
    path.write_bytes(TEXT + b"[profile.bad]\ncluster = 1\n")
    add_entries(path, [("profile", "new", dict(NEW))])
    remove_profile(path, "bad")
    assert not assemble(parse_source(path, path.read_bytes())).problems


def test_an_edit_is_merged_with_what_another_saved_meanwhile(path: Path) -> None:
    edited = TEXT.replace(b"'B'", b"'Better'").replace(b'[hop.h] # between\nssh = "jump"', b'[hop.h]\nssh = "other"')
    add_entries(path, [("profile", "theirs", dict(NEW))])
    replace_text(path, TEXT, edited)
    text = path.read_text()
    found = tomllib.loads(text)
    assert found["profile"]["b"]["title"] == "Better"
    assert found["hop"]["h"]["ssh"] == "other"
    assert "theirs" in found["profile"]
    assert "# inside a" in text and "# last line" in text


def test_an_edit_of_what_another_changed_is_a_conflict(path: Path) -> None:
    remove_profile(path, "b")
    now = path.read_bytes()
    with pytest.raises(ProfileError) as caught:
        replace_text(path, TEXT, TEXT.replace(b"'B'", b"'Mine'"))
    assert caught.value.code == "JD-PROFILE-CONFLICT"
    assert "[profile.b]" in caught.value.detail
    assert path.read_bytes() == now


SAVER = """
import sys; from pathlib import Path; from app.profiles.saving import add_entries, remove_profile
path, name = Path(sys.argv[1]), sys.argv[2]
for number in range(15):
    add_entries(path, [("profile", f"{name}-{number}", {"cluster": {"kubeconfig": "/k"}})])
    if number % 3 == 0: remove_profile(path, f"{name}-{number}")
"""


def test_two_savers_at_once_lose_nothing(path: Path) -> None:
    savers = [subprocess.Popen([sys.executable, "-c", SAVER, str(path), name]) for name in ("x", "y")]
    assert [saver.wait() for saver in savers] == [0, 0]
    names = set(tomllib.loads(path.read_text())["profile"])
    assert names == {"a", "b"} | {f"{name}-{number}" for name in "xy" for number in range(15) if number % 3}
    assert b"# inside a" in path.read_bytes()


def test_what_is_shown_is_what_was_read() -> None:
    whole = parse_source(Path("/conf/profiles.toml"), WHOLE.encode())
    for name, profile in assemble(whole).profiles.items():
        table = profile_table(profile)
        clouds = (
            '[cloud.stack]\nauthority = "https://login.stack.example"\nresource-manager = "https://arm.stack.example"\n'
        )
        clouds += 'arm-scope = "https://arm.example//.default"\nssh-scope = "https://ssh.example/.default"\n'
        clouds += 'suffixes = { aks = "azmk8s.stack.example" }\n'
        text = clouds + to_toml(f"profile.{name}", table)
        again = assemble(parse_source(Path("/conf/profiles.toml"), text.encode()))
        assert not again.problems
        assert _facts(again.profiles[name]) == _facts(profile)


def _facts(profile: Profile) -> dict[str, object]:
    facts = {field: getattr(profile, field) for field in vars(profile)}
    if profile.sign_in:
        facts["sign_in"] = (profile.sign_in.kind, profile.sign_in.account, profile.sign_in.tenant)
    return facts


letters = st.characters(exclude_categories=["Cs"])
values = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | st.text(letters, max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(letters, max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(values)
@settings(max_examples=300, deadline=None)
def test_every_value_is_written_as_toml_that_reads_back(value: object) -> None:
    assert tomllib.loads(f"x = {value_text(value)}") == {"x": value}


LINES = ["# note", "", "   # more", "[profile.{}]\ncluster = {{ kubeconfig = '/k' }} # c", "[hop.{}] # h\nssh = 'a'"]
comments = st.lists(st.sampled_from(LINES), max_size=8)


@given(comments)
@settings(max_examples=60, deadline=None)
def test_adding_and_removing_again_keeps_every_comment_and_entry(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("round") / "profiles.toml"
    text = "\n".join(line.format(f"n{number}") for number, line in enumerate(lines)) + "\n"
    path.write_text(text)
    add_entries(path, [("profile", "new", dict(NEW))])
    remove_profile(path, "new")
    after = path.read_text()
    assert tomllib.loads(after) == tomllib.loads(text)
    assert [line for line in after.splitlines() if "#" in line] == [line for line in text.splitlines() if "#" in line]
