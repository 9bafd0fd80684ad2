"""The stand-in for the vendor's Arc proxy, driven call by call as the published az client does, and used by kubectl."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import signal
import ssl
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
import urllib3
import yaml

from app.lab.azure_names import ARC_ENTRA, ARC_TOKEN, TENANT, UPN
from app.lab.practice import Lab
from app.lab.relay import POLICY_VIOLATED
from tests.arc_world import Running, credential, kubeconfig, stand_in
from tests.azure_world import LIMIT, Portal, in_thread
from tests.kubectl import Kubectl
from tests.peers import require
from tests.web_proxy import web_proxy


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with Lab.open(estate="none") as lab:
        lab.cluster.add_pod({"metadata": {"name": "web", "namespace": "default"}})
        yield Portal(lab)


@pytest.fixture(autouse=True)
def as_az() -> Any:
    """az verifies no certificate of these calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        yield


@pytest.fixture
async def proxy(portal: Portal, tmp_path: Path) -> AsyncIterator[Running]:
    async with stand_in(portal, tmp_path / "run", debug=True) as running:
        yield running


def api(config: dict[str, Any], path: str, **headers: str) -> Any:
    """A GET at the Kubernetes API as a client with this kubeconfig sends it: its CA, no web proxy."""
    cluster = config["clusters"][0]["cluster"]
    ca = base64.b64decode(cluster["certificate-authority-data"]).decode()

    async def get() -> tuple[int, Any]:
        tls = ssl.create_default_context(cadata=ca)
        async with (
            aiohttp.ClientSession() as session,
            session.get(cluster["server"] + path, ssl=tls, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    return asyncio.wait_for(get(), LIMIT)


async def test_the_order_of_az_opens_a_cluster(proxy: Running) -> None:
    kid = await proxy.kid()
    assert len(kid) == 43 and kid == await proxy.kid()
    answer = await proxy.sign_in(kid, tenantID=TENANT.upper())
    assert answer.status_code == 200
    config = kubeconfig(await proxy.register(ARC_ENTRA, await credential(proxy.portal)))
    prefix = hashlib.sha256(ARC_ENTRA.lower().encode()).hexdigest()
    assert config["clusters"][0]["cluster"]["server"] == f"https://127.0.0.1:{proxy.ports[1]}/{prefix}"
    assert [len(config[kind]) for kind in ("clusters", "users", "contexts")] == [1, 1, 1]
    status, pods = await api(config, "/api/v1/pods", Authorization="Bearer of-nobody")
    assert (status, [pod["metadata"]["name"] for pod in pods["items"]]) == (200, ["web"])


async def test_requests_wait_for_register_and_sign_in_and_streams_end_with_the_relays_token(proxy: Running) -> None:
    kid = await proxy.kid()
    prefix = hashlib.sha256(ARC_ENTRA.lower().encode()).hexdigest()
    before = await proxy.call("GET", f"{proxy.api}/{prefix}/version")
    assert before.status_code == 503 and before.json()["kind"] == "Status"
    arc = proxy.portal.lab.azure.arc
    sent = await credential(proxy.portal)
    config = kubeconfig(await proxy.register(ARC_ENTRA, sent))
    assert (await api(config, "/version"))[0] == 401
    await proxy.sign_in(kid)
    cluster = config["clusters"][0]["cluster"]
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    url = f"{cluster['server']}/api/v1/pods?watch=true"
    async with asyncio.timeout(LIMIT), aiohttp.ClientSession() as session, session.get(url, ssl=tls) as watch:
        assert b'"web"' in await watch.content.readline()
        for tunnel in list(arc.relay._tunnels):
            arc.relay._end(tunnel, POLICY_VIOLATED)  # as when its time has come
        with pytest.raises(aiohttp.ClientPayloadError):
            await watch.content.read()  # until the relay drops it
    assert arc.relay.closed == [POLICY_VIOLATED]


async def test_nothing_goes_on_after_the_registered_time_until_it_registers_again(proxy: Running) -> None:
    config = await proxy.open()
    arc = proxy.portal.lab.azure.arc
    arc.relay.clock = lambda: time.time() - 600  # so that it is not the relay that refuses
    arc.relay_life, accepted = 1, 0
    while accepted != 200:  # on a busy machine it may be over before it came
        accepted = (await proxy.register(ARC_ENTRA, await credential(proxy.portal))).status_code
    async with asyncio.timeout(LIMIT):
        while (late := await api(config, "/version"))[0] == 200:
            pass
    assert late[0] == 503 and "expired" in late[1]["message"]
    arc.relay_life = 600
    kubeconfig(await proxy.register(ARC_ENTRA, await credential(proxy.portal)))
    assert (await api(config, "/version"))[0] == 200  # the same kubeconfig, after a second register


async def test_the_identity_is_checked_against_key_server_and_tenant(proxy: Running) -> None:
    kid = await proxy.kid()
    expired = await proxy.sign_in("another")
    assert (expired.status_code, "public key expired" in expired.text) == (500, True)
    for wrong in ({"serverId": "x"}, {"tenantID": "x"}, {"accessToken": "a.b.c"}):
        assert (await proxy.sign_in(kid, **wrong)).status_code == 400
    unbound = proxy.portal.token(scope="6256c85f-0aad-4d50-b960-e6e9b21efe35/.default")
    assert "cnf" in (await proxy.sign_in(kid, accessToken=unbound)).text
    assert (await proxy.call("POST", f"{proxy.api}/identity/at")).status_code == 400
    assert (await proxy.call("POST", f"{proxy.api}/identity/rt", {"refreshToken": "x"})).status_code == 404


async def test_register_refuses_what_is_not_good(proxy: Running) -> None:
    await proxy.kid()
    sent = await credential(proxy.portal)
    wrong_version = f"{proxy.control}{ARC_ENTRA}/register?api-version=2021-10-01"
    assert (await proxy.call("POST", wrong_version, sent)).status_code == 400
    assert (await proxy.call("POST", f"{proxy.control}/subscriptions/x/register", sent)).status_code == 404
    late = {**sent, "hybridConnectionConfig": {**sent["hybridConnectionConfig"], "expirationTime": 1}}
    assert (await proxy.register(ARC_ENTRA, late)).status_code == 400
    empty = {**sent, "kubeconfigs": [{"name": "Kubeconfig", "value": base64.b64encode(b"{}").decode()}]}
    assert (await proxy.register(ARC_ENTRA, empty)).status_code == 400


async def run_kubectl(running: Running, config: dict[str, Any], folder: Path, **environment: str) -> Kubectl:
    path = folder / "kubeconfig"
    await asyncio.to_thread(path.write_text, yaml.safe_dump(config))
    return Kubectl(running.portal.lab, require("kubectl"), folder, KUBECONFIG=str(path), **environment)


@pytest.mark.parametrize("arm_id", [ARC_ENTRA, ARC_TOKEN])
async def test_kubectl_goes_through_it(portal: Portal, tmp_path: Path, arm_id: str) -> None:
    async with stand_in(portal, tmp_path / "run", token_mode=arm_id == ARC_TOKEN) as running:
        kubectl = await run_kubectl(running, await running.open(arm_id), tmp_path)
        assert (await kubectl.run("get", "pods")).text.split()[5:7] == ["web", "1/1"]
        user = UPN if arm_id == ARC_ENTRA else "system:serviceaccount:default:jumpdeck-user"
        assert user in (await kubectl.run("auth", "whoami")).text
        assert (await kubectl.run("exec", "web", "--", "echo", "over", "websocket")).text == "over websocket\n"
        kubectl.environment["KUBECTL_REMOTE_COMMAND_WEBSOCKETS"] = "false"
        assert (await kubectl.run("exec", "-i", "web", "--", "cat", stdin=b"over spdy")).text == "over spdy"
        async with kubectl.started("logs", "-f", "web") as following, asyncio.timeout(LIMIT):
            assert following.stdout is not None
            for line in ("first", "second"):
                portal.lab.cluster.write_log("default", "web", "app", line.encode() + b"\n")
                assert await following.stdout.readline() == f"{line}\n".encode()


async def test_a_refused_upgrade_leaves_the_connection_usable(proxy: Running) -> None:
    config = await proxy.open()
    cluster = config["clusters"][0]["cluster"]
    ask = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}

    def both() -> list[int]:
        with requests.Session() as session:
            url = f"{cluster['server']}/api/v1/namespaces/default/pods"
            first = session.post(f"{url}/none/exec?command=x", headers=ask, verify=False, timeout=LIMIT)
            return [first.status_code, session.get(url, verify=False, timeout=LIMIT).status_code]

    assert await in_thread(both) == [404, 200]


async def test_a_web_proxy_of_the_environment_carries_the_relay_only(portal: Portal, tmp_path: Path) -> None:
    async with web_proxy() as (port, seen):
        through = f"http://127.0.0.1:{port}"
        async with stand_in(portal, tmp_path / "run", HTTPS_PROXY=through, NO_PROXY="localhost,127.0.0.1") as running:
            assert (await api(await running.open(), "/version"))[0] == 200
        assert seen and all(b"lab-relay.servicebus.localhost" in request for request in seen)


async def test_what_the_relay_refuses_is_said(proxy: Running) -> None:
    config = await proxy.open()
    await proxy.portal.lab.fault("arc-offline")
    status, found = await api(config, "/version")
    assert status == 502 and "404" in found["message"]
    await proxy.portal.lab.fault("cut", "relay")
    assert (await api(config, "/version"))[0] == 502
    text = await asyncio.to_thread(proxy.log.read_text)
    assert "SharedAccessSignature" in text  # as careless as it can be: whoever shows these lines has to clean them


# failures on request


async def test_it_ends_at_once_or_later_with_the_code_that_was_asked_for(portal: Portal, tmp_path: Path) -> None:
    portal.lab.azure.arc.exit_code = 9
    async with stand_in(portal, tmp_path / "later") as running:
        await running.kid()
        await portal.lab.fault("arc-dies")
        with suppress(requests.ConnectionError):  # it may be gone before it has answered
            await running.call("GET", f"{running.api}/identity/poppublickey", {})
        assert await asyncio.wait_for(running.process.wait(), LIMIT) == 9
    await portal.lab.fault("arc-exits")
    async with stand_in(portal, tmp_path / "once") as running:
        assert await asyncio.wait_for(running.process.wait(), LIMIT) == 9


async def test_it_starts_late_or_never_and_the_port_goes_to_another(portal: Portal, tmp_path: Path) -> None:
    portal.lab.azure.arc.slow_start = 0.5
    await portal.lab.fault("arc-slow-start")
    async with stand_in(portal, tmp_path / "slow") as running:
        await running.kid()
        assert "ProxyStartsLate" in await asyncio.to_thread(running.log.read_text)
    await portal.lab.fault("arc-slow-start", on=False)
    await portal.lab.fault("arc-port-stolen")
    async with stand_in(portal, tmp_path / "stolen") as running:
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    await in_thread(lambda: requests.get(running.control, timeout=LIMIT))
                    break
                except requests.ConnectionError:
                    await asyncio.sleep(0.02)
        with pytest.raises(requests.Timeout):
            await in_thread(lambda: requests.get(running.api, verify=False, timeout=0.3))
    await portal.lab.fault("arc-port-stolen", on=False)
    await portal.lab.fault("arc-never-starts")
    async with stand_in(portal, tmp_path / "never") as running:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(running.kid(), 0.7)
        assert running.process.returncode is None


async def test_a_taken_port_ends_it(portal: Portal, proxy: Running, tmp_path: Path) -> None:
    await proxy.kid()
    folder = await asyncio.to_thread(lambda: Path(tmp_path / "run"))
    second = await asyncio.create_subprocess_exec(
        str(portal.lab.azure.arc.program), "-c", str(folder / "config.yml"),
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await asyncio.wait_for(second.communicate(), LIMIT)
    assert second.returncode == 1 and b"level=fatal" in said and b"in use" in said


async def test_the_public_key_expires_once_or_always(portal: Portal, proxy: Running) -> None:
    await portal.lab.fault("arc-key-expired-once")
    kid = await proxy.kid()
    assert "public key expired" in (await proxy.sign_in(kid)).text
    fresh = await proxy.kid()
    assert fresh != kid and (await proxy.sign_in(fresh)).status_code == 200
    await portal.lab.fault("arc-key-expired")
    for _ in range(2):
        assert (await proxy.sign_in(await proxy.kid())).status_code == 500


async def test_register_fails_in_every_way(portal: Portal, proxy: Running) -> None:
    await proxy.kid()
    sent = await credential(portal)
    for fault, status, text in (
        ("arc-register-403", 403, "Forbidden"), ("arc-register-500", 500, "InternalError"),
        ("arc-register-garbage", 200, "kubeconfigs"), ("arc-register-empty", 200, '{"kubeconfigs": []}'),
    ):  # fmt: skip
        await portal.lab.fault(fault)
        answer = await proxy.register(ARC_ENTRA, sent)
        assert (answer.status_code, text in answer.text) == (status, True)
        if fault == "arc-register-garbage":
            with pytest.raises(ValueError, match="Unterminated"):
                json.loads(answer.text)
        await portal.lab.fault(fault, on=False)
    assert (await proxy.register(ARC_ENTRA, sent)).status_code == 200


async def test_it_ends_when_asked_to_unless_it_is_deaf(portal: Portal, tmp_path: Path) -> None:
    async with stand_in(portal, tmp_path / "run") as running:
        await running.kid()
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), LIMIT) == 0
    await portal.lab.fault("arc-ignores-sigterm")
    async with stand_in(portal, tmp_path / "deaf") as running:
        await running.kid()
        running.process.send_signal(signal.SIGTERM)
        assert await running.kid()
        assert running.process.returncode is None
