"""How the pods of the estate behave: each function is one behaviour, a generator of waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.lab.estate import Life, Stage
from app.lab.estate_lines import Talk, hostile, job_steps, logfmt
from app.lab.estate_pods import find_status, pod, settle
from app.lab.store import Object, stamp

BACK_OFF_FIRST = 10
BACK_OFF_MOST = 160
"""Seconds of a kubelet's back-off: doubled from the first to the last. A real one goes to 300; here things move."""

JOBS_KEPT = 3
"""Finished pods of the recurring job that stay."""


@dataclass(frozen=True, slots=True)
class Part:
    """One container of a workload: its spec, what it writes and how often (seconds between lines, on average)."""

    spec: Object
    talk: Talk = logfmt
    pace: float = 5.0

    @property
    def name(self) -> str:
        return str(self.spec["name"])


def clock(stage: Stage, namespace: str, name: str, container: str) -> Life:
    """Two numbered lines a second, for ever."""
    log = stage.cluster.log(namespace, name, container)
    number = 0
    while not log.ended:
        number += 1
        stage.write(log, b"tick %d of %s\n" % (number, name.encode()))
        yield 0.5


def speak(stage: Stage, namespace: str, name: str, part: Part) -> Life:
    """Write until the run of the container ends."""
    log = stage.cluster.log(namespace, name, part.name)
    number = 0
    yield stage.rng.random() * part.pace
    while not log.ended:
        number += 1
        stage.write(log, part.talk(stage.rng, stage.now, number))
        yield stage.rng.uniform(0.3, 1.7) * part.pace


def start(stage: Stage, namespace: str, name: str, part: Part) -> None:
    """Start a container that is well and let it speak."""
    stage.cluster.start_container(namespace, name, part.name, at=stage.now)
    stage.add(speak(stage, namespace, name, part))


def tell(stage: Stage, namespace: str, name: str, reason: str, message: str, kind: str = "Normal") -> None:
    """An event about a pod, now."""
    stage.cluster.add_event(stage.cluster.pod(namespace, name), reason, message, kind=kind, at=stage.now)


def set_ready(stage: Stage, namespace: str, name: str, container: str, ready: bool) -> None:
    """What the readiness probe of a running container says."""

    def change(obj: Object) -> None:
        find_status(obj, container)["ready"] = ready
        settle(obj, stage.now)

    stage.cluster.modify_pod(namespace, name, change)


def bring_up(stage: Stage, made: Object, init: Sequence[Part], parts: Sequence[Part]) -> Life:
    """A new pod from scheduling to readiness, with its events."""
    namespace, name = made["metadata"]["namespace"], made["metadata"]["name"]
    stage.cluster.add_pod(made)
    node = made["spec"]["nodeName"]
    tell(stage, namespace, name, "Scheduled", f"Successfully assigned {namespace}/{name} to {node}")
    yield stage.rng.uniform(0.8, 1.6)
    for part in [*init, *parts]:
        tell(stage, namespace, name, "Pulled", f'Container image "{part.spec["image"]}" already present on machine')
        start(stage, namespace, name, part)
        set_ready(stage, namespace, name, part.name, False)
        tell(stage, namespace, name, "Started", f"Container started: {part.name}")
        yield stage.rng.uniform(0.3, 0.8)
    yield stage.rng.uniform(1.0, 2.5)
    for part in [*init, *parts]:
        set_ready(stage, namespace, name, part.name, True)


def take_down(stage: Stage, namespace: str, name: str, containers: Sequence[str]) -> Life:
    """A pod from the wish to delete it to its end."""
    due = stage.now + 30

    def change(obj: Object) -> None:
        obj["metadata"]["deletionTimestamp"] = stamp(due)
        obj["metadata"]["deletionGracePeriodSeconds"] = 30

    stage.cluster.modify_pod(namespace, name, change)
    for container in containers:
        tell(stage, namespace, name, "Killing", f"Stopping container {container}")
    yield 0.4
    logs = [stage.cluster.log(namespace, name, container) for container in containers]
    for log in logs:
        stage.write(log, b"received SIGTERM, draining\n")
    yield stage.rng.uniform(1.5, 3.0)
    for log, container in zip(logs, containers, strict=True):
        stage.write(log, b"drained, leaving\n")
        stage.cluster.end_container(namespace, name, container, exit_code=0, at=stage.now)
    yield 0.3
    stage.cluster.delete_pod(namespace, name)


