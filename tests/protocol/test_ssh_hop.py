"""The SSH hop against OpenSSH's server, and against servers that are none."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
from pathlib import Path

import asyncssh
import pytest

from app import audit
from app.errors import JumpdeckError, Recovery, RouteError, SignInError
from app.routes.direct import DirectDialer
from app.routes.proxy import ProxyDial
from app.routes.ssh import SshLimits, endpoint
from app.rows import StepState
from tests.audit_lines import records
from tests.fakes import FakeAsker
from tests.hops import WAIT, Ground, keep
from tests.sshd import USER, fingerprint, make_key, public_key, sshd
from tests.tls_servers import echo, raw_server, unused_port
from tests.web_proxy import web_proxy


def listening_sockets() -> list[str]:
    """Local addresses on which this process listens, by the inodes of its file descriptors."""
    ours = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            ours.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in ours:
                found.append(fields[1])
    return found


async def failure(ground: Ground, *ports: int, limits: SshLimits | None = None, policy: str = "ask") -> JumpdeckError:
    """The error with which a hop does not open."""
    with pytest.raises(JumpdeckError) as caught:
        async with ground.opened(ground.dial(*ports, limits=limits, policy=policy)):
            pass
    return caught.value


async def test_three_servers_in_a_chain_with_a_key_type_each_and_no_listening_socket(tmp_path: Path) -> None:
    async with (
        sshd(tmp_path / "a", kind="ed25519") as one, sshd(tmp_path / "b", kind="ecdsa") as two,
        sshd(tmp_path / "c", kind="rsa") as three, raw_server(echo) as port,
    ):  # fmt: skip
        ground = Ground(tmp_path, one, two, three)
        keys = [make_key(tmp_path / kind, kind) for kind in ("ed25519", "ecdsa", "rsa")]
        for server, key in zip((one, two, three), keys, strict=True):
            server.authorize(key)
        before = listening_sockets()
        hops = [ground.hop(server.port, key=key) for server, key in zip((one, two, three), keys, strict=True)]
        async with ground.route(*hops) as route:
            transport, stream = await keep(route.dialer, port)
            transport.write(b"through three")
            assert await stream.until(13) == b"through three"
            await route.verify(WAIT)
            states = route.hop_states()
            assert listening_sockets() == before
            transport.close()
        assert [state.state for state in states] == [StepState.DONE] * 3
        assert [state.note.partition(", ")[2].split()[1] for state in states] == ["ED25519", "ECDSA", "RSA"]
        assert states[-1].received >= 13 <= states[-1].sent < states[0].sent
        assert all(state.round_trip is not None and state.round_trip > 0 for state in states)
        for server in one, two, three:
            await server.logged_in(1)
    logins = recorded_logins()
    assert [login["host"] for login in logins] == [f"[127.0.0.1]:{server.port}" for server in (one, two, three)]
    assert [login["host_key"] for login in logins] == [server.fingerprint for server in (one, two, three)]
    assert [login["method"].split()[-1] for login in logins] == [fingerprint(key) for key in keys]
    assert {login["user"] for login in logins} == {USER}
    assert logins[1]["address"] == "through 127.0.0.1"


def recorded_logins() -> list[dict[str, str]]:
    """The facts of every login that the audit record has."""
    assert audit.flush(WAIT)
    return [record["facts"] for record in records() if record["event"] == "ssh.login"]


async def test_an_unknown_key_is_asked_about_and_trusted_once(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server:
        asker = FakeAsker(host_keys=True)
        ground = Ground(tmp_path, asker=asker)
        server.authorize(ground.key)
        for _ in range(2):
            async with ground.opened(ground.dial(server.port)) as dialer:
                assert dialer.facts().state is StepState.DONE
        (question,) = asker.asked
        assert question.fingerprint == server.fingerprint  # type: ignore[attr-defined]
        assert question.address == f"127.0.0.1:{server.port}"  # type: ignore[attr-defined]
        await server.logged_in(2)


@pytest.mark.parametrize("policy", ["ask", "strict"])
async def test_an_unknown_key_is_not_accepted_without_a_person(tmp_path: Path, policy: str) -> None:
    async with sshd(tmp_path / "a") as server:
        ground = Ground(tmp_path, asker=FakeAsker(host_keys=True) if policy == "strict" else None)
        server.authorize(ground.key)
        error = await failure(ground, server.port, policy=policy)
        assert (error.code, error.layer, int(error.exit_code)) == ("JD-SSH-HOST-KEY-UNKNOWN", "host-key", 5)
        assert error.recovery is Recovery.NEEDS_PERSON
        assert server.logins == 0


async def test_the_persons_ssh_config_changes_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text(
        f'UserKnownHostsFile none\nProxyCommand touch {trace}\nMatch exec "touch {trace}"\n  Port 1\n'
    )
    async with sshd(tmp_path / "a") as server:
        ground = Ground(tmp_path)
        server.authorize(ground.key)
        assert (await failure(ground, server.port)).code == "JD-SSH-HOST-KEY-UNKNOWN"
        assert trace.name not in os.listdir(tmp_path)


def test_no_code_turns_host_keys_off() -> None:
    """`known_hosts=None` is asyncssh's word for "connect to anything" (S-01)."""
    for path in Path("app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named: list[tuple[object, ast.expr]] = []
            if isinstance(node, ast.Call):
                named = [(word.arg, word.value) for word in node.keywords]
            elif isinstance(node, ast.Dict):
                named = [(key.value, value) for key, value in zip(node.keys, node.values, strict=True)
                         if isinstance(key, ast.Constant)]  # fmt: skip
            for name, value in named:
                off = isinstance(value, ast.Constant) and not value.value
                assert not (name == "known_hosts" and off), f"{path}:{value.lineno}"


def test_another_proxy_is_another_way_and_its_password_is_no_key() -> None:
    one, two = ProxyDial("http://jo:pw@web:3128"), ProxyDial("http://other:3128")
    assert one.key != two.key
    assert one.key == ProxyDial("http://jo:pw@web:3128").key
    assert "pw" not in repr(one.key)


async def test_a_person_who_says_no_leaves_the_server_unknown(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server:
        ground = Ground(tmp_path, asker=FakeAsker(host_keys=False))
        assert (await failure(ground, server.port)).code == "JD-SSH-HOST-KEY-UNKNOWN"
        assert not ground.host_keys.entries()


async def test_a_changed_key_is_never_asked_about(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server:
        asker = FakeAsker(host_keys=True)
        ground = Ground(tmp_path, server, asker=asker)
        other = public_key(make_key(tmp_path / "other"))
        ground.known_hosts.write_text(f"[127.0.0.1]:{server.port} {other}")
        assert (await failure(ground, server.port)).code == "JD-SSH-HOST-KEY-CHANGED"
        assert asker.asked == []


async def test_a_refused_login_is_one_try_and_names_what_was_offered(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a", PasswordAuthentication="no", KbdInteractiveAuthentication="no") as server:
        ground = Ground(tmp_path)
        ground.known_hosts.write_text(server.known_hosts_line)
        error = await failure(ground, server.port)
        assert isinstance(error, SignInError)
        assert (error.code, int(error.exit_code), error.recovery) == ("JD-SSH-DENIED", 4, Recovery.PERMANENT)
        assert "publickey" in error.detail
        await server.logged("Connection closed by|Disconnected from")
        assert (server.refusals, server.logins) == (1, 0)


async def test_a_server_that_ends_the_login_after_too_many_tries_has_refused_it(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a", MaxAuthTries="1") as server:
        ground = Ground(tmp_path)
        ground.known_hosts.write_text(server.known_hosts_line)
        error = await failure(ground, server.port)
        assert (error.code, error.recovery) == ("JD-SSH-DENIED", Recovery.PERMANENT)


async def test_a_question_about_an_inner_server_says_through_which_it_is_reached(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as outer, sshd(tmp_path / "b") as inner:
        asker = FakeAsker(host_keys=True)
        ground = Ground(tmp_path, outer, asker=asker)
        inner.authorize(ground.key)
        async with ground.route(ground.hop(outer.port), ground.hop(inner.port)):
            (question,) = asker.asked
            assert question.address == "through 127.0.0.1"  # type: ignore[attr-defined]


async def test_forwarding_that_the_server_forbids_is_for_good(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a", AllowTcpForwarding="no") as server, raw_server(echo) as port:
        ground = Ground(tmp_path, server)
        async with ground.opened(ground.dial(server.port)) as dialer:
            with pytest.raises(RouteError) as caught:
                await keep(dialer, port)
            assert (caught.value.code, caught.value.recovery) == ("JD-SSH-FORWARDING", Recovery.PERMANENT)


async def test_a_server_that_forbids_commands_still_carries_streams(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a", MaxSessions="0") as server, raw_server(echo) as port:
        ground = Ground(tmp_path, server)
        async with ground.opened(ground.dial(server.port)) as dialer:
            transport, stream = await keep(dialer, port)
            transport.write(b"x")
            assert await stream.until(1) == b"x"
            await dialer.verify(WAIT)
            assert dialer.facts().state is StepState.DONE


async def test_a_refused_target_is_named_as_the_server_sees_it(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server, raw_server(echo) as port:
        ground = Ground(tmp_path, server)
        async with ground.opened(ground.dial(server.port)) as dialer:
            nobody = unused_port()
            with pytest.raises(RouteError) as caught:
                await keep(dialer, nobody)
            assert caught.value.title == f"127.0.0.1:{nobody} cannot be reached from 127.0.0.1"
            assert (caught.value.code, caught.value.transient) == ("JD-SSH-TARGET", True)
            transport, stream = await keep(dialer, port)
            transport.write(b"alive")
            assert await stream.until(5) == b"alive"


WRONG = [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "JD-SSH-NOT-SSH", Recovery.PERMANENT),
    (b"220 mail.test ESMTP\x1b]52;c;eA==\x07\r\n", "JD-SSH-NOT-SSH", Recovery.PERMANENT),
    (b"SSH-1.5-old\r\n", "JD-SSH-VERSION", Recovery.PERMANENT),
    (b"Exceeded MaxStartups\r\n", "JD-SSH-BUSY", Recovery.TRANSIENT),
    (b"", "JD-SSH-CLOSED-EARLY", Recovery.TRANSIENT),
    (b"SSH-2.0-broken\r\n" + b"\xff" * 64, "JD-SSH-PROTOCOL", Recovery.TRANSIENT),
]


@pytest.mark.parametrize(("said", "code", "recovery"), WRONG)
async def test_what_is_not_an_ssh_server_is_called_so(
    tmp_path: Path, said: bytes, code: str, recovery: Recovery
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        if said:
            await reader.readuntil(b"\n")

    async with raw_server(talk) as port:
        error = await failure(Ground(tmp_path), port)
        assert (error.code, error.recovery) == (code, recovery)
        assert "\x1b" not in error.detail


@pytest.mark.parametrize(
    ("said", "code", "limit"),
    [(b"", "JD-SSH-SILENT", 0.3), (b"220 mail\r\n", "JD-SSH-NOT-SSH", 2.5)],  # long enough for its words to come
)
async def test_a_server_that_says_nothing_more_has_a_limit(
    tmp_path: Path, said: bytes, code: str, limit: float
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()

    async with raw_server(talk) as port:
        assert (await failure(Ground(tmp_path), port, limits=SshLimits(connect=limit))).code == code


class SlowServer(asyncssh.SSHServer):
    """Never finishes a login."""

    async def begin_auth(self, username: str) -> bool:  # type: ignore[override]
        await asyncio.get_running_loop().create_future()
        return True


async def test_a_login_that_is_never_done_has_a_limit_of_its_own(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen("127.0.0.1", 0, server_factory=SlowServer, server_host_keys=[key]) as server:
        ground = Ground(tmp_path)
        ground.known_hosts.write_text(f"[127.0.0.1]:{server.get_port()} {key.export_public_key().decode()}")
        error = await failure(ground, server.get_port(), limits=SshLimits(login=0.3))
        assert (error.code, error.transient) == ("JD-SSH-LOGIN-SLOW", True)


async def test_a_killed_session_is_known_at_once(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server, raw_server(echo) as port:
        ground = Ground(tmp_path, server)
        async with ground.route(ground.hop(server.port)) as route:
            _, stream = await keep(route.dialer, port)
            server.signal_sessions(signal.SIGKILL)
            async with asyncio.timeout(WAIT):
                lost = await route.wait_lost()
                assert isinstance(await stream.ended, OSError)
            assert (lost.code, lost.transient) == ("JD-SSH-LOST", True)
            assert route.hop_states()[0].state is StepState.FAILED
            with pytest.raises(RouteError):
                await keep(route.dialer, port)


async def test_a_frozen_server_is_dropped_when_it_is_asked(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as one, sshd(tmp_path / "b") as two, raw_server(echo) as port:
        ground = Ground(tmp_path, one, two)
        async with ground.route(ground.hop(one.port), ground.hop(two.port)) as route:
            _, stream = await keep(route.dialer, port)
            one.signal_sessions(signal.SIGSTOP)
            with pytest.raises(RouteError) as caught:
                await route.verify(0.3)
            assert (caught.value.code, caught.value.transient) == ("JD-SSH-DEAD", True)
            async with asyncio.timeout(WAIT):
                assert (await route.wait_lost()).code == "JD-SSH-DEAD"
                await stream.ended
            assert [state.state for state in route.hop_states()] == [StepState.FAILED] * 2
        one.signal_sessions(signal.SIGCONT)


async def test_a_server_that_says_why_it_ends_the_connection_is_quoted(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    there: asyncio.Future[asyncssh.SSHServerConnection] = asyncio.get_running_loop().create_future()
    async with asyncssh.listen(
        "127.0.0.1", 0, server_factory=NoAuth, server_host_keys=[key], acceptor=there.set_result
    ) as server:
        ground = Ground(tmp_path)
        ground.known_hosts.write_text(f"[127.0.0.1]:{server.get_port()} {key.export_public_key().decode()}")
        async with ground.opened(ground.dial(server.get_port())) as dialer:
            (await there).disconnect(asyncssh.DISC_SERVICE_NOT_AVAILABLE, "maintenance \x1b[2J at noon")
            error = await dialer.wait_lost()
            assert error.code == "JD-SSH-DISCONNECTED"
            assert "from server: maintenance ␛[2J at noon" in error.detail


class NoAuth(asyncssh.SSHServer):
    """Lets everybody in, and shows a banner before."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn

    def begin_auth(self, username: str) -> bool:
        self._conn.send_auth_banner("Authorised use only\x1b]52;c;eA==\x07\n" + "x" * 100_000)
        return False


async def test_a_banner_is_harmless_bounded_and_kept(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen("127.0.0.1", 0, server_factory=NoAuth, server_host_keys=[key]) as server:
        asker = FakeAsker(host_keys=True)
        ground = Ground(tmp_path, asker=asker)
        async with ground.opened(ground.dial(server.get_port())) as dialer:
            banner = dialer.facts().banner
        assert banner.startswith("Authorised use only␛]52")
        assert len(banner) <= 2048
        ((_, told),) = asker.told
        assert "\x1b" not in told
        assert len(told) <= 2048


async def test_the_next_server_serves_when_the_first_is_down_and_when_it_dies(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as one, sshd(tmp_path / "b") as two, raw_server(echo) as port:
        ground = Ground(tmp_path, one, two)
        hop = ground.hop(one.port, two.port)
        async with ground.route(hop) as route:
            assert "server 1 of 2" in route.hop_states()[0].note
            await one.stop()
            await route.wait_lost()
        async with ground.route(hop) as route:
            assert "server 2 of 2" in route.hop_states()[0].note
            transport, stream = await keep(route.dialer, port)
            transport.write(b"second")
            assert await stream.until(6) == b"second"
        await one.start()
        async with ground.route(hop) as route:  # it begins after the one that was lost last
            assert "server 2 of 2" in route.hop_states()[0].note
        await two.stop()
        await one.stop()
        error = await failure(ground, one.port, two.port)
        assert error.code == "JD-SSH-NO-SERVER"
        assert str(one.port) in error.detail
        assert str(two.port) in error.detail


async def test_a_key_in_doubt_or_a_refused_login_never_passes_to_the_next_server(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as stranger, sshd(tmp_path / "b") as known:
        ground = Ground(tmp_path, known)
        assert (await failure(ground, stranger.port, known.port)).code == "JD-SSH-HOST-KEY-UNKNOWN"
        with ground.known_hosts.open("a") as file:
            file.write(stranger.known_hosts_line)
        assert (await failure(ground, stranger.port, known.port)).code == "JD-SSH-DENIED"
        assert known.logins == 0


async def test_the_second_servers_unknown_key_does_not_pass_as_the_firsts(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as first, sshd(tmp_path / "b", host_key=first.host_key) as second:
        ground = Ground(tmp_path, first)
        second.authorize(ground.key)
        await first.stop()
        assert (await failure(ground, first.port, second.port)).code == "JD-SSH-HOST-KEY-UNKNOWN"


async def test_ssh_goes_through_a_web_proxy(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a") as server, web_proxy() as (proxy, seen), raw_server(echo) as port:
        ground = Ground(tmp_path, server)
        through = ProxyDial(f"http://127.0.0.1:{proxy}")
        async with through.open(DirectDialer()) as way, ground.opened(ground.dial(server.port), way) as dialer:
            transport, stream = await keep(dialer, port)
            transport.write(b"x" * 300_000)
            assert await stream.until(300_000) == b"x" * 300_000
        assert seen[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n".encode())


def test_servers_are_read_as_the_profile_wrote_them() -> None:
    assert (endpoint("jo@jump:2222").user, endpoint("jo@jump:2222").port) == ("jo", 2222)
    assert endpoint("[fe80::1]:23", "al").at == "[fe80::1]:23"
    assert (endpoint("jump").user, endpoint("jump").port) == (USER, 22)


async def test_what_of_asyncssh_is_private_is_still_there(tmp_path: Path) -> None:
    """The canary of docs/decisions/0010: each of these is used, and none is promised."""
    async with sshd(tmp_path / "a") as server:
        ground = Ground(tmp_path, server)
        async with ground.opened(ground.dial(server.port)) as dialer:
            conn = dialer._conn
            code, _ = await conn._make_global_request(b"keepalive@openssh.com")
            assert code in (81, 82)  # RFC 4254 §4: success or failure, both are an answer
            dialer._round_trip = None
            await conn._make_keepalive_request()  # what its timer calls
            assert dialer.facts().round_trip is not None
            assert asyncssh.constants.MSG_USERAUTH_FAILURE in conn._packet_handlers
            conn._keepalive_timer_callback()
            assert conn._keepalive_count == 1
