"""Questions about ourselves (self-subject reviews), and one pod told in full.

The reviews go through our own client: they are asked while a session opens, where a second for loading models would be
seen. Describing a pod needs a hundred fields and happens when a person asks: there the typed models serve
(docs/decisions/0004-kubernetes-package.md).
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from app.cluster.api import ApiClient
from app.cluster.events import list_events
from app.cluster.malformed import malformed
from app.errors import JumpdeckError
from app.rows import PodRow
from app.text import clean, clean_block

_ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

POD_LIMIT = 8 << 20
"""Bytes of one pod: etcd holds at most 1.5 MiB of an object, its JSON can be a few times that."""


async def may(api: ApiClient, verb: str, resource: str, namespace: str = "") -> bool:
    """Whether we may do `verb` on `resource` (`pods`, `pods/log`) in `namespace`; `""` means in all of them.

    Raises JumpdeckError when the question itself is not answered.
    """
    name, _, sub = resource.partition("/")
    attributes = {"verb": verb, "resource": name, "subresource": sub, "namespace": namespace}
    question = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    status = (await api.post_review(_ACCESS, question)).get("status")
    return isinstance(status, dict) and status.get("allowed") is True


async def whoami(api: ApiClient) -> str:
    """The user name that the API server takes us for (SelfSubjectReview, v1 since Kubernetes 1.28); cleaned text."""
    question = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer: Any = await api.post_review(_WHO, question)
    for key in ("status", "userInfo", "username"):
        answer = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(answer, str):
        raise malformed("the question who we are", "no user name in it")
    return clean(answer)


async def describe_pod(api: ApiClient, pod: PodRow) -> str:
    """A pod and its events as `kubectl describe pod` tells them; cleaned text. Raises JumpdeckError."""
    path = f"/api/v1/namespaces/{quote(pod.namespace, safe='')}/pods/{quote(pod.name, safe='')}"
    body = await api.get(path, limit=POD_LIMIT)
    try:
        events = await list_events(api, pod.namespace, about=pod)
    except JumpdeckError as error:
        events = None
        note = f"not readable: {error.title}"
    else:
        note = ""
    # Loading the models takes half a second the first time: not in the loop, where a screen lives.
    return await asyncio.to_thread(describe_body, body, events, note)


def describe_body(body: bytes, events: Any, note: str) -> str:
    """A pod from its JSON, with its events (None: not readable, `note` says why). Blocks; cleaned text."""
    from app.cluster.describe import describe, read_pod

    return clean_block(describe(read_pod(body), events, note))
