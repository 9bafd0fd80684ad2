"""The audit record: one line a record, private, chained, and whole again after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import audit
from app.errors import RouteError
from app.files import lock
from app.rows import SessionPhase
from app.sessions.states import StateBoard
from tests.audit_lines import records
from tests.peers import require_linux

EVENTS = 40
WAIT = 60.0
"""Seconds for what takes milliseconds."""


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUMPDECK_STATE_DIR", str(tmp_path / "state"))


def day() -> Path:
    """The newest file."""
    return max(audit.audit_dir().glob("*.jsonl"))


def entries() -> list[dict[str, Any]]:
    return records()


def test_a_record_says_who_where_when_and_what() -> None:
    audit.record("host-key.trusted", profile="p", port=22, note=None, text="\x1b]52;\n")
    (entry,) = [json.loads(line) for line in day().read_text().splitlines()]
    assert list(entry) == [
        "time", "monotonic", "user", "host", "session", "pid", "version", "event", "facts", "prev",
    ]  # fmt: skip
    assert entry["facts"] == {"profile": "p", "port": 22, "note": None, "text": "\x1b]52;\n"}
    assert day().read_bytes().isascii()
    if os.name == "posix":
        assert day().stat().st_mode & 0o777 == 0o600
        assert day().parent.stat().st_mode & 0o777 == 0o700


def test_every_change_of_the_past_shows() -> None:
    for number in range(5):
        audit.record("event", number=number)
    good = day().read_bytes().splitlines(keepends=True)
    assert audit.verify(day()) == []
    for bad in (
        [*good[:2], *good[3:]],
        [*good[:1], good[2], good[1], *good[3:]],
        [*good[:2], good[2].replace(b'"number":2', b'"number":7'), *good[3:]],
        [*good[:2], b"{}\n", *good[2:]],
    ):
        day().write_bytes(b"".join(bad))
        assert audit.verify(day())


def test_the_chain_goes_on_over_midnight() -> None:
    audit.record("event")
    day().rename(day().with_name("2020-01-01.jsonl"))
    audit.record("event")
    assert audit.verify(audit.audit_dir()) == []
    (audit.audit_dir() / "2020-01-01.jsonl").write_bytes(b'{"prev":"' + b"0" * 64 + b'"}\n')
    assert len(audit.verify(audit.audit_dir())) == 1


def test_a_record_that_was_cut_stays_a_line_of_its_own() -> None:
    audit.record("first")
    whole = day().read_bytes()
    day().write_bytes(whole + whole[: len(whole) // 2])
    audit.record("second")
    lines = day().read_bytes().splitlines()
    assert [json.loads(lines[0])["event"], json.loads(lines[2])["event"]] == ["first", "second"]
    (problem,) = audit.verify(day())
    assert (problem.line, "cut" in problem.text) == (2, True)


def test_records_made_in_a_loop_are_written_behind_it_in_their_order() -> None:
    with lock(audit.audit_dir() / "chain"):  # another process writes
        for number in range(EVENTS):
            audit.record_soon("event", number=number)
        assert not audit.flush(0.01)
    assert audit.flush(WAIT)
    assert [entry["facts"]["number"] for entry in entries()] == list(range(EVENTS))
    assert audit.verify(day()) == []


def test_the_end_of_the_process_waits_for_records() -> None:
    code = f"from app import audit\nfor n in range({EVENTS}): audit.record_soon('event', n=n)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(entries()) == EVENTS


def test_a_record_for_which_there_is_no_thread_is_told_to_the_log_and_the_next_is_written() -> None:
    require_linux("elsewhere a thread's stack has a limit of its own")
    code = (
        "import logging, threading\nfrom app import audit\nlogging.basicConfig()\nthreading.stack_size(1 << 50)\n"
        "audit.record_soon('one')\nthreading.stack_size(0)\naudit.record_soon('two')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert "could not be written: one" in done.stderr
    assert [entry["event"] for entry in entries()] == ["two"]


def test_more_records_than_may_wait_are_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with lock(audit.audit_dir() / "chain"):
        for _ in range(audit.MAX_WAITING + 2):  # one of them the writer may have in hand
            audit.record_soon("event")
    assert "too many" in caplog.text
    assert audit.flush(WAIT)


def test_every_move_of_a_session_is_on_record_with_its_reason() -> None:
    board = StateBoard("prod", lambda _: None)
    board.move(SessionPhase.CONNECTING)
    board.publish(cluster="aks", identity="ops@contoso.com", route=("workstation", "hub (SSH)", "aks"))
    board.move(SessionPhase.UP)
    board.publish(latency=0.1)
    lost = RouteError("The SSH connection was lost", "what a server said", code="JD-SSH-LOST")
    board.move(SessionPhase.RETRYING, error=lost, tries=3)
    assert audit.flush(WAIT)
    assert [(entry["event"], entry["facts"]) for entry in entries()] == [
        ("session.state", {"profile": "prod", "was": "idle", "now": "connecting", "tries": 0}),
        ("session.state", {"profile": "prod", "was": "connecting", "now": "up", "tries": 0, "cluster": "aks",
                           "identity": "ops@contoso.com", "route": "workstation > hub (SSH) > aks"}),
        ("session.state", {"profile": "prod", "was": "up", "now": "retrying", "tries": 3, "reason": "JD-SSH-LOST",
                           "why": "The SSH connection was lost"}),
    ]  # fmt: skip


async def test_processes_that_write_at_once_and_are_killed_leave_one_torn_line_at_most() -> None:
    code = (
        f"from app import audit\nfor n in range({EVENTS}): audit.record('event', n=n)\n"
        "print('done', flush=True)\nwhile True: audit.record('more')"
    )
    writers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE) for _ in range(3)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert await asyncio.wait_for(writer.stdout.readline(), 60) == b"done\n"
    finally:
        for writer in writers:
            writer.kill()
            await writer.wait()
    audit.record("after")
    problems = audit.verify(day())
    assert len(problems) <= 1
    lines = day().read_bytes().splitlines()
    assert sum(b'"event":"event"' in line for line in lines) == 3 * EVENTS
    assert json.loads(lines[-1])["event"] == "after"


def test_a_record_that_cannot_be_written_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JUMPDECK_STATE_DIR", str(tmp_path / "file"))
    audit.record("event")
    assert "could not be written" in caplog.text
