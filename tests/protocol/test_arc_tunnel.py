"""Our side of the Arc program: what it is told, what is believed of its answers, and to whom streams are opened."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml
from aiohttp import web

from app.arc.control import ANSWER_LIMIT, Control, KeyExpired
from app.arc.credential import RelayCredential
from app.arc.native import with_token
from app.arc.preflight import ArcFacts
from app.azure.context import Azure
from app.cluster.access import Access
from app.cluster.access_arc import arc_access
from app.errors import JumpdeckError, Recovery, RouteError
from app.identity.clouds import PUBLIC
from app.profiles.model import ArcCluster, Profile
from app.records import replace
from app.routes.arc import ArcConnection
from app.secrets.secret import Secret
from tests.arm_server import GROUP
from tests.fakes import FakeIdentity
from tests.tls_servers import api_server, authority

ARC = f"{GROUP}/providers/Microsoft.Kubernetes/connectedClusters/Shop-01"
PREFIX = hashlib.sha256(ARC.lower().encode()).hexdigest()
OFFER = RelayCredential(b"kind: Config\n", "relay", "hybrid", Secret("SharedAccessSignature x"), 4_000_000_000.9)
FOREIGN = RouteError("Another program listens", code="JD-ARC-PORT")


class Program:
    """A program's two ports; `says` is its next answer, `told` what it was asked."""

    def __init__(self) -> None:
        self.says = web.json_response({})
        self.told: list[tuple[str, str, Any]] = []
        self.looked: list[int] = []
        self.foreign = False
        self.control: Control

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["x-ms-correlation-request-id"] == "c-1"
        self.told.append((request.method, request.path_qs, await request.json()))
        return self.says

    async def check(self, port: int) -> None:
        self.looked.append(port)
        if self.foreign:
            raise FOREIGN


@pytest.fixture
async def program() -> AsyncIterator[Program]:
    made = Program()
    async with api_server(made.answer, plain=True) as http, api_server(made.answer) as https:
        made.control = Control(http, https, made.check, "c-1", limit=20.0)
        try:
            yield made
        finally:
            await made.control.aclose()


async def test_it_is_told_what_az_tells_it_and_nothing_more(program: Program) -> None:
    program.says = web.json_response({"kubeconfigs": [{"value": base64.b64encode(b"mine").decode()}]})
    assert await program.control.register(ARC, OFFER) == b"mine"
    program.says = web.json_response({})
    await program.control.hand_identity(Secret("bound"), "key", "tenant")
    assert program.told == [
        ("POST", f"{ARC}/register?api-version=2020-10-01", {
            "kubeconfigs": [{"name": "Kubeconfig", "value": base64.b64encode(OFFER.kubeconfig).decode()}],
            "hybridConnectionConfig": {"relay": "relay", "hybridConnectionName": "hybrid",
                                       "token": "SharedAccessSignature x", "expirationTime": 4_000_000_000},
        }),
        ("POST", "/identity/at", {"accessToken": "bound", "serverId": "6256c85f-0aad-4d50-b960-e6e9b21efe35",
                                  "tenantID": "tenant", "kid": "key"}),
    ]  # fmt: skip


async def test_nothing_is_sent_to_a_port_that_is_anothers(program: Program) -> None:
    program.foreign = True
    for call in (program.control.public_key, lambda: program.control.register(ARC, OFFER),
                 lambda: program.control.hand_identity(Secret("bound"), "key", "t")):  # fmt: skip
        with pytest.raises(RouteError) as caught:
            await call()
        assert caught.value is FOREIGN
    assert program.told == [] and len(program.looked) == 3


@pytest.mark.parametrize(("says", "code", "recovery", "said"), [
    (lambda: web.json_response({"publicKey": {"kid": "x" * 201}}), "JD-ARC-ANSWER", Recovery.PERMANENT, "no key"),
    (lambda: web.json_response({"publicKey": {"kid": "a\nb"}}), "JD-ARC-ANSWER", Recovery.PERMANENT, "no key"),
    (lambda: web.json_response([]), "JD-ARC-ANSWER", Recovery.PERMANENT, "no JSON object"),
    (lambda: web.Response(body=b"[" * 100_000), "JD-ARC-ANSWER", Recovery.PERMANENT, "no JSON object"),
    (lambda: web.Response(body=b" " * (ANSWER_LIMIT + 1)), "JD-ARC-UNREACHABLE", Recovery.TRANSIENT, "too long"),
    (lambda: web.Response(status=302, headers={"Location": "/x"}), "JD-ARC-REFUSED", Recovery.PERMANENT, "HTTP 302"),
    (lambda: web.Response(status=503, text="busy"), "JD-ARC-REFUSED", Recovery.TRANSIENT, "it says: busy"),
    (lambda: web.Response(status=400, text="token=eyJhbGciOiJub25lIn0.e30."), "JD-ARC-REFUSED", Recovery.PERMANENT,
     "token=***"),
    (lambda: web.Response(status=500, text="Public key expired"), "JD-ARC-KEY", Recovery.TRANSIENT, "expired"),
])  # fmt: skip
async def test_answers_are_judged(program: Program, says: Any, code: str, recovery: Recovery, said: str) -> None:
    program.says = says()
    with pytest.raises(RouteError) as caught:
        await program.control.public_key()
    assert (caught.value.code, caught.value.recovery) == (code, recovery) and said in str(caught.value)
    assert isinstance(caught.value, KeyExpired) is (code == "JD-ARC-KEY") and "eyJ" not in str(caught.value)
    assert len(program.told) == 1


