"""Straight to the server over this computer's network: the far end of no hop at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

from app.dialer import ProtocolFactory
from app.errors import JumpdeckError
from app.routes import failures
from app.routes.names import AddressInfo, resolve
from app.tasks import spawn

CONNECT_LIMIT = 10.0
"""Seconds to a connection, all addresses together: three lost SYNs on a slow line (1 + 2 + 4 s) and some air."""

HEAD_START = 0.25
"""Seconds before the next address is tried beside the first (RFC 8305 §5 recommends 250 ms)."""

KEEPALIVE = (10, 5, 3)
"""Idle seconds before the first probe, seconds between probes, probes: a dead peer is known after 25 s, and a
firewall that forgets idle connections (minutes) is kept awake."""

USER_TIMEOUT = 30_000
"""Milliseconds that sent bytes may stay unacknowledged (Linux): keep-alive says nothing while data is in flight."""


class DirectDialer:
    """A Dialer over this computer's own network. It carries nothing, so nothing of it can be lost."""

    def __init__(self, *, limit: float = CONNECT_LIMIT) -> None:
        self._limit = limit

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        """Connect to `host:port`. Raises RouteError (layer dns or tcp)."""
        at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        addresses = await resolve(host, port)
        if not addresses:
            raise failures.from_name_error(socket.gaierror(socket.EAI_NONAME, "no address"), at)
        try:
            async with asyncio.timeout(self._limit):  # wait_for loses a cancellation that comes with the answer (3.11)
                sock = await _race(addresses, at)
        except TimeoutError as exc:
            raise failures.timed_out(at, self._limit) from exc
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(factory, sock=sock)
        except OSError as exc:
            sock.close()
            raise failures.from_os_error(exc, at) from exc
        except BaseException:
            sock.close()
            raise
        return transport

    async def wait_lost(self) -> JumpdeckError:
        """Never returns: each stream tells its own end."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a future nobody resolves has no result")


def keep_alive(sock: socket.socket) -> None:
    """Have the system notice a dead peer. A system without one of the options keeps its own default."""
    idle, interval, count = KEEPALIVE
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "win32":
        with contextlib.suppress(OSError):
            sock.ioctl(socket.SIO_KEEPALIVE_VALS, (1, idle * 1000, interval * 1000))
        return
    for name, value in (
        ("TCP_KEEPIDLE", idle), ("TCP_KEEPALIVE", idle), ("TCP_KEEPINTVL", interval), ("TCP_KEEPCNT", count),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT),
    ):  # fmt: skip
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def _connect(info: AddressInfo) -> socket.socket:
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        keep_alive(sock)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _try(info: AddressInfo) -> socket.socket | OSError:
    try:
        return await _connect(info)
    except OSError as exc:
        return exc


async def _race(addresses: list[AddressInfo], at: str) -> socket.socket:
    """The first address that answers; each next one starts when the one before failed or after a head start."""
    waiting = list(addresses)
    running: set[asyncio.Task[socket.socket | OSError]] = set()
    first_error: OSError | None = None
    winner: socket.socket | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                running.add(spawn(_try(waiting.pop(0)), name=f"dial {at}"))
            done, running = await asyncio.wait(
                running, timeout=HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                result = task.result()
                if isinstance(result, OSError):
                    first_error = first_error or result
                elif winner is None:
                    winner = result
                else:
                    result.close()
    finally:
        for task in running:
            task.add_done_callback(_close_late)
            task.cancel()
    if winner is not None:
        return winner
    raise failures.from_os_error(first_error or TimeoutError(), at) from first_error


def _close_late(task: asyncio.Task[socket.socket | OSError]) -> None:
    """A connection that came second is closed, not leaked."""
    if not task.cancelled() and isinstance(result := task.result(), socket.socket):
        result.close()
