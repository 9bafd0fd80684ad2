"""The machine's policy: who may write it, what it can forbid, and that doubt forbids."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from app.cli.lent_route import guard
from app.errors import ExitCode, JumpdeckError, ProfileError
from app.policy import FORBIDDABLE, complaint, load, policy_file, require
from app.profiles.model import AksCluster, BastionHop, InvokeHop, NetworkHop, Profile
from app.rows import SessionPhase
from app.sessions.asking import Desk
from app.sessions.route import RouteGround
from app.sessions.session import Session
from tests.audit_lines import records
from tests.peers import require_root

AKS = AksCluster("/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c")
INVOKE = Profile("prod", AKS, (InvokeHop(),))
BASTION = Profile("hub", AKS, (BastionHop("/subscriptions/s/bastionHosts/hub"),))
DIRECT = Profile("office", AKS, (NetworkHop("office", "vpn"),))


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUMPDECK_STATE_DIR", str(tmp_path / "state"))


def written(folder: Path, text: str, mode: int = 0o644) -> Path:
    require_root()  # an administrator writes it
    place = folder / "etc"
    place.mkdir(exist_ok=True)
    file = place / "policy.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def code_of(name: str, file: Path) -> str:
    try:
        require(name, "prod", file)
    except ProfileError as error:
        assert error.exit_code is ExitCode.PROFILE
        assert len(error.lines()) == 3
        return error.code
    return ""


def test_without_a_file_nothing_is_forbidden(tmp_path: Path) -> None:
    assert load(tmp_path / "none" / "policy.toml").forbid == frozenset()
    assert [code_of(name, tmp_path / "none") for name in FORBIDDABLE] == ["", "", ""]


def test_the_file_is_the_systems_and_no_variable_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ProgramData", "PROGRAMDATA", "JUMPDECK_CONFIG_DIR", "XDG_CONFIG_DIRS", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert not policy_file().is_relative_to(tmp_path)
    assert policy_file().name == "policy.toml" and policy_file().parent.name == "jumpdeck"


@pytest.mark.parametrize("name", FORBIDDABLE)
def test_what_is_named_is_forbidden_and_nothing_else(tmp_path: Path, name: str) -> None:
    file = written(tmp_path, f'forbid = ["{name}"]\n')
    assert {each: code_of(each, file) for each in FORBIDDABLE} == {
        each: "JD-POLICY-FORBIDDEN" if each == name else "" for each in FORBIDDABLE
    }
    (record,) = records(tmp_path / "state" / "audit")
    assert (record["event"], record["facts"]["what"], record["facts"]["profile"]) == ("policy.forbidden", name, "prod")


@pytest.mark.parametrize(
    "text",
    ['forbid = ["comand-invoke"]', 'forbid = ["programs", "Listener"]', 'forbid = "programs"', "forbid = [1]",
     'allow = ["programs"]', 'forbid = ["programs"]\n[extra]', "forbid = [", "\x00", "x" * 70_000],
)  # fmt: skip
def test_what_is_not_understood_forbids_everything(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    assert {code_of(name, file) for name in FORBIDDABLE} == {"JD-POLICY-FILE"}


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o602])
def test_a_file_that_others_may_write_forbids_everything(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path, "forbid = []\n", mode)
    assert {code_of(name, file) for name in FORBIDDABLE} == {"JD-POLICY-OWNER"}
    file.chmod(0o644)
    assert code_of("programs", file) == ""
    file.parent.chmod(0o777)
    assert code_of("programs", file) == "JD-POLICY-OWNER", "who may write the folder can replace the file"


def test_a_users_own_file_is_no_policy(tmp_path: Path) -> None:
    file = written(tmp_path, "forbid = []\n")
    os.chown(file, 1234, -1)
    assert code_of("programs", file) == "JD-POLICY-OWNER"
    assert complaint(1234, stat.S_IFREG | 0o644) == "it belongs to user 1234"
    assert complaint(0, stat.S_IFDIR | 0o1777) == "others may write to it"


def test_a_link_a_folder_and_a_pipe_are_no_policy(tmp_path: Path) -> None:
    file = written(tmp_path, "forbid = []\n")
    link = file.with_name("link.toml")
    link.symlink_to(file)
    pipe = file.with_name("pipe.toml")
    if sys.platform != "win32":
        os.mkfifo(pipe)
    assert [code_of("programs", each) for each in (link, pipe, file.parent)] == ["JD-POLICY-FILE"] * 3


@pytest.mark.parametrize(
    ("profile", "forbidden", "refused"),
    [(BASTION, "programs", True), (DIRECT, "programs", True), (INVOKE, "programs", True), (BASTION, "listener", True),
     (DIRECT, "listener", False), (INVOKE, "listener", False), (BASTION, "command-invoke", False)],
)  # fmt: skip
def test_other_programs_are_let_in_as_the_policy_says(
    tmp_path: Path, profile: Profile, forbidden: str, refused: bool
) -> None:
    file = written(tmp_path, f'forbid = ["{forbidden}"]\n')
    try:
        guard(profile, "kubectl", write=True, may_ask=False, policy=file)
    except JumpdeckError as error:
        assert (refused, error.code) == (True, "JD-POLICY-FORBIDDEN")
    else:
        assert not refused


async def test_a_session_by_command_invoke_ends_before_anybody_signs_in(tmp_path: Path) -> None:
    class Ground(RouteGround):
        policy_file = written(tmp_path, 'forbid = ["command-invoke"]\n')

    session = Session(INVOKE, desk=Desk(), ground=Ground(None), tell=lambda _: None)
    session.start()
    while session.state.phase is not SessionPhase.FAILED:
        await session.changed()
    assert session.state.error is not None and session.state.error.code == "JD-POLICY-FORBIDDEN"
    await session.aclose()
