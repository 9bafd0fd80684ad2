"""Names to addresses, with a limit that holds also when the resolver hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

from app.routes import failures

NAME_LIMIT = 5.0
"""Seconds for a name to resolve: a second name server is asked after about two in common settings."""

MAX_ADDRESSES = 8
"""Addresses of one name that are tried; more says that the name is not a server's."""

AddressInfo = tuple[int, int, int, str, Any]


async def resolve(host: str, port: int, *, limit: float = NAME_LIMIT) -> list[AddressInfo]:
    """The stream addresses of a host, IPv6 and IPv4 by turns, best first. Raises RouteError (layer dns).

    Runs in a daemon thread of its own: a resolver that hangs holds neither the loop's pool nor the end of the program.
    """
    at = f"{host}:{port}"
    if (found := _literal(host, port)) is not None:
        return found
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[AddressInfo]] = loop.create_future()

    def deliver(found: list[AddressInfo] | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or [])

    def ask() -> None:
        found: list[AddressInfo] | None = None
        error: Exception | None = None
        try:
            found = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            error = exc
        try:
            loop.call_soon_threadsafe(deliver, found, error)
        except RuntimeError:  # the loop has ended; nobody waits for the answer
            return

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    try:
        async with asyncio.timeout(limit):
            found = await answer
    except socket.gaierror as exc:
        raise failures.from_name_error(exc, at) from exc
    except UnicodeError as exc:
        raise failures.from_name_error(socket.gaierror(socket.EAI_NONAME, "not a host name"), at) from exc
    except TimeoutError as exc:
        raise failures.name_timed_out(at, limit) from exc
    except OSError as exc:
        raise failures.from_os_error(exc, at) from exc
    return _by_turns(found)[:MAX_ADDRESSES]


def _literal(host: str, port: int) -> list[AddressInfo] | None:
    """A numeric address needs no name server, no thread, and no tables of international names."""
    if not host.isascii() or not (":" in host or host[-1:].isdigit()):
        return None
    try:
        return list(socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except OSError:
        return None


def _by_turns(found: list[AddressInfo]) -> list[AddressInfo]:
    """Families by turns, the resolver's first choice first (RFC 8305 §4)."""
    first = found[0][0] if found else 0
    one = [info for info in found if info[0] == first]
    other = [info for info in found if info[0] != first]
    mixed: list[AddressInfo] = []
    for index in range(max(len(one), len(other))):
        mixed += one[index : index + 1] + other[index : index + 1]
    return mixed
