"""The lab's Azure Bastion: the data plane of its native client tunnel, over TLS on loopback.

Emulates what `az network bastion tunnel` talks to: a token exchange over HTTPS, one WebSocket a stream, the deletion
of the session. The wire is that of the published clients; where no source says what the service does, the comment
says so.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

from app.lab.door import Door, Reach

Accepts = Callable[[str], str | None]
"""Says whose an ARM access token is; None when it is not (or no longer) good."""

Ports = Mapping[int, Reach]
"""The open ports of a target, and what connects a protocol with each."""


class BastionPlane:
    """One bastion host behind a door. An async context manager.

    `targets` has the ARM ids (in any case) that this host reaches, `addresses` the IP addresses for IP connect. `faults`
    are names of `app.lab.bastion_faults`; `door` cuts, freezes, slows and refuses.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        accepts: Accepts,
        targets: Mapping[str, Ports],
        *,
        addresses: Mapping[str, Ports] | None = None,
        sku: str = "Standard",
    ) -> None:
        self.sku = sku
        self.faults: set[str] = set()
        self.door: Door

    async def __aenter__(self) -> BastionPlane:
        raise NotImplementedError

    async def __aexit__(self, *_: object) -> None:
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The loopback port of its door: `dnsName` is `localhost:PORT`."""
        return self.door.port
