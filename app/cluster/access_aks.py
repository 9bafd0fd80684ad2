"""Access with an Azure sign-in: AKS clusters by their ARM id, and API servers that take Entra tokens.

The kubeconfig that ARM hands out is read in memory and never written. Where it would call kubelogin (or names the old
`azure` auth provider) nothing is run: the application id of the API server is read out of it, and the token comes from
the profile's own sign-in.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from app.azure import aks
from app.azure.failures import tenant_of
from app.cluster import access as plain
from app.cluster import kubeconfig, tls
from app.cluster.access import Access, CertificateSource, Credentials
from app.errors import JumpdeckError, ProfileError, Recovery, SignInError
from app.identity.clouds import AKS_SERVER_APP
from app.profiles.model import AksCluster, NetworkHop, Profile, ServerCluster
from app.records import Record
from app.secrets.secret import Secret
from app.tasks import TaskOwner
from app.text import clean

if TYPE_CHECKING:
    from app.azure.context import Azure
    from app.cluster.access import AzureSource
    from app.identity.identity import AccessToken, Identity

SETTLED = 5.0
"""Seconds within which a second 401 asks for no other token: requests that failed together renew once."""

RECHECK_LIMIT = 5.0
"""Seconds for a look at ARM between two tries: the next try must not wait long for it."""

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PROGRAM = "kubelogin"


class EntraServer(Record):
    """For whom a kubeconfig wants an Entra token."""

    app: str
    """The application id of the API server."""
    tenant: str = ""


class EntraCredentials:
    """Tokens of the profile's sign-in for one API server; asked for with every request, which the cache makes cheap."""

    patient = False
    """A refusal is not tried again by itself: after one renewal it is the person's turn (R-06)."""

    def __init__(self, identity: Identity, scope: str, *, tenant: str = "", profile: str = "PROFILE") -> None:
        self._identity, self._scope, self._tenant, self._profile = identity, scope, tenant, profile
        self._token: AccessToken | None = None
        self._lock = asyncio.Lock()
        self._renewed_at = -SETTLED

    @property
    def expires_at(self) -> float | None:
        """POSIX seconds at which the last token ends; before that a new one is had in silence."""
        return float(self._token.expires_at) if self._token else None

    @property
    def label(self) -> str:
        """Who it is, once a token was had."""
        return clean(self._identity.label)

    async def headers(self) -> dict[str, str]:
        """Raises SignInError; may ask a person."""
        return plain.bearer(self._checked(await self._identity.token(self._scope)))

    async def refresh(self) -> bool:
        """After a 401: ask for a token that is not the cache's, once for all that failed together."""
        async with self._lock:
            if time.monotonic() - self._renewed_at < SETTLED:
                return True
            before = self._token
            token = self._checked(await self._identity.token(self._scope, fresh=True))
            self._renewed_at = time.monotonic()
            return before is None or before.value != token

    def judged(self, error: JumpdeckError) -> JumpdeckError:
        """The cluster does not accept a token that has just been made: what to do about it is at the sign-in."""
        error.layer = "sign-in"
        error.recovery = Recovery.NEEDS_PERSON
        tenant = tenant_of(self._token.value.reveal()) if self._token else ""
        if tenant:
            error.detail += f"; the sign-in is {clean(self._identity.label)} of tenant {clean(tenant)}"
        error.hint = f"Sign in again: jumpdeck sign-in {self._profile}. If that does not help: is it the right tenant?"
        return error

    def _checked(self, token: AccessToken) -> Secret:
        self._token = token
        tenant = tenant_of(token.value.reveal())
        wanted = self._tenant
        if _GUID.fullmatch(tenant) and _GUID.fullmatch(wanted) and tenant.lower() != wanted.lower():
            raise SignInError(
                "The sign-in is of another tenant than the cluster",
                f"{clean(self._identity.label)} is of tenant {tenant}, the cluster takes {wanted}",
                f'Set tenant = "{wanted}" in the profile\'s sign-in, then: jumpdeck sign-in {self._profile}',
                code="JD-SIGN-IN-TENANT", recovery=Recovery.PERMANENT,
            )  # fmt: skip
        return token.value


