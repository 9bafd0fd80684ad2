"""What kinds of objects the practice cluster serves: the one table behind paths, discovery and field selectors."""

from __future__ import annotations

from dataclasses import dataclass

_WRITE = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One served resource. `fields` maps a field selector's label to the path in the stored object."""

    name: str
    kind: str
    singular: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _WRITE
    subresources: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def served(self) -> bool:
        """Whether objects of it are stored and can be listed (reviews are only answered)."""
        return "list" in self.verbs


def _same(*paths: str) -> tuple[tuple[str, str], ...]:
    return tuple((path, path) for path in paths)


_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_POD_FIELDS = _same(
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
    "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
)  # fmt: skip
_CORE_EVENT_FIELDS = (
    *_same(*(f"involvedObject.{part}" for part in _REFERENCE)),
    *_same("reason", "reportingComponent", "type"),
    ("source", "source.component"),
)
_EVENT_FIELDS = (
    *((f"regarding.{part}", f"involvedObject.{part}") for part in _REFERENCE),
    *_same("reason", "type"),
    ("reportingController", "reportingComponent"),
)
_CONNECT = ("create", "get")
_STATUS = ("status", "", ("get", "patch", "update"))

RESOURCES: tuple[Resource, ...] = (
    Resource("configmaps", "ConfigMap", "configmap", short=("cm",)),
    Resource("events", "Event", "event", short=("ev",), fields=_CORE_EVENT_FIELDS),
    Resource("namespaces", "Namespace", "namespace", namespaced=False, short=("ns",), fields=_same("status.phase")),
    Resource("nodes", "Node", "node", namespaced=False, short=("no",), fields=_same("spec.unschedulable")),
    Resource(
        "pods", "Pod", "pod", short=("po",), categories=("all",), fields=_POD_FIELDS,
        subresources=(
            ("attach", "PodAttachOptions", _CONNECT), ("exec", "PodExecOptions", _CONNECT), ("log", "Pod", ("get",)),
            ("portforward", "PodPortForwardOptions", _CONNECT), _STATUS,
        ),
    ),
    Resource("services", "Service", "service", short=("svc",), categories=("all",), fields=_same("spec.type")),
    Resource("deployments", "Deployment", "deployment", "apps", short=("deploy",), categories=("all",)),
    Resource("replicasets", "ReplicaSet", "replicaset", "apps", short=("rs",), categories=("all",)),
    Resource("statefulsets", "StatefulSet", "statefulset", "apps", short=("sts",), categories=("all",)),
    Resource("daemonsets", "DaemonSet", "daemonset", "apps", short=("ds",), categories=("all",)),
    Resource("events", "Event", "event", "events.k8s.io", short=("ev",), fields=_EVENT_FIELDS),
    Resource(
        "selfsubjectreviews", "SelfSubjectReview", "selfsubjectreview", "authentication.k8s.io",
        namespaced=False, verbs=("create",),
    ),
    Resource(
        "selfsubjectaccessreviews", "SelfSubjectAccessReview", "selfsubjectaccessreview", "authorization.k8s.io",
        namespaced=False, verbs=("create",),
    ),
    Resource(
        "selfsubjectrulesreviews", "SelfSubjectRulesReview", "selfsubjectrulesreview", "authorization.k8s.io",
        namespaced=False, verbs=("create",),
    ),
    Resource("cronjobs", "CronJob", "cronjob", "batch", short=("cj",), categories=("all",)),
    Resource("jobs", "Job", "job", "batch", categories=("all",)),
)  # fmt: skip

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(resource.group for resource in RESOURCES if resource.group))
"""Named API groups in the order of discovery; each has the one version v1."""

_BY_PATH = {(resource.group, resource.version, resource.name): resource for resource in RESOURCES}


def find(group: str, version: str, name: str) -> Resource | None:
    """The resource with this name in a group, or None."""
    return _BY_PATH.get((group, version, name))


def of_group(group: str) -> list[Resource]:
    """All resources of one group, in alphabetical order as discovery lists them."""
    return sorted((resource for resource in RESOURCES if resource.group == group), key=lambda found: found.name)
