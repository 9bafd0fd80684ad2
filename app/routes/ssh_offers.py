"""The keys that a login offers to a server: in which order, how many, and who signs with them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import asyncssh

from app.errors import ProfileError, SignInError
from app.profiles.model import SshHop
from app.routes import ssh_certificates, ssh_keys
from app.routes.ssh_agent import Agent, AgentError, AgentKey, find_agent
from app.routes.ssh_certificates import Certificate
from app.routes.ssh_keys import KeyFile
from app.routes.ssh_wire import WireError, algorithm_of, fingerprint_of, kind_of
from app.tasks import in_own_thread
from app.text import clean

READ_LIMIT = 15.0
"""Seconds to read the key files; a home folder can lie on a network that is not there."""
MAX_OFFERS = 5
"""Keys offered in one login. OpenSSH's servers cut a connection at the sixth failure (MaxAuthTries): the sixth try
stays for a password."""
_RSA = (b"rsa-sha2-512", b"rsa-sha2-256")
"""Signatures with SHA-1 (`ssh-rsa`) are never made: OpenSSH has refused them since 8.8."""
_CERTIFIED = b"-cert-v01@openssh.com"

A = TypeVar("A")
R = TypeVar("R")
Sign = Callable[["Offer", bytes], Awaitable[bytes]]


class Offer(asyncssh.SSHKeyPair):
    """A public key to offer. asyncssh asks for a signature only when the server would take the key.

    asyncssh prefers `sign_async` to `sign` (`send_userauth_request`), as its own agent keys have it.
    """

    def __init__(
        self, blob: bytes, sign: Sign, *, file: KeyFile | None = None, agent: Agent | None = None,
        certificate: Certificate | None = None,
    ) -> None:  # fmt: skip
        algorithm = (certificate.key_algorithm if certificate else algorithm_of(blob)).encode("ascii", "replace")
        methods = _RSA if algorithm == b"ssh-rsa" else (algorithm,)
        super().__init__(algorithm, methods[0], methods, methods, blob, None)
        self.file, self.agent, self.certificate = file, agent, certificate
        self._sign = sign
        if certificate is not None:
            self.public_data = certificate.blob
            self.algorithm = certificate.algorithm.encode("ascii", "replace")
        self.set_sig_algorithm(methods[0])

    def __repr__(self) -> str:
        return f"Offer({self.label!r})"

    @property
    def has_cert(self) -> bool:
        """Whether a certificate is offered."""
        return self.certificate is not None

    @property
    def label(self) -> str:
        """How a person knows it: `key ED25519 SHA256:…`, `agent key …`, `certificate ID … serial … valid until …`."""
        if self.certificate is not None:
            return f"certificate {self.certificate.facts}"
        where = "agent key" if self.agent is not None else "key"
        return f"{where} {kind_of(algorithm_of(self.key_public_data))} {fingerprint_of(self.key_public_data)}"

    def set_sig_algorithm(self, sig_algorithm: bytes) -> None:
        """asyncssh has chosen one of `sig_algorithms`; for RSA the key's own algorithm changes with it (RFC 8332)."""
        self.sig_algorithm = sig_algorithm
        if self.key_algorithm == b"ssh-rsa":
            self.algorithm = sig_algorithm + (_CERTIFIED if self.has_cert else b"")

    async def sign_async(self, data: bytes) -> bytes:
        """Raises ValueError, after which asyncssh goes on to the next key."""
        return await self._sign(self, data)


