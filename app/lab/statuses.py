"""The error bodies of a Kubernetes API server: `Status` objects, worded as recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web


def status_object(
    code: int,
    reason: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A `Status` of kind Failure, with its fields in the order of the server."""
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": dict(metadata or {}), "status": "Failure"}
    body["message"] = message
    if reason:
        body["reason"] = reason
    if details is not None:
        body["details"] = dict(details)
    body["code"] = code
    return body


def status_response(
    code: int,
    reason: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> web.Response:
    """An HTTP answer with a `Status` body. `reason` is Kubernetes' word (`NotFound`), empty when there is none."""
    body = msgspec.json.encode(status_object(code, reason, message, details, metadata)) + b"\n"
    return web.Response(status=code, body=body, headers={"Content-Type": "application/json", **(headers or {})})


class StatusError(Exception):
    """Leave a handler with an error answer; the middleware of api.py makes the response of it."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        as_yaml: bool = False,
    ) -> None:
        super().__init__(message)
        self.as_yaml = as_yaml
        self.code, self.reason, self.message, self.details = code, reason, message, details
        self.headers, self.metadata = headers, metadata

    def object(self) -> dict[str, Any]:
        """The `Status` alone, as the object of an ERROR event carries it."""
        return status_object(self.code, self.reason, self.message, self.details, self.metadata)

    def response(self) -> web.Response:
        """The HTTP answer."""
        if self.as_yaml:
            import yaml

            body = yaml.safe_dump(self.object()).encode()
            return web.Response(status=self.code, body=body, headers={"Content-Type": "application/yaml"})
        return status_response(self.code, self.reason, self.message, self.details, self.headers, metadata=self.metadata)


def not_found(resource: str, name: str, group: str = "") -> StatusError:
    """404 for an object that is not there."""
    what = f"{resource}.{group}" if group else resource
    details = {"name": name, **({"group": group} if group else {}), "kind": resource}
    return StatusError(404, "NotFound", f'{what} "{name}" not found', details)


def bad_request(message: str) -> StatusError:
    """400 with reason BadRequest."""
    return StatusError(400, "BadRequest", message)


def invalid(kind: str, group: str, problems: list[tuple[str, str, str]]) -> StatusError:
    """422 with one cause for each problem: its field, Kubernetes' reason and the message."""
    causes = [{"reason": reason, "message": message, "field": field} for field, reason, message in problems]
    texts = [f"{field}: {message}" for field, _, message in problems]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = {"group": group, **({"kind": kind} if kind else {}), "causes": causes}
    return StatusError(422, "Invalid", f'{kind}.{group} "" is invalid: {text}', details)


def method_not_allowed() -> StatusError:
    """405, which this server words without naming the method."""
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, {})
