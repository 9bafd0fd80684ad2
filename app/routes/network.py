"""A network to be on (VPN, ExpressRoute): opens nothing, and fails first and clearly when we are not on it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.dialer import Dialer
from app.errors import Recovery, RouteError
from app.profiles.model import NetworkHop
from app.routes.names import resolve
from app.text import clean

_KINDS = {"vpn": "VPN", "expressroute": "ExpressRoute"}

_ELSEWHERE = "192.0.2.1"
"""An address that only a default route leads to (TEST-NET-1, RFC 5737); nothing is sent there."""


class NetworkDial:
    """The `network` hop. With `expect` it checks, without a packet to the server, that the way leads into the range.

    `target` is host and port of the API server at the end of the route. `way` tells the local address from which
    packets to an address would leave, or None.
    """

    def __init__(
        self, spec: NetworkHop, *, target: tuple[str, int] | None = None, way: Callable[[str], str | None] | None = None
    ) -> None:
        self._spec = spec
        self._target = target
        self._way = way or source_address

    @property
    def label(self) -> str:
        return f"{clean(self._spec.network)} ({_KINDS.get(self._spec.kind, 'network')})"

    @property
    def key(self) -> None:
        """Nothing to share: it holds no connection."""
        return None

    @asynccontextmanager
    async def open(self, through: Dialer) -> AsyncIterator[Dialer]:
        """Yield the dialer of before. Raises RouteError: JD-NETWORK-DOWN, JD-NETWORK-PUBLIC or JD-NETWORK-NO-NAME."""
        if self._spec.expect is not None and self._target is not None:
            await self._check(self._spec.expect, *self._target)
        yield through

    async def _check(self, expect: str, host: str, port: int) -> None:
        name, at = clean(self._spec.network), clean(host)
        network = ipaddress.ip_network(expect, strict=False)
        way = self._way(str(network[1] if network.num_addresses > 1 else network[0]))
        if way is None:
            raise self._down(f"this computer has no way to {expect}")
        # Only the default way leads there: right on a company network, but a split-tunnel VPN adds a way of its own.
        doubt = f"; {name} may not be up" if way == self._way(_ELSEWHERE) else f"; {name} is up"
        try:
            found = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in await resolve(host, port)]
        except RouteError as exc:
            raise self._error(
                "JD-NETWORK-NO-NAME", f"{at} does not resolve", f"{exc.detail}{doubt}",
                f"Check that {name} is connected and gives its DNS servers, or set `address` in the profile.",
            ) from exc  # fmt: skip
        inside = [address for address in found if address in network]
        if not inside:
            shown = ", ".join(str(address) for address in found[:3])
            where = "a public address" if all(address.is_global for address in found) else "outside the network"
            raise self._error(
                "JD-NETWORK-PUBLIC", f"{at} leads past {name}",
                f"it resolves to {shown} ({where}), expected {expect}{doubt}",
                f"DNS does not ask {name}: connect it, check its DNS settings, or set `address` in the profile.",
            )  # fmt: skip
        if self._way(str(inside[0])) is None:
            raise self._down(f"this computer has no way to {inside[0]}")

    def _down(self, why: str) -> RouteError:
        name = clean(self._spec.network)
        return self._error("JD-NETWORK-DOWN", f"{name} is not up", why, f"Connect {name}, then try again.")

    def _error(self, code: str, title: str, detail: str, hint: str) -> RouteError:
        layer = "dns" if code == "JD-NETWORK-NO-NAME" else "hop"
        return RouteError(title, detail, hint, code=code, layer=layer, recovery=Recovery.TRANSIENT)


def source_address(address: str) -> str | None:
    """The local address from which packets to `address` would leave; None when no route leads there.

    Connecting a UDP socket asks the routing table and sends nothing.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
