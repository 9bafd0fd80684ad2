"""What another program is lent: the kubeconfig's words, the line that names it, and complaints that do not flood."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.asking import Notes
from app.cli.connect import shell_line
from app.cli.lent_route import LeavingAsker, _Complaints
from app.cluster.access import Access
from app.cluster.lending import PREFIX, describe, sweep
from app.errors import RouteError
from app.socket_owner import PeerOwner, Verdict, uid_in_table, windows_rows
from tests.fakes import FakeAsker
from tests.tls_servers import access_to


def cluster(access: Access, port: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = describe(access, "p", "shop", "/somewhere", port=port)["clusters"][0]["cluster"]
    found.pop("certificate-authority-data", None)
    return found


def test_a_listener_stands_in_the_servers_place_and_tls_keeps_the_servers_name() -> None:
    far = access_to(6443, host="10.1.2.3", base_path="/k8s/clusters/c-1", proxy="http://proxy:3128")
    assert cluster(far) == {
        "server": "https://10.1.2.3:6443/k8s/clusters/c-1", "tls-server-name": "api.test",
        "proxy-url": "http://proxy:3128",
    }  # fmt: skip
    assert cluster(far, 4000) == {
        "server": "https://127.0.0.1:4000/k8s/clusters/c-1", "tls-server-name": "api.test"
    }  # fmt: skip


def test_a_proxys_password_stands_in_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://jo:sentinel@proxy:3128")
    monkeypatch.delenv("https_proxy", raising=False)
    found = cluster(access_to(6443, host="10.1.2.3", proxy="http://jo:sentinel@proxy:3128"))
    assert "proxy-url" not in found, "the other program has it from its environment"
    found = cluster(access_to(6443, host="10.1.2.3", proxy="http://jo:sentinel@other:3128"))
    assert found["proxy-url"] == "http://other:3128"


def test_a_name_that_is_the_servers_own_is_said_once_a_listener_stands_there() -> None:
    named = access_to(6443, host="api.test")
    assert cluster(named) == {"server": "https://api.test:6443"}
    assert cluster(named, 4000) == {"server": "https://127.0.0.1:4000", "tls-server-name": "api.test"}
    ipv6 = access_to(6443, host="fd00::1", name="fd00::1")
    assert cluster(ipv6) == {"server": "https://[fd00::1]:6443"}
    assert cluster(ipv6, 4000) == {"server": "https://127.0.0.1:4000", "tls-server-name": "fd00::1"}


def test_a_plain_server_stays_plain() -> None:
    assert cluster(access_to(8001, host="10.1.2.3", scheme="http"), 4000)["server"] == "http://127.0.0.1:4000"


def test_the_line_to_run_survives_odd_paths() -> None:
    assert shell_line("/tmp/a/config", windows=False) == "export KUBECONFIG=/tmp/a/config"
    assert shell_line("/tmp/a b'c/config", windows=False) == "export KUBECONFIG='/tmp/a b'\"'\"'c/config'"
    assert shell_line(r"C:\Users\O'Neil\config", windows=True) == r"$env:KUBECONFIG = 'C:\Users\O''Neil\config'"


def test_a_peer_that_knocks_all_the_time_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    complaints = _Complaints()
    for _ in range(1000):
        complaints.refused(PeerOwner(Verdict.FOREIGN, "uid 1001"))
    complaints.refused(PeerOwner(Verdict.GONE))
    complaints.failed(RouteError("Connection refused", "10.0.0.1:443", code="JD-SSH-REFUSED"))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert "uid 1001" in said[0]
    assert "JD-SSH-REFUSED" in said[2]
    for number in range(1000):
        complaints.failed(RouteError("Odd", str(number), code="JD-ODD"))
    assert len(complaints._said) <= 102


class NotedAsker(FakeAsker):
    """A person who can be told something; keeps it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


async def test_once_the_program_has_the_terminal_nobody_is_asked() -> None:
    person = NotedAsker(["one", "two"], host_keys=True)
    asker = LeavingAsker(person)
    answer = await asker.ask_secret("Passphrase")
    assert answer is not None
    assert isinstance(asker, Notes)
    asker.note("secrets are kept in memory only")
    asker.leave()
    asker.note("for nobody")
    assert await asker.ask_secret("Passphrase") is None
    assert await asker.ask_prompts("jump01", "", "", ()) is None
    asker.tell("jump01", "hello")
    assert (person.asked, person.told) == (["Passphrase"], [])
    assert person.notes == ["secrets are kept in memory only"]


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(local: str, remote: str, uid: int, inode: int, state: str = "01") -> str:
    return f"   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 {uid:5d}        0 {inode} 1 0 20\n"


def test_only_the_row_of_the_very_connection_counts() -> None:
    peer, ours = ("127.0.0.1", 0xABCD), ("127.0.0.1", 0x1F90)
    here, other = (f"{struct.unpack('=I', bytes((127, 0, 0, last)))[0]:08X}" for last in (1, 2))
    table = [
        HEAD,
        row(f"{here}:1F90", f"{here}:ABCD", 0, 11),  # our own side of it
        row(f"{here}:ABCD", f"{other}:1F90", 1001, 12),
        row(f"{other}:ABCD", f"{here}:1F90", 1002, 13),
        row(f"{here}:ABCD", f"{here}:1F90", 0, 0, "06"),  # a socket that nobody holds: its uid says nothing
        "garbage\n",
        row(f"{here}:ABCD", f"{here}:1F90", 1003, 14),
    ]
    assert uid_in_table(table, peer, ours) == 1003
    assert uid_in_table(table[:-1], peer, ours) is None


@given(st.lists(st.tuples(st.ip_addresses(v=4), st.integers(0, 65535), st.integers(0, 2**32 - 1)), max_size=5),
       st.integers(0, 30))  # fmt: skip
def test_the_table_of_windows_is_read_as_it_is_laid_out(rows: list[tuple[Any, int, int]], cut: int) -> None:
    table = struct.pack("<I", len(rows))
    for address, port, pid in rows:
        end = address.packed + struct.pack(">H", port) + b"\xee\xee"  # the upper half of the port's word is not defined
        table += struct.pack("<I", 5) + end + end + struct.pack("<I", pid)
    expected = [((str(address), port), (str(address), port), pid) for address, port, pid in rows]
    assert list(windows_rows(table)) == expected
    whole = list(windows_rows(table[: len(table) - cut]))
    assert whole == expected[: len(whole)]


def test_only_folders_of_runs_that_have_gone_are_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    living, stale, foreign = (tmp_path / f"{PREFIX}{pid}-x" for pid in (os.getppid(), gone.pid, "²"))
    endless = tmp_path / f"{PREFIX}{1 << 80}-x"
    for folder in (living, stale, foreign, endless):
        folder.mkdir()
        (folder / "config").write_bytes(b"{}")
    sweep(tmp_path)
    assert [folder.exists() for folder in (living, stale, foreign, endless)] == [True, False, True, False]
