"""The lab's SSH server: one connection of a jump box, on asyncssh. Where clients can tell it behaves like OpenSSH's.

It forwards streams (direct-tcpip, RFC 4254 §7.2) to what its jump box reaches, and runs no program.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
from collections.abc import Awaitable, Callable
from typing import cast

import asyncssh
from asyncssh.constants import (
    DISC_PROTOCOL_ERROR,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_CONNECT_FAILED,
)

from app.lab.inside import InsideStream
from app.lab.jump_box import JumpBox, is_address

WINDOW = 8 * 1024 * 1024
"""Bytes that a client may send on a channel before it waits: enough for 100 MB/s over 80 ms."""

PACKET = 32 * 1024
"""Bytes of a channel packet, as OpenSSH's server takes them."""

CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr"]
"""The quick ones: the lab carries much for measurements, and ChaCha20 costs it twice the time."""

MAX_TRIES = 6
"""Failed tries of one connection before it is ended, as OpenSSH's MaxAuthTries."""

LOGIN_LIMIT = 120.0
"""Seconds to log in, as OpenSSH's LoginGraceTime."""

NO_SHELL = "This jump box of the lab only passes streams on and runs no commands; thank you for asking.\r\n"

for _name in ("asyncssh", "app.lab.ssh_server"):  # else Python prints what nobody takes on standard error
    logging.getLogger(_name).addHandler(logging.NullHandler())


async def serve(client: asyncio.Protocol, box: JumpBox, joined: asyncio.Event) -> None:
    """Serve the client behind this protocol until it goes. `joined` is set when the two are connected."""
    connection: asyncssh.SSHServerConnection | None = None
    try:
        connection = await asyncssh.connect_reverse(
            "client",
            22,
            tunnel=_Inside(client, joined),
            config=None,
            server_factory=lambda: _Server(box),
            server_host_keys=[asyncssh.import_private_key(box.shown_key.private)],
            encryption_algs=CIPHERS,
            compression_algs=None,
            login_timeout=LOGIN_LIMIT,
            gss_host=None,
            x11_forwarding=False,
            agent_forwarding=False,
            allow_scp=False,
            line_editor=False,
        )
        await connection.wait_closed()
    except (asyncssh.Error, OSError):
        return  # a client that went away or was not let in; `_Server` has counted it
    finally:
        if connection is not None:
            connection.abort()


class _Inside:
    """Stands for the tunnel in which asyncssh reaches a client: joins the two protocols without a socket."""

    def __init__(self, client: asyncio.Protocol, joined: asyncio.Event) -> None:
        self._client = client
        self._joined = joined

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[None, asyncio.Protocol]:
        server = factory()
        InsideStream.join(self._client, server)
        self._joined.set()
        return None, server


