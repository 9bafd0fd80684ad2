"""Team files: merged field by field, read-only, and asked for again when a profile leads elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.errors import ProfileError
from app.profiles.includes import INCLUDES_FOLDER, accept
from app.profiles.model import KubeconfigCluster, SshHop
from app.profiles.store import ProfileBook, load

TEAM = """
[hop.jump]
ssh = "ops@jump01"
[profile.prod]
title = "Team's words"
tags = ["production"]
cluster = { kubeconfig = "kube", context = "prod" }
via = ["jump"]
[profile.test]
cluster = { kubeconfig = "kube", context = "test" }
"""
OWN = 'include = ["team/profiles.toml"]\n'


class Desk:
    """A user's folder with a team's file beside it."""

    def __init__(self, folder: Path) -> None:
        self.config, self.state = folder / "config", folder / "state"
        self.team = self.config / "team" / "profiles.toml"
        self.team.parent.mkdir(parents=True, mode=0o700)
        self.write(OWN, TEAM)

    def write(self, own: str | None = None, team: str | None = None) -> None:
        for path, text in ((self.config / "profiles.toml", own), (self.team, team)):
            if text is not None:
                path.write_text(text)

    def load(self) -> ProfileBook:
        return load(self.config, state=self.state)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_own_entries_merge_over_the_shared_ones_field_by_field(desk: Desk) -> None:
    desk.write(OWN + '[profile.prod]\ntitle = "Mine"\nca-file = "ca.pem"\n[hop.jump]\nkey = "id"\n')
    book = desk.load()
    assert not book.problems
    prod = book.get("prod")
    assert (prod.title, prod.tags) == ("Mine", ("production",))
    assert prod.cluster == KubeconfigCluster(desk.team.parent / "kube", "prod"), (
        "a path starts at its own file's folder"
    )
    assert prod.ca_file == desk.config / "ca.pem"
    assert prod.via == (SshHop(("ops@jump01",), key=desk.config / "id", name="jump"),)
    assert book.get("test").origin == desk.team


def test_defaults_of_a_shared_file_are_ignored_and_told(desk: Desk) -> None:
    desk.write(team='[defaults]\nsign-in = "browser"\n' + TEAM)
    book = desk.load()
    assert [problem.code for problem in book.problems] == ["JD-PROFILE-SHARED-DEFAULTS"]
    assert book.get("prod").sign_in is None
    assert set(book.profiles) == {"prod", "test"}


@pytest.mark.parametrize(
    ("own", "team", "code", "words"),
    [
        (
            'include = ["none.toml"]\n',
            TEAM,
            "JD-PROFILE-MISSING",
            "line 1: include: the included profile file does not exist: ",
        ),
        ("include = [1]\n", TEAM, "JD-PROFILE-INCLUDE", "a list of paths in quotes is expected"),
        (OWN, "[", "JD-PROFILE-SYNTAX", "team/profiles.toml, line 1"),
        (OWN, 'include = ["../profiles.toml"]', "JD-PROFILE-INCLUDE", "profiles.toml includes itself"),
        (OWN, 'include = ["profiles.toml"]', "JD-PROFILE-INCLUDE", "team/profiles.toml includes itself"),
    ],
)
def test_a_bad_include_hides_nothing_else(desk: Desk, own: str, team: str, code: str, words: str) -> None:
    desk.write(own + '[profile.mine]\ncluster = { kubeconfig = "k" }\n', team)
    book = desk.load()
    assert [problem.code for problem in book.problems] == [code]
    assert words in book.problems[0].detail
    assert book.get("mine")


def test_a_nested_include_is_merged_under_the_file_that_includes_it(desk: Desk) -> None:
    (desk.team.parent / "base.toml").write_text('[profile.base]\ntitle = "b"\n' + TEAM.replace("Team's words", "Base"))
    desk.write(
        team='include = ["base.toml"]\n[profile.base]\ncluster = { server = "https://x" }\n[profile.prod]\ntitle = "T"'
    )
    book = desk.load()
    assert not book.problems
    assert (book.get("base").title, book.get("prod").title) == ("b", "T")


def test_a_harmless_change_is_taken_over(desk: Desk) -> None:
    desk.load()
    desk.write(team=TEAM.replace("Team's words", "Better words"))
    book = desk.load()
    assert book.get("prod").title == "Better words"
    assert not book.notices and not book.changes


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('context = "prod"', 'context = "other"', "cluster"),
        ("jump01", "evil", "via"),
        ('tags = ["production"]', "", "production"),
        ('via = ["jump"]', 'via = ["jump"]\nsign-in = "browser"', "sign_in"),
        ('via = ["jump"]', 'via = ["jump"]\nca-file = "/x"', "ca_file"),
        ('via = ["jump"]', 'via = ["jump"]\nallow-write = true', "allow_write"),
    ],
)
def test_a_changed_destination_keeps_the_accepted_copy_until_agreed(desk: Desk, old: str, new: str, field: str) -> None:
    before = desk.load().get("prod")
    desk.write(team=TEAM.replace(old, new).replace('"test" }', '"test", address = "10.0.0.1" }'))
    for _ in range(2):
        book = desk.load()
        assert book.get("prod") == before
        assert [change.name for change in book.changes] == ["prod", "test"]
        assert book.changes[0].fields() == [field]
        assert len(book.notices) == 2 and "the accepted copy is used" in book.notices[0]
    accept([book.changes[0]], desk.state / INCLUDES_FOLDER)
    book = desk.load()
    assert book.get("prod") != before
    assert [change.name for change in book.changes] == ["test"], "each profile is agreed to by itself"
    accept(list(book.changes), desk.state / INCLUDES_FOLDER)
    assert not desk.load().notices
    desk.write(team=TEAM)
    assert {change.name for change in desk.load().changes} == {"prod", "test"}, "going back is a change too"


def test_own_fields_over_the_changed_one_ask_nothing(desk: Desk) -> None:
    desk.write(OWN + '[profile.prod]\ncluster = { kubeconfig = "k" }\n')
    desk.load()
    desk.write(team=TEAM.replace('context = "prod"', 'context = "other"'))
    assert not desk.load().changes


def test_an_own_edit_asks_nothing(desk: Desk) -> None:
    desk.load()
    desk.write(OWN + '[profile.prod]\ncluster = { kubeconfig = "k" }\n')
    assert not desk.load().changes


def test_a_profile_that_goes_and_comes_back_elsewhere_is_withheld(desk: Desk) -> None:
    desk.load()
    desk.write(team="")
    assert not desk.load().profiles
    desk.write(team=TEAM.replace("jump01", "evil"))
    book = desk.load()
    with pytest.raises(ProfileError) as caught:
        book.get("prod")
    assert caught.value.code == "JD-PROFILE-INCLUDE-CHANGED"
    assert book.get("test")
    accept(list(book.changes), desk.state / INCLUDES_FOLDER)
    assert desk.load().get("prod")


def test_a_file_that_is_gone_or_broken_leaves_the_accepted_copy(desk: Desk) -> None:
    before = desk.load().profiles
    desk.write(team="[")
    broken = desk.load()
    desk.team.unlink()
    gone = desk.load()
    for book in (broken, gone):
        assert book.profiles == before
        assert len(book.problems) == 1
        assert "its accepted copy is used" in book.notices[0]


def test_an_entry_that_became_invalid_keeps_the_accepted_one(desk: Desk) -> None:
    before = desk.load().get("prod")
    desk.write(team=TEAM.replace('context = "prod"', "context = 1"))
    book = desk.load()
    assert book.get("prod") == before
    assert book.problem("prod") is not None
    assert any("not valid now" in notice for notice in book.notices)


def test_a_state_folder_that_cannot_be_used_is_said_once(desk: Desk) -> None:
    desk.state.write_text("a file, not a folder")
    book = desk.load()
    assert set(book.profiles) == {"prod", "test"}
    assert len(book.notices) == 1 and "could not be kept" in book.notices[0]


def test_includes_writable_by_others_are_refused_and_readable_ones_left_alone(desk: Desk) -> None:
    desk.team.chmod(0o644)
    assert not desk.load().problems
    assert desk.team.stat().st_mode & 0o777 == 0o644
    desk.team.chmod(0o664)
    book = desk.load()
    assert [problem.code for problem in book.problems] == ["JD-PROFILE-PERMISSION"] * 3, "the file and its profiles"
    assert "chmod go-w" in book.problems[0].hint


def test_a_file_that_others_may_write_to_counts_for_nothing(desk: Desk) -> None:
    if os.name != "posix":
        return  # rights are judged there by the security descriptor: test_files
    mine = '[profile.mine]\ncluster = { server = "https://y" }\n'
    desk.write(OWN + mine + mine.replace("mine", "mine-too") + 'via = ["jump"]\n[profile.test]\ntitle = "T"\n')
    assert len(desk.load().profiles) == 4
    desk.team.chmod(0o666)
    book = desk.load()
    assert list(book.profiles) == ["mine"]
    assert not book.notices
    for name in ("prod", "test", "mine-too"):
        with pytest.raises(ProfileError) as caught:
            book.get(name)
        assert caught.value.code == "JD-PROFILE-PERMISSION"
        assert "others may write to it" in caught.value.detail
        assert caught.value.hint == f"Repair it: chmod go-w {desk.team}"
    desk.team.chmod(0o600)
    assert len(desk.load().profiles) == 4 and not desk.load().changes


def test_why_the_accepted_copy_is_used_is_said(desk: Desk) -> None:
    desk.load()
    desk.write(team="[")
    (notice,) = desk.load().notices
    assert "(line 1: " in notice and notice.endswith("its accepted copy is used")
