"""What the operating system says about a connection, as errors with a next step. Seam for OSError on the way in."""

from __future__ import annotations

import errno
import os
import socket

from app.errors import JumpdeckError, Recovery, RouteError
from app.text import prose

_WINDOWS = {10051: errno.ENETUNREACH, 10053: errno.ECONNABORTED, 10054: errno.ECONNRESET, 10060: errno.ETIMEDOUT,
            10061: errno.ECONNREFUSED, 10065: errno.EHOSTUNREACH, 10013: errno.EACCES,
            121: errno.ETIMEDOUT, 1225: errno.ECONNREFUSED, 1231: errno.ENETUNREACH, 1232: errno.EHOSTUNREACH,
            64: errno.ECONNRESET, 995: errno.ECONNABORTED}  # fmt: skip
"""Winsock and NT error numbers (the proactor loop raises both) and their POSIX names."""

_TABLE: dict[int, tuple[str, str, str, Recovery]] = {
    errno.ECONNREFUSED: (
        "JD-TCP-REFUSED", "Connection refused", "Nothing listens there: check the port, and that the server runs.",
        Recovery.TRANSIENT),
    errno.ECONNRESET: (
        "JD-TCP-RESET", "Connection reset", "The far end or something between closed it; it is tried again.",
        Recovery.TRANSIENT),
    errno.ECONNABORTED: (
        "JD-TCP-RESET", "Connection aborted", "This computer's network stack closed it; it is tried again.",
        Recovery.TRANSIENT),
    errno.EPIPE: (
        "JD-TCP-RESET", "Connection closed while writing", "The far end closed it; it is tried again.",
        Recovery.TRANSIENT),
    errno.ETIMEDOUT: (
        "JD-TCP-TIMEOUT", "No answer", "A firewall may drop the packets, or a VPN is not up.", Recovery.TRANSIENT),
    errno.ENETUNREACH: (
        "JD-TCP-UNREACHABLE", "Network unreachable", "This computer has no route there: is the VPN up?",
        Recovery.TRANSIENT),
    errno.EHOSTUNREACH: (
        "JD-TCP-UNREACHABLE", "Host unreachable", "A router says that there is no way: is the VPN up?",
        Recovery.TRANSIENT),
    errno.EACCES: (
        "JD-TCP-FORBIDDEN", "Connection forbidden by this computer", "A local firewall or policy forbids it.",
        Recovery.PERMANENT),
    errno.EPERM: (
        "JD-TCP-FORBIDDEN", "Connection forbidden by this computer", "A local firewall or policy forbids it.",
        Recovery.PERMANENT),
    errno.EADDRNOTAVAIL: (
        "JD-TCP-UNREACHABLE", "No local address for this connection", "Is the network of this computer up?",
        Recovery.TRANSIENT),
    errno.EMFILE: (
        "JD-LOCAL-FILES", "Too many open files", "Close sessions, or raise the limit (ulimit -n).",
        Recovery.TRANSIENT),
}  # fmt: skip


_BY_CLASS: dict[type[OSError], int] = {
    ConnectionResetError: errno.ECONNRESET, ConnectionRefusedError: errno.ECONNREFUSED,
    BrokenPipeError: errno.EPIPE, ConnectionAbortedError: errno.ECONNABORTED,
}  # fmt: skip
"""Errors that a library made without a number."""


def number_of(error: OSError) -> int | None:
    """The POSIX number of an error, also where Windows raised it."""
    found = getattr(error, "winerror", None) or error.errno
    if found is None:
        return next((number for kind, number in _BY_CLASS.items() if isinstance(error, kind)), None)
    return _WINDOWS.get(found, found)


class StreamFailed(ConnectionResetError):
    """A hop ends a stream that it had opened already; `told` says why, for whoever maps what the stream raises."""

    def __init__(self, told: JumpdeckError) -> None:
        super().__init__(str(told))
        self.told = told


def from_os_error(error: OSError, at: str) -> JumpdeckError:
    """The error of a connection to `at` (`host:port`) that the operating system, or a hop, reported."""
    if isinstance(error, StreamFailed):
        return error.told
    if isinstance(error, socket.gaierror):
        return from_name_error(error, at)
    if isinstance(error, TimeoutError) and error.errno is None:
        return timed_out(at)
    code, title, hint, recovery = _TABLE.get(
        number_of(error) or 0,
        ("JD-TCP-FAILED", "Connection failed", "It is tried again.", Recovery.TRANSIENT),
    )
    number = number_of(error)
    said = os.strerror(number) if number else prose(str(error) or type(error).__name__)  # asyncio words it in Python
    return RouteError(title, f"{at}: {said}", hint, code=code, layer="tcp", recovery=recovery)


def from_name_error(error: socket.gaierror, at: str) -> RouteError:
    """A name that did not resolve. An answer "no such name" may change when a VPN comes up, so it is tried again."""
    said = prose(error.strerror or str(error))
    if error.errno == getattr(socket, "EAI_AGAIN", None):
        return RouteError("Name server did not answer", f"{at}: {said}", "Check DNS and the network connection.",
                          code="JD-DNS-NO-ANSWER", layer="dns", recovery=Recovery.TRANSIENT)  # fmt: skip
    return RouteError(
        "Name does not resolve", f"{at}: {said}",
        "A private name resolves only in its network: check the VPN, and how the profile writes the name.",
        code="JD-DNS-UNKNOWN", layer="dns", recovery=Recovery.TRANSIENT,
    )  # fmt: skip


def name_timed_out(at: str, seconds: float) -> RouteError:
    """The name server said nothing in time."""
    return RouteError("Name server did not answer", f"{at}: nothing within {seconds:g} s",
                      "Check DNS and the network connection.", code="JD-DNS-NO-ANSWER", layer="dns",
                      recovery=Recovery.TRANSIENT)  # fmt: skip


def timed_out(at: str, seconds: float | None = None) -> RouteError:
    """No connection in time."""
    code, title, hint, recovery = _TABLE[errno.ETIMEDOUT]
    detail = f"{at}: nothing within {seconds:g} s" if seconds is not None else f"{at}: timed out"
    return RouteError(title, detail, hint, code=code, layer="tcp", recovery=recovery)
