"""Errors as Entra words them: an OAuth error, an AADSTS number, and ids to quote to support."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any


class EntraError(Exception):
    """A refusal: OAuth's `error`, the AADSTS number and its text, the HTTP status, and what else stands in the body."""

    def __init__(self, error: str, number: int, text: str, status: int = 400, **more: str) -> None:
        super().__init__(f"AADSTS{number}: {text}")
        self.error, self.number, self.status, self.more = error, number, status, more


def error_body(error: EntraError, correlation: str = "") -> dict[str, Any]:
    """The JSON of an error; `correlation` is the client's own id, where it sent one."""
    stamp, trace = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ"), str(uuid.uuid4())
    correlation = correlation or str(uuid.uuid4())
    return {
        "error": error.error,
        "error_description": f"{error} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}",
        "error_codes": [error.number],
        "timestamp": stamp,
        "trace_id": trace,
        "correlation_id": correlation,
        **error.more,
    }