async def aks_access(profile: Profile, cluster: AksCluster, azure: Azure) -> Access:
    """What a client of an AKS cluster needs. Raises JumpdeckError of ARM and of the sign-in, and ProfileError."""
    found, warnings, raw = await _read(profile, cluster, azure)
    if cluster.auth == "admin":
        warnings = (*warnings, f"Local administrator of {found.label}: what is done is not done in your name")
    chosen, server = read_credential(raw, found.label)
    entry = chosen.cluster
    credentials, certificate = await _credentials(profile, chosen, server, azure)
    if server is None and cluster.auth != "admin":
        warnings = (*warnings, f"{found.label} has no Entra sign-in: its kubeconfig holds a shared local account")
    await credentials.headers()  # signs in now, so that the screen knows who it is
    ca = await _trusted(profile, entry.ca)
    return Access(
        server=entry.server,
        host=cluster.address or entry.host,
        port=entry.port,
        tls_name=entry.tls_server_name or entry.host,
        context_factory=lambda: tls.make_context(ca, certificate(), ca_from=entry.ca_from),
        credentials=credentials,
        namespace=chosen.namespace or "default",
        cluster_label=found.label,
        identity_label=clean(chosen.user.name) if server is None else clean(azure.identity.label),
        warnings=warnings,
        proxy=plain.proxy_for(profile, entry.host, None, entry.server),
        base_path=entry.base_path,
        certificate=certificate,
        ca=ca,
        recheck=lambda: _recheck(profile, cluster, azure),
    )


async def _recheck(profile: Profile, cluster: AksCluster, azure: Azure) -> None:
    """As `Access.recheck`. That ARM cannot be asked is no news: the way itself says more."""
    try:
        async with asyncio.timeout(RECHECK_LIMIT):
            found = await aks.read_cluster(azure.arm, cluster.aks)
    except (JumpdeckError, TimeoutError):
        return
    aks.diagnose(found, profile.via, public=cluster.fqdn == "public", address=cluster.address)


async def _read(profile: Profile, cluster: AksCluster, azure: Azure) -> tuple[aks.Cluster, tuple[str, ...], bytes]:
    """The cluster, what to say of it, and its kubeconfig, side by side; what is wrong with the cluster comes first."""
    public = cluster.fqdn == "public"
    async with TaskOwner(f"access {profile.name}") as owner:
        user = None
        if cluster.auth != "admin":  # that one is only asked for where there is a local administrator
            user = owner.spawn(_told(aks.user_credential(azure.arm, cluster.aks, public=public)), name="credential")
        found = await aks.read_cluster(azure.arm, cluster.aks)
        warnings = aks.diagnose(found, profile.via, public=public, address=cluster.address)
        raw = await user if user is not None else await aks.admin_credential(azure.arm, found, public=public)
    if isinstance(raw, JumpdeckError):
        raise raw
    return found, warnings, raw


async def _told(reading: Awaitable[bytes]) -> bytes | JumpdeckError:
    """What was read, or why not: a failure is the reader's to raise, in the order in which it asks."""
    try:
        return await reading
    except JumpdeckError as error:
        return error


async def entra_access(profile: Profile, cluster: ServerCluster, azure: Azure) -> Access:
    """What a client of an API server named outright needs that takes Entra tokens (`auth = "entra"`)."""
    credentials = EntraCredentials(azure.identity, azure.endpoints.aks_scope, profile=profile.name)
    await credentials.headers()
    return await asyncio.to_thread(plain.server_access, profile, cluster, credentials, credentials.label)


async def exec_credentials(
    profile: Profile, entry: kubeconfig.ExecEntry, azure: AzureSource
) -> EntraCredentials | None:
    """In place of a kubeconfig's kubelogin: the profile's sign-in. None when the entry is another program's.

    A file that somebody handed on must not choose for whom a token is made: its server would get one for ARM or Graph.
    Only the application of all AKS clusters, and the one that the cloud's `aks-scope` names, are taken from it.
    """
    server = from_kubelogin(entry)
    if server is None:
        return None
    found = await azure()
    if server.app.lower() not in (AKS_SERVER_APP, found.endpoints.aks_scope.lower().removesuffix("/.default")):
        raise SignInError(
            "The kubeconfig wants a token for something else than an AKS cluster", f"application {server.app}",
            f'If it is the cluster\'s own: aks-scope = "{server.app}/.default" in a [cloud.NAME] of the profile.',
            code="JD-SIGN-IN-AUDIENCE", recovery=Recovery.PERMANENT,
        )  # fmt: skip
    credentials = _entra(profile, server, found)
    await credentials.headers()
    return credentials


