"""Private files: who may change them, saves that survive a crash, locks."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app import windows_acl
from app.errors import ProfileError
from app.files import complaint, lock, previous, private_dir, read_private, sweep, write_private

REGULAR, FOLDER = stat.S_IFREG, stat.S_IFDIR


@pytest.mark.parametrize(
    ("owner", "mode", "fine"),
    [
        (1000, REGULAR | 0o600, True),
        (1000, REGULAR | 0o644, True),
        (0, REGULAR | 0o644, True),
        (1000, REGULAR | 0o660, False),
        (1000, REGULAR | 0o602, False),
        (0, REGULAR | 0o666, False),
        (1001, REGULAR | 0o600, False),
        (1000, FOLDER | 0o700, True),
        (1000, FOLDER | 0o770, False),
        (0, FOLDER | stat.S_ISVTX | 0o777, True),
        (1001, FOLDER | stat.S_ISVTX | 0o777, False),
    ],
)
def test_judges_owner_and_mode(owner: int, mode: int, fine: bool) -> None:
    assert (complaint(owner, mode, 1000) is None) is fine


@pytest.mark.parametrize(
    ("sddl", "fine"),
    [
        ("O:S-1-5-21-1G:S-1-5-21-1D:PAI(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;S-1-5-21-1)", True),
        ("O:BAG:SYD:(A;;FA;;;SY)(A;;0x1200a9;;;BU)", True),
        ("O:S-1-5-21-1G:SYD:(A;;0x1301bf;;;BU)", False),
        ("O:S-1-5-21-1G:SYD:(A;;FW;;;WD)", False),
        ("O:S-1-5-21-1G:SYD:(A;OICIIO;GA;;;AU)(A;;FR;;;AU)", True),
        ("O:S-1-5-21-1G:SYD:(D;;FA;;;BU)", True),
        ("O:S-1-5-21-2G:SYD:(A;;FA;;;SY)", False),
        ("O:S-1-5-21-1G:SYD:NO_ACCESS_CONTROL", False),
        ("O:S-1-5-21-1G:SY", False),
        ("", False),
    ],
)
def test_judges_windows_descriptors(sddl: str, fine: bool) -> None:
    assert (windows_acl.complaint(sddl, "S-1-5-21-1") is None) is fine


@pytest.mark.parametrize(("mode", "command"), [(0o620, "chmod go-w"), (0o602, "chmod go-w"), (0o666, "chmod go-w")])
def test_refuses_a_file_that_others_may_write_and_names_the_repair(tmp_path: Path, mode: int, command: str) -> None:
    path = tmp_path / "profiles.toml"
    path.write_bytes(b"x")
    path.chmod(mode)
    with pytest.raises(ProfileError) as caught:
        read_private(path)
    assert caught.value.code == "JD-PROFILE-PERMISSION"
    assert caught.value.exit_code == 3
    assert f"{command} {path}" in caught.value.hint
    subprocess.run(caught.value.hint.removeprefix("Repair it: "), shell=True, check=True)
    assert read_private(path) == b"x"


def test_refuses_a_folder_that_others_may_write(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o770)
    (folder / "profiles.toml").write_bytes(b"x")
    with pytest.raises(ProfileError, match="not safe"):
        read_private(folder / "profiles.toml")
    with pytest.raises(ProfileError, match="not safe"):
        private_dir(folder)


def test_tightens_our_own_file_and_leaves_a_shared_one(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    for path in (own, shared):
        path.write_bytes(b"x")
        path.chmod(0o644)
    read_private(own)
    read_private(shared, shared=True)
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert stat.S_IMODE(shared.stat().st_mode) == 0o644


def test_follows_a_link_of_ours_and_saves_through_it(tmp_path: Path) -> None:
    target, link = tmp_path / "dotfiles" / "profiles.toml", tmp_path / "profiles.toml"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(Path("dotfiles") / "profiles.toml")
    assert read_private(link) == b"old"
    write_private(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_refuses_links_without_end_pipes_and_what_is_too_large(tmp_path: Path) -> None:
    loop, pipe, large = tmp_path / "loop", tmp_path / "pipe", tmp_path / "large"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    large.write_bytes(b"x" * 11)
    for path, code in (
        (loop, "JD-PROFILE-UNREADABLE"),
        (pipe, "JD-PROFILE-UNREADABLE"),
        (large, "JD-PROFILE-TOO-LARGE"),
        (tmp_path, "JD-PROFILE-UNREADABLE"),
        (tmp_path / "none", "JD-PROFILE-MISSING"),
        (Path("a\0b"), "JD-PROFILE-UNREADABLE"),
    ):
        with pytest.raises(ProfileError) as caught:
            read_private(path, limit=10)
        assert caught.value.code == code


def test_saves_private_files_and_keeps_five_previous_versions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "profiles.toml"
    for number in range(8):
        write_private(path, str(number).encode(), versions=5)
    assert path.read_bytes() == b"7"
    assert [version.read_bytes() for version in previous(path)] == [b"6", b"5", b"4", b"3", b"2"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_sweeps_what_a_killed_save_left_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale, living = tmp_path / f".p.toml.{gone.pid}-ab.tmp", tmp_path / f".p.toml.{os.getppid()}-ab.tmp"
    other = tmp_path / ".p.toml.note-.tmp"
    for each in (stale, living, other):
        each.write_bytes(b"")
    sweep(path)
    assert [stale.exists(), living.exists(), other.exists()] == [False, True, True]


SAVER = """
import sys; from pathlib import Path; from app.files import write_private
for number in range(10**6):
    write_private(Path(sys.argv[1]), b"%09d" % number * 9000, versions=5)
    print(number, flush=True)
