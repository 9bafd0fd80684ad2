"""The lab's Arc as the published az client drives it: `requests` for the control calls, the stand-in as its child."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from app.lab.azure_names import ARC_ENTRA, ARC_SERVER_APP, ARC_TOKEN, TENANT
from tests.azure_world import LIMIT, Portal, in_thread
from tests.ports import unused_port

AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
VERSION = "2025-08-01-preview"
CORRELATION = "00000000-0000-0000-0000-0000000000f1"

Json = dict[str, Any]


def free_ports() -> tuple[int, int]:
    """Two ports of this machine that nobody listens at, and that no system gives out by itself meanwhile."""
    first = second = unused_port()
    while second == first:
        second = unused_port()
    return first, second


@dataclass
class Running:
    """One process of the stand-in."""

    portal: Portal
    process: asyncio.subprocess.Process
    ports: tuple[int, int]
    log: Path
    """What it writes to standard error."""
    client: requests.Session
    """One for all calls, as connections cost more than what they carry."""

    @property
    def control(self) -> str:
        return f"http://localhost:{self.ports[0]}"

    @property
    def api(self) -> str:
        return f"https://localhost:{self.ports[1]}"

    async def call(self, method: str, url: str, body: Json | None = None, **headers: str) -> requests.Response:
        """One call as az makes it: a body also with GET, no verification, its headers."""
        sent = {"x-ms-correlation-request-id": CORRELATION, **headers}
        return await in_thread(
            lambda: self.client.request(method, url, json=body, headers=sent, verify=False, timeout=LIMIT)
        )  # fmt: skip

    async def kid(self) -> str:
        """The public key's id, once the program listens."""
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    answer = await self.call("GET", f"{self.api}/identity/poppublickey", {})
                    return str(answer.json()["publicKey"]["kid"])
                except requests.ConnectionError:
                    assert self.process.returncode is None, await asyncio.to_thread(self.log.read_text)
                    await asyncio.sleep(0.02)  # az tries again in the same way, every 5 s

    async def sign_in(self, kid: str, **other: str) -> requests.Response:
        token = self.portal.lab.entra_tokens.mint(ARC_SERVER_APP, bound={"kid": kid}).token
        body = {"accessToken": token, "serverId": ARC_SERVER_APP, "tenantID": TENANT, "kid": kid, **other}
        return await self.call("POST", f"{self.api}/identity/at", body)

    async def register(self, arm_id: str, sent: Json) -> requests.Response:
        """Hand over what ARM answered, less what az drops."""
        names = ("relay", "hybridConnectionName", "token", "expirationTime")
        known = {name: sent["hybridConnectionConfig"][name] for name in names}
        body = {"kubeconfigs": sent["kubeconfigs"], "hybridConnectionConfig": known}
        return await self.call("POST", f"{self.control}{arm_id}/register?api-version=2020-10-01", body)

    async def open(self, arm_id: str = ARC_ENTRA) -> Json:
        """All of it, as az does; returns the kubeconfig. ARC_TOKEN is opened with the service account's token."""
        method = "Token" if arm_id == ARC_TOKEN else "AAD"
        if method == "AAD":
            assert (await self.sign_in(await self.kid())).status_code == 200
        sent = await credential(self.portal, arm_id, method)
        if method == "Token":
            await self.kid()  # it listens
            config = yaml.safe_load(base64.b64decode(sent["kubeconfigs"][0]["value"]))
            config["users"][0]["user"]["token"] = self.portal.lab.account_token
            sent["kubeconfigs"][0]["value"] = base64.b64encode(yaml.safe_dump(config).encode()).decode()
        return kubeconfig(await self.register(arm_id, sent))


def kubeconfig(answer: requests.Response) -> Json:
    """The kubeconfig that register returned."""
    assert answer.status_code == 200, answer.text
    found: Json = yaml.safe_load(base64.b64decode(answer.json()["kubeconfigs"][0]["value"]))
    return found


async def credential(portal: Portal, arm_id: str = ARC_ENTRA, method: str = "AAD") -> Json:
    """What ARM hands out."""
    body = {"authenticationMethod": method, "clientProxy": True}
    url = f"{portal.lab.azure.arm.url}{arm_id}/listClusterUserCredential?api-version={VERSION}"
    answer = await portal.arm("POST", url, body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def write(folder: Path, config: Json) -> None:
    """A run's folder with its config.yml."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(yaml.safe_dump(config))


@asynccontextmanager
async def stand_in(
    portal: Portal, folder: Path, *, token_mode: bool = False, debug: bool = False, **environment: str
) -> AsyncIterator[Running]:
    """The program, started with a config.yml of its own in `folder`, and ended."""
    ports = free_ports()
    identity = {"tenantID": TENANT} if token_mode else {"tenantID": TENANT, "clientID": AZURE_CLI}
    cloud = {
        "resourceManagerEndpoint": portal.lab.azure.arm.url,
        "serviceBusEndpointSuffix": portal.lab.azure.arc.relay.suffix,
        "activeDirectoryEndpoint": portal.lab.azure.entra.url,
    }
    config = {"server": {"httpPort": ports[0], "httpsPort": ports[1]}, "identity": identity, "cloud": "LAB"}
    write(folder, {**config, "cloudConfig": cloud})
    words = ["-c", str(folder / "config.yml"), *(["-d"] if debug else [])]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(portal.lab.azure.arc.program), *words, stdin=asyncio.subprocess.DEVNULL, stderr=log, stdout=log,
            env={**os.environ, "SSL_CERT_FILE": portal.ca, **environment}, start_new_session=True,
        )  # fmt: skip
    try:
        with requests.Session() as client:
            client.trust_env = False
            yield Running(portal, process, ports, folder / "log", client)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.wait_for(process.wait(), LIMIT)
