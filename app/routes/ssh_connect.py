"""One SSH connection to one server, from the first byte to the login: explicit options, checked host key, own clock.

asyncssh never decides about a host key here: it is given empty known hosts, and asks `Handshake` about every key.
Nothing is accepted inside the handshake; an unknown key ends it, the person is asked, and a new one begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.constants import MSG_USERAUTH_FAILURE
from asyncssh.packet import SSHPacket

from app import audit
from app.dialer import Connection, Dialer
from app.errors import JumpdeckError
from app.program_log import keep_from_terminal
from app.records import Record, replace
from app.routes import ssh_failures
from app.routes.direct import DirectDialer
from app.routes.host_keys import Finding, HostKeyCheck, Server, Verdict
from app.routes.known_hosts import host_name
from app.routes.ssh_auth import Login, prepare_login
from app.routes.ssh_carrier import Carrier
from app.routes.ssh_dialer import SshDialer
from app.routes.ssh_entra import entra_certificate
from app.text import MAX_PROSE, clean, clean_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.routes.ssh import Endpoint, SshDial

keep_from_terminal("asyncssh")
asyncssh.set_debug_level(1)  # level 3 would print packets, passwords among them

KEEPALIVE = (10, 2)
"""Idle seconds before the server is asked for a sign of life, and unanswered questions: a dead link is known after
interval * (count + 1) = 30 s."""
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr",
           "aes192-ctr", "aes128-ctr")  # fmt: skip
"""AES-GCM first: half the processor time of chacha20 where the processor has AES, which is everywhere."""
STILL_ASKING = 1.0
"""Seconds between looks, once the login limit is over, at whether a person is still being asked."""


class _Below:
    """What asyncssh takes for a tunnel: dials through the hop before."""

    def __init__(self, through: Dialer) -> None:
        self._through = through
        self.carrier: Carrier | None = None

    async def create_connection(
        self, factory: Callable[[], asyncssh.SSHClientConnection], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncssh.SSHClientConnection]:
        carrier = self.carrier = Carrier(factory)
        transport = await self._through.dial(host, port, lambda: carrier)
        assert carrier.conn is not None, "a dialer returns after connection_made"
        return transport, carrier.conn


class Clock:
    """Limits connecting, then the login; the time in which a person is asked does not count."""

    def __init__(self, timeout: asyncio.Timeout, login: Login, limit: float) -> None:
        self._timeout, self._login, self._limit = timeout, login, limit
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.logging_in = False

    def begin_login(self) -> None:
        """The key is agreed and trusted: the connect limit ends here."""
        self.logging_in = True
        self._timeout.reschedule(None)
        self._began = self._loop.time()
        self._timer = self._loop.call_later(self._limit, self._look)

    def _look(self) -> None:
        left = self._began + self._limit + self._login.prompt_seconds - self._loop.time()
        if self._login.asking or left > 0:
            self._timer = self._loop.call_later(max(left, STILL_ASKING if self._login.asking else 0.0), self._look)
        else:
            self._timeout.reschedule(self._loop.time())

    def stop(self) -> None:
        """Connected, or failed."""
        if self._timer is not None:
            self._timer.cancel()


class Handshake(asyncssh.SSHClient):
    """What asyncssh asks and tells while it connects; lives as long as the connection does."""

    def __init__(self, check: HostKeyCheck, login: Login) -> None:
        self._check, self._login = check, login
        self.clock: Clock | None = None
        self.finding: Finding | None = None
        self.banner = ""
        self.offered: tuple[str, ...] = ()
        """Methods that the server named last, as it wrote them."""
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        _watch_offers(conn, self._offers)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)

    def _offers(self, methods: tuple[str, ...]) -> None:
        self.offered = methods

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._known(self._check.judge(key))

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._known(self._check.judge_authority(key))

    def _known(self, finding: Finding) -> bool:
        self.finding = finding
        return finding.verdict is Verdict.KNOWN

    def begin_auth(self, username: str) -> None:
        if self.clock is not None:
            self.clock.begin_login()

    def auth_banner_received(self, msg: str, lang: str) -> None:
        if len(self.banner) < MAX_PROSE:
            self.banner = (self.banner + clean_block(msg[:MAX_PROSE]))[:MAX_PROSE]
        self._login.auth_banner_received(msg, lang)

    async def public_key_auth_requested(self) -> list[asyncssh.SSHKeyPair] | None:
        return await self._login.public_key_auth_requested()

    async def password_auth_requested(self) -> str | None:
        return await self._login.password_auth_requested()

    async def kbdint_auth_requested(self) -> str | None:
        return await self._login.kbdint_auth_requested()

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        return await self._login.kbdint_challenge_received(name, instructions, lang, prompts)


def _watch_offers(conn: asyncssh.SSHClientConnection, tell: Callable[[tuple[str, ...]], None]) -> None:
    """Hear which methods the server names (RFC 4252 §5.1); the library keeps only those that it may use itself.

    Private: the table of packet handlers. docs/decisions/0010 names it, and a test fails when it changes.
    """
    table = conn._packet_handlers
    usual = table[MSG_USERAUTH_FAILURE]

    def heard(self: Any, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        names = SSHPacket(packet.get_remaining_payload()).get_namelist()
        tell(tuple(clean(name[:64]) for name in names[:16]))
        return usual(self, pkttype, pktid, packet)

    conn._packet_handlers = {**table, MSG_USERAUTH_FAILURE: heard}


class _Attempt(Record):
    """All that the connections to one server need."""

    hop: SshDial
    server: Endpoint
    through: Dialer
    login: Login
    limit: float


class _KeyRefused(Exception):
    """asyncssh ended a handshake because of the host key; `finding` is what we said of it, None if not asked."""

    def __init__(self, finding: Finding | None, cause: asyncssh.HostKeyNotVerifiable) -> None:
        super().__init__(cause.reason)
        self.finding, self.cause = finding, cause


async def connect(hop: SshDial, server: Endpoint, through: Dialer, limit: float) -> SshDialer:
    """Log in at one server; asks about an unknown host key. `limit`: seconds to an agreed key. Raises JumpdeckError."""
    before = _through(through) if isinstance(through, Connection) else ""
    certified = None
    if hop.spec.entra_certificate:
        certified = await entra_certificate(hop.context, hop.profile)
        server = hop.named_by(server, certified[1])
    login = await prepare_login(
        hop.spec, server.user, server.host, server.port, hop.context, before=before,
        alias=hop.alias(server, through), certified=certified,
    )  # fmt: skip
    try:
        return await _until_known(_Attempt(hop, server, through, login, limit))
    finally:
        login.close()


async def _until_known(attempt: _Attempt) -> SshDialer:
    """Connect; once more without certificates when one was no good, and once more when the person trusts the key."""
    hop, server = attempt.hop, attempt.server
    alias = hop.alias(server, attempt.through)
    wanted = Server(
        profile=hop.profile, host=server.host, port=server.port, alias=alias, policy=hop.policy,
        pin=hop.spec.host_key, vm=hop.spec.vm or (alias[3:] if alias.startswith("vm:") else None),
    )  # fmt: skip
    check = await asyncio.to_thread(hop.context.host_keys.check_for, wanted)
    asked = False
    while True:
        try:
            return await _log_in(attempt, check)
        except _KeyRefused as refused:
            if (plain := check.after_refusal(refused.finding)) is not None:
                check = plain
                continue
            if refused.finding is None:
                raise ssh_failures.bad_certificate(refused.cause, server.at) from refused.cause
            await _decide(attempt, refused.finding, may_ask=not asked)
            asked = True
            check = await asyncio.to_thread(hop.context.host_keys.check_for, wanted)


async def _decide(attempt: _Attempt, finding: Finding, *, may_ask: bool) -> None:
    """Have the person decide about an unknown key, and keep it. Raises RouteError when it is not trusted."""
    hop, context = attempt.hop, attempt.hop.context
    unknown = finding.verdict is Verdict.UNKNOWN and not finding.authority
    asker = context.asker if unknown and may_ask and hop.policy == "ask" else None
    if asker is not None and await asker.ask_host_key(finding.question()):
        await asyncio.to_thread(context.host_keys.trust, finding)
        return
    await asyncio.to_thread(context.host_keys.refuse, finding)
    raise finding.error()


async def _log_in(attempt: _Attempt, check: HostKeyCheck) -> SshDialer:
    """One connection. Raises _KeyRefused and JumpdeckError."""
    hop, server, login = attempt.hop, attempt.server, attempt.login
    handshake = Handshake(check, login)
    below = _Below(attempt.through)
    try:
        conn = await _within_limits(attempt, handshake, below, check)
    except JumpdeckError as error:
        raise login.broken_off(error) from error.__cause__
    except asyncssh.HostKeyNotVerifiable as exc:
        finding = handshake.finding
        if finding is not None:
            finding = replace(finding, server=replace(finding.server, address=_address(attempt, below)))
        raise _KeyRefused(finding, exc) from exc
    except Exception as exc:
        if ssh_failures.is_denial(exc):
            raise login.denied(exc, handshake.offered) from exc
        failed = ssh_failures.from_connect(exc, server.at, version=_version(below), first=_first(below))
        raise login.broken_off(failed) from exc
    login.succeeded()
    _record_login(attempt, handshake, below)
    assert below.carrier is not None
    note = ", ".join(part for part in (hop.position(server), login.method, hop.access_note, *login.notes) if part)
    return SshDialer(conn, below.carrier, handshake.lost, server, hop.limits, note=note, banner=handshake.banner)


def _record_login(attempt: _Attempt, handshake: Handshake, below: _Below) -> None:
    """Who went in where, how, and which key the server showed (S-29)."""
    server, finding = attempt.server, handshake.finding
    audit.record_soon(
        "ssh.login", profile=attempt.hop.profile, host=host_name(server.host, server.port),
        address=_address(attempt, below), name=finding.server.name if finding is not None else "",
        host_key=finding.fingerprint if finding is not None else "", user=clean(server.user),
        method=attempt.login.method,
    )  # fmt: skip


async def _within_limits(
    attempt: _Attempt, handshake: Handshake, below: _Below, check: HostKeyCheck
) -> asyncssh.SSHClientConnection:
    """Connect and log in. Raises what asyncssh raises, and RouteError when a limit is over."""
    hop, server = attempt.hop, attempt.server
    clock: Clock | None = None
    try:
        async with asyncio.timeout(attempt.limit) as timeout:
            clock = handshake.clock = Clock(timeout, attempt.login, hop.limits.login)
            try:
                return await asyncssh.connect(
                    server.host, server.port, tunnel=below, client_factory=lambda: handshake,
                    **{**_options(check), **attempt.login.options(), "username": server.user},
                )  # fmt: skip
            finally:
                clock.stop()
    except TimeoutError as exc:
        if clock is not None and clock.logging_in:
            raise ssh_failures.slow_login(server.at, hop.limits.login) from exc
        raise ssh_failures.silent(server.at, attempt.limit, _first(below)) from exc


def _options(check: HostKeyCheck) -> dict[str, Any]:
    """Everything that asyncssh would otherwise take from a configuration file, the environment or its defaults."""
    algorithms: dict[str, Any] = {"server_host_key_algs": list(check.algorithms)} if check.algorithms else {}
    return {
        **algorithms, "config": None, "known_hosts": ([], [], check.revoked()),
        "host_key_alias": check.server.alias or None, "x509_trusted_certs": None, "x509_trusted_cert_paths": [],
        "encryption_algs": list(CIPHERS), "kex_algs": "-*-sha1",
        "mac_algs": "-hmac-sha1*", "compression_algs": None, "keepalive_interval": KEEPALIVE[0],
        "keepalive_count_max": KEEPALIVE[1], "connect_timeout": None, "login_timeout": 0,
        "utf8_decode_errors": "replace", "proxy_command": None, "tcp_keepalive": True, "x11_forwarding": False,
        "command": None, "env": None, "send_env": None, "request_pty": False,
    }  # fmt: skip


def _through(hop: Connection) -> str:
    """`through jump01`, for people."""
    return f"through {hop.facts().label.partition(' (')[0]}"


def _address(attempt: _Attempt, below: _Below) -> str:
    """Where the connection really goes, for people."""
    if isinstance(attempt.through, Connection):
        return _through(attempt.through)
    if isinstance(attempt.through, DirectDialer) and below.carrier is not None and below.carrier.peer:
        return below.carrier.peer
    return "through a proxy"


def _version(below: _Below) -> str:
    conn = below.carrier.conn if below.carrier is not None else None
    return str(conn.get_extra_info("server_version") or "") if conn is not None else ""


def _first(below: _Below) -> bytes:
    return below.carrier.first if below.carrier is not None else b""
