"""Byte streams to the API server: dialled through the route, TLS end to end on top, no local port."""

from __future__ import annotations

import asyncio
import ssl

from app.cluster import failures
from app.cluster.access import Access
from app.dialer import Dialer, ProtocolFactory
from app.errors import JumpdeckError

TLS_LIMIT = 10.0
"""Seconds for a TLS handshake: two round trips and a signature; a server that needs longer does not answer."""

CONTEXT_LIMIT = 20.0
"""Seconds to read the trust store and the client certificate; a cold disk or a virus scanner takes a few."""

_NAME_HINT = "A private name resolves only in its network: check the VPN, or set `address` in the profile."
"""What helps where the API server's own name does not resolve; names of hops have no `address`."""


class TlsDial:
    """Opens streams to one API server and keeps the TLS context for them. Made and used in one loop."""

    def __init__(self, access: Access, dialer: Dialer) -> None:
        self._access = access
        self._dialer = dialer
        self._context: ssl.SSLContext | None = None
        self._context_version = -1
        self._context_lock = asyncio.Lock()

    @property
    def secure(self) -> bool:
        """Whether the server is spoken to over TLS."""
        return not self._access.server.lower().startswith("http:")

    async def context(self) -> ssl.SSLContext:
        """The TLS context, made once, and again when the client certificate has changed. Raises JumpdeckError."""
        async with self._context_lock:
            version = self._access.context_version()
            if self._context is None or version != self._context_version:
                async with failures.deadline(CONTEXT_LIMIT, "reading certificates"):
                    self._context = await self._make_context()
                self._context_version = version
            return self._context

    async def _make_context(self) -> ssl.SSLContext:
        access = self._access
        if access.ca is not None and access.certificate() is None:
            return access.context_factory()  # a CA in memory: less than a millisecond, less than a thread's start
        return await asyncio.to_thread(access.context_factory)

    async def dial(self, factory: ProtocolFactory) -> asyncio.Transport:
        """A stream to the API server's port, below TLS. Raises RouteError."""
        host = self._access.host
        try:
            return await self._dialer.dial(host, self._access.port, factory)
        except JumpdeckError as error:
            if error.code == "JD-DNS-UNKNOWN" and error.detail.startswith(f"{host}:"):  # not a Bastion's name
                error.hint = _NAME_HINT
            raise

    async def open(self, protocol: asyncio.Protocol) -> None:
        """Connect; `protocol` gets its transport, TLS verified. Raises JumpdeckError."""
        access = self._access
        if not self.secure:
            await self.dial(lambda: protocol)
            return
        context = await self.context()
        transport = await self.dial(asyncio.Protocol)
        try:
            secured = await self._secure(transport, protocol, context)
        except ssl.SSLCertVerificationError as exc:
            names = await self._names_of_server() if failures.is_wrong_name(exc) else ()
            raise failures.from_tls(exc, access.at, access.tls_name, names) from exc
        except (OSError, TypeError) as exc:
            raise failures.from_tls(exc, access.at, access.tls_name) from exc
        protocol.connection_made(secured)

    async def _secure(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, context: ssl.SSLContext
    ) -> asyncio.Transport:
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, protocol, context, server_hostname=self._access.tls_name, ssl_handshake_timeout=TLS_LIMIT
            )
        except BaseException:
            transport.abort()
            raise
        if secured is None:  # asyncio's answer when the transport was closed meanwhile
            raise ConnectionResetError("closed during the handshake")
        return secured

    async def _names_of_server(self) -> tuple[str, ...]:
        """The names in the server's certificate, for the error: a second handshake that verifies all but the name.

        Nothing is sent on it.
        """
        try:
            context = await asyncio.to_thread(self._access.context_factory)
            context.check_hostname = False
            transport = await self.dial(asyncio.Protocol)
            secured = await self._secure(transport, asyncio.Protocol(), context)
        except (OSError, JumpdeckError):
            return ()
        found = secured.get_extra_info("peercert") or {}
        secured.abort()
        return tuple(str(value) for _, value in found.get("subjectAltName", ()))