def crash_loop(stage: Stage, namespace: str, name: str, part: Part, last_words: Talk, exit_code: int) -> Life:
    """A container that runs a while, dies, and waits longer each time. Exit code 137 counts as OOMKilled."""
    cluster = stage.cluster
    reason = "OOMKilled" if exit_code == 137 else "Error"
    wait = BACK_OFF_FIRST
    while True:
        cluster.start_container(namespace, name, part.name, at=stage.now)
        tell(stage, namespace, name, "Started", f"Container started: {part.name}")
        log = cluster.log(namespace, name, part.name)
        for number in range(1, stage.rng.randint(6, 14)):
            stage.write(log, part.talk(stage.rng, stage.now, number))
            yield stage.rng.uniform(0.3, 1.7) * part.pace
        stage.write(log, last_words(stage.rng, stage.now, 0))
        yield 0.05
        cluster.end_container(namespace, name, part.name, exit_code=exit_code, reason=reason, at=stage.now)
        yield 1.5
        cluster.back_off(namespace, name, part.name, wait, at=stage.now)
        message = f"Back-off restarting failed container {part.name} in pod {name}"
        tell(stage, namespace, name, "BackOff", message, "Warning")
        yield wait
        wait = min(wait * 2, BACK_OFF_MOST)


def flicker(stage: Stage, namespace: str, name: str, container: str) -> Life:
    """A readiness probe that fails now and then."""
    while True:
        yield stage.rng.uniform(20, 50)
        set_ready(stage, namespace, name, container, False)
        tell(stage, namespace, name, "Unhealthy", "Readiness probe failed: HTTP probe failed: 503", "Warning")
        yield stage.rng.uniform(8, 20)
        set_ready(stage, namespace, name, container, True)


def recurring_job(stage: Stage, namespace: str, base: str, part: Part, owner: Object, every: float) -> Life:
    """A job that runs to its end again and again; the newest finished pods stay as Completed."""
    done: list[str] = []
    while True:
        name = f"{base}-{stage.suffix(5)}"
        stage.cluster.add_pod(
            pod(
                namespace, name, [part.spec], stage.now,
                labels={"job-name": base, "app": base}, owner=owner, restart="Never",
            )
        )  # fmt: skip
        yield 1.2
        stage.cluster.start_container(namespace, name, part.name, at=stage.now)
        log = stage.cluster.log(namespace, name, part.name)
        for number in range(1, stage.rng.randint(8, 20)):
            stage.write(log, job_steps(stage.rng, stage.now, number))
            yield stage.rng.uniform(0.4, 1.4)
        stage.write(log, b"done\n")
        stage.cluster.end_container(namespace, name, part.name, exit_code=0, at=stage.now)
        tell(stage, namespace, name, "Completed", "Job completed")
        done.append(name)
        if len(done) > JOBS_KEPT:
            stage.cluster.delete_pod(namespace, done.pop(0))
        yield every * stage.rng.uniform(0.8, 1.2)


def attack(stage: Stage, namespace: str, name: str, container: str) -> Life:
    """Hostile text in the log, and now and then in an event."""
    log = stage.cluster.log(namespace, name, container)
    number = 0
    while not log.ended:
        stage.write(log, hostile(stage.rng, stage.now, number))
        if number % 20 == 0:
            message = "\x1b]52;c;cm0gLXJmIH4K\x07[red]stolen[/red] \u202egnp.exe\u202c <U+0007>\x07"
            tell(stage, namespace, name, "\x1b[31mWarn[b]ing", message, "Warning")
        number += 1
        yield stage.rng.uniform(1.0, 4.0)
