"""A lab whose Azure is asked by plain clients: `requests` in threads, with tokens that azure-identity fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import requests

from app.lab.azure_names import AKS_SERVER_APP, CLUSTER, TENANT
from app.lab.entra_tokens import audience_of
from app.lab.log_files import FILE_LIMIT
from app.lab.practice import Lab

LIMIT = 30.0
"""Seconds after which a wait in these tests counts as failed."""
CLI_SCOPE = "https://management.core.windows.net//.default"
AKS_SCOPE = f"{AKS_SERVER_APP}/.default"
VERSION = "2026-08-01"

Json = dict[str, Any]
T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Call what blocks, while the lab is served."""
    return await asyncio.wait_for(asyncio.to_thread(call), LIMIT)


@dataclass
class Portal:
    """A lab, and a plain client of its Azure."""

    lab: Lab

    @property
    def ca(self) -> str:
        return str(self.lab.ca_pem)

    def token(self, scope: str = CLI_SCOPE, **how: Any) -> str:
        return self.lab.entra_tokens.mint(audience_of(scope), **how).token

    async def arm(
        self, method: str, path: str, body: Json | None = None, *, token: str | None = None, **params: Any
    ) -> requests.Response:
        """One request to ARM; `token` None is a good one, empty is none at all."""
        url = path if path.startswith("https:") else self.lab.azure.arm.url + path
        bearer = self.token() if token is None else token
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        query = {} if "api-version=" in url else {"api-version": VERSION, **params}
        return await in_thread(
            lambda: requests.request(
                method, url, params=query, json=body, headers=headers, verify=self.ca, timeout=LIMIT,
            )
        )  # fmt: skip

    async def read(self, path: str, **params: Any) -> Json:
        answer = await self.arm("GET", path, **params)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def entra(self, path: str, form: Json | None = None, tenant: str = TENANT) -> requests.Response:
        """A form to Entra, or without one a plain read."""
        url = f"{self.lab.azure.entra.url}/{tenant}/{path}"
        method = "GET" if form is None else "POST"
        return await in_thread(lambda: requests.request(method, url, data=form, verify=self.ca, timeout=LIMIT))

    async def grant(self, **form: str) -> requests.Response:
        return await self.entra("oauth2/v2.0/token", {"client_id": "me", "scope": AKS_SCOPE, **form})

    async def invoke(self, command: str, **body: str) -> Json:
        """The properties of a command's result, asked for as ARM says."""
        sent = {"command": command, "context": "", "clusterToken": self.token(AKS_SCOPE), **body}
        answer = await self.arm("POST", f"{CLUSTER}/runCommand", sent)
        assert answer.status_code == 202, answer.text
        await asyncio.wait_for(self.lab.azure.invoke.wait_ended(), LIMIT)
        answer = await self.arm("GET", answer.headers["Location"])
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()["properties"]
        return found


@asynccontextmanager
async def azure_world(log_limit: int = FILE_LIMIT) -> AsyncIterator[Portal]:
    """A lab with one pod, whose commands start at once."""
    async with Lab.open(estate="none", log_limit=log_limit) as lab:
        lab.cluster.add_pod({"metadata": {"name": "web", "namespace": "default"}})
        lab.azure.invoke.start_delay = 0.02
        lab.azure.jit.opens_after = 0.05
        yield Portal(lab)
