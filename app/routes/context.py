"""What hops need of the process that opens them: whom to ask, where secrets are, which servers are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.records import Record

if TYPE_CHECKING:
    from app.asking import Asker
    from app.routes.host_keys import HostKeys
    from app.secrets import SecretSource


class RouteContext(Record):
    """One per session; `secrets` and `host_keys` are the process's own and shared by all sessions."""

    asker: Asker | None
    secrets: SecretSource
    host_keys: HostKeys
