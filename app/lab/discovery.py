"""What the server says about itself: version, health, groups, resources and the index of schemas."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from app.lab.resources import GROUPS, Resource, of_group

VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "go1.26.6",
    "compiler": "gc",
    "platform": "linux/amd64",
}

_CHECKS = (
    "ping", "log", "etcd", "informer-sync", "poststarthook/start-apiextensions-controllers",
    "poststarthook/rbac/bootstrap-roles", "poststarthook/apiservice-registration-controller", "shutdown",
)  # fmt: skip

Json = dict[str, Any]


def health(name: str, *, verbose: bool) -> str:
    """The text of /readyz, /livez or /healthz."""
    if not verbose:
        return "ok"
    return "".join(f"[+]{check} ok\n" for check in _CHECKS) + f"{name} check passed\n"


def version() -> bytes:
    """The JSON of /version, indented as the server has it."""
    return msgspec.json.format(msgspec.json.encode(VERSION), indent=2)


def api_versions(host: str) -> Json:
    """The answer of /api."""
    places = [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": places}


def _group(group: str) -> Json:
    known = {"groupVersion": f"{group}/v1", "version": "v1"}
    return {"name": group, "versions": [known], "preferredVersion": known}


def group_list() -> Json:
    """The answer of /apis."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(group) for group in GROUPS]}


def one_group(group: str) -> Json:
    """The answer of /apis/GROUP."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group)}


def _resource(resource: Resource) -> list[Json]:
    entry: Json = {
        "name": resource.name,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short:
        entry["shortNames"] = list(resource.short)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.served:
        entry["storageVersionHash"] = hashlib.sha256(resource.name.encode()).hexdigest()[:12]
    parts = [
        {
            "name": f"{resource.name}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind,
            "verbs": list(verbs),
        }
        for name, kind, verbs in resource.subresources
    ]
    return [entry, *parts]


def resource_list(group: str) -> Json:
    """The answer of /api/v1 or /apis/GROUP/v1."""
    entries = [entry for resource in of_group(group) for entry in _resource(resource)]
    version = f"{group}/v1" if group else "v1"
    head: Json = {"kind": "APIResourceList", **({"apiVersion": "v1"} if group else {})}
    return {**head, "groupVersion": version, "resources": entries}


def _kind(kind: str) -> Json:
    return {"group": "", "version": "", "kind": kind}


def _aggregated(resource: Resource) -> Json:
    entry: Json = {
        "resource": resource.name,
        "responseKind": _kind(resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short:
        entry["shortNames"] = list(resource.short)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [
            {"subresource": name, "responseKind": _kind(kind), "verbs": list(verbs)}
            for name, kind, verbs in resource.subresources
        ]
    return entry


def aggregated(version: str, *, core: bool) -> Json:
    """The answer of /api (`core`) or /apis to a client that asks for everything at once."""
    items = [
        {
            "metadata": {"name": group} if group else {},
            "versions": [
                {
                    "version": "v1",
                    "resources": [_aggregated(resource) for resource in of_group(group)],
                    "freshness": "Current",
                }
            ],
        }
        for group in (("",) if core else GROUPS)
    ]
    kind = "APIGroupDiscoveryList"
    return {"kind": kind, "apiVersion": f"apidiscovery.k8s.io/{version}", "metadata": {}, "items": items}


def _schema_paths() -> list[str]:
    return ["api", "api/v1", "apis", *(f"apis/{group}{rest}" for group in GROUPS for rest in ("", "/v1")), "version"]


def openapi_index() -> Json:
    """The answer of /openapi/v3: where the schemas are."""
    paths = {}
    for path in _schema_paths():
        digest = hashlib.sha512(path.encode()).hexdigest().upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def openapi_schema(path: str) -> Json | None:
    """The schema of one path of the index: empty, the practice cluster explains nothing. None when there is none."""
    if path not in _schema_paths():
        return None
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]}, "paths": {}}
