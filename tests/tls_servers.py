"""Real TLS servers for tests: certificates made here, API answers from aiohttp, raw ones from asyncio."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.cluster import tls
from app.cluster.access import Access, Credentials, NoCredentials
from app.secrets.secret import Secret
from tests.ports import unused_port as unused_port

NO_SUCH_HOST = "a" * 70 + ".test"
"""A name that cannot be asked for (a label has at most 63 characters), so that no name server is bothered."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes

    def files(self, folder: Path, name: str) -> tuple[Path, Path]:
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        for path, data in zip(paths, (self.certificate, self.key), strict=True):
            path.write_bytes(data)
            path.chmod(0o600)
        return paths


class Authority:
    """A CA of its own."""

    def __init__(self, name: str = "Test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        self._certificate = (
            x509.CertificateBuilder().subject_name(self._name).issuer_name(self._name)
            .public_key(self._key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(True, None), critical=True).sign(self._key, hashes.SHA256())
        )  # fmt: skip
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str, days: tuple[float, float] = (-1, 30), client: bool = False) -> Pair:
        """A certificate for the names, valid from and to so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(self._name).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0])).not_valid_after(now + dt.timedelta(days=days[1]))
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        )  # fmt: skip
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        signed = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False).sign(self._key, hashes.SHA256())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(signed.public_bytes(serialization.Encoding.PEM), pem)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@cache
def authority() -> Authority:
    """The CA that most tests trust; made once."""
    return Authority()


@cache
def server_pair() -> Pair:
    return authority().issue("api.test", "localhost", "127.0.0.1")


def server_context(pair: Pair, *, client_ca: bytes | None = None) -> ssl.SSLContext:
    """A server's context, asking for a client certificate when `client_ca` is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls._load(context, tls.ClientCertificate(pair.certificate, Secret(pair.key.decode())))
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.decode())
    return context


@asynccontextmanager
async def api_server(
    handler: Handler, pair: Pair | None = None, *, client_ca: bytes | None = None, plain: bool = False
) -> AsyncIterator[int]:
    """An HTTPS server on loopback that answers every request with `handler`; yields its port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    context = None if plain else server_context(pair or server_pair(), client_ca=client_ca)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


Talker = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(talk: Talker, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that says what `talk` says; yields its port."""
    running: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):  # the client has gone
            pass
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Known from the first moment: one that comes in at the very end is closed too."""
        writers.append(writer)
        running.append(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends everything back, then closes."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    await writer.drain()


def access_to(
    port: int, *, ca: bytes | None = None, name: str = "api.test", credentials: Credentials | None = None,
    host: str = "127.0.0.1", scheme: str = "https", proxy: str | None = None, base_path: str = "",
    certificate: tls.ClientCertificate | None = None,
) -> Access:  # fmt: skip
    """An Access to a server on loopback, trusting the tests' CA."""
    trusted = authority().pem if ca is None else ca
    return Access(
        server=f"{scheme}://{name}:{port}{base_path}", host=host, port=port, tls_name=name,
        context_factory=lambda: tls.make_context(trusted, certificate), credentials=credentials or NoCredentials(),
        cluster_label="test", identity_label="tester", proxy=proxy, base_path=base_path,
    )  # fmt: skip


def kubeconfig_text(port: int, *, user: str = "token: sesame", cluster: str = "", context: str = "") -> str:
    """A kubeconfig for a server on loopback; `user`, `cluster`, `context` are YAML flow entries to add."""
    ca = base64.b64encode(authority().pem).decode()
    return (
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
        f"clusters: [{{name: c1, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority-data: {ca}"
        f"{', ' + cluster if cluster else ''}}}}}]\n"
        f"users: [{{name: u1, user: {{{user}}}}}]\n"
        f"contexts: [{{name: here, context: {{cluster: c1, user: u1{', ' + context if context else ''}}}}}]\n"
    )
