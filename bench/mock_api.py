"""An API server of precomputed bytes, in a process of its own, so that what is measured is the client.

`python -m bench.mock_api --pods 10000` prints one line `ready PORT` and serves until its standard input ends. Raw
sockets and a thread per connection. Lists come in pages (limit, continue), as PodList or as Table, compressed with
gzip level 1 for who asks, as a real API server does. A watch sends `--events` MODIFIED events, each as an HTTP chunk
of its own, then an ADDED pod named `sentinel`, then nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import socket
import ssl
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 500
EVENT_BLOCK = 500
"""Events that are made once and sent again and again."""

_ENV: dict[str, Any] = {
    ".": {},
    'k:{"name":"POD_IP"}': {".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:fieldRef": {}}},
}
_PROBE: dict[str, Any] = {"f:failureThreshold": {}, "f:httpGet": {".": {}, "f:path": {}, "f:port": {}, "f:scheme": {}}}
_AMOUNTS: dict[str, Any] = {".": {}, "f:cpu": {}, "f:memory": {}}
_MANAGED_CONTAINER = {
    ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:terminationMessagePath": {}, "f:env": _ENV,
    "f:livenessProbe": {".": {}, **_PROBE},
    "f:ports": {".": {}, 'k:{"containerPort":8080,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
    "f:resources": {".": {}, "f:limits": _AMOUNTS, "f:requests": _AMOUNTS},
}  # fmt: skip
MANAGED = {
    "f:metadata": {
        "f:annotations": {".": {}, "f:checksum/config": {}, "f:prometheus.io/scrape": {}, "f:prometheus.io/port": {}},
        "f:generateName": {},
        "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/part-of": {}},
        "f:ownerReferences": {".": {}, 'k:{"uid":"0b6c9d1c-55c7-4b48-9f9e-3a1f3c1d2b7a"}': {}},
    },
    "f:spec": {
        "f:containers": {f'k:{{"name":"{name}"}}': _MANAGED_CONTAINER for name in ("app", "proxy")},
        "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {},
    },
}  # fmt: skip
"""What managedFields hold: a third of a pod's bytes, and nothing that is shown."""


def _container(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": f"registry.example.com/shop/{name}:2026.11.3",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "DATABASE_URL", "value": "postgres://ledger.payments.svc:5432/ledger?sslmode=verify-full"},
        ],
        "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "50m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "kube-api-access", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
        ],
        "livenessProbe": {"httpGet": {"path": "/livez", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def _status(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "state": {"running": {"startedAt": "2026-11-22T04:22:09Z"}},
        "lastState": {"terminated": {
            "exitCode": 137, "reason": "OOMKilled", "startedAt": "2026-11-22T04:22:07Z",
            "finishedAt": "2026-11-22T04:22:08Z", "containerID": "containerd://" + "5e" * 32,
        }},
        "ready": True,
        "restartCount": 1,
        "image": f"registry.example.com/shop/{name}:2026.11.3",
        "imageID": "registry.example.com/shop/" + name + "@sha256:" + "5e" * 32,
        "containerID": "containerd://" + "a7" * 32,
        "started": True,
    }  # fmt: skip


def _pod() -> dict[str, Any]:
    """A pod of about 6 KB with marks (@…@) where pods differ."""
    return {
        "metadata": {
            "name": "@name@", "generateName": "checkout-7d9f6c-", "namespace": "@namespace@", "uid": "@uid@",
            "resourceVersion": "@version@", "creationTimestamp": "2026-11-22T04:22:07Z",
            "labels": {"app.kubernetes.io/name": "checkout", "app.kubernetes.io/part-of": "shop",
                       "pod-template-hash": "7d9f6c"},
            "annotations": {"checksum/config": "9f" * 32, "prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "checkout-7d9f6c",
                                 "uid": "0b6c9d1c-55c7-4b48-9f9e-3a1f3c1d2b7a", "controller": True}],
            "managedFields": [
                {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                 "time": "2026-11-22T04:22:07Z", "fieldsType": "FieldsV1", "fieldsV1": MANAGED},
            ],
        },
        "spec": {
            "volumes": [{"name": "kube-api-access", "projected": {"sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            ], "defaultMode": 420}}],
            "containers": [_container("app"), _container("proxy")],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "checkout", "nodeName": "aks-pool-12345678-vmss000001", "schedulerName": "default",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                             "tolerationSeconds": 300}],
        },
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-11-22T04:22:09Z"}
                for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "hostIP": "10.0.1.4", "podIP": "10.244.3.17", "podIPs": [{"ip": "10.244.3.17"}],
            "startTime": "2026-11-22T04:22:07Z", "qosClass": "Burstable",
            "containerStatuses": [_status("app"), _status("proxy")],
        },
    }  # fmt: skip


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


POD = _compact(_pod())
COLUMNS = [
    {"name": name, "type": "string", "format": "name" if name == "Name" else "", "description": "", "priority": level}
    for name, level in (
        ("Name", 0), ("Ready", 0), ("Status", 0), ("Restarts", 0), ("Age", 0), ("IP", 1), ("Node", 1),
        ("Nominated Node", 1), ("Readiness Gates", 1),
    )
]  # fmt: skip
ROW = _compact(
    {
        "cells": ["@name@", "2/2", "Running", "2 (25h ago)", "25h", "10.244.3.17", "aks-pool-12345678-vmss000001",
                  "<none>", "<none>"],
        "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": _pod()["metadata"]},
    }
)  # fmt: skip


