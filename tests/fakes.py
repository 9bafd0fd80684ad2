"""Fakes shared by tests: classes that stand where a service stands, and small real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType

from aiohttp import web

from app.errors import JumpdeckError
from app.profiles.model import KubeconfigCluster, Profile


class FakeLink:
    """A link that is up until told otherwise; keeps what readers reported."""

    def __init__(self) -> None:
        self.reports: list[JumpdeckError] = []
        self.signs_of_life = 0
        self._up = asyncio.Event()
        self._up.set()

    def go_down(self) -> None:
        self._up.clear()

    def come_up(self) -> None:
        self._up.set()

    async def wait_up(self) -> None:
        await self._up.wait()

    def report(self, error: JumpdeckError) -> None:
        self.reports.append(error)

    def alive(self) -> None:
        self.signs_of_life += 1


class SmallServer:
    """An HTTP server on loopback that can stop and come back on the same port."""

    def __init__(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self._answer = answer
        self.port = 0
        self.requests: list[str] = []
        self._runner: web.AppRunner | None = None

    async def _count(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        return await self._answer(request)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._count)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> SmallServer:
        await self.start()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.stop()


def profile_for(folder: Path, port: int, *, token: str = "good", name: str = "here") -> Profile:
    """A profile with a kubeconfig that names a plain loopback server."""
    path = folder / f"{name}.kubeconfig"
    path.write_text(
        f"""
apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: u, user: {{token: {token}}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u, namespace: shop}}}}]
"""
    )
    path.chmod(0o600)
    return Profile(name=name, cluster=KubeconfigCluster(path))
