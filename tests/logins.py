"""Logging in to SSH servers as the hop does, with the least around it; a real ssh-agent; a server that asks."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh

from app.asking import Asker
from app.profiles.model import SshHop
from app.routes.context import RouteContext
from app.routes.host_keys import HostKeys
from app.routes.ssh_auth import Login, prepare_login
from app.secrets.secret import Secret, SecretMemory, SecretSource
from app.secrets.store import StoredName, StoreStatus
from tests.fakes import FakeAsker
from tests.peers import require
from tests.sshd import USER

LIMIT = 20.0


class MemoryStore:
    """A secret store that holds what the test puts in."""

    asks = True

    def __init__(self, **secrets: str) -> None:
        self.secrets = dict(secrets)

    async def status(self) -> StoreStatus:
        return StoreStatus("test", usable=True)

    async def get(self, name: str) -> Secret | None:
        return Secret(self.secrets[name]) if name in self.secrets else None

    async def set(self, name: str, secret: Secret) -> str:
        self.secrets[name] = secret.reveal()
        return "test"

    async def remove(self, name: str) -> None:
        self.secrets.pop(name, None)

    async def names(self) -> list[StoredName]:
        return []

    def drop(self, name: str) -> None:
        self.secrets.pop(name, None)


def context(folder: Path, asker: Asker | None = None, store: MemoryStore | None = None) -> RouteContext:
    """What a hop needs of its process, with a memory of its own."""
    secrets = SecretSource(asker, SecretMemory(), store or MemoryStore())
    return RouteContext(asker=asker, secrets=secrets, host_keys=HostKeys(folder / "own_known_hosts", ()))


class Person(asyncssh.SSHClient):
    """Hands asyncssh's questions to the login."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self._login.auth_banner_received(msg, lang)

    async def public_key_auth_requested(self) -> list[asyncssh.SSHKeyPair] | None:
        return await self._login.public_key_auth_requested()

    async def password_auth_requested(self) -> str | None:
        return await self._login.password_auth_requested()

    async def kbdint_auth_requested(self) -> str | None:
        return await self._login.kbdint_auth_requested()

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        return await self._login.kbdint_challenge_received(name, instructions, lang, prompts)


async def log_in(spec: SshHop, port: int, host_key: str, around: RouteContext, *, user: str = USER) -> Login:
    """One login. Returns it when the server lets us in; raises what the login says of a refusal."""
    login = await prepare_login(spec, user, "127.0.0.1", port, around)
    try:
        async with asyncio.timeout(LIMIT):
            async with asyncssh.connect(
                "127.0.0.1", port, config=None, client_factory=lambda: Person(login),
                known_hosts=f"[127.0.0.1]:{port} {host_key}\n".encode(), **login.options(),
            ):  # fmt: skip
                login.succeeded()
                return login
    except asyncssh.DisconnectError as exc:
        raise login.denied(exc) from exc
    finally:
        login.close()


@asynccontextmanager
async def agent(folder: Path, *keys: Path, options: Sequence[str] = ()) -> AsyncIterator[Path]:
    """OpenSSH's ssh-agent with these keys; yields its socket. `options` go to ssh-add."""
    program = require("ssh-agent", "ssh-add")
    socket = folder / "agent"
    process = await asyncio.create_subprocess_exec(
        program, "-D", "-a", str(socket), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT):
            await process.stdout.readline()  # it says where it listens once it does
        for key in keys:
            await add_key(socket, key, *options)
        yield socket
    finally:
        process.kill()
        await process.wait()


async def add_key(socket: Path, key: Path, *options: str) -> None:
    """ssh-add."""
    process = await asyncio.create_subprocess_exec(
        "ssh-add", "-q", *options, str(key), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(socket.parent), "SSH_AUTH_SOCK": str(socket)},
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 0, said


class Asking(asyncssh.SSHServer):
    """Wants a password, or asks questions; counts every try."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._step = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        if self._gate.banner:
            conn.send_auth_banner(self._gate.banner)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return False

    def password_auth_supported(self) -> bool:
        return self._gate.password is not None

    def validate_password(self, username: str, password: str) -> bool:
        self._gate.passwords.append(password)
        if self._gate.cuts:
            self._conn.abort()
        return password == self._gate.password

    def kbdint_auth_supported(self) -> bool:
        return bool(self._gate.questions)

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> asyncssh.server.KbdIntChallenge:
        self._step = 0
        return self._gate.questions[0]

    def validate_kbdint_response(
        self, username: str, responses: asyncssh.server.KbdIntResponse
    ) -> asyncssh.server.KbdIntChallenge:
        self._gate.responses.append(tuple(responses))
        if list(responses) != list(self._gate.answers[self._step]):
            return False
        self._step += 1
        return self._gate.questions[self._step] if self._step < len(self._gate.questions) else True


class Gate:
    """A server in this process with a password, or questions with the answers it wants."""

    def __init__(
        self,
        password: str | None = None,
        questions: Sequence[tuple[str, str, str, list[tuple[str, bool]]]] = (),
        answers: Sequence[Sequence[str]] = (),
        banner: str = "",
        cuts: bool = False,
        port: int = 0,
    ) -> None:
        self.password, self.questions, self.answers, self.banner = password, list(questions), list(answers), banner
        self.cuts = cuts
        """Whether it breaks the connection off when a password comes, in place of an answer."""
        self.passwords: list[str] = []
        """Every password that came: what a lockout counter would count."""
        self.responses: list[tuple[str, ...]] = []
        self.port = port
        self.host_key = ""

    async def __aenter__(self) -> Gate:
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.host_key = " ".join(key.export_public_key().decode().split()[:2])
        self._listener = await asyncssh.create_server(
            lambda: Asking(self), "127.0.0.1", self.port, server_host_keys=[key], gss_host=None
        )
        self.port = self._listener.get_port()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._listener.wait_closed()


def person(*secrets: str, prompts: Sequence[tuple[str, ...]] = ()) -> FakeAsker:
    """Somebody with these secrets and answers."""
    return FakeAsker(secrets, prompts=prompts)
