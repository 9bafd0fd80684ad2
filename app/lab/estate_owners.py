"""Deployments, ReplicaSets, StatefulSets and Jobs of the estate, and the rollouts of the Deployments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.lab.estate import Life, Stage
from app.lab.estate_life import Part, bring_up, speak, take_down
from app.lab.estate_pods import NODES, pod
from app.lab.store import Object, stamp


def _owner_of(obj: Object) -> Object:
    meta = obj["metadata"]
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"], "uid": meta["uid"]}


def put_owner(
    stage: Stage,
    resource: str,
    kind: str,
    namespace: str,
    name: str,
    *,
    spec: Object,
    status: Object,
    created: float,
    owner: Object | None = None,
    group: str = "apps",
) -> Object:
    """Store a controller object; returns the owner reference for its pods."""
    meta: Object = {"name": name, "namespace": namespace, "creationTimestamp": stamp(created), "generation": 1}
    meta["labels"] = {"app": name}
    if owner:
        meta["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
    whole = {"kind": kind, "apiVersion": f"{group}/v1", "metadata": meta, "spec": spec, "status": status}
    return _owner_of(stage.cluster.store.put(resource, whole))


def _set_spec(replicas: int, labels: Object, parts: Sequence[Part]) -> Object:
    template = {"metadata": {"labels": labels}, "spec": {"containers": [part.spec for part in parts]}}
    return {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}


def _set_status(replicas: int, ready: int) -> Object:
    counts = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas")
    return {"observedGeneration": 1, **dict.fromkeys(counts, ready), "replicas": replicas}


@dataclass(slots=True)
class Deployment:
    """A Deployment of the estate with its pods: `init` are native sidecars, `parts` the containers."""

    stage: Stage
    namespace: str
    name: str
    replicas: int
    parts: Sequence[Part]
    created: float
    init: Sequence[Part] = ()
    healthy: bool = True
    """Its pods are started at once; else somebody else gives them their fate."""
    pods: list[str] = field(default_factory=list)
    _owner: Object = field(default_factory=dict)
    _labels: Object = field(default_factory=dict)
    _set: str = ""

    def furnish(self) -> Deployment:
        """Put Deployment, ReplicaSet and pods in place, as old as `created` says."""
        spec = _set_spec(self.replicas, {"app": self.name}, self.parts)
        status = _set_status(self.replicas, self.replicas if self.healthy else 0)
        self._owner = put_owner(
            self.stage, "deployments", "Deployment", self.namespace, self.name,
            spec=spec, status=status, created=self.created,
        )  # fmt: skip
        reference = self._new_set(self.created)
        for number in range(self.replicas):
            made = self._pod(reference, number, self.created)
            self.stage.cluster.add_pod(made)
            name = made["metadata"]["name"]
            if self.healthy:
                self._start_old(name)
            self.pods.append(name)
        return self

    def _start_old(self, name: str) -> None:
        now, self.stage.now = self.stage.now, self.created + 3
        for part in [*self.init, *self.parts]:
            self.stage.cluster.start_container(self.namespace, name, part.name, at=self.stage.now)
        self.stage.now = now
        for part in [*self.init, *self.parts]:
            self.stage.add(speak(self.stage, self.namespace, name, part))

    def _new_set(self, created: float) -> Object:
        """A new ReplicaSet; returns its owner reference."""
        template_hash = self.stage.suffix(10)
        self._set = f"{self.name}-{template_hash}"
        self._labels = {"app": self.name, "pod-template-hash": template_hash}
        return put_owner(
            self.stage, "replicasets", "ReplicaSet", self.namespace, self._set,
            spec=_set_spec(self.replicas, self._labels, self.parts),
            status=_set_status(self.replicas, self.replicas), created=created, owner=self._owner,
        )  # fmt: skip

    def _pod(self, reference: Object, number: int, created: float) -> Object:
        return pod(
            self.namespace, f"{self._set}-{self.stage.suffix(5)}", [part.spec for part in self.parts], created,
            init=[part.spec for part in self.init], labels=self._labels, owner=reference,
            node=NODES[(number + len(self.name)) % len(NODES)],
        )  # fmt: skip

    def rollouts(self, every: float, first: float) -> Life:
        """Replace all pods, one after the other, every now and then."""
        yield first
        while True:
            old_set, old = self._set, list(self.pods)
            reference = self._new_set(self.stage.now)
            for number, name in enumerate(old):
                made = self._pod(reference, number, self.stage.now)
                yield from bring_up(self.stage, made, self.init, self.parts)
                self.pods.append(made["metadata"]["name"])
                self.pods.remove(name)
                names = [part.name for part in [*self.init, *self.parts]]
                self.stage.add(take_down(self.stage, self.namespace, name, names))
                yield 1.0
            self.stage.cluster.store.delete("replicasets", self.namespace, old_set)
            yield every * self.stage.rng.uniform(0.8, 1.2)


def stateful_set(
    stage: Stage, namespace: str, name: str, replicas: int, parts: Sequence[Part], created: float, speaking: bool = True
) -> list[str]:
    """A StatefulSet with running pods; returns their names. Unless `speaking`, their logs are left to the caller."""
    owner = put_owner(
        stage, "statefulsets", "StatefulSet", namespace, name,
        spec=_set_spec(replicas, {"app": name}, parts), status=_set_status(replicas, replicas), created=created,
    )  # fmt: skip
    names = [f"{name}-{number}" for number in range(replicas)]
    for number, each in enumerate(names):
        labels = {"app": name, "statefulset.kubernetes.io/pod-name": each, "apps.kubernetes.io/pod-index": str(number)}
        node = NODES[number % len(NODES)]
        specs = [part.spec for part in parts]
        stage.cluster.add_pod(pod(namespace, each, specs, created, labels=labels, owner=owner, node=node))
        for part in parts:
            stage.cluster.start_container(namespace, each, part.name, at=created + 3 + number)
            if speaking:
                stage.add(speak(stage, namespace, each, part))
    return names
