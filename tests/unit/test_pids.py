"""Whether a process id is taken: one's own, a dead child's, what no system gives, another user's."""

from __future__ import annotations

import os
import subprocess
import sys

from app.pids import is_taken, refused_means_taken


def test_a_living_process_has_its_id_and_one_that_was_waited_for_has_not() -> None:
    assert is_taken(os.getpid()) and is_taken(os.getppid())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not is_taken(gone.pid)


def test_what_no_system_gives_is_nobodys() -> None:
    assert not is_taken(1 << 40) and not is_taken(1 << 80)


def test_another_users_process_counts() -> None:
    assert is_taken(1)


def test_a_process_that_windows_does_not_open_is_there_unless_nobody_has_the_id() -> None:
    assert refused_means_taken(5)  # ERROR_ACCESS_DENIED
    assert not refused_means_taken(87)  # ERROR_INVALID_PARAMETER
