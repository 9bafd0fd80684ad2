"""Programs that outlive whoever started them: they end with it where the system helps, or at the next start."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.arc.processes import MARK, Known, known, lives, wait_gone
from app.arc.run_records import RunFolder, end_orphan, find_orphans
from app.process_group import end_group, start_group
from tests.arc_programs import DEAF, SERVES, stand_in
from tests.peers import require_linux

require_linux("looks at processes in /proc")
LIMIT = 20.0
SHORT = 0.3

_OWNER = """
import asyncio, os, signal, sys
from pathlib import Path
from app.arc.child_env import child_environment
from app.arc.process import ArcProcess
from app.arc.program import Program
async def main():
    path = Path(sys.argv[1])
    process = await ArcProcess.start(Program(path, "", "own"), {}, child_environment(), label="shop-01", limit=20.0)
    print(process.pid, process.folder, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def killed_owner(program: Path) -> tuple[Known, Path]:
    """The program and the run folder of a console that was killed."""
    with subprocess.Popen([sys.executable, "-c", _OWNER, str(program)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        process = known(int(pid))
        assert process is not None
        owner.kill()
    return process, Path(folder)


@pytest.fixture
def stranger() -> Iterator[Known]:
    """A process that is none of ours."""
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        found = known(process.pid)
        assert found is not None
        yield found
        process.kill()


def written(state: Path, *, owner: Known, process: Known | None, **changes: object) -> RunFolder:
    """A run folder with a record as another process would have written it."""
    folder = RunFolder.make(Path("/opt/arcProxy_linux_amd64_1_3_035022"), "shop-01", state=state)
    record = folder.path / "run.json"
    told = json.loads(record.read_text())
    told |= {"owner": [owner.pid, owner.started], "process": process and [process.pid, process.started]} | changes
    record.write_text(json.dumps(told))
    return folder


def gone() -> Known:
    """A process that has ended."""
    with subprocess.Popen(["/bin/true"]) as process:
        found = Known(process.pid, "earlier")
    return found


async def test_it_ends_with_its_owner_also_when_that_one_is_killed(tmp_path: Path) -> None:
    process, folder = await asyncio.to_thread(killed_owner, stand_in(tmp_path / "bin", SERVES).path)
    assert await asyncio.to_thread(wait_gone, process, LIMIT)
    assert folder.exists() and find_orphans() == () and not folder.exists()


async def test_one_that_does_not_is_found_by_the_next_start_and_ended(tmp_path: Path, stranger: Known) -> None:
    program = stand_in(tmp_path / "bin", DEAF).path
    process, folder = await asyncio.to_thread(killed_owner, program)
    (orphan,) = find_orphans()
    assert orphan.processes == (process,) and orphan.program == program and orphan.folder == folder
    assert str(orphan) == f"{program.name} of shop-01 (process {process.pid})"
    await end_orphan(orphan, grace=SHORT)
    assert not lives(process) and not folder.exists() and find_orphans() == () and lives(stranger)


async def test_one_that_was_never_written_down_is_known_by_its_mark(tmp_path: Path) -> None:
    folder = written(tmp_path / "state", owner=gone(), process=None)
    process = await start_group(["/bin/sleep", "600"], env={MARK: folder.name})
    try:
        (orphan,) = find_orphans()
        assert orphan.pid == process.pid
        await end_orphan(orphan, grace=LIMIT)
        assert await process.wait() == -15
    finally:
        await end_group(process)


async def test_a_folder_without_a_record_stays_while_a_program_of_its_run_lives(tmp_path: Path) -> None:
    folder = written(tmp_path / "state", owner=gone(), process=None)
    (folder.path / "run.json").unlink()
    os.utime(folder.path, (0, 0))
    process = await start_group(["/bin/sleep", "600"], env={MARK: folder.name})
    try:
        assert find_orphans() == () and folder.path.exists()
    finally:
        await end_group(process)
    assert find_orphans() == () and not folder.path.exists()


async def test_what_it_has_opened_for_a_person_is_not_taken_for_ours(tmp_path: Path) -> None:
    program = await start_group(["/bin/sleep", "600"], env={})
    own = known(program.pid)
    folder = written(tmp_path / "state", owner=gone(), process=own)
    browser = await start_group(["/bin/sleep", "600"], env={MARK: folder.name})  # in a session of its own
    opened = known(browser.pid)
    try:
        (orphan,) = find_orphans()
        assert orphan.processes == (own,)
        await end_orphan(orphan, grace=LIMIT)
        assert opened is not None and lives(opened) and not folder.path.exists()
        written(tmp_path / "state", owner=gone(), process=own, label="again")
        assert find_orphans() == () and lives(opened)
    finally:
        await end_group(program)
        await end_group(browser)


def test_a_stranger_with_the_number_of_ours_is_left_alone(tmp_path: Path, stranger: Known) -> None:
    folder = written(tmp_path, owner=gone(), process=Known(stranger.pid, f"{stranger.started}0"))
    assert find_orphans(state=tmp_path) == () and lives(stranger) and not folder.path.exists()


async def test_an_orphan_whose_number_was_given_again_meanwhile_is_not_ended(tmp_path: Path, stranger: Known) -> None:
    folder = written(tmp_path, owner=gone(), process=stranger)
    (orphan,) = find_orphans(state=tmp_path)
    orphan = orphan.__replace__(processes=(Known(stranger.pid, "earlier"),))
    await end_orphan(orphan, grace=SHORT)
    assert lives(stranger) and not folder.path.exists()


def test_runs_of_living_owners_other_places_and_odd_records_stay(tmp_path: Path, stranger: Known) -> None:
    me = known(os.getpid())
    assert me is not None
    folders = [
        written(tmp_path, owner=me, process=gone()),
        written(tmp_path, owner=gone(), process=stranger, place="elsewhere pid:[1]"),
        RunFolder(tmp_path / "run" / "arc-odd"),
    ]
    odd = folders[-1].path
    odd.mkdir()
    (odd / "run.json").write_text('{"place": [], "process": 7}')
    assert find_orphans(state=tmp_path) == () and all(folder.path.exists() for folder in folders)
    old = time.time() - 7200
    os.utime(odd, (old, old))
    assert find_orphans(state=tmp_path) == () and not odd.exists() and folders[0].path.exists()


def test_where_nothing_ever_ran_nothing_is_found(tmp_path: Path) -> None:
    assert find_orphans(state=tmp_path / "nowhere") == ()
