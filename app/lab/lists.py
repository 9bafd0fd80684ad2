"""Lists and single objects in the form that the client asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from app.lab.accept import Form
from app.lab.encoding import body, partial, whole
from app.lab.options import INCONSISTENT, Options, exact, read_token, revision, token
from app.lab.resources import Resource
from app.lab.selectors import Match, selection
from app.lab.statuses import StatusError
from app.lab.store import Entry, Expired, Pairs, Store
from app.lab.tables import definitions, row, table

_TOO_OLD = "The resourceVersion for the provided list is too old."
_PAGE_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)  # fmt: skip


def _too_large(asked: int, current: int) -> StatusError:
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    details = {"causes": [cause], "retryAfterSeconds": 1}
    return StatusError(504, "Timeout", message, details, headers={"Retry-After": "1"})


@dataclass(frozen=True, slots=True)
class _Page:
    """The entries of one answer, the revision that it shows, and what follows."""

    pairs: Pairs
    at: int
    remaining: int = 0
    token: str = ""


def _state(store: Store, resource: Resource, namespace: str, options: Options) -> tuple[Pairs, int]:
    """All entries in order, and the revision that they show."""
    at, wants_exact = revision(options), exact(options)
    if at is not None and at > store.revision:
        raise _too_large(at, store.revision)
    if not wants_exact:
        return store.entries(resource.name, namespace), store.revision
    try:
        return store.entries(resource.name, namespace, at=at), at or store.revision
    except Expired as error:
        raise StatusError(410, "Expired", _TOO_OLD) from error


def _continued(store: Store, resource: Resource, namespace: str, options: Options) -> tuple[Pairs, int]:
    at, last = read_token(options)
    if at == INCONSISTENT:
        at = store.revision
    try:
        pairs = store.entries(resource.name, namespace, at=at)
    except Expired as error:
        again = {"continue": token(INCONSISTENT, last)}
        raise StatusError(410, "Expired", _PAGE_TOO_OLD, metadata=again) from error
    prefix = f"{namespace}/" if namespace else ""
    return [pair for pair in pairs if pair[0] > prefix + last], at


def _page(store: Store, resource: Resource, namespace: str, options: Options) -> _Page:
    match = selection(options.labels, options.fields, resource)
    pairs, at = (_continued if options.token else _state)(store, resource, namespace, options)
    if match is None:
        chosen = pairs[: options.limit] if options.limit else pairs
        last, remaining = (chosen[-1][0] if chosen else ""), len(pairs) - len(chosen)
    else:
        chosen, remaining = _selected(pairs, match, options.limit)
        last = chosen[-1][0] if chosen else ""
    if not remaining:
        return _Page(chosen, at)
    # With a selector the server does not know how many of the rest would match, so it does not say.
    start = last.removeprefix(f"{namespace}/" if namespace else "")
    return _Page(chosen, at, 0 if match else remaining, token(at, start))


def _selected(pairs: Pairs, match: Match, limit: int) -> tuple[Pairs, int]:
    """The first `limit` entries that match (0: all of them), and how many were not looked at."""
    chosen: Pairs = []
    for index, pair in enumerate(pairs):
        if match(pair[1].obj):
            chosen.append(pair)
            if len(chosen) == limit:
                return chosen, len(pairs) - index - 1
    return chosen, 0


def list_body(store: Store, resource: Resource, namespace: str, options: Options, form: Form) -> bytes:
    """The JSON of a list or of one page of it. Raises StatusError."""
    page = _page(store, resource, namespace, options)
    meta: dict[str, Any] = {"resourceVersion": str(page.at)}
    if page.token:
        meta["continue"] = page.token
    if page.remaining:
        meta["remainingItemCount"] = page.remaining
    metadata = msgspec.json.encode(meta)
    entries = [entry for _, entry in page.pairs]
    if form.kind == "table":
        now = store.clock()
        rows = [row(resource, entry, now, options.include) for entry in entries]
        return table(definitions(resource), rows, metadata, form.version)
    if form.kind == "partial":
        kind, version = "PartialObjectMetadataList", f"meta.k8s.io/{form.version}"
        items = [partial(entry, form.version) for entry in entries]
    else:
        kind, version = f"{resource.kind}List", resource.api_version
        items = [body(resource, entry) for entry in entries]
    head = f'{{"kind":"{kind}","apiVersion":"{version}","metadata":'.encode()
    return head + metadata + b',"items":[' + b",".join(items) + b"]}"


def object_body(store: Store, resource: Resource, entry: Entry, form: Form, include: str) -> bytes:
    """The JSON of one object."""
    if form.kind == "table":
        metadata = msgspec.json.encode({"resourceVersion": entry.obj["metadata"].get("resourceVersion", "")})
        rows = [row(resource, entry, store.clock(), include)]
        return table(definitions(resource), rows, metadata, form.version)
    if form.kind == "partial":
        return partial(entry, form.version)
    return whole(resource, entry)
