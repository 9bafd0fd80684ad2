"""The self-subject reviews: who am I, may I, what may I."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from app.lab.access import EVERYBODY, PUBLIC_PATHS, Asked, Rule, User, verdict
from app.lab.protobuf import CONTENT_TYPE, read_review
from app.lab.resources import Resource
from app.lab.statuses import StatusError, bad_request, invalid
from app.lab.store import stamp

MAX_REVIEW = 64 * 1024
"""Bytes of a posted review: hundreds of times what one needs."""

Body = dict[str, Any]

_HEALTH = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_WELL_KNOWN = ("/.well-known", "/.well-known/*")


def _parse(raw: bytes, kind: str, content_type: str) -> Body:
    if content_type == CONTENT_TYPE:
        try:
            return read_review(raw, kind)
        except ValueError as error:
            raise bad_request(f"the object provided is unrecognized (must be of type {kind}): {error}") from error
    try:
        body = msgspec.json.decode(raw or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        shown = raw[:64].decode("utf-8", "replace")
        why = f"couldn't get version/kind; json parse error: {error} ({shown})"
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): {why}") from error
    if not isinstance(body, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind})")
    return body


def _subject(user: User, body: Body, now: float) -> Body:
    info = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    return {"metadata": {"creationTimestamp": stamp(now)}, "status": {"userInfo": info}}


def _fields(value: Body) -> Body:
    """The fieldsV1 of a posted value, as the server notes who set what."""
    return {
        f"f:{name}": {".": {}, **_fields(inner)} if isinstance(inner, dict) else {}
        for name, inner in sorted(value.items())
    }


def _asked(spec: Body) -> Asked:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if isinstance(resource, dict) == isinstance(path, dict):
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        problem = ("spec.resourceAttributes", "FieldValueInvalid", f"Invalid value: null: {why}")
        raise invalid("", "authorization.k8s.io", [problem])
    if isinstance(path, dict):
        return Asked(str(path.get("verb", "")), path=str(path.get("path", "")))
    given = {name: str(value) for name, value in (resource or {}).items()}
    names = ("verb", "group", "resource", "subresource", "namespace", "name")
    return Asked(**{name: given.get(name, "") for name in names})


def _access(user: User, body: Body, now: float) -> Body:
    spec = body.get("spec") or {}
    allowed, reason = verdict(user, _asked(spec))
    entry = {
        "manager": "client",
        "operation": "Update",
        "apiVersion": "authorization.k8s.io/v1",
        "time": stamp(now),
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {name: inner for name, inner in _fields(spec).items()}},
    }
    status = {"allowed": allowed, **({"reason": reason} if reason else {})}
    return {"metadata": {"managedFields": [entry]}, "spec": spec, "status": status}


def _rule(rule: Rule) -> Body:
    return {"verbs": list(rule.verbs), "apiGroups": list(rule.groups), "resources": list(rule.resources)}


def _paths(verb: str, paths: tuple[str, ...]) -> Body:
    return {"verbs": [verb], "nonResourceURLs": list(paths)}


def _rules(user: User, body: Body, now: float) -> Body:
    namespace = (body.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise bad_request("no namespace on request")
    everything = (Rule(("*",), ("*",), ("*",)),) if user.admin else ()
    bound = [rule for binding in user.bindings if binding.namespace == namespace for rule in binding.rules]
    paths = [_paths("*", ("*",))] if user.admin else []
    paths += [_paths("get", _HEALTH), _paths("get", _WELL_KNOWN), _paths("get", PUBLIC_PATHS)]
    resources = [_rule(rule) for rule in (*everything, *EVERYBODY, *bound)]
    status = {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}
    return {"metadata": {}, "spec": {}, "status": status}


_ANSWERS: dict[str, Callable[[User, Body, float], Body]] = {
    "selfsubjectreviews": _subject,
    "selfsubjectaccessreviews": _access,
    "selfsubjectrulesreviews": _rules,
}


def review(resource: Resource, user: User, raw: bytes, content_type: str, now: float) -> bytes:
    """The JSON of an answered review. Raises StatusError 400, 415 or 422."""
    if content_type not in ("application/json", "application/octet-stream", CONTENT_TYPE):
        message = (
            "the body of the request was in an unknown format - accepted media types include: application/json, "
            "application/yaml, application/vnd.kubernetes.protobuf"
        )
        raise StatusError(415, "UnsupportedMediaType", message)
    answer = _ANSWERS[resource.name](user, _parse(raw, resource.kind, content_type), now)
    return msgspec.json.encode({"kind": resource.kind, "apiVersion": resource.api_version, **answer})
