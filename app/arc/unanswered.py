"""Why a cluster does not answer through a tunnel that stands: what can be seen of the relay from this computer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.arc.prerequisites import Checked, check_relay
from app.arc.program import LAYER
from app.errors import JumpdeckError, Recovery, RouteError

if TYPE_CHECKING:
    from app.arc.preflight import ArcFacts
    from app.azure.context import Azure

_UNANSWERED = ("JD-ARC-AGENT", "JD-API-SILENT")
"""Failures behind the tunnel that may be the relay's as well as the agent's."""


async def explained(
    error: JumpdeckError, azure: Azure, facts: ArcFacts, relay: str, proxy: str | None, limit: float
) -> JumpdeckError:
    """The failure with the endpoint named that this computer does not reach, or with the word that it reaches all.

    What ARM knew beforehand stands with it. `relay` is the namespace that ARM named (empty: not known), `proxy` the
    profile's, `limit` seconds for all of it.
    """
    if error.code not in _UNANSWERED:
        return error
    rows = await check_relay(azure, relay, proxy=proxy, limit=limit)
    first = next((row for row in rows if not row.ok and row.endpoint.needed), None)
    if first is not None:
        return _not_reached(first, error, facts.name)
    known = [] if facts.hidden else [f"Azure's facts: {warning.rstrip('.')}" for warning in facts.warnings]
    error.detail = "; ".join((*known, error.detail, *(_row(row) for row in rows)))
    if error.code == "JD-ARC-AGENT" and relay:
        error.hint = ("Have whoever runs the cluster check clusterconnect-agent in its namespace azure-arc, and that "
                      "the cluster reaches the relay on port 443 (WebSocket).")  # fmt: skip
    return error


def _not_reached(row: Checked, error: JumpdeckError, name: str) -> RouteError:
    at, by_proxy = row.endpoint.at, row.code == "JD-ARM-PROXY"
    title = f"The web proxy {row.proxy} does not lead to Azure" if by_proxy else f"The relay of {name} is not reached"
    return RouteError(
        title, f"{at}: {row.why}; {error.detail}", row.hint, code="JD-ARC-PROXY" if by_proxy else "JD-ARC-RELAY",
        layer=LAYER, recovery=Recovery.TRANSIENT,
    )  # fmt: skip


def _row(row: Checked) -> str:
    seen = "is reached from this computer" if row.ok else f"is not reached from this computer ({row.why})"
    return f"{row.endpoint.purpose} {row.endpoint.at} {seen}"