"""


@pytest.mark.parametrize("wait_for_saves", [1, 3, 7])
def test_a_save_that_is_killed_leaves_a_whole_file(tmp_path: Path, wait_for_saves: int) -> None:
    path = tmp_path / "p.toml"
    with subprocess.Popen([sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE) as saver:
        assert saver.stdout is not None
        for _ in range(wait_for_saves):
            saver.stdout.readline()
        saver.send_signal(signal.SIGKILL)
    data = path.read_bytes()
    assert data == data[:9] * 9000
    write_private(path, b"after", versions=5)
    assert not list(tmp_path.glob("*.tmp"))
    assert all(set(version.read_bytes()) for version in previous(path))


LOCKED = """
import sys; from pathlib import Path; from app.files import lock, read_private, write_private
path = Path(sys.argv[1])
for _ in range(40):
    with lock(path): write_private(path, str(int(read_private(path)) + 1).encode())
"""


def test_two_savers_with_the_lock_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "count"
    write_private(path, b"0")
    savers = [subprocess.Popen([sys.executable, "-c", LOCKED, str(path)]) for _ in range(2)]
    assert [saver.wait() for saver in savers] == [0, 0]
    assert path.read_bytes() == b"80"


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "p"
    with pytest.raises(KeyError), lock(path):
        raise KeyError
    with lock(path):
        assert (tmp_path / ".p.lock").exists()


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    if os.getuid() != 0:  # only root can make a link that belongs to somebody else
        assert complaint(1001, REGULAR | 0o600, os.getuid()) is not None
        return
    victim, planted = tmp_path / "victim", tmp_path / "profiles.toml"
    victim.write_bytes(b"precious")
    planted.symlink_to(victim)
    os.lchown(planted, 1001, 1001)
    for attempt in (lambda: read_private(planted), lambda: write_private(planted, b"x")):
        with pytest.raises(ProfileError) as caught:
            attempt()
        assert caught.value.code == "JD-PROFILE-PERMISSION"
    assert victim.read_bytes() == b"precious"


def test_a_file_of_somebody_else_is_refused_with_chown(tmp_path: Path) -> None:
    if os.getuid() != 0:
        assert complaint(1001, REGULAR | 0o600, 1000) == "it belongs to user 1001"
        return
    path = tmp_path / "profiles.toml"
    path.write_bytes(b"x")
    os.chown(path, 1001, 1001)
    with pytest.raises(ProfileError) as caught:
        read_private(path)
    assert caught.value.hint == f"Repair it: sudo chown 0 {path}"
