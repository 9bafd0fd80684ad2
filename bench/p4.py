"""P-4: lines a second of `jumpdeck logs` into a pipe, cleaned and ready to resume, against `kubectl logs -f`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from bench.harness import LIMIT, ROOT, home, real_kubectl, server_process
from bench.log_server import SENTINEL
from bench.rows import Row, at_least, missing

LINES = 1_000_000
RUNS = 5
READ = 1 << 16
"""Bytes of one read: what a pipe holds."""


def run() -> list[Row]:
    """The two alternate, so that a noisy minute hits both."""
    what = "`jumpdeck logs` into a pipe: lines a second against `kubectl logs -f`"
    kubectl = real_kubectl()
    if kubectl is None:
        return [missing("P-4", what, "kubectl")]
    theirs, ours = [], []
    with server_process("bench.log_server", "--lines", LINES) as port, home(port) as env:
        for _ in range(RUNS):
            theirs.append(rate([kubectl, "logs", "-f", "talker"], env))
            ours.append(rate([sys.executable, "-m", "jumpdeck", "logs", "bench", "pod/talker", "--tail=-1"], env))
    return [at_least("P-4", what, statistics.median(ours) / statistics.median(theirs), 1.5)]


def rate(command: list[str], env: dict[str, str]) -> float:
    """Lines a second from the first byte to the sentinel. Raises RuntimeError when lines are missing."""
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            pipe = process.stdout.fileno()
            data = os.read(pipe, READ)
            started = time.perf_counter()
            count, last = data.count(b"\n"), data[-64:]
            while not last.endswith(SENTINEL + b"\n"):
                data = os.read(pipe, READ)
                if not data or time.perf_counter() - started > LIMIT:
                    raise RuntimeError(f"{command[0]} ended after {count} lines")
                count += data.count(b"\n")
                last = (last + data)[-64:]
            seconds = time.perf_counter() - started
        finally:
            process.terminate()
    if count != LINES + 1:
        raise RuntimeError(f"{command[0]} printed {count} of {LINES + 1} lines")
    return count / seconds
