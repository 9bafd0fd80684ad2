"""Dialers against real sockets: direct, through a web proxy, and the network to be on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from aiohttp import web

from app.cluster.api import ApiClient
from app.dialer import ProtocolFactory
from app.errors import JumpdeckError, ProfileError, RouteError, SignInError
from app.profiles.hops import proxy_url
from app.profiles.model import (
    BastionHop,
    HopSpec,
    KubeconfigCluster,
    NetworkHop,
    Profile,
    ProxyHop,
    SignIn,
    SshHop,
)
from app.routes import direct
from app.routes.build import build_hops
from app.routes.direct import DirectDialer
from app.routes.names import _by_turns, resolve
from app.routes.network import NetworkDial, source_address
from app.routes.proxy import ProxyDial, ProxyDialer, parse_proxy
from tests.tls_servers import NO_SUCH_HOST, access_to, api_server, echo, raw_server, unused_port
from tests.web_proxy import web_proxy

LIMIT = 20.0
"""Seconds after which a wait in these tests counts as failed."""


class Collect(asyncio.Protocol):
    """Keeps what comes; `first` is there when something has."""

    def __init__(self) -> None:
        self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.first.done():
            self.first.set_result(data)


async def test_a_direct_stream_carries_bytes_and_is_kept_alive() -> None:
    async with raw_server(echo) as port:
        transport = await DirectDialer().dial("127.0.0.1", port, Collect)
        protocol = transport.get_protocol()
        assert isinstance(protocol, Collect)
        transport.write(b"hello")
        assert await asyncio.wait_for(protocol.first, LIMIT) == b"hello"
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == direct.KEEPALIVE[0]
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == direct.USER_TIMEOUT
        transport.abort()


async def test_an_address_that_refuses_does_not_keep_the_next_from_serving() -> None:
    async with raw_server(echo) as port:
        refused = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", unused_port()))
        good = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        sock = await direct._race([refused, good], "x:1")
        assert sock.getpeername() == ("127.0.0.1", port)
        sock.close()
        with pytest.raises(RouteError) as caught:
            await direct._race([refused, refused], "x:1")
        assert caught.value.code == "JD-TCP-REFUSED"


async def test_an_address_that_is_silent_is_overtaken() -> None:
    with socket.socket() as full:  # a backlog that is full answers nothing more
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(full.getsockname())
            waiting.append(sock)
        silent = (socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())
        async with raw_server(echo) as port:
            good = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
            sock = await asyncio.wait_for(direct._race([silent, good], "x:1"), LIMIT)
            sock.close()
        for sock in waiting:
            sock.close()


async def test_failures_of_dialling() -> None:
    with pytest.raises(RouteError) as caught:
        await DirectDialer().dial("127.0.0.1", unused_port(), asyncio.Protocol)
    assert (caught.value.code, caught.value.layer, int(caught.value.exit_code)) == ("JD-TCP-REFUSED", "tcp", 5)
    for name in (NO_SUCH_HOST, "\u0000.test"):
        with pytest.raises(RouteError) as caught:
            await DirectDialer().dial(name, 443, asyncio.Protocol)
        assert caught.value.layer == "dns"
        assert "`address`" not in caught.value.hint, "names of hops have none"


async def test_names_resolve_and_families_take_turns() -> None:
    assert (await resolve("127.0.0.1", 80))[0][4] == ("127.0.0.1", 80)
    four = [(socket.AF_INET, 0, 0, "", (str(n), 1)) for n in range(3)]
    six = [(socket.AF_INET6, 0, 0, "", (str(n), 1)) for n in range(2)]
    assert _by_turns([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]


async def test_direct_is_never_lost() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(DirectDialer().wait_lost(), 0.01)


async def hello(request: web.Request) -> web.Response:
    return web.json_response({"gitVersion": "v1"})


async def test_requests_go_through_a_proxy_with_tls_end_to_end() -> None:
    async with api_server(hello) as port, web_proxy() as (proxy, seen):
        api = ApiClient(access_to(port, host="api.test", proxy=f"http://jo:p%40ss@127.0.0.1:{proxy}"), DirectDialer())
        assert (await api.probe()).version == "v1"
        await api.aclose()
        assert seen[0].startswith(f"CONNECT api.test:{port} HTTP/1.1\r\n".encode())
        assert b"Proxy-Authorization: Basic am86cEBzcw==" in seen[0]


REFUSALS = [
    (b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n", "JD-PROXY-NTLM"),
    (b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "JD-PROXY-SIGN-IN"),
    (b"HTTP/1.1 403 Forbidden\r\n\r\n", "JD-PROXY-REFUSED"),
    (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "JD-PROXY-NO-WAY"),
    (b"SSH-2.0-OpenSSH\r\n\r\n", "JD-PROXY-NOT-HTTP"),
    (b"HTTP/1.1 \xb200 OK\r\n\r\n", "JD-PROXY-NOT-HTTP"),
    (b"x" * (20 << 10), "JD-PROXY-NOT-HTTP"),
]


@pytest.mark.parametrize(("answer", "code"), REFUSALS)
async def test_a_proxy_that_refuses(answer: bytes, code: str) -> None:
    async with web_proxy(answer) as (port, _):
        with pytest.raises(RouteError) as caught:
            await ProxyDialer(DirectDialer(), f"http://127.0.0.1:{port}").dial("api.test", 443, asyncio.Protocol)
    assert (caught.value.code, caught.value.layer, int(caught.value.exit_code)) == (code, "proxy", 5)
    if code == "JD-PROXY-NTLM":
        assert "NTLM" in caught.value.detail
        assert "Negotiate" in caught.value.detail


class Vanishing(asyncio.Transport):
    """A connection whose other side answers what is written, and is gone before anybody has read it."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol, self.aborted = protocol, False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.protocol.data_received(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0")
        self.protocol.connection_lost(None)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        raise AssertionError("it has ended")

    def pause_reading(self) -> None:
        """Nothing more comes."""

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


