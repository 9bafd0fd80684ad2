"""The API client against real TLS servers on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from app.cluster.access import Access, resolve_access
from app.cluster.api import ApiClient
from app.errors import ExitCode, JumpdeckError, Recovery, RefusedError
from app.profiles.model import KubeconfigCluster, Profile
from app.routes.direct import DirectDialer
from tests.tls_servers import access_to, api_server, kubeconfig_text, server_context, server_pair


@asynccontextmanager
async def client(access: Access) -> AsyncIterator[ApiClient]:
    api = ApiClient(access, DirectDialer())
    try:
        yield api
    finally:
        await api.aclose()


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {"path": request.path_qs, "method": request.method, "gitVersion": "v1.33.1",
         "host": request.headers["Host"], "authorization": request.headers.get("Authorization", "")}
    )  # fmt: skip


async def test_a_request_goes_through_our_own_connector_to_the_named_server() -> None:
    """The canary of the private seam: aiohttp calls `_create_connection`, and the answer comes back."""
    async with api_server(echo) as port, client(access_to(port, base_path="/k8s/c1")) as api:
        answer = json.loads(await api.get("/api/v1/pods", {"limit": 500, "labelSelector": "a=b,c in (d)"}))
        assert answer["path"].startswith("/k8s/c1/api/v1/pods?limit=500&labelSelector=a%3Db,c+in+(d)"), answer["path"]
        assert answer["host"] == f"api.test:{port}"
        probe = await api.probe()
        assert probe.version == "v1.33.1"
        assert probe.seconds > 0
        assert probe.date_skew is not None and abs(probe.date_skew) < 60


async def test_a_kubeconfig_with_ca_and_token_reads_from_its_server(tmp_path: Path) -> None:
    path = tmp_path / "config"
    async with api_server(echo) as port:
        path.write_text(kubeconfig_text(port, context="namespace: shop"))
        profile = Profile("here", KubeconfigCluster(path))
        access = await resolve_access(profile, asker=None)
        assert (access.namespace, access.cluster_label, access.identity_label) == ("shop", "c1", "u1")
        assert "sesame" not in repr(access)
        async with client(access) as api:
            assert json.loads(await api.get("/api"))["authorization"] == "Bearer sesame"
