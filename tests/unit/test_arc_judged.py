"""How failures behind the tunnel of a connected cluster are worded."""

from __future__ import annotations

import pytest

from app.cluster import failures
from app.cluster.access_arc import judged
from app.errors import JumpdeckError, Recovery, RouteError

LATE = RouteError(
    "No complete answer in time", "GET /version: 10 s have passed", code="JD-API-NO-ANSWER", layer="api",
    recovery=Recovery.TRANSIENT,
)  # fmt: skip


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (failures.closed("GET /version"), "GET /version: the server closed the connection"),
        (LATE, "GET /version: 10 s have passed"),
    ],
    ids=["closed", "late"],
)
def test_an_agent_that_does_not_answer_has_its_reason_beside_the_question(error: JumpdeckError, detail: str) -> None:
    found = judged(error, "shop-01", None, "edge")
    assert (found.code, found.detail, found.transient) == ("JD-ARC-AGENT", detail, True)
