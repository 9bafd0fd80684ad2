"""P-1: the list of ten thousand pods, from the request to rows in memory."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time

from app.tasks import spawn
from bench.harness import measured, mock_api, peak_memory
from bench.rows import Row, at_least, at_most

PODS = 10_000
TICK = 0.002
"""Seconds between two looks at the clock by the task that measures stalls."""


def run() -> list[Row]:
    """Ours against kubernetes.aio's typed models, a fresh process each."""
    with mock_api(PODS) as port:
        ours = measured("bench.p1", "ours", port, runs=3)
        typed = measured("bench.p1", "typed", port)
    what = f"{PODS // 1000}k pods, LIST to rows"
    return [
        at_least("P-1", f"{what}: times faster than kubernetes.aio typed", typed["wall"] / ours["wall"], 30),
        at_most("P-1", f"{what}: peak memory against kubernetes.aio typed", ours["peak"] / typed["peak"], 0.1),
        at_most("P-1", f"{what}: longest stall of the loop", ours["stall"] * 1000, 50, " ms"),
    ]


async def stall_watch(worst: list[float]) -> None:
    """Keep the longest time that the loop did not come round."""
    last = time.perf_counter()
    while True:
        await asyncio.sleep(TICK)
        now = time.perf_counter()
        worst[0] = max(worst[0], now - last - TICK)
        last = now


async def ours(port: int) -> float:
    from app.cluster.pods import PodScope, list_pods
    from bench.client import api_client

    api = api_client(port)
    await api.probe()
    started = time.perf_counter()
    found = await list_pods(api, PodScope())
    seconds = time.perf_counter() - started
    assert len(found.rows) == PODS
    await api.aclose()
    return seconds


async def typed(port: int) -> float:
    from kubernetes.aio import client

    async with client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}")) as api:
        core = client.CoreV1Api(api)
        started = time.perf_counter()
        found = await core.list_pod_for_all_namespaces(_request_timeout=280.0)
        seconds = time.perf_counter() - started
        assert len(found.items) == PODS
    return seconds


async def main(who: str, port: int) -> None:
    # Loading is not part of this goal: it happens before the clock and the stall watch start.
    importlib.import_module("app.cluster.pods" if who == "ours" else "kubernetes.aio.client")
    importlib.import_module("bench.client")
    worst = [0.0]
    watcher = spawn(stall_watch(worst), name="stall watch")
    await asyncio.sleep(0)
    seconds = await (ours(port) if who == "ours" else typed(port))
    await asyncio.sleep(TICK * 2)
    watcher.cancel()
    sys.stdout.write(json.dumps({"wall": seconds, "peak": peak_memory(), "stall": worst[0]}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
