"""From a profile to everything that a request needs: the address to dial, the name to verify, the credential."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from app.asking import Asker
from app.cluster import kubeconfig, tls
from app.errors import JumpdeckError, ProfileError, Recovery, SignInError
from app.files import read_private
from app.identity.source import end_of, token_claims
from app.outbound import CA_LIMIT, choose_proxy
from app.profiles.model import AksCluster, ArcCluster, KubeconfigCluster, NetworkHop, Profile, ServerCluster
from app.records import Record, field
from app.secrets.secret import MEMORY, Secret, SecretItem, SecretSource, token_name
from app.text import clean

if TYPE_CHECKING:
    from app.azure.context import Azure
    from app.dialer import Dialer

    AzureSource = Callable[[], Awaitable[Azure]]

TOKEN_FILE_AGE = 60.0
"""Seconds for which a token file's content is used before it is read again (client-go re-reads every minute)."""


class Credentials(Protocol):
    """What proves who we are."""

    async def headers(self) -> dict[str, str]:
        """Headers of a request made now. Raises SignInError when there is no credential: never an empty answer."""
        ...

    async def refresh(self) -> bool:
        """After a 401: True when something new is worth one more try."""
        ...


class Access(Record):
    """All that a client of one API server needs to know; no secret shows in its repr."""

    server: str
    """The URL, as the kubeconfig or profile says it, without a slash at the end."""
    host: str
    """To dial: `address` of the profile, else the host of `server`."""
    port: int
    tls_name: str
    """The name that the server's certificate must bear."""
    context_factory: Callable[[], ssl.SSLContext] = field(repr=False)
    """Blocks; run it off the loop."""
    credentials: Credentials = field(repr=False)
    namespace: str = "default"
    cluster_label: str = ""
    identity_label: str = ""
    warnings: tuple[str, ...] = ()
    proxy: str | None = None
    base_path: str = ""
    context_version: Callable[[], int] = field(default=lambda: 0, repr=False)
    """Grows when the client certificate changes, so that a new context is made."""
    certificate: Callable[[], tls.ClientCertificate | None] = field(default=lambda: None, repr=False)
    """The client certificate of the last credential."""
    ca: bytes | None = field(default=None, repr=False)
    recheck: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    """Asks whoever runs the cluster whether it can be reached at all (stopped?), when it could before and now fails.

    Bounded in time; raises only what cannot work. None where nobody can be asked.
    """
    complete: Callable[[Dialer], Access] | None = field(default=None, repr=False)
    """Makes it whole with what the far end of the open route hands over; None: it is whole. Raises JumpdeckError."""
    judge: Callable[[JumpdeckError], JumpdeckError] | None = field(default=None, repr=False)
    """Words a failed answer for this kind of cluster; others come back as they are."""

    @property
    def at(self) -> str:
        """`host:port` as errors name it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{clean(self.host)}:{self.port}"

    @property
    def server_label(self) -> str:
        """The server's URL, and beside it the name that TLS verifies when it is another one (S-05)."""
        if self.complete is not None:
            return f"of {self.cluster_label}"  # a local program stands for it: its address tells nobody anything
        host = kubeconfig.check_server(self.server, ValueError)[0]
        other = f" (TLS name {clean(self.tls_name)})" if self.tls_name != host else ""
        return f"{clean(self.server)}{other}"

    def credentials_expiry(self) -> float | None:
        """POSIX seconds at which the credential ends, when it says so."""
        found = getattr(self.credentials, "expires_at", None)
        return found if isinstance(found, float) else None


class NoCredentials:
    """Nothing to send: the client certificate speaks for us, or nobody does."""

    patient = True
    """A refusal may be tried again: no person is asked."""

    async def headers(self) -> dict[str, str]:
        return {}

    async def refresh(self) -> bool:
        return False