async def _credentials(
    profile: Profile, chosen: kubeconfig.Chosen, server: EntraServer | None, azure: Azure
) -> tuple[Credentials, CertificateSource]:
    if server is not None:
        return _entra(profile, server, azure), lambda: None
    return await plain.fixed_credentials(chosen.user)


def _entra(profile: Profile, server: EntraServer, azure: Azure) -> EntraCredentials:
    # The cloud's own scope stands for the application id that all AKS API servers share; others have their own.
    own = server.app.lower() == AKS_SERVER_APP
    scope = azure.endpoints.aks_scope if own else f"{server.app}/.default"
    return EntraCredentials(azure.identity, scope, tenant=server.tenant, profile=profile.name)


async def _trusted(profile: Profile, ca: bytes | None) -> bytes | None:
    """The cluster's own CA; straight from here also that of the profile: a proxy may inspect this TLS too.

    Inside a hop that carries streams nobody can, so there the cluster's alone counts.
    """
    direct = all(isinstance(hop, NetworkHop) for hop in profile.via)
    if ca is None or profile.ca_file is None or not direct:
        return ca
    more = await asyncio.to_thread(plain.read_ca, profile.ca_file)
    return ca.rstrip() + b"\n" + more


def read_credential(raw: bytes, label: str) -> tuple[kubeconfig.Chosen, EntraServer | None]:
    """The context of a kubeconfig that ARM handed out, and the Entra server when it wants a token for one.

    Raises ProfileError; SignInError (JD-AKS-KUBECONFIG) when it would run a program other than kubelogin.
    """
    merged = kubeconfig.from_network(raw, f"of {label} from Azure")
    providers: dict[str, EntraServer] = {}
    for name, entry in merged.users.items():
        provider = entry.fields.get("auth-provider")
        if isinstance(provider, dict) and provider.get("name") == "azure":
            providers[name] = _from_provider(provider.get("config"))
            entry.fields.pop("auth-provider")
    chosen = merged.choose(None)
    server = providers.get(chosen.user.name)
    if server is None and chosen.user.exec is not None:
        server = from_kubelogin(chosen.user.exec)
        if server is None:
            raise SignInError(
                "The cluster's kubeconfig would run a program", f"{label}: {clean(chosen.user.exec.command)}",
                "What comes over the network is not run. Use a kubeconfig of your own as the profile's cluster.",
                code="JD-AKS-KUBECONFIG", recovery=Recovery.PERMANENT,
            )  # fmt: skip
    return chosen, server


def from_kubelogin(entry: kubeconfig.ExecEntry) -> EntraServer | None:
    """What `kubelogin get-token` would ask for; None when the entry is of another program, or names no server."""
    stem = entry.command.replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")
    if stem != _PROGRAM or not entry.args or entry.args[0] != "get-token":
        return None
    options = _options(entry.args[1:])
    app = options.get("--server-id", "")
    return EntraServer(app, options.get("--tenant-id") or options.get("-t", "")) if _GUID.fullmatch(app) else None


def _options(words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for at, word in enumerate(words):
        name, joined, value = word.partition("=")
        if name.startswith("-"):
            found[name] = value if joined else (words[at + 1] if at + 1 < len(words) else "")
    return found


def _from_provider(config: object) -> EntraServer:
    fields: Mapping[str, Any] = config if isinstance(config, dict) else {}
    app, tenant = fields.get("apiserver-id"), fields.get("tenant-id")
    if not isinstance(app, str) or not _GUID.fullmatch(app):
        raise ProfileError("The cluster's kubeconfig cannot be used", "its auth provider names no API server",
                           "Ask for the cluster to be brought up to date.", code="JD-AKS-KUBECONFIG")  # fmt: skip
    return EntraServer(app, tenant if isinstance(tenant, str) else "")
