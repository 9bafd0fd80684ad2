"""Whether this computer reaches what cluster connect needs: relay, notification service, ARM, sign-in, downloads.

Source: Microsoft's network requirements of Azure Arc-enabled Kubernetes. The relay's hosts of a region are not fixed:
the notification service lists them (`GET /urls/allowlist?api-version=2020-01-01&location=REGION`, without sign-in).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.records import Record

if TYPE_CHECKING:
    from app.azure.context import Azure


class Endpoint(Record):
    """A host that is needed."""

    host: str
    purpose: str
    port: int = 443


class Checked(Record):
    """One row of the result."""

    endpoint: Endpoint
    ok: bool
    why: str
    """What was seen, or why it failed; cleaned."""
    hint: str = ""
    seconds: float = 0.0


async def check_prerequisites(
    azure: Azure, region: str, *, proxy: str | None = None, relay: str = "", download: bool = False
) -> tuple[Checked, ...]:
    """The rows, needed hosts first. `region` may be empty (then only fixed hosts are checked), `relay` is the namespace
    that ARM named, `download` adds the vendor's registry. Never raises for what it finds."""
    return ()
