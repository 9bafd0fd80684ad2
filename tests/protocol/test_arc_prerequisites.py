"""What cluster connect needs of the network: which hosts, per region and cloud, and what their rows say."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest
from aiohttp import web

from app.arc.child_env import proxy_of_program
from app.arc.cloud import DataPlane
from app.arc.prerequisites import (
    MAX_LISTED,
    SUFFIXES,
    Checked,
    Endpoint,
    _names,
    check_prerequisites,
    check_relay,
    fixed_endpoints,
    listed_hosts,
    relay_endpoint,
    suffixes_of,
    summary,
)
from app.azure.context import Azure
from app.identity.clouds import BUILT_IN, CHINA, PUBLIC, US_GOVERNMENT, CloudEndpoints
from app.records import replace
from tests.arm_server import ArmServer, arm_server, azure_at
from tests.tls_servers import api_server, raw_server, unused_port
from tests.web_proxy import web_proxy

LIST = "/urls/allowlist"


def hosts(cloud: CloudEndpoints, region: str = "", *, download: bool = False) -> list[str]:
    return [one.host for one in fixed_endpoints(cloud, SUFFIXES[cloud.name], region, download)]


# -- which hosts ------------------------------------------------------------------------------------------------------


def test_the_region_is_its_display_name_without_spaces() -> None:
    assert "eastus2.login.microsoft.com" in hosts(PUBLIC, "East US 2")
    assert not [host for host in hosts(PUBLIC) if "{" in host or host.endswith(".login.microsoft.com")]


def test_each_cloud_has_hosts_of_its_own() -> None:
    assert set(SUFFIXES) == set(BUILT_IN)
    assert hosts(PUBLIC)[:3] == [
        "management.azure.com", "login.microsoftonline.com", "guestnotificationservice.azure.com"
    ]  # fmt: skip
    assert hosts(US_GOVERNMENT) == [
        "management.usgovcloudapi.net", "login.microsoftonline.us", "guestnotificationservice.azure.us"
    ]  # fmt: skip
    assert "guestnotificationservice.azure.cn" in hosts(CHINA) and "sts.chinacloudapi.cn" in hosts(CHINA)
    relays = [relay_endpoint(SUFFIXES[name], "ns").at for name in ("public", "us-government", "china")]
    assert relays == [
        "ns.servicebus.windows.net:443", "ns.servicebus.usgovcloudapi.net:443", "ns.servicebus.chinacloudapi.cn:443"
    ]  # fmt: skip
    assert "mcr.microsoft.com" in hosts(PUBLIC, download=True) and "mcr.microsoft.com" not in hosts(PUBLIC)


def test_a_cloud_of_ones_own_is_as_its_arm_says() -> None:
    own = CloudEndpoints("local", "https://in.local", "https://arm.local:4443", "x")
    assert suffixes_of(own, None) == SUFFIXES["public"]
    plane = DataPlane("relay.local", "https://in.local", "https://arm.local", "https://gns.local:444/x")
    named = replace(own, suffixes=(("relay", "relay.stack.example"), ("guest-notification", "guest.stack.example")))
    for found in (suffixes_of(named, None), suffixes_of(named, plane)):
        assert (found.relay, found.notification) == ("relay.stack.example", "guest.stack.example")
    suffixes = suffixes_of(own, plane)
    assert relay_endpoint(suffixes, "ns").at == "ns.relay.local:443"
    assert [one.at for one in fixed_endpoints(own, suffixes, "", False)] == [
        "arm.local:4443", "in.local:443", "gns.local:444"
    ]  # fmt: skip


def test_listed_hosts_stand_once_and_nothing_else_is_taken_for_one() -> None:
    said = ["B.test", "a.test", "b.test", "https://a.test/", 7, "x y", "../etc", "a.test@evil", "", "-x.test"]
    assert listed_hosts(json.dumps(said).encode()) == ("b.test", "a.test")
    many = json.dumps([f"h{number}.test" for number in range(100)]).encode()
    assert len(listed_hosts(many)) == MAX_LISTED
    for bad in (b"{}", b"<html>", b""):
        with pytest.raises(ValueError):
            listed_hosts(bad)


async def test_no_name_server_is_asked_for_names_of_this_computer() -> None:
    names = _names()
    for host in ("localhost", "lab-relay.servicebus.localhost", "A.LOCALHOST."):
        found = await names.resolve(host, 443, socket.AF_UNSPEC)
        assert [one["host"] for one in found] == ["127.0.0.1", "::1"] and {one["port"] for one in found} == {443}
    await names.close()


def test_the_program_goes_out_as_programs_in_go_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost,.corp")
    assert proxy_of_program("ns.servicebus.windows.net") is None
    for host in ("localhost", "127.0.0.1", "127.0.0.2", "relay.corp"):
        assert proxy_of_program(host, "proxy:3128") is None
    assert proxy_of_program("ns.servicebus.windows.net", "proxy:3128") == "http://proxy:3128"
    monkeypatch.setenv("HTTPS_PROXY", "http://other:8080")
    assert proxy_of_program("ns.servicebus.windows.net") == "http://other:8080"


# -- what their rows say ----------------------------------------------------------------------------------------------


def local(azure: Azure, server: ArmServer, *, suffix: str = "localhost") -> Azure:
    """A cloud all of whose services are this one server."""
    here = f"https://localhost:{server.port}"
    server.on("/metadata/endpoints", {
        "resourceManager": here, "authentication": {"loginEndpoint": here},
        "suffixes": {"relayEndpointSuffix": f".{suffix}"},
        "dataplaneEndpoints": {"arcGlobalNotificationServiceEndpoint": here},
    })  # fmt: skip
    return replace(azure, endpoints=replace(azure.endpoints, authority=here))


def by_purpose(rows: tuple[Checked, ...], purpose: str) -> list[Checked]:
    return [row for row in rows if row.endpoint.purpose.startswith(purpose)]


async def test_every_host_has_a_row_and_what_fails_says_why(tmp_path: Path) -> None:
    async def garbled(reader: object, writer: object) -> None:
        writer.write(b"HTTP/1.1 400 this is no TLS\r\n\r\n")
        writer.close()

    async with arm_server() as server, raw_server(garbled) as plain, azure_at(server, tmp_path) as found:
        closed = unused_port()
        listed = [f"LOCALHOST:{server.port + 0}", f"127.0.0.1:{closed}", f"127.0.0.1:{closed}", f"127.0.0.1:{plain}"]
        server.on(LIST, web.json_response(listed))
        rows = await check_prerequisites(local(found, server), "West Europe")
        asked = next(request for request in server.seen if request.path == LIST)
        assert dict(asked.query) == {"api-version": "2020-01-01", "location": "westeurope"}
        assert "Authorization" not in asked.headers and "Cookie" not in asked.headers
    assert [row.ok for row in by_purpose(rows, "Azure Resource Manager")] == [True]
    assert by_purpose(rows, "sign-in")[0].why == "reached (HTTP 404)"
    relays = by_purpose(rows, "relay")
    assert [row.endpoint.port for row in relays] == [closed, plain], "each once, and none that is checked already"
    refused, broken = relays
    assert not refused.ok and "cannot be reached" in refused.why and "WebSockets included" in refused.hint
    assert not broken.ok and "TLS" in broken.why
    assert f"127.0.0.1:{closed} is not reached" in summary(rows)


async def test_a_service_that_lists_nothing_is_said_in_its_row(tmp_path: Path) -> None:
    async with arm_server() as server, azure_at(server, tmp_path) as found:
        azure = local(found, server)
        for reply, why in (
            (web.Response(status=400, text="unknown region"), "HTTP 400"),
            (web.Response(text="<html>portal</html>"), "of westeurope"),
        ):
            server.on(LIST, reply)
            row = by_purpose(await check_prerequisites(azure, "westeurope"), "guest notification")[0]
            assert not row.ok and why in row.why and not row.endpoint.needed
        rows = await check_prerequisites(azure, "")
        assert all(row.ok for row in rows), "without a region it is not asked for the list"
        assert summary(rows) == f"all {len(rows)} hosts reached"


async def test_a_relay_that_does_not_let_us_through_is_told_in_one_row(tmp_path: Path) -> None:
    async with arm_server() as server, azure_at(server, tmp_path) as found:
        azure = local(found, server)
        row, other = await check_relay(azure, f"127.0.0.1:{server.port}")
        assert other.ok and other.endpoint.purpose == "guest notification service"
        assert row.endpoint == Endpoint("127.0.0.1", "relay (WebSocket)", server.port, by_program=True)
        assert row.ok and summary((row,)) == f"127.0.0.1:{server.port} is reached"
    async with web_proxy(b"HTTP/1.1 403 Blocked by policy\r\n\r\n") as (port, seen), arm_server() as server:
        async with azure_at(server, tmp_path) as found:
            azure = local(found, server, suffix="relay.test")
            row, _ = await check_relay(azure, "ns", proxy=f"127.0.0.1:{port}")
        assert (row.code, row.proxy) == ("JD-ARM-PROXY", f"127.0.0.1:{port}")
        assert seen[0].startswith(b"CONNECT ns.relay.test:443")
        assert not row.ok and "proxy" in row.why and "403" in row.why and "Blocked by policy" in row.why
        assert "*.relay.test" in row.hint and summary((row,)).startswith("relay (WebSocket) ns.relay.test:443 is not")


async def test_what_inspects_tls_is_told_from_what_is_not_there(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    async with arm_server() as server, api_server(answer) as other, azure_at(server, tmp_path) as found:
        azure = local(found, server)
        server.on(LIST, web.json_response([f"localhost:{other}"]))
        assert by_purpose(await check_prerequisites(azure, "weu"), "relay")[0].ok
        untrusting = replace(azure, endpoints=replace(azure.endpoints, ca_file=None))
        rows = await check_prerequisites(untrusting, "weu")
    assert not [row for row in rows if row.ok]
    assert all("certificate" in row.why and "ca-file" in row.hint for row in rows)


async def test_a_host_that_says_nothing_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, _: object) -> None:
        await reader.read()

    async with arm_server() as server, raw_server(silent) as port, azure_at(server, tmp_path) as found:
        azure = local(found, server)
        rows = await check_prerequisites(azure, "", relay=f"127.0.0.1:{port}", limit=0.2)
    row = by_purpose(rows, "relay")[0]
    assert not row.ok and row.why == "not checked within 0.2 s"
