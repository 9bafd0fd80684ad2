"""Which pods and containers a tail is about: stern's query, a regex on pod names or `kind/name`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from app.cluster.log_lines import MAX_LINE
from app.cluster.pods import PodScope
from app.errors import NotFoundError, UsageError
from app.rows import ContainerRow, PodRow
from app.text import clean

FOLLOW_REQUESTS = 50
"""Logs read at a time while following, as stern."""

SNAPSHOT_REQUESTS = 5
"""Logs read at a time with --no-follow, as stern and kubectl."""

STATES = ("running", "waiting", "terminated", "all")
"""Values of --container-state."""

_APPS, _CORE, _BATCH = "/apis/apps/v1", "/api/v1", "/apis/batch/v1"
_KINDS: dict[str, tuple[str, str]] = {}
for _names, _group, _plural in (
    ("pod pods po", _CORE, "pods"),
    ("deployment deployments deploy", _APPS, "deployments"),
    ("replicaset replicasets rs", _APPS, "replicasets"),
    ("statefulset statefulsets sts", _APPS, "statefulsets"),
    ("daemonset daemonsets ds", _APPS, "daemonsets"),
    ("job jobs", _BATCH, "jobs"),
    ("service services svc", _CORE, "services"),
    ("replicationcontroller replicationcontrollers rc", _CORE, "replicationcontrollers"),
):
    _KINDS.update(dict.fromkeys(_names.split(), (_group, _plural)))


@dataclass(frozen=True)
class TailQuery:
    """What to tail. `namespaces` empty means all; `since` seconds, `since_time` POSIX seconds, `tail` lines."""

    text: str = ".*"
    """A regex on pod names, or `kind/name`."""
    namespaces: tuple[str, ...] = ()
    labels: str = ""
    container: re.Pattern[str] = field(default_factory=lambda: re.compile(".*"))
    exclude_pods: tuple[re.Pattern[str], ...] = ()
    states: tuple[str, ...] = ("all",)
    follow: bool = True
    previous: bool = False
    tail: int | None = None
    since: float | None = None
    since_time: float | None = None
    max_requests: int | None = None
    profile: str = ""
    max_line: int = MAX_LINE
    """Bytes kept of one line."""

    @property
    def requests(self) -> int:
        """How many logs are read at a time."""
        return self.max_requests or (FOLLOW_REQUESTS if self.follow else SNAPSHOT_REQUESTS)

    @property
    def exact(self) -> bool:
        """Whether the query names one object (`kind/name`), which must exist."""
        return "/" in self.text

    def wants(self, pod: PodRow, container: ContainerRow) -> bool:
        """Whether a container of a pod in scope belongs to the tail."""
        if not self.exact and compiled(self.text, "QUERY").search(pod.name) is None:
            return False
        if any(pattern.search(pod.name) for pattern in self.exclude_pods):
            return False
        if self.container.search(container.name) is None:
            return False
        return "all" in self.states or container.state in self.states


def compiled(pattern: str, flag: str) -> re.Pattern[str]:
    """A regex of the command line. Raises UsageError that names the flag (exit 2)."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"{flag} is not a regular expression", f"{clean(pattern)}: {error}",
            "Escape special characters with \\, for example \\(.", code="JD-USAGE-REGEX",
        ) from error  # fmt: skip


def check(query: TailQuery) -> None:
    """Raises UsageError for a bad regex or an unknown kind, before anything is opened."""
    if not query.exact:
        compiled(query.text, "QUERY")
        return
    kind = query.text.split("/", 1)[0].lower()
    if kind not in _KINDS:
        raise UsageError(
            f"`{clean(kind)}` is not a kind that has logs", "known: pod, deploy, rs, sts, ds, job, svc, rc",
            "A regex with a slash never matches: pod names have none.", code="JD-USAGE-KIND",
        )  # fmt: skip


class Objects(Protocol):
    """Where the object that a query names is read."""

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> bytes:
        """The whole body of a GET. Raises JumpdeckError."""
        ...


async def scopes(api: Objects, query: TailQuery) -> list[PodScope]:
    """Which pods to list and watch. Raises NotFoundError when `kind/name` is nowhere, JumpdeckError else."""
    check(query)
    if not query.exact:
        return [PodScope(query.namespaces, query.labels)]
    kind, name = query.text.split("/", 1)
    group, plural = _KINDS[kind.lower()]
    found: list[PodScope] = []
    for namespace in query.namespaces or ("",):
        for thing in await _objects(api, group, plural, namespace, name):
            if plural == "pods":
                found.append(PodScope((_namespace(thing),), query.labels, f"metadata.name={name}"))
            elif labels := _selector(thing):
                found.append(PodScope((_namespace(thing),), ",".join(filter(None, (labels, query.labels)))))
    if not found:
        where = ", ".join(clean(each) for each in query.namespaces) or "any namespace"
        raise NotFoundError(
            f"{clean(query.text)} does not exist", f"looked in {where}",
            "Check the name, and the namespace with -n or -A.", code="JD-LOG-NOT-FOUND",
        )  # fmt: skip
    return found


async def _objects(api: Objects, group: str, plural: str, namespace: str, name: str) -> list[dict[str, Any]]:
    if not namespace:
        listed = json.loads(await api.get(f"{group}/{plural}", {"fieldSelector": f"metadata.name={name}"}))
        return list(listed.get("items") or [])
    path = f"{group}/namespaces/{quote(namespace, safe='')}/{plural}/{quote(name, safe='')}"
    try:
        return [json.loads(await api.get(path))]
    except NotFoundError:
        return []


def _namespace(thing: dict[str, Any]) -> str:
    return str(thing.get("metadata", {}).get("namespace", ""))


def _selector(thing: dict[str, Any]) -> str:
    """The object's selector in the form of a labelSelector parameter; empty when it selects nothing."""
    selector = thing.get("spec", {}).get("selector") or {}
    plain = selector if not {"matchLabels", "matchExpressions"} & selector.keys() else selector.get("matchLabels") or {}
    parts = [f"{key}={value}" for key, value in sorted(plain.items())]
    for each in selector.get("matchExpressions") or [] if plain is not selector else []:
        key, values = each.get("key", ""), ",".join(each.get("values") or [])
        forms = {
            "In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"
        }  # fmt: skip
        parts.append(forms.get(each.get("operator", ""), key))
    return ",".join(parts)
