"""What the living estate consists of."""

from __future__ import annotations

from app.lab.estate import Stage
from app.lab.estate_life import clock
from app.lab.estate_pods import container, pod

DAY = 86_400.0


def furnish(stage: Stage) -> None:
    """Put all namespaces, nodes, workloads and pods on the stage."""
    cluster = stage.cluster
    for name in ("default", "kube-system", "payments", "shop", "edge", "batch", "team-a", "team-b", "hostile"):
        cluster.add_namespace(name, stage.now - 30 * DAY)
    made = stage.now - 2 * DAY
    cluster.add_pod(pod("default", "clock-0", [container("clock", "registry.example.com/clock:1.0.0")], made))
    cluster.start_container("default", "clock-0", "clock", at=made + 2)
    stage.add(clock(stage, "default", "clock-0", "clock"))
