"""Which form of an answer a client asks for: plain objects, a Table, or metadata alone."""

from __future__ import annotations

from dataclasses import dataclass

from app.lab.statuses import StatusError

MAX_ACCEPT = 4_096
"""Characters of an Accept header that are looked at."""

_PLAIN = ("application/json", "application/*", "*/*")
_YAML = "application/yaml"
_OFFERED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_OFFERED_STREAM = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"


@dataclass(frozen=True, slots=True)
class Form:
    """The chosen form: `kind` is json, yaml, table or partial; `version` that of meta.k8s.io."""

    kind: str
    version: str = "v1"


def clauses(header: str) -> list[tuple[str, dict[str, str]]]:
    """Media types of an Accept header with their parameters, the preferred ones first."""
    found: list[tuple[float, str, dict[str, str]]] = []
    for clause in header[:MAX_ACCEPT].split(","):
        name, *rest = (part.strip() for part in clause.split(";"))
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            weight = 0.0
        if name:
            found.append((weight, name.lower(), parameters))
    found.sort(key=lambda entry: -entry[0])
    return [(name, parameters) for _, name, parameters in found]


def _form(name: str, parameters: dict[str, str], partial: str) -> Form | None:
    wanted = parameters.get("as")
    if wanted is None:
        return Form("yaml") if name == _YAML else Form("json") if name in _PLAIN else None
    if parameters.get("g") != "meta.k8s.io" or parameters.get("v") not in ("v1", "v1beta1") or name == _YAML:
        return None
    kinds = {"Table": "table", partial: "partial"}
    return Form(kinds[wanted], parameters["v"]) if wanted in kinds else None


def choose(header: str, action: str) -> Form:
    """The form for a `get`, `list` or `watch`. Raises StatusError 406 as recorded when there is none."""
    partial = "PartialObjectMetadataList" if action == "list" else "PartialObjectMetadata"
    known = clauses(header or "*/*")
    for name, parameters in known:
        form = _form(name, parameters, partial)
        if form is not None and not (form.kind == "yaml" and action == "watch"):
            return form
    if not any(name in (*_PLAIN, _YAML) for name, _ in known):
        offered = _OFFERED if action == "get" else f"{_OFFERED}, {_OFFERED_STREAM}"
        message = f"406: Not Acceptable\n\nAvailable representations: {offered}"
        raise StatusError(406, "NotAcceptable", message, {})
    offered = _OFFERED_STREAM if action == "watch" else _OFFERED
    message = f"only the following media types are accepted: {offered}"
    raise StatusError(406, "NotAcceptable", message, as_yaml=known[0][0] == _YAML)