def fill(template: bytes, index: int, version: int, name: str = "") -> bytes:
    """The template as pod number `index`."""
    return (
        template.replace(b"@name@", (name or f"checkout-7d9f6c-{index:05d}").encode())
        .replace(b"@namespace@", b"team-%03d" % (index // 200))
        .replace(b"@uid@", b"1c9d55c7-4b48-9f9e-3a1f-%012d" % index)
        .replace(b"@version@", b"%d" % version)
    )


class Mock:
    """What is served: so many pods, so many events."""

    def __init__(self, pods: int, events: int) -> None:
        self.pods, self.events = pods, events

    def page(self, start: int, limit: int, table: bool) -> bytes:
        end = min(self.pods, start + limit) if limit else self.pods
        meta: dict[str, Any] = {"resourceVersion": "1000"}
        if end < self.pods:
            meta |= {"continue": str(end), "remainingItemCount": self.pods - end}
        head = _compact({"kind": "Table" if table else "PodList", "apiVersion": "meta.k8s.io/v1" if table else "v1",
                         "metadata": meta, **({"columnDefinitions": COLUMNS} if table else {})})  # fmt: skip
        template = ROW if table else POD
        items = b",".join(fill(template, index, 1) for index in range(start, end))
        return head[:-1] + (b',"rows":[' if table else b',"items":[') + items + b"]}"

    @cache  # noqa: B019 (one mock lives as long as its process)
    def packed(self, start: int, limit: int, table: bool) -> bytes:
        return gzip.compress(self.page(start, limit, table), 1)

    @cache  # noqa: B019
    def event_block(self, table: bool) -> bytes:
        return b"".join(self.event(index % min(self.pods, PAGE), table) for index in range(EVENT_BLOCK))

    def event(self, index: int, table: bool, kind: str = "MODIFIED", name: str = "") -> bytes:
        thing = fill(ROW if table else POD, index, 2000 + index, name)
        if table:
            head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "2"}}
            thing = _compact({**head, "columnDefinitions": COLUMNS})[:-1] + b',"rows":[' + thing + b"]}"
        else:
            thing = b'{"kind":"Pod","apiVersion":"v1",' + thing[1:]
        line = b'{"type":"%s","object":%s}\n' % (kind.encode(), thing)
        return b"%x\r\n%s\r\n" % (len(line), line)

    def warm(self) -> None:
        """Make everything that is asked for in a run, so that no client waits for it."""
        for table in (False, True):
            for start in range(0, self.pods, PAGE):
                self.packed(start, PAGE, table)
            if self.events:
                self.event_block(table)


DISCOVERY = {
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "shortNames": ["po"],
         "verbs": ["get", "list", "watch"]},
    ]},
    "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.2"},
}  # fmt: skip


def serve(connection: socket.socket, mock: Mock) -> None:
    """Answer requests on one connection until the client goes."""
    reader = connection.makefile("rb", buffering=65_536)
    try:
        while request := reader.readline():
            headers = {}
            while (line := reader.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip()
            answer(connection, mock, request.split(b" ")[1].decode(), headers)
    except (OSError, ValueError):
        pass
    finally:
        connection.close()


def answer(connection: socket.socket, mock: Mock, target: str, headers: dict[bytes, bytes]) -> None:
    """Answer one request."""
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    table = b"as=Table" in headers.get(b"accept", b"")
    if parts.path in DISCOVERY:
        respond(connection, _compact(DISCOVERY[parts.path]), "application/json")
    elif not parts.path.endswith("/pods"):
        respond(connection, b"404 page not found\n", "text/plain", status="404 Not Found")
    elif query.get("watch") in ("true", "1"):
        watch(connection, mock, table)
    else:
        start, limit = int(query.get("continue", 0)), int(query.get("limit", 0))
        packed = b"gzip" in headers.get(b"accept-encoding", b"")
        body = mock.packed(start, limit, table) if packed else mock.page(start, limit, table)
        respond(connection, body, "application/json", "Content-Encoding: gzip\r\n" if packed else "")


def respond(connection: socket.socket, body: bytes, kind: str, extra: str = "", status: str = "200 OK") -> None:
    """One whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    connection.sendall(head.encode() + body)


def watch(connection: socket.socket, mock: Mock, table: bool) -> None:
    """All events, the sentinel, and then silence."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(mock.events // EVENT_BLOCK):
        connection.sendall(mock.event_block(table))
    connection.sendall(mock.event(999_999, table, "ADDED", "sentinel"))
    threading.Event().wait(600)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--events", type=int, default=0)
    parser.add_argument("--tls", type=Path, help="a PEM file with key and certificate")
    args = parser.parse_args()
    mock = Mock(args.pods, args.events)
    mock.warm()
    context = None
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.tls)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    sys.stdout.write(f"ready {listener.getsockname()[1]}\n")
    sys.stdout.flush()
    threading.Thread(target=accept, args=(listener, context, mock), daemon=True).start()
    sys.stdin.read()


def accept(listener: socket.socket, context: ssl.SSLContext | None, mock: Mock) -> None:
    """A thread for each connection."""

    def handle(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            wrapped = context.wrap_socket(connection, server_side=True) if context else connection
        except OSError:
            return
        serve(wrapped, mock)

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
