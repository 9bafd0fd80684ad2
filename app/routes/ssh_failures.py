"""What asyncssh raises, as errors with a next step: the one seam for that library.

Disconnect reasons are RFC 4253 §11.1, channel failures RFC 4254 §5.1. Words of a server are cleaned and marked so.
"""

from __future__ import annotations

import asyncssh

from app.errors import JumpdeckError, ProfileError, Recovery, RouteError
from app.routes import failures
from app.text import clean, prose

_BUSY = ("Exceeded MaxStartups", "Not allowed at this time")
"""What OpenSSH says in place of its version line when too many logins are under way, or after failed ones."""
_DENIALS = {asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, asyncssh.DISC_ILLEGAL_USER_NAME,
            asyncssh.DISC_AUTH_CANCELLED_BY_USER}  # fmt: skip


def silent(at: str, seconds: float, first: bytes) -> RouteError:
    """No agreed key in time. `first` is what came in place of a version line, if anything."""
    if first and not first.startswith(b"SSH-"):
        return not_ssh(at, first)
    return _error("No SSH answer", f"{at}: nothing within {seconds:g} s",
                  "Does a proxy or firewall stand between? Check host and port.", "JD-SSH-SILENT")  # fmt: skip


def slow_login(at: str, seconds: float) -> RouteError:
    """The server did not finish the login in time."""
    return _error("The SSH login takes too long", f"{at}: not done within {seconds:g} s",
                  "The server may be waiting for its directory or for a second factor.",
                  "JD-SSH-LOGIN-SLOW")  # fmt: skip


def not_ssh(at: str, first: bytes) -> RouteError:
    """Something else answered."""
    said = prose(first.split(b"\n", 1)[0], 200)
    if said.startswith(_BUSY):
        return _error("The SSH server is busy", f"{at}, from server: {said}",
                      "It limits logins at the same time; it is tried again.", "JD-SSH-BUSY")  # fmt: skip
    return _error("This is not an SSH server", f"{at}, from server: {said}", "Check the port in the profile.",
                  "JD-SSH-NOT-SSH", Recovery.PERMANENT)  # fmt: skip


def is_denial(error: BaseException) -> bool:
    """Whether the server ended the connection because of the login: one more try would count against the account."""
    if isinstance(error, asyncssh.PermissionDenied):
        return True
    return isinstance(error, asyncssh.DisconnectError) and (
        error.code in _DENIALS
        or (error.code == asyncssh.DISC_PROTOCOL_ERROR and "authentication" in error.reason.lower())
    )


def from_connect(error: Exception, at: str, *, version: str, first: bytes) -> JumpdeckError:
    """The error of a connection that did not come to stand.

    `version` is the server's version line, empty when none came; `first` what came in its place.
    """
    if not version:
        return _before_version(error, at, first)
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return _error("No common SSH algorithm", f"{at}: {prose(error.reason)}",
                      "The server is too old or too strict: its algorithms must be brought up to date.",
                      "JD-SSH-ALGORITHMS", Recovery.PERMANENT)  # fmt: skip
    if isinstance(error, (asyncssh.DisconnectError, OSError)):
        return from_loss(error, at)
    if isinstance(error, (ValueError, asyncssh.Error)):
        return ProfileError("The SSH hop cannot be used", f"{at}: {prose(str(error))}",
                            "Check user, key and host in the profile.", code="JD-SSH-SETTINGS")  # fmt: skip
    raise error


def bad_certificate(error: asyncssh.HostKeyNotVerifiable, at: str) -> RouteError:
    """A host certificate that the library refused and nothing else was shown."""
    return RouteError(
        "The server's host certificate is not valid", f"{at}: {prose(error.reason)}",
        "Ask who runs the server: its certificate must name this host and be within its dates.",
        code="JD-SSH-HOST-CERTIFICATE", layer="host-key",
    )  # fmt: skip


