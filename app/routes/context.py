"""What hops need of the process that opens them: whom to ask, where secrets are, which servers are known."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from app.records import Record, field

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from app.asking import Asker
    from app.azure.context import Azure
    from app.routes.host_keys import HostKeys
    from app.secrets.secret import SecretSource


class RouteContext(Record):
    """One per session; `secrets`, `host_keys` and `lost` are the process's own and shared by all sessions."""

    asker: Asker | None
    secrets: SecretSource
    host_keys: HostKeys
    lost: dict[Hashable, str] = field(default_factory=dict, repr=False)
    """By hop, which of its servers was lost last: the others are tried before it."""
    justification: str = ""
    """Given on the command line for just-in-time access; empty: the person is asked."""
    azure: Callable[[], Awaitable[Azure]] | None = None
    """Azure as the profile sees it, made when first needed; None where nothing of Azure can be needed."""
    show: Callable[[str], AbstractAsyncContextManager[None]] | None = field(default=None, repr=False)
    """Shows a step inside the opening of a hop, by its label; None: nobody looks."""
