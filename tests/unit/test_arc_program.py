"""Which arcProxy program is taken, by its name, place and rights; what of its words may be shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app.arc.program import NEWEST, OLDEST, Platform, Program, find_program, no_program, this_platform, version_of
from app.arc.redaction import redacted
from app.errors import RouteError
from app.socket_owner import listeners_in_table


@pytest.mark.parametrize(("system", "machine", "name"), [
    ("Linux", "x86_64", "arcProxy_linux_amd64_1_3_035022"),
    ("Linux", "aarch64", "arcProxy_linux_arm64_1_3_035022"),
    ("Linux", "i686", "arcProxy_linux_386_1_3_035022"),
    ("Darwin", "arm64", "arcProxy_darwin_arm64_1_3_035022"),
    ("Windows", "AMD64", "arcProxy_windows_amd64_1_3_035022.exe"),
    ("Windows", "ARM64", "arcProxy_windows_arm64_1_3_035022.exe"),
])  # fmt: skip
def test_the_file_has_the_vendors_name(system: str, machine: str, name: str) -> None:
    assert this_platform(system, machine).file_name("1.3.035022") == name
    assert version_of(Path(name)) == "1.3.035022"


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "i386"), ("SunOS", "sun4v"), ("Linux", "armv7l")])
def test_computers_without_a_program_are_told(system: str, machine: str) -> None:
    with pytest.raises(RouteError) as caught:
        this_platform(system, machine)
    assert caught.value.code == "JD-ARC-PLATFORM"


def put(folder: Path, name: str, mode: int = 0o700) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_ours_is_taken_before_azs_and_the_newest_of_each(tmp_path: Path) -> None:
    here = this_platform()
    az, ours = tmp_path / "home" / ".clientproxy", tmp_path / "state" / "arc-proxy"
    other = Platform("windows" if here.os != "windows" else "linux", here.arch)
    for name in (here.file_name("1.3.020000"), here.file_name("2.0.000001"), other.file_name(NEWEST), "config.yml"):
        put(az, name)
    put(az, here.file_name(NEWEST), 0o600)
    assert find_program() is None
    put(az, here.file_name("1.3.029301"))
    newest = put(az, here.file_name("1.3.034631"))
    assert find_program() == Program(newest, "1.3.034631", "az")
    own = put(ours, here.file_name(OLDEST))
    assert find_program() == Program(own, OLDEST, "own")
    setting = put(tmp_path / "elsewhere", "proxy")
    assert find_program(setting) == Program(setting, "", "arc-proxy")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX mode bits")
def test_one_that_others_may_change_is_not_run(tmp_path: Path) -> None:
    az = tmp_path / "home" / ".clientproxy"
    path = put(az, this_platform().file_name(NEWEST), 0o777)
    assert find_program() is None
    assert f"{path.name} is not run: " in no_program("edge").detail and "others may write" in no_program("edge").detail
    path.chmod(0o755)
    assert find_program() is not None
    az.chmod(0o777)
    assert find_program() is None
    with pytest.raises(RouteError, match="cannot be used") as caught:
        find_program(path)
    assert "others may write" in caught.value.detail


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX mode bits")
def test_one_that_others_may_put_another_in_place_of_is_not_run(tmp_path: Path) -> None:
    """By a link in a folder of theirs, or by another folder in place of ours."""
    path = put(tmp_path / "above" / "bin", this_platform().file_name(NEWEST))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / path.name).symlink_to(path)
    assert find_program(theirs / path.name) is not None
    for folder, named in ((theirs, theirs / path.name), (tmp_path / "above", path)):
        folder.chmod(0o777)
        with pytest.raises(RouteError, match="cannot be used") as caught:
            find_program(named)
        assert f"{folder.name} is not safe, others may write" in caught.value.detail
        folder.chmod(0o1777)  # sticky: what is ours stays ours
        assert find_program(named) is not None


@pytest.mark.parametrize("what", ["missing", "folder", "not for running"])
def test_a_setting_that_leads_nowhere_is_told_and_nothing_else_is_taken(tmp_path: Path, what: str) -> None:
    put(tmp_path / "home" / ".clientproxy", this_platform().file_name(NEWEST))
    path = tmp_path / "named"
    if what == "folder":
        path.mkdir()
    elif what == "not for running":
        put(tmp_path, "named", 0o600)
    with pytest.raises(RouteError) as caught:
        find_program(path)
    assert caught.value.code == "JD-ARC-PROGRAM" and "named" in caught.value.detail


def test_versions_that_nobody_tried_are_noted() -> None:
    assert [Program(Path("p"), version, "az").note != "" for version in (OLDEST, NEWEST, "1.3.999999", "")] == [
        False, False, True, True,
    ]  # fmt: skip


def test_its_absence_names_the_ways_to_get_it() -> None:
    error = no_program("edge")
    assert error.code == "JD-ARC-PROGRAM" and error.exit_code == 5
    assert "`jumpdeck trust edge`" in error.hint and this_platform().file_name(NEWEST) in error.hint


JWT = "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJ4In0.c2lnbmF0dXJl"
BLOB = "QUJD" * 40


@pytest.mark.parametrize(("line", "shown"), [
    (f"got {JWT} ok", "got *** ok"),
    ("Authorization: Bearer abcDEF123456 x", "Authorization: Bearer *** x"),
    ("url=wss://r.test/$hc/n?sb-hc-action=connect&sb-hc-token=abc%20d&x=1",
     "url=wss://r.test/$hc/n?sb-hc-action=connect&sb-hc-token=***&x=1"),
    ('{"accessToken":"a\\"bc","serverId":"6256"}', '{"accessToken":***,"serverId":"6256"}'),
    ("token: SharedAccessSignature sr=http%3a%2f%2fr&sig=x%3d&se=1&skn=k", "token: ***"),
    (r'msg="{\"accessToken\":\"0.AXoA\",\"kid\":\"k\"}"', r'msg="{\"accessToken\":***,\"kid\":\"k\"}"'),
    ("Bearer: abcDEF123456", "Bearer: ***"),
    ("client_secret=s3cr3t other=1", "client_secret=*** other=1"),
    ("proxy http://me:pass@proxy.test:3128", "proxy http://me:***@proxy.test:3128"),
    (f"value={BLOB}", "***"),
    ("hash " + "a1" * 32, "hash " + "a1" * 32),
    ("\x1b[31mred\x1b[0m \x07", "red ␇"),
])  # fmt: skip
def test_credentials_in_its_words_are_not_shown(line: str, shown: str) -> None:
    assert redacted(line) == shown


def test_listeners_that_would_take_a_connection_to_this_computer() -> None:
    def row(address: str, state: str, uid: int, inode: int) -> str:
        return f"  0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid:5} 0 {inode} 1 0 100"

    local = "0100007F" if sys.byteorder == "little" else "7F000001"
    any6, one6 = "0" * 32, "0" * 24 + ("01000000" if sys.byteorder == "little" else "00000001")
    rows = [
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        row(f"{local}:1F90", "0A", 7, 11), row(f"{local}:1F90", "01", 7, 12), row(f"{local}:1F91", "0A", 7, 13),
        row("00000000:1F90", "0A", 8, 14), row(f"{any6}:1F90", "0A", 9, 15), row(f"{one6}:1F90", "0A", 9, 16),
    ]  # fmt: skip
    assert listeners_in_table(rows, 8080) == {"11": "7", "14": "8", "15": "9"}