class Offers:
    """What a hop's login can offer, gathered before the connection is made. Close it to end the agent's connection."""

    def __init__(
        self, spec: SshHop, user: str, sign: Sign, unlock: Callable[[KeyFile], Awaitable[None]],
        certified: tuple[KeyFile, Certificate] | None = None,
    ) -> None:  # fmt: skip
        self._certified = certified
        """A key in memory with the certificate that was just given for it (Entra)."""
        self._spec, self._user, self._sign, self._unlock = spec, user, sign, unlock
        self.agent: Agent | None = None
        self.left: list[Offer] = []
        """Still to be offered, best first."""
        self.notes: list[str] = []
        self.problems: list[tuple[Certificate, str]] = []
        """Certificates that are offered, and why the server may refuse them."""
        self._files: list[KeyFile] = []

    @property
    def _anything(self) -> bool:
        """Nothing is configured: like ssh, everything that is there is tried."""
        return not (self._spec.key or self._spec.agent or self._spec.password or self._certified)

    async def gather(self) -> None:
        """Read the files and ask the agent for its list. Raises ProfileError and SignInError."""
        if self._certified is not None:
            file, certificate = self._certified
            self._files.append(file)
            self._note_certificate(certificate)
            assert file.public is not None
            self.left.append(Offer(file.public, self._sign, file=file, certificate=certificate))
        named = await self._named()
        held = await self._agent_keys(named)
        if named is not None:
            self._offer_named(*named, held)
        if named is None or named[0].private:
            for key in held:
                self._offer_agent_key(key)
        if self._anything:
            files, notes = await read(ssh_keys.load_defaults, Path("~/.ssh"))
            self.notes += notes
            self._files += files
            known = {offer.key_public_data for offer in self.left}
            for file in files:
                if file.public not in known:
                    self._offer_file(file, await read(beside, file.path))
        self._bound()

    async def _named(self) -> tuple[KeyFile, Certificate | None] | None:
        spec = self._spec
        if spec.key is None:
            return None
        file = await read(ssh_keys.load_named, spec.key)
        self._files.append(file)
        if file.private and file.public is None:
            await self._unlock(file)  # a PEM file with no .pub beside it: there is nothing to offer before
        if spec.certificate is None:
            return file, self._if_valid(await read(beside, file.path))
        certificate = await read(ssh_certificates.read_named, spec.certificate.expanduser())
        ssh_certificates.check(certificate, file.public)
        return file, certificate

    async def _agent_keys(self, named: tuple[KeyFile, Certificate | None] | None) -> list[AgentKey]:
        if not (self._spec.agent or self._anything):
            return []
        try:
            self.agent, keys = await find_agent(self._spec.agent)
        except AgentError as error:
            if named is None and self._spec.agent and not self._spec.password:
                raise SignInError(
                    "The SSH agent cannot be used", str(error),
                    "Start it (ssh-agent; on Windows the service `OpenSSH Authentication Agent`), or name a key.",
                    code="JD-SSH-AGENT", layer="hop",
                ) from None  # fmt: skip
            if self._spec.agent:
                self.notes.append(f"the agent cannot be used: {error}")
            return []
        if not keys and self._spec.agent:
            self.notes.append(f"the agent {self.agent.name} holds no keys (it may be locked)")
        return keys

    def _offer_named(self, file: KeyFile, certificate: Certificate | None, held: list[AgentKey]) -> None:
        """The agent signs with a key that it holds when the file's needs a passphrase, or has no private half."""
        by_agent = any(key.blob == file.public for key in held) and not file.usable
        if not file.private and not by_agent:
            raise ssh_keys.problem(
                file.path, "it is a public key" + (", and the agent does not hold it" if held else ""),
                "Name the private key (without .pub), or add it to an agent and set agent = true.",
            )  # fmt: skip
        self._offer_file(file, certificate, self.agent if by_agent else None)

    def _offer_file(self, file: KeyFile, certificate: Certificate | None, agent: Agent | None = None) -> None:
        assert file.public is not None
        certificate = self._if_valid(certificate)
        if certificate is not None and certificate.key_blob == file.public:
            self._note_certificate(certificate)
            self.left.append(Offer(file.public, self._sign, file=file, agent=agent, certificate=certificate))
        self.left.append(Offer(file.public, self._sign, file=file, agent=agent))

    def _offer_agent_key(self, key: AgentKey) -> None:
        certificate = None
        if key.certified:
            try:
                certificate = ssh_certificates.parse(key.blob, f"{key.comment or 'a certificate'} in the agent")
            except WireError:
                return
            if (certificate := self._if_valid(certificate)) is None:
                return
            self._note_certificate(certificate)
        blob = certificate.blob if certificate else key.blob
        if not any(blob == offer.public_data for offer in self.left):
            self.left.append(Offer(key.blob, self._sign, agent=self.agent, certificate=certificate))

    def _if_valid(self, certificate: Certificate | None) -> Certificate | None:
        """A certificate that nobody named is left out, and that is said, when its time is not now."""
        if certificate is None or (why := ssh_certificates.time_problem(certificate)) is None:
            return certificate
        note = f"{certificate.name} was left out: {why}"
        self.notes += [] if note in self.notes else [note]
        return None

    def _note_certificate(self, certificate: Certificate) -> None:
        if problem := ssh_certificates.principal_problem(certificate, self._user):
            self.problems.append((certificate, problem))
        self.notes += ssh_certificates.limits(certificate)

    def _bound(self) -> None:
        most = MAX_OFFERS - 1 if self._spec.password else MAX_OFFERS
        if len(self.left) > most:
            self.notes.append(
                f"only {most} of {len(self.left)} keys are offered, since servers end a login after six tries; "
                "name the right one with `key` (its .pub file will do when the agent holds it)"
            )
            del self.left[most:]

    def close(self) -> None:
        """End the agent's connection, drop private keys."""
        if self.agent is not None:
            self.agent.close()
        for file in self._files:
            file.forget()
        self.left.clear()


async def read(call: Callable[[A], R], argument: A) -> R:
    """Read files away from the loop, within READ_LIMIT. Raises what `call` raises, and ProfileError."""
    try:
        async with asyncio.timeout(READ_LIMIT):
            return await in_own_thread(lambda: call(argument), name="read SSH keys")
    except TimeoutError:
        raise ProfileError(
            "The SSH keys cannot be read", f"{clean(str(argument))}: nothing within {READ_LIMIT:g} s",
            "Is the folder on a network drive that is not there?", code="JD-SSH-KEY",
        ) from None  # fmt: skip


def beside(path: Path) -> Certificate | None:
    """The certificate that ssh would take with a key: `KEY-cert.pub`. Blocks. None when there is none to read."""
    try:
        return ssh_certificates.read(path.with_name(path.name + "-cert.pub"))
    except (OSError, WireError):
        return None
