"""P-2: `jumpdeck pods PROFILE -A` as a whole process against `kubectl get pods -A`."""

from __future__ import annotations

import sys

from bench.harness import home, mock_api, real_kubectl, wall
from bench.rows import Row, at_most, missing

SIZES = ((100, 1.5, 7), (10_000, 0.25, 3), (50_000, 0.1, 1))
"""Pods, goal, runs of each."""


def run() -> list[Row]:
    """A row per size of cluster."""
    kubectl = real_kubectl()
    rows = []
    for pods, target, runs in SIZES:
        what = f"{pods} pods: whole `jumpdeck pods -A` against `kubectl get pods -A`"
        if kubectl is None:
            rows.append(missing("P-2", what, "kubectl"))
            continue
        with mock_api(pods) as port, home(port) as env:
            theirs = wall([kubectl, "get", "pods", "-A"], env, runs)
            ours = wall([sys.executable, "-m", "jumpdeck", "pods", "bench", "-A"], env, runs)
        rows.append(at_most("P-2", what, ours / theirs, target))
    return rows