class VanishingDialer(DirectDialer):
    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        protocol = factory()
        assert isinstance(protocol, asyncio.Protocol)
        transport = Vanishing(protocol)
        protocol.connection_made(transport)
        return transport


async def test_a_stream_that_ends_with_the_proxys_answer_is_handed_to_nobody() -> None:
    with pytest.raises(RouteError) as caught:
        await ProxyDialer(VanishingDialer(), "http://proxy.test").dial("api.test", 443, asyncio.Protocol)
    assert (caught.value.code, caught.value.transient) == ("JD-PROXY-CLOSED", True)


async def test_a_proxy_that_is_not_there() -> None:
    with pytest.raises(RouteError) as caught:
        await ProxyDialer(DirectDialer(), f"127.0.0.1:{unused_port()}").dial("api.test", 443, asyncio.Protocol)
    assert (caught.value.code, caught.value.layer) == ("JD-PROXY-UNREACHABLE", "proxy")


@pytest.mark.parametrize("url", ["socks5://p:1", "https://p:1", "http://", "http://p:x", "http://[::1", "http://a:secret@"])
def test_a_proxy_that_is_none_of_ours(url: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_proxy(url)
    assert caught.value.code == "JD-PROXY-URL" and "secret" not in str(caught.value)
    with pytest.raises(ProfileError):
        ProxyDial(url)


@pytest.mark.parametrize("url", ["http://web/proxy.pac", "http://wpad/wpad.dat", "http://wpad", "http://web/P.PAC"])
def test_a_script_that_chooses_a_proxy_is_called_so(url: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_proxy(url)
    assert caught.value.code == "JD-PROXY-PAC"
    assert "PAC" in (proxy_url(url) or "")


async def enter(hop: NetworkDial) -> None:
    async with hop.open(DirectDialer()):
        return


def vpn(host: str = "127.0.0.1", **ways: str) -> NetworkDial:
    """A VPN hop on a computer with these ways: the beginning of an address, and the local address that leads there."""

    def way(address: str) -> str | None:
        return next((ways[start] for start in ways if address.startswith(start.strip("_"))), None)

    return NetworkDial(NetworkHop("Contoso VPN", "vpn", "127.0.0.0/8"), target=(host, 443), way=way)


async def test_a_network_to_be_on_tells_its_three_troubles_apart() -> None:
    assert vpn().label == "Contoso VPN (VPN)"
    await enter(vpn(_127="127.0.0.1"))
    with pytest.raises(JumpdeckError) as caught:
        await enter(vpn())
    assert (caught.value.code, caught.value.layer, int(caught.value.exit_code)) == ("JD-NETWORK-DOWN", "hop", 5)
    with pytest.raises(JumpdeckError) as caught:
        await enter(vpn(NO_SUCH_HOST, _127="10.8.0.2"))
    assert (caught.value.code, caught.value.layer) == ("JD-NETWORK-NO-NAME", "dns")
    assert "Contoso VPN is up" in caught.value.detail
    with pytest.raises(JumpdeckError) as caught:
        await enter(vpn("93.184.215.14", _127="192.168.1.5", _192="192.168.1.5"))
    assert caught.value.code == "JD-NETWORK-PUBLIC"
    assert "93.184.215.14 (a public address), expected 127.0.0.0/8" in caught.value.detail
    assert "may not be up" in caught.value.detail


def test_the_way_of_packets_is_asked_of_the_system() -> None:
    assert source_address("127.0.0.1") == "127.0.0.1"


async def test_a_network_without_a_range_only_stands_in_the_line() -> None:
    await enter(NetworkDial(NetworkHop("ER", "expressroute"), target=(NO_SUCH_HOST, 443)))


def test_hops_of_a_profile() -> None:
    def hops(*via: HopSpec) -> tuple[str, ...]:
        return tuple(hop.label for hop in build_hops(Profile("p", KubeconfigCluster(Path("x")), via=via)))

    via = (NetworkHop("ER", "expressroute"), ProxyHop("http://web:3128"), SshHop(("one", "jo@two:2222")))
    assert hops(*via) == ("ER (ExpressRoute)", "web (proxy)", "one or two (SSH)")
    assert hops(BastionHop("/subscriptions/x/bastionHosts/hub")) == ("hub (Bastion)",)


def test_a_way_in_that_the_sign_in_cannot_open_is_said_and_never_left_out() -> None:
    hop = SshHop(("jump",), entra_certificate=True)
    with pytest.raises(SignInError) as caught:
        build_hops(Profile("p", KubeconfigCluster(Path("x")), via=(hop,), sign_in=SignIn("azure-cli")))
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-SIGN-IN-CERTIFICATE", 4)
    assert not caught.value.transient and "entra-certificate" in caught.value.detail and caught.value.hint


async def test_what_a_server_says_first_is_not_lost_when_it_comes_with_the_proxys_answer() -> None:
    async with web_proxy(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x\r\n") as (port, _):
        transport = await ProxyDialer(DirectDialer(), f"http://127.0.0.1:{port}").dial("jump", 22, Collect)
        protocol = transport.get_protocol()
        assert isinstance(protocol, Collect)
        assert await asyncio.wait_for(protocol.first, LIMIT) == b"SSH-2.0-x\r\n"
        transport.abort()