def _before_version(error: Exception, at: str, first: bytes) -> JumpdeckError:
    if isinstance(error, asyncssh.ProtocolNotSupported):
        return _error("The server speaks only an old SSH", f"{at}: {prose(error.reason)}",
                      "SSH 2 is needed: the server must be replaced.",
                  "JD-SSH-VERSION", Recovery.PERMANENT)  # fmt: skip
    if first and not first.startswith(b"SSH-"):
        return not_ssh(at, first)
    if isinstance(error, (asyncssh.Error, OSError)):
        return _error("Closed before SSH started", f"{at}: the connection came up and was closed at once",
                      "Wrong port? A server with too many logins (MaxStartups) does this too.",
                  "JD-SSH-CLOSED-EARLY")  # fmt: skip
    if isinstance(error, ValueError):
        return ProfileError("The SSH hop cannot be used", f"{at}: {prose(str(error))}",
                            "Check user, key and host in the profile.", code="JD-SSH-SETTINGS")  # fmt: skip
    raise error


def from_loss(error: Exception | None, at: str) -> RouteError:
    """Why a connection that stood has ended. None: the server closed it in good order."""
    if isinstance(error, asyncssh.ConnectionLost):
        if "keepalive" in error.reason:
            return _error("The SSH server stopped answering", f"{at}: no answer to keepalive",
                          "The link is dead; Jumpdeck connects again by itself.", "JD-SSH-DEAD")  # fmt: skip
        return _lost(f"{at}: the connection broke off")
    if isinstance(error, (asyncssh.MACError, asyncssh.CompressionError, asyncssh.ProtocolError)):
        return _error("The SSH connection is damaged", f"{at}: {prose(error.reason)}",
                      "Something between may change the bytes; it is tried again.", "JD-SSH-PROTOCOL")  # fmt: skip
    if isinstance(error, asyncssh.DisconnectError):
        return _error("The SSH server ended the connection", f"{at}, from server: {prose(error.reason)}",
                      "Jumpdeck connects again by itself.", "JD-SSH-DISCONNECTED")  # fmt: skip
    if isinstance(error, OSError):
        below = failures.from_os_error(error, at)
        return _lost(below.detail)
    if error is None:
        return _lost(f"{at}: closed by the server")
    return _error("The SSH connection failed", f"{at}: {type(error).__name__}", "It is tried again.", "JD-SSH-LOST")


def dead(at: str, seconds: float) -> RouteError:
    """The server did not answer when it was asked for a sign of life."""
    return _error("The SSH server stopped answering", f"{at}: no answer within {seconds:g} s",
                  "The link is dead; Jumpdeck connects again by itself.", "JD-SSH-DEAD")  # fmt: skip


def closed(at: str) -> RouteError:
    """We ended the connection ourselves."""
    return _lost(f"{at}: closed by Jumpdeck")


def from_channel(error: asyncssh.ChannelOpenError, target: str, server: str) -> RouteError:
    """A stream that the server did not open. `target` is `host:port` as the server was asked to reach it."""
    said = f", from server: {prose(error.reason)}" if error.reason else ""
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return _error("The SSH server forbids forwarding", f"{server} to {target}{said}",
                      "Its administrator must allow it (AllowTcpForwarding, PermitOpen) for this user.",
                      "JD-SSH-FORWARDING", Recovery.PERMANENT)  # fmt: skip
    if error.code == asyncssh.OPEN_CONNECT_FAILED:
        return _error(f"{target} cannot be reached from {server}", f"{server}{said}",
                      f"The name must resolve and the port be open as seen from {server}.",
                  "JD-SSH-TARGET")  # fmt: skip
    return _error("The SSH server opens no more streams", f"{server} to {target}{said}", "It is tried again.",
                  "JD-SSH-STREAMS")  # fmt: skip


def stream_timed_out(target: str, server: str, seconds: float) -> RouteError:
    """The server neither opened the stream nor refused it."""
    return _error(f"{target} does not answer {server}", f"no connection within {seconds:g} s",
                  f"A firewall between {server} and {target} may drop the packets.",
                  "JD-SSH-TARGET-SILENT")  # fmt: skip


def _lost(detail: str) -> RouteError:
    return _error("The SSH connection was lost", detail, "Jumpdeck connects again by itself.", "JD-SSH-LOST")


def _error(title: str, detail: str, hint: str, code: str, recovery: Recovery = Recovery.TRANSIENT) -> RouteError:
    return RouteError(title, detail, hint, code=code, recovery=recovery)


def place(host: str, port: int) -> str:
    """`host:port` for people; cleaned text."""
    return f"[{clean(host)}]:{port}" if ":" in host else f"{clean(host)}:{port}"
