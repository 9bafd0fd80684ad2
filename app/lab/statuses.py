"""The error bodies of a Kubernetes API server: `Status` objects, worded as recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web


def status_object(code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A `Status` of kind Failure, with its fields in the order of the server."""
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
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
) -> web.Response:
    """An HTTP answer with a `Status` body. `reason` is Kubernetes' word (`NotFound`), empty when there is none."""
    body = msgspec.json.encode(status_object(code, reason, message, details)) + b"\n"
    return web.Response(status=code, body=body, headers={"Content-Type": "application/json", **(headers or {})})


class StatusError(Exception):
    """Leave a handler with an error answer; the middleware of api.py makes the response of it."""

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details

    def response(self) -> web.Response:
        """The HTTP answer."""
        return status_response(self.code, self.reason, self.message, self.details)


def not_found(resource: str, name: str, group: str = "") -> StatusError:
    """404 for an object that is not there."""
    what = f"{resource}.{group}" if group else resource
    details = {"name": name, **({"group": group} if group else {}), "kind": resource}
    return StatusError(404, "NotFound", f'{what} "{name}" not found', details)


def bad_request(message: str) -> StatusError:
    """400 with reason BadRequest."""
    return StatusError(400, "BadRequest", message)
