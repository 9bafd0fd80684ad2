"""How the pods of the estate behave: each function is one behaviour, a generator of waits."""

from __future__ import annotations

from app.lab.estate import Life, Stage


def clock(stage: Stage, namespace: str, pod: str, container: str) -> Life:
    """Two numbered lines a second, for ever."""
    number = 0
    while True:
        number += 1
        stage.write(namespace, pod, container, b"tick %d of %s\n" % (number, pod.encode()))
        yield 0.5
