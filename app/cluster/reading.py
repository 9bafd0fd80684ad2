"""What may be sent at all: reads, and questions about ourselves (S-24). Both HTTP clients ask here."""

from __future__ import annotations

from app.errors import JumpdeckError

REVIEWS = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})
"""The resources that may be created: questions about ourselves, which change nothing (S-24)."""


def check_reading(method: str, path: str) -> None:
    """Refuse every request that could change something (S-24). Raises JumpdeckError (JD-API-READ-ONLY)."""
    if method in ("GET", "HEAD"):
        return
    if method == "POST" and path.rstrip("/").rpartition("/")[2] in REVIEWS and "/apis/" in path:
        return
    raise JumpdeckError(
        "Jumpdeck only reads", f"{method} is not sent", "Changes are made with another tool: jumpdeck exec.",
        code="JD-API-READ-ONLY", layer="local",
    )  # fmt: skip
