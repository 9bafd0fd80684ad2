"""Fakes shared by tests: classes that stand where a service stands, and small real servers."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType

from aiohttp import web

from app.asking import ConsentQuestion, DeviceCode, HostKeyQuestion, Prompt, SecretAnswer
from app.errors import JumpdeckError
from app.identity.identity import AccessToken
from app.profiles.model import KubeconfigCluster, Profile
from app.secrets.secret import Secret
from app.trust import TrustedCommand
from tests.ports import bound


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


class FakeAsker:
    """A person with prepared answers; keeps what was asked. Gives up when the answers are used up."""

    def __init__(
        self,
        secrets: Iterable[str] = (),
        *,
        trusts: bool = False,
        host_keys: bool = False,
        prompts: Iterable[tuple[str, ...]] = (),
        keep: bool = False,
    ) -> None:
        self.secrets, self.prompts = list(secrets), list(prompts)
        self.trusts, self.host_keys, self.keep = trusts, host_keys, keep
        self.asked: list[object] = []
        """Questions in order: texts, commands, host keys, tuples of prompts."""
        self.told: list[tuple[str, str]] = []
        self.shown, self.gives_up = asyncio.Event(), asyncio.Event()
        """A device code has been shown; the person gives up on it."""
        self.hidden = 0
        """Device codes that are not shown any more."""

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        self.asked.append(what)
        return SecretAnswer(self.secrets.pop(0), self.keep and may_keep) if self.secrets else None

    async def ask_trust(self, command: TrustedCommand) -> bool:
        self.asked.append(command)
        return self.trusts

    async def ask_host_key(self, question: HostKeyQuestion) -> bool:
        self.asked.append(question)
        return self.host_keys

    async def ask_prompts(
        self, server: str, title: str, instructions: str, prompts: tuple[Prompt, ...]
    ) -> tuple[str, ...] | None:
        self.asked.append(prompts)
        return self.prompts.pop(0) if self.prompts else None

    async def show_device_code(self, code: DeviceCode) -> None:
        self.asked.append(code)
        self.shown.set()
        try:
            await self.gives_up.wait()
        finally:
            self.hidden += 1

    def tell(self, server: str, text: str) -> None:
        self.told.append((server, text))


class Consenting(FakeAsker):
    """A person who also answers questions for consent."""

    def __init__(self, agrees: bool) -> None:
        super().__init__()
        self.agrees = agrees

    async def ask_consent(self, question: ConsentQuestion) -> bool:
        self.asked.append(question)
        return self.agrees


class SlowAsker(FakeAsker):
    """Gives one secret, again and again, from when the test sets `typed`; counts how many questions wait at once."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.secret = secret
        self.typed = asyncio.Event()
        self.withdrawn = asyncio.Event()
        self.open = self.most = 0

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        self.asked.append(what)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self.typed.wait()
        except asyncio.CancelledError:
            self.withdrawn.set()
            raise
        finally:
            self.open -= 1
        return SecretAnswer(self.secret)


class FakeIdentity:
    """A sign-in with prepared tokens: `TENANT`'s, a new one each time that a fresh one is asked for."""

    TENANT = "11111111-2222-3333-4444-555555555555"

    def __init__(self, *, label: str = "jo@contoso.test", tenant: str = TENANT, life: float = 3600.0) -> None:
        self.label, self.tenant, self.life = label, tenant, life
        self.asked: list[tuple[str, bool, str | None]] = []
        """Scope, fresh, claims of each call."""
        self.error: JumpdeckError | None = None
        """Raised in place of the next token."""
        self.sentinel = "sentinel-token"
        """In the signature of every token, for searches."""
        self._serial: dict[str, int] = {}

    async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> AccessToken:
        self.asked.append((scope, fresh, claims))
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if fresh:
            self._serial[scope] = self._serial.get(scope, 0) + 1
        return AccessToken(Secret(self.value(scope)), time.time() + self.life)

    def value(self, scope: str) -> str:
        """The token of the moment for a scope."""
        said = {"tid": self.tenant, "aud": scope, "serial": self._serial.get(scope, 0)}
        return ".".join((_part({"alg": "none"}), _part(said), f"{self.sentinel}-{self._serial.get(scope, 0)}"))


def _part(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class SmallServer:
    """An HTTP server on loopback that can stop and come back on the same port."""

    def __init__(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self._answer = answer
        self.port = 0
        self.requests: list[str] = []
        self._runner: web.AppRunner | None = None
        self._kept: socket.socket | None = None
        """Keeps the port while the server is away."""

    async def _count(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        return await self._answer(request)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._count)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        sock, self._kept = self._kept or bound(self.port), None
        self.port = sock.getsockname()[1]
        await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            self._kept = bound(self.port)

    async def aclose(self) -> None:
        """Stop for good."""
        await self.stop()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def __aenter__(self) -> SmallServer:
        await self.start()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.aclose()


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
