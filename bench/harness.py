"""Fresh processes, their wall time and their peak memory; the mock server's life."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

LIMIT = 300.0
"""Seconds that one measured process may take."""


def real_kubectl() -> str | None:
    """kubectl itself: where the one on PATH is a cloud SDK's dispatcher, the newest binary that lies beside it."""
    found = shutil.which("kubectl")
    if found is None:
        return None
    resolved = Path(found).resolve()
    versions = [path for path in resolved.parent.glob("kubectl.*") if path.suffix[1:].isdigit()]
    return str(max(versions, key=lambda path: int(path.suffix[1:]), default=resolved))


@contextmanager
def server_process(module: str, *words: object) -> Iterator[int]:
    """`python -m module words…` in a process of its own; yields the port that it prints."""
    command = [sys.executable, "-m", module, *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield int(process.stdout.readline().split()[1])
        finally:
            process.stdin.close()
            process.terminate()


def mock_api(pods: int, events: int = 0) -> AbstractContextManager[int]:
    """A mock API server in its own process; yields its port."""
    return server_process("bench.mock_api", "--pods", pods, "--events", events)


@contextmanager
def home(port: int) -> Iterator[dict[str, str]]:
    """The environment of a user whose kubeconfig and profile `bench` name the mock server."""
    with tempfile.TemporaryDirectory(prefix="jumpdeck-bench-") as name:
        folder = Path(name)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "bench", "user": {"token": "t"}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        }))  # fmt: skip
        kubeconfig.chmod(0o600)
        config = folder / "config"
        config.mkdir(mode=0o700)
        profiles = config / "profiles.toml"
        profiles.write_text(
            f"version = 1\n[profile.bench]\ncluster = {{ kubeconfig = '{kubeconfig}', context = 'bench' }}\n"
        )
        profiles.chmod(0o600)
        yield {
            **os.environ,
            "HOME": name,
            "KUBECONFIG": str(kubeconfig),
            "JUMPDECK_CONFIG_DIR": str(config),
            "JUMPDECK_STATE_DIR": str(folder / "state"),
        }


def wall(command: Sequence[str], env: dict[str, str] | None = None, runs: int = 3, warm: bool = True) -> float:
    """Median seconds of a whole process with its output thrown away. Raises RuntimeError when it fails."""
    times = []
    for number in range(runs + warm):
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=LIMIT, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name}: {done.stderr.decode(errors='replace').strip()[:200]}")
        if number >= warm:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def measured(module: str, *words: object, runs: int = 1) -> dict[str, float]:
    """What `python -m module words…` prints as JSON on standard output; medians of several runs."""
    found: list[dict[str, Any]] = []
    for _ in range(runs):
        command = [sys.executable, "-m", module, *map(str, words)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1][:200] if done.stderr else "it failed")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def peak_memory() -> float:
    """Peak resident MB of this process (VmHWM: ru_maxrss is inherited across exec); 0 where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
