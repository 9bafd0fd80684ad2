"""The query of a list or watch, read and refused as a Kubernetes API server does."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from app.lab.statuses import StatusError, bad_request, invalid
from app.lab.tables import INCLUDES

_EXACT, _NOT_OLDER = "Exact", "NotOlderThan"
_MATCH = "resourceVersionMatch"


@dataclass(frozen=True, slots=True)
class Options:
    """The parameters of a list or watch. `limit` and `timeout` (seconds) are 0 when there is none."""

    labels: str
    fields: str
    limit: int
    token: str
    version: str
    match: str
    watch: bool
    bookmarks: bool
    timeout: int
    initial: bool | None
    include: str


def truth(text: str | None) -> bool:
    """A boolean of a query: absent, `false` and `0` are no, everything else is yes."""
    return text is not None and text not in ("false", "0")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name) or "0"
    if not re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return max(int(text), 0)


def read(query: Mapping[str, str]) -> Options:
    """Read and check the query. Raises StatusError 400 or 422."""
    initial = query.get("sendInitialEvents")
    options = Options(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=_number(query, "limit"),
        token=query.get("continue", ""),
        version=query.get("resourceVersion", ""),
        match=query.get(_MATCH, ""),
        watch=truth(query.get("watch")),
        bookmarks=truth(query.get("allowWatchBookmarks")),
        timeout=_number(query, "timeoutSeconds"),
        initial=None if initial is None else truth(initial),
        include=query.get("includeObject") or "Metadata",
    )
    problems = _watch_problems(options) if options.watch else _list_problems(options)
    if problems:
        raise invalid("ListOptions", "meta.k8s.io", problems)
    if options.include not in INCLUDES:
        raise bad_request(f'unrecognized includeObject value: "{options.include}"')
    return options


Problem = tuple[str, str, str]


def _forbidden(field: str, why: str) -> Problem:
    return field, "FieldValueForbidden", f"Forbidden: {why}"


def _unsupported(value: str, supported: str) -> Problem:
    return _MATCH, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {supported}'


def _list_problems(options: Options) -> list[Problem]:
    problems: list[Problem] = []
    if match := options.match:
        if not options.version:
            problems.append(_forbidden(_MATCH, f"{_MATCH} is forbidden unless resourceVersion is provided"))
        if options.token:
            problems.append(_forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided"))
        if match not in (_EXACT, _NOT_OLDER):
            problems.append(_unsupported(match, f'"{_EXACT}", "{_NOT_OLDER}", ""'))
        if match == _EXACT and options.version == "0":
            problems.append(_forbidden(_MATCH, f'{_MATCH} "exact" is forbidden for resourceVersion "0"'))
    if options.initial is not None:
        problems.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return problems


def _watch_problems(options: Options) -> list[Problem]:
    problems: list[Problem] = []
    if options.initial is not None and options.match != _NOT_OLDER:
        problems.append(_forbidden(_MATCH, f"sendInitialEvents requires setting {_MATCH} to {_NOT_OLDER}"))
    elif options.match and options.initial is None:
        problems.append(_forbidden(_MATCH, f"{_MATCH} is forbidden for watch unless sendInitialEvents is provided"))
    return problems


def revision(options: Options) -> int | None:
    """The resource version asked for as a number; None when there is none. Raises StatusError 400, for a watch 500."""
    text = options.version
    if not text:
        return None
    if re.fullmatch(r"\d{1,20}", text, re.ASCII):
        return int(text)
    why = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
    if options.watch:
        raise StatusError(500, "", why)
    raise bad_request(f"invalid resource version: {why}")


def exact(options: Options) -> bool:
    """Whether a list asks for the state at just its resource version (`limit` without a match means so too)."""
    return options.match == _EXACT or bool(options.version not in ("", "0") and options.limit and not options.match)


INCONSISTENT = -1
"""The revision in a token that goes on with whatever the state is now."""


def token(at: int, start: str) -> str:
    """A continue token: the page after the key `start` of the list at revision `at`."""
    slash = "" if at == INCONSISTENT else "/"
    text = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": at, "start": f"{slash}{start}\0"})
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def read_token(options: Options) -> tuple[int, str]:
    """The revision and the last key of a continue token. Raises StatusError 400."""
    if options.version not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    head = "invalid continue token: continue key is not valid: "
    try:
        text = base64.urlsafe_b64decode(options.token + "=" * (-len(options.token) % 4))
        fields = msgspec.json.decode(text)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise bad_request(f"{head}invalid character looking for beginning of value") from error
    if not isinstance(fields, dict) or fields.get("v") != "meta.k8s.io/v1":
        raise bad_request(f"{head}server does not recognize this encoded version {_text(fields)}")
    at, start = fields.get("rv"), fields.get("start")
    if not isinstance(at, int) or at == 0 or not isinstance(start, str):
        raise bad_request(f"{head}incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    return at, start.lstrip("/").rstrip("\0")


def _text(fields: object) -> str:
    return str(fields.get("v", "")) if isinstance(fields, dict) else ""