class _Server(asyncssh.SSHServer):
    """Who gets in, and what a connection may open."""

    def __init__(self, box: JumpBox) -> None:
        self._box = box
        self._connection: asyncssh.SSHServerConnection
        self._tried = self._entered = False
        self._failures = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        if self._tried and not self._entered:
            self._box.refusals += 1

    async def begin_auth(self, username: str) -> bool:
        if "slow-login" in self._box.faults:
            await asyncio.sleep(self._box.slow_login)
        if self._box.banner:
            self._connection.send_auth_banner(self._box.banner)
        return True

    def auth_completed(self) -> None:
        self._entered = True
        self._box.logins += 1

    def public_key_auth_supported(self) -> bool:
        return bool(self._box.admission.public_key)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        shown = " ".join(key.export_public_key().decode().split()[:2])
        return self._judge(username, shown, self._box.admission.public_key)

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether this key's certificates count; the library looks at their principals, times and permits."""
        self._tried = True
        shown = " ".join(key.export_public_key().decode().split()[:2])
        wanted = self._box.authority()
        return bool(wanted) and "denied" not in self._box.faults and hmac.compare_digest(shown, wanted)

    def password_auth_supported(self) -> bool:
        return bool(self._box.admission.password)

    def validate_password(self, username: str, password: str) -> bool:
        return self._judge(username, password, self._box.admission.password)

    def _judge(self, username: str, shown: str, wanted: str) -> bool:
        """Also counts: a client that fails too often is sent away."""
        self._tried = True
        known = username == self._box.admission.user and hmac.compare_digest(shown.encode(), wanted.encode())
        if known and "denied" not in self._box.faults:
            return True
        self._failures += 1
        if self._failures >= MAX_TRIES:
            self._connection.disconnect(DISC_PROTOCOL_ERROR, "Too many authentication failures")
        return False

    def session_requested(self) -> asyncssh.SSHServerSession[str]:
        return _NoShell()

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> tuple[asyncssh.SSHTCPChannel[bytes], Awaitable[asyncssh.SSHTCPSession[bytes]]]:
        channel = self._connection.create_tcp_channel(window=WINDOW, max_pktsize=PACKET)
        return channel, self._open(dest_host, dest_port)

    async def _open(self, host: str, port: int) -> asyncssh.SSHTCPSession[bytes]:
        """The stream to a target. Raises ChannelOpenError with the codes and words of OpenSSH's server."""
        if "no-forwarding" in self._box.faults:
            raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")
        door = self._box.find(host, port)
        if door is None and is_address(host):
            raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")
        if door is None:
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, "Name or service not known")
        target = _Target()
        try:
            await door.connect(lambda: target)
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)  # Windows numbers it otherwise and has no words for it
            why = "Connection refused" if refused else os.strerror(error.errno or 0)
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, why) from error
        return _Forward(self._box, target)


class _Target(asyncio.Protocol):
    """The far end of a forwarded stream: what it reads goes into the channel. It waits for the channel to be open."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.channel: asyncssh.SSHTCPChannel[bytes] | None = None
        self.ended = self.lost = self._shut = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()

    def join(self, channel: asyncssh.SSHTCPChannel[bytes]) -> None:
        """Start to relay."""
        self.channel = channel
        if self.lost:
            channel.close()
        elif not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.channel is not None:
            with contextlib.suppress(OSError):  # the client has closed it, and we have not heard of it yet
                self.channel.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel.write_eof()
        return not self._shut

    def shut(self) -> None:
        """Nothing more comes from the client; the other direction goes on until it ends too, and then all closes."""
        self._shut = True
        if self.ended:
            self.transport.close()
            return
        with contextlib.suppress(OSError):
            self.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.channel is not None:
            self.channel.close()

    def pause_writing(self) -> None:
        if self.channel is not None:
            self.channel.pause_reading()

    def resume_writing(self) -> None:
        if self.channel is not None:
            self.channel.resume_reading()


class _Forward(asyncssh.SSHTCPSession[bytes]):
    """The channel of a forwarded stream: what the client sends goes to the target, its half-close too."""

    def __init__(self, box: JumpBox, target: _Target) -> None:
        self._box = box
        self._target = target

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        self._box.channels += 1
        self._target.join(chan)

    def connection_lost(self, exc: Exception | None) -> None:
        self._box.channels -= 1
        self._target.channel = None
        self._target.transport.close()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._target.transport.write(data)

    def eof_received(self) -> bool:
        self._target.shut()
        return True

    def pause_writing(self) -> None:
        if not self._target.transport.is_closing():
            self._target.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._target.transport.is_closing():
            self._target.transport.resume_reading()


class _NoShell(asyncssh.SSHServerSession[str]):
    """A session that runs nothing but `true`."""

    def __init__(self) -> None:
        self._channel: asyncssh.SSHServerChannel[str]
        self._command: str | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[str]) -> None:
        self._channel = chan

    def pty_requested(self, *_: object) -> bool:
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def session_started(self) -> None:
        if self._command == "true":
            self._channel.exit(0)
            return
        self._channel.write(NO_SHELL)
        self._channel.exit(1)