def test_the_service_accounts_token_goes_into_the_kubeconfig_as_az_does_it() -> None:
    made = yaml.safe_load(with_token(kubeconfig().encode(), Secret("sesame")))
    before = yaml.safe_load(kubeconfig())
    assert made["users"][0]["user"] == {"token": "sesame"} and made["clusters"] == before["clusters"]
    with pytest.raises(RouteError) as caught:
        with_token(b"users: []\n", Secret("sesame"))
    assert caught.value.code == "JD-ARC-KUBECONFIG" and "sesame" not in str(caught.value)


# -- access and streams -----------------------------------------------------------------------------------------------


def kubeconfig(*, server: str = f"https://127.0.0.1:4711/{PREFIX}", ca: bytes | None = None) -> str:
    """What the program answers to being registered."""
    data = base64.b64encode(authority().pem if ca is None else ca).decode()
    cluster = {"server": server, **({"certificate-authority-data": data} if data else {})}
    return json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    })  # fmt: skip


class FakeTunnel:
    """A tunnel to a port, as a session knows it."""

    label, pid, correlation_id, notes = "arcProxy", 1, "c-1", ()
    relay_ends = token_ends = None

    def __init__(self, port: int, config: str) -> None:
        self.port, self.kubeconfig = port, config.encode()
        self.lost: asyncio.Future[JumpdeckError] = asyncio.get_running_loop().create_future()
        self.foreign = False

    async def check_listener(self) -> None:
        if self.foreign:
            raise FOREIGN

    async def wait_lost(self) -> JumpdeckError:
        return await asyncio.shield(self.lost)

    async def verify(self, limit: float) -> None: ...

    async def aclose(self) -> None: ...


@asynccontextmanager
async def connected(port: int = 1, config: str | None = None) -> AsyncIterator[tuple[ArcConnection, FakeTunnel]]:
    tunnel = FakeTunnel(port, config or kubeconfig())
    connection = ArcConnection("shop (Azure Arc)", "Entra", tunnel, ArcFacts(ARC, "shop", ""))
    try:
        yield connection, tunnel
    finally:
        await connection.aclose()


async def access() -> Access:
    azure = Azure(FakeIdentity(), PUBLIC, None)  # type: ignore[arg-type]  # ARM is not asked here
    return await arc_access(Profile("edge", ArcCluster(ARC)), ArcCluster(ARC), azure, asker=None, secrets=None)


async def test_streams_are_opened_to_our_program_only_and_to_none_that_has_ended() -> None:
    async def nothing(_: web.Request) -> web.StreamResponse:
        return web.Response()

    async with api_server(nothing, plain=True) as port, connected(port) as (connection, tunnel):
        (await connection.dial("elsewhere", 443, asyncio.Protocol)).abort()
        tunnel.foreign = True
        with pytest.raises(RouteError) as caught:
            await connection.dial("elsewhere", 443, asyncio.Protocol)
        assert caught.value is FOREIGN
        tunnel.foreign = False
        tunnel.lost.set_result(ended := RouteError("It has ended", code="JD-ARC-ENDED"))
        await connection._waiting
        with pytest.raises(RouteError) as caught:
            await connection.dial("elsewhere", 443, asyncio.Protocol)
        assert caught.value is ended


@pytest.mark.parametrize(("config", "said"), [
    (kubeconfig(ca=b""), "no CA"),
    (kubeconfig(server=f"https://localhost:4711/{PREFIX}"), "its server is https://localhost"),
    (kubeconfig(server=f"https://127.0.0.1:4711/{PREFIX[:-1]}"), "its server is"),
], ids=["no CA", "another host", "another cluster"])  # fmt: skip
async def test_a_way_that_is_not_this_clusters_or_names_no_ca_is_not_taken(config: str, said: str) -> None:
    found = await access()
    assert found.complete is not None
    async with connected(config=config) as (connection, _):
        with pytest.raises(RouteError) as caught:
            found.complete(connection)
    assert caught.value.code == "JD-ARC-KUBECONFIG" and said in caught.value.detail


async def test_another_program_brings_another_ca_and_nothing_else_changes() -> None:
    found = await access()
    assert found.complete is not None
    with pytest.raises(RouteError) as caught:
        found.context_factory()
    assert caught.value.code == "JD-ROUTE-NOT-OPEN"
    versions = []
    for ca in (authority().pem, authority().pem, authority().pem * 2):
        async with connected(config=kubeconfig(ca=ca)) as (connection, _):
            whole = found.complete(connection)
        versions.append(whole.context_version())
        assert whole.ca == ca and replace(whole, ca=None, warnings=()) == replace(found, complete=whole.complete)
    assert versions[0] == versions[1] < versions[2] and found.context_factory() is not None


class FakeWay:
    """An open way that counts how often a new credential of the relay is wanted, and has none."""

    token_ends = None
    warnings: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.kubeconfig = kubeconfig().encode()
        self.renewed = 0

    async def renew(self) -> None:
        self.renewed += 1
        raise RouteError("Azure cannot be reached", code="JD-ARM-UNREACHABLE")


async def test_when_nobody_answers_the_relays_credential_is_had_anew_as_far_as_that_goes() -> None:
    found, way = await access(), FakeWay()
    assert found.complete is not None and found.recheck is not None
    await found.recheck()  # before the way is open
    found.complete(way)  # type: ignore[arg-type]  # nobody dials here
    await found.recheck()
    assert way.renewed == 1
