"""The error for bytes that are not what the Kubernetes API sends."""

from __future__ import annotations

from app.errors import JumpdeckError, Recovery
from app.text import clean


def malformed(what: str, cause: BaseException | str) -> JumpdeckError:
    """The error for an answer that is not what the Kubernetes API sends (code JD-API-MALFORMED)."""
    return JumpdeckError(
        f"The answer to {what} is not a Kubernetes answer",
        clean(str(cause))[:300],
        "Look whether something between here and the API server (a proxy, a login page) answers in its place.",
        code="JD-API-MALFORMED",
        layer="api",
        recovery=Recovery.TRANSIENT,
    )