class TokenCredentials:
    """A fixed bearer token."""

    patient = True
    """A refusal may be tried again: no person is asked."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    @property
    def expires_at(self) -> float | None:
        return token_expiry(self._token)

    async def headers(self) -> dict[str, str]:
        return bearer(self._token)

    async def refresh(self) -> bool:
        return False


class TokenFileCredentials:
    """A bearer token in a file that somebody else renews."""

    patient = True
    """A refusal may be tried again: no person is asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token: Secret | None = None
        self._read_at = 0.0

    @property
    def expires_at(self) -> float | None:
        return token_expiry(self._token) if self._token else None

    async def headers(self) -> dict[str, str]:
        if self._token is None or time.monotonic() - self._read_at > TOKEN_FILE_AGE:
            self._token = await asyncio.to_thread(self._read)
            self._read_at = time.monotonic()
        return bearer(self._token)

    async def refresh(self) -> bool:
        before, self._token = self._token, None
        await self.headers()
        return self._token != before

    def _read(self) -> Secret:
        data = read_private(self._path, limit=kubeconfig.TOKEN_LIMIT, what="token file", shared=True)
        return Secret(data.decode("utf-8", "replace").strip())


class AskedTokenCredentials:
    """A bearer token out of the secret store, or that a person types; never used again once the cluster refused it."""

    def __init__(self, profile: str, asker: Asker | None, secrets: SecretSource | None = None) -> None:
        self._item = SecretItem(token_name(profile), f"Token for {profile}")
        self._asker = asker
        self._secrets = secrets or SecretSource(asker)

    @property
    def expires_at(self) -> float | None:
        token = MEMORY.get(self._item.name)
        return token_expiry(token) if token else None

    async def headers(self) -> dict[str, str]:
        token = await self._secrets.get(self._item, asker=self._asker)
        try:
            return bearer(Secret(token.reveal().strip()))
        except SignInError:
            self._secrets.refused(self._item)  # the next need asks anew
            raise

    async def refresh(self) -> bool:
        self._secrets.refused(self._item)  # asked for again at the next try, not in the middle of this one
        return False


def bearer(token: Secret) -> dict[str, str]:
    """The header that carries a token. Raises SignInError when it is empty or no token."""
    value = token.reveal()
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise SignInError("The token cannot be sent", "it is empty or has characters that no token has",
                          "Copy it again, in one line.", code="JD-SIGN-IN-TOKEN-FORM", layer="token",
                          recovery=Recovery.NEEDS_PERSON)  # fmt: skip
    return {"Authorization": f"Bearer {value}"}


def token_expiry(token: Secret) -> float | None:
    """When a JWT ends, read without checking it: only to say why a server refused it."""
    return end_of(token_claims(token))


async def resolve_access(
    profile: Profile, *, asker: Asker | None, secrets: SecretSource | None = None, azure: AzureSource | None = None
) -> Access:
    """What a client of the profile's cluster needs; `secrets` is the process's own source, `azure` makes the profile's
    sign-in when it is needed. Raises ProfileError or SignInError, and for clusters of Azure what ARM raises.
    """
    cluster = profile.cluster
    if isinstance(cluster, KubeconfigCluster):
        return await _from_kubeconfig(profile, cluster, asker, azure)
    if isinstance(cluster, ServerCluster) and cluster.auth == "token":
        return await asyncio.to_thread(_from_server, profile, cluster, asker, secrets)
    if azure is None:
        raise SignInError(
            "Azure is not at hand here", f"profile {profile.name} wants an Azure sign-in",
            "Use a kubeconfig context, or a server with auth = \"token\".",
            code="JD-SIGN-IN-NO-AZURE", recovery=Recovery.PERMANENT,
        )  # fmt: skip
    if isinstance(cluster, ArcCluster):
        from app.cluster.access_arc import arc_access

        return await arc_access(profile, cluster, await azure(), asker=asker, secrets=secrets)
    from app.cluster.access_aks import aks_access, entra_access

    if isinstance(cluster, AksCluster):
        return await aks_access(profile, cluster, await azure())
    return await entra_access(profile, cluster, await azure())


async def _from_kubeconfig(
    profile: Profile, cluster: KubeconfigCluster, asker: Asker | None, azure: AzureSource | None
) -> Access:
    chosen = await asyncio.to_thread(read_chosen, cluster)
    entry, user = chosen.cluster, chosen.user
    ca, ca_from = entry.ca, entry.ca_from
    if profile.ca_file is not None:
        ca, ca_from = await asyncio.to_thread(read_ca, profile.ca_file), str(profile.ca_file)
    credentials, certificate = await _credentials(profile, chosen, asker, azure)
    name = entry.tls_server_name or entry.host
    return Access(
        server=entry.server,
        host=cluster.address or entry.host,
        port=entry.port,
        tls_name=name,
        context_factory=lambda: tls.make_context(ca, certificate(), ca_from=ca_from),
        credentials=credentials,
        namespace=cluster.namespace or chosen.namespace or "default",
        cluster_label=clean(entry.name),
        identity_label=getattr(credentials, "label", clean(user.name)),
        proxy=proxy_for(profile, entry.host, entry.proxy_url, entry.server),
        base_path=entry.base_path,
        context_version=getattr(credentials, "certificate_version", lambda: 0),
        certificate=certificate,
        ca=ca,
    )


