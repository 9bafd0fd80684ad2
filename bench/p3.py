"""P-3: MODIFIED events of a watch, from the wire to rows (or, for kubectl, to printed lines)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from bench.harness import LIMIT, ROOT, home, measured, mock_api, real_kubectl
from bench.rows import Row, at_least, missing

PODS = 100
EVENTS = {"ours": 60_000, "typed": 8_000, "kubectl": 12_000}
"""Enough for a second or more each; what is compared are rates."""


def run() -> list[Row]:
    """Events a second against kubernetes.aio's Watch and against `kubectl get pods -A -w`."""
    with mock_api(PODS, EVENTS["ours"]) as port:
        ours = measured("bench.p3", "ours", port, runs=3)["rate"]
    with mock_api(PODS, EVENTS["typed"]) as port:
        typed = measured("bench.p3", "typed", port)["rate"]
    rows = [at_least("P-3", "watch: MODIFIED events a second against kubernetes.aio typed", ours / typed, 15)]
    what = "watch: MODIFIED events a second against `kubectl get pods -A -w`"
    kubectl = real_kubectl()
    if kubectl is None:
        return [*rows, missing("P-3", what, "kubectl")]
    with mock_api(PODS, EVENTS["kubectl"]) as port, home(port) as env:
        return [*rows, at_least("P-3", what, ours / kubectl_rate(kubectl, env), 8)]


def kubectl_rate(kubectl: str, env: dict[str, str]) -> float:
    """Lines a second that kubectl prints between the first change and the sentinel."""
    command = [kubectl, "get", "pods", "-A", "-w", "--no-headers"]
    deadline = time.monotonic() + LIMIT
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            for _ in range(PODS):
                process.stdout.readline()
            first = process.stdout.readline()
            started = time.perf_counter()
            count = 0
            while first and b"sentinel" not in (line := process.stdout.readline()):
                count += 1
                if not line or time.monotonic() > deadline:
                    raise RuntimeError("kubectl did not come to the end of the watch")
            return count / (time.perf_counter() - started)
        finally:
            process.terminate()


async def ours(port: int) -> float:
    from app.cluster.pods import PodScope, PodWatch
    from app.rows import PodSnapshot, Staleness
    from app.tasks import spawn
    from bench.client import UpLink, api_client

    api = api_client(port)
    started = 0.0
    done = asyncio.Event()

    def publish(snapshot: PodSnapshot) -> None:
        nonlocal started
        if snapshot.staleness is Staleness.LIVE:
            started = started or time.perf_counter()
            if next(reversed(snapshot.rows.values())).name == "sentinel":
                done.set()

    task = spawn(PodWatch(api, UpLink(), PodScope()).run(publish), name="watch")
    await done.wait()
    task.cancel()
    await api.aclose()
    return EVENTS["ours"] / (time.perf_counter() - started)


async def typed(port: int) -> float:
    from kubernetes.aio import client, watch

    async with client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}")) as api:
        core = client.CoreV1Api(api)
        watcher: Any = watch.Watch  # it has no types
        stream = watcher().stream(core.list_pod_for_all_namespaces, resource_version="1000", _request_timeout=280.0)
        first = 0.0
        async for event in stream:
            first = first or time.perf_counter()
            if event["type"] == "ADDED":
                return EVENTS["typed"] / (time.perf_counter() - first)
    raise RuntimeError("the watch ended")


if __name__ == "__main__":
    rate = asyncio.run({"ours": ours, "typed": typed}[sys.argv[1]](int(sys.argv[2])))
    sys.stdout.write(json.dumps({"rate": rate}) + "\n")
    sys.stdout.flush()