def read_chosen(cluster: KubeconfigCluster) -> kubeconfig.Chosen:
    """The context that a profile means; blocks. Without a file the KUBECONFIG list is merged. Raises ProfileError."""
    named = str(cluster.kubeconfig) not in ("", ".")
    paths = [cluster.kubeconfig.expanduser()] if named else kubeconfig.default_paths()
    return kubeconfig.load(paths).choose(cluster.context)


CertificateSource = Callable[[], tls.ClientCertificate | None]


async def _credentials(
    profile: Profile, chosen: kubeconfig.Chosen, asker: Asker | None, azure: AzureSource | None
) -> tuple[Credentials, CertificateSource]:
    user = chosen.user
    if user.exec is None or user.token is not None or user.token_file is not None or user.certificate is not None:
        return await fixed_credentials(user)
    if profile.sign_in is not None and azure is not None:
        from app.cluster.access_aks import exec_credentials

        entra = await exec_credentials(profile, user.exec, azure)
        if entra is not None:
            return entra, lambda: None
    from app.cluster.exec_plugin import ExecCredentials

    plugin = await ExecCredentials.trusted(profile.name, user.exec, chosen.cluster, asker)
    return plugin, plugin.certificate


async def fixed_credentials(user: kubeconfig.UserEntry) -> tuple[Credentials, CertificateSource]:
    """The credential that stands in a kubeconfig: token, token file, client certificate. Raises SignInError."""
    fixed: tls.ClientCertificate | None = None
    if user.certificate is not None and user.key is not None:
        fixed = tls.ClientCertificate(user.certificate, user.key, f"kubeconfig user {clean(user.name)}")
        await asyncio.to_thread(tls.check_dates, fixed)
    if user.token_file is not None:
        return TokenFileCredentials(user.token_file), lambda: fixed
    if user.token is not None:
        return TokenCredentials(user.token), lambda: fixed
    return NoCredentials(), lambda: fixed


def _from_server(profile: Profile, cluster: ServerCluster, asker: Asker | None, secrets: SecretSource | None) -> Access:
    return server_access(profile, cluster, AskedTokenCredentials(profile.name, asker, secrets), "token")


def server_access(profile: Profile, cluster: ServerCluster, credentials: Credentials, identity: str) -> Access:
    """What a client of an API server named outright needs; blocks. Raises ProfileError."""

    def error(why: str, hint: str) -> ProfileError:
        return ProfileError(f"Profile {profile.name} cannot be used", f"cluster.server: {why}", hint,
                            code="JD-PROFILE-SERVER")  # fmt: skip

    host, port, path = kubeconfig.check_server(cluster.server, error)
    ca_file = cluster.ca_file or profile.ca_file
    ca = read_ca(ca_file) if ca_file else None
    return Access(
        server=cluster.server.rstrip("/"),
        host=cluster.address or host,
        port=port,
        tls_name=cluster.tls_server_name or host,
        context_factory=lambda: tls.make_context(ca, None, ca_from=str(ca_file)),
        credentials=credentials,
        cluster_label=clean(host),
        identity_label=identity,
        proxy=proxy_for(profile, host, None, cluster.server),
        base_path=path,
        ca=ca,
    )


def read_ca(path: Path) -> bytes:
    """The PEM certificates of a CA file; blocks. Raises ProfileError."""
    return read_private(path.expanduser(), limit=CA_LIMIT, what="CA file", shared=True)


def proxy_for(profile: Profile, host: str, proxy_url: str | None, server: str) -> str | None:
    """The web proxy to go through: the profile's, the kubeconfig's, the environment's; never for this computer.

    Behind a hop that carries streams there is none: a proxy is a matter of the network in which we dial.
    """
    if not all(isinstance(hop, NetworkHop) for hop in profile.via):
        return None
    return choose_proxy(host, profile.proxy or proxy_url, secure=server.startswith("https:"))
