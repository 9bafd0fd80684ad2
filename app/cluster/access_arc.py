"""Access to a connected cluster: signed in before the way opens, made whole by what the open way hands over."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from app.cluster import kubeconfig, tls
from app.cluster.access import Access, AskedTokenCredentials, Credentials
from app.errors import JumpdeckError, Recovery, RefusedError, RouteError
from app.profiles.model import ArcCluster, Profile
from app.records import replace
from app.secrets.secret import Secret
from app.text import clean

if TYPE_CHECKING:
    import ssl

    from app.asking import Asker
    from app.azure.context import Azure
    from app.dialer import Dialer
    from app.identity.claims import Who
    from app.secrets.secret import SecretSource

HOST = "127.0.0.1"
RENEW_LIMIT = 10.0
"""Seconds for a new credential of the relay between two tries: the next try must not wait long for it."""
_NO_ANSWER = ("JD-API-NO-ANSWER", "JD-API-UNAVAILABLE", "JD-API-TIMEOUT", "JD-API-NO-BACKEND", "JD-API-SERVER-ERROR",
              "JD-API-CLOSED", "JD-API-STARTING")  # fmt: skip
"""How it looks when the program has a relay and nobody answers behind it."""
_OVERAGE = "overage claim"
_STAND_IN = "the-local-proxy-adds-the-identity"


@runtime_checkable
class Handing(Protocol):
    """What the open way to a connected cluster knows (`app.routes.arc.ArcConnection`)."""

    @property
    def kubeconfig(self) -> bytes: ...

    @property
    def token_ends(self) -> float | None: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    async def renew(self) -> None: ...


class ProxyCredentials:
    """Nothing to send: the local proxy adds the identity to each request."""

    patient = True
    """A refusal may be tried again: no person is asked."""

    def __init__(self, way: _Way) -> None:
        self._way = way

    @property
    def expires_at(self) -> float | None:
        """POSIX seconds at which the identity ends unless it is renewed."""
        return None if self._way.handed is None else self._way.handed.token_ends

    @property
    def stand_in(self) -> Secret:
        """What another program sends, which does not go without a credential; the proxy puts the identity there.

        As with az it is the token in the kubeconfig's user, where there is one.
        """
        return self._way.user_token or Secret(_STAND_IN)

    async def headers(self) -> dict[str, str]:
        return {}

    async def refresh(self) -> bool:
        return False


class _Way:
    """The open way as it is now: another program has another certificate."""

    def __init__(self, arc_id: str) -> None:
        self.prefix = hashlib.sha256(arc_id.lower().encode()).hexdigest()
        self.handed: Handing | None = None
        self.user_token: Secret | None = None
        self.ca: bytes | None = None
        self.version = 0

    def adopt(self, handed: Handing) -> None:
        """Trust what this way serves with. Raises RouteError (JD-ARC-KUBECONFIG)."""
        chosen = kubeconfig.from_network(handed.kubeconfig, "of the local Arc proxy").choose(None)
        entry, self.user_token = chosen.cluster, chosen.user.token
        if entry.host != HOST or entry.base_path.strip("/").lower() != self.prefix:
            raise _unusable(f"its server is {clean(entry.server[:200])}")
        if entry.ca is None:
            raise _unusable("it names no CA, and what is not verified is not used")
        if entry.ca != self.ca:
            self.ca, self.version = entry.ca, self.version + 1
        self.handed = handed

    def context(self) -> ssl.SSLContext:
        """TLS with the present program."""
        if self.ca is None:
            raise RouteError("The route is not open", "", code="JD-ROUTE-NOT-OPEN", recovery=Recovery.TRANSIENT)
        return tls.make_context(self.ca, None, ca_from="the local Arc proxy")

    async def renew(self) -> None:
        """As `Access.recheck`: what the relay's credential has to do with it is tried; the way itself says more."""
        if self.handed is None:
            return
        try:
            async with asyncio.timeout(RENEW_LIMIT):
                await self.handed.renew()
        except (JumpdeckError, TimeoutError):
            return


async def arc_access(
    profile: Profile, cluster: ArcCluster, azure: Azure, *, asker: Asker | None, secrets: SecretSource | None
) -> Access:
    """What a client of a connected cluster needs, as far as it is known before the way is open; then `complete`.

    Signs in. Raises SignInError.
    """
    from app.identity.claims import of_token

    token = await azure.identity.token(azure.endpoints.arm_scope)
    who = of_token(token.value)
    way = _Way(cluster.arc)
    name = clean(cluster.arc.rstrip("/").rpartition("/")[2])
    credentials: Credentials = ProxyCredentials(way)
    identity = clean(azure.identity.label)
    if cluster.auth == "token":
        credentials = AskedTokenCredentials(profile.name, asker, secrets)
        await credentials.headers()
        identity = "service account"
    started = Access(
        server=f"https://{HOST}/{way.prefix}",
        host=HOST,
        port=443,
        tls_name=HOST,
        context_factory=way.context,
        credentials=credentials,
        cluster_label=name,
        identity_label=identity,
        base_path=f"/{way.prefix}",
        context_version=lambda: way.version,
        judge=lambda error: judged(error, name, None if cluster.auth == "token" else who, profile.name),
        recheck=way.renew,
    )

    def complete(far: Dialer) -> Access:
        assert isinstance(far, Handing), "the route of a connected cluster ends with its hop"
        way.adopt(far)
        return replace(started, ca=way.ca, warnings=far.warnings, complete=complete)

    return replace(started, complete=complete)


def judged(error: JumpdeckError, name: str, who: Who | None, profile: str) -> JumpdeckError:
    """A failure behind the tunnel, worded for a connected cluster. `who`: the person, None for a service account."""
    if error.code == "JD-API-UNAUTHORIZED" and _OVERAGE in error.detail.lower():
        return RefusedError(
            "Your account is in more than 200 groups", error.detail,
            'Use a service principal or a service-account token (auth = "token" in the cluster): '
            f"jumpdeck whoami {profile} --for service-account:NAME",
            code="JD-ARC-OVERAGE", recovery=Recovery.PERMANENT,
        )  # fmt: skip
    if error.code in _NO_ANSWER and error.layer == "api" and "GET /version" in error.detail:
        why = f"{error.title[:1].lower()}{error.title[1:]}"
        return RouteError(
            f"{name} does not answer through the relay",
            error.detail if ":" in error.detail else f"{error.detail}: {why}",  # the title alone said why
            "Check clusterconnect-agent in its namespace azure-arc; WebSocket on port 443 to the relay must be open "
            "there and from this computer.", code="JD-ARC-AGENT", layer="arc", recovery=error.recovery,
            retry_after=error.retry_after,
        )  # fmt: skip
    if error.code in ("JD-API-UNAUTHORIZED", "JD-API-FORBIDDEN", "JD-API-ANONYMOUS") and who is not None:
        if error.layer == "token" and error.recovery is Recovery.NEEDS_PERSON:
            error.layer = "sign-in"
        names = (("user", who.upn), ("object id", who.object_id))
        whom = " or ".join(f"{what} {value}" for what, value in names if value)
        bind = f"Connected, but Kubernetes denies it: bind a role to {whom or who.name} (jumpdeck whoami {profile})."
        error.hint = bind if error.code != "JD-API-FORBIDDEN" else f"{error.hint} {bind}"
    return error


def _unusable(why: str) -> RouteError:
    return RouteError(
        "The kubeconfig of the local Arc proxy cannot be used", why,
        "Its private interface may have changed: use another version of arcProxy (arc-proxy in the profile).",
        code="JD-ARC-KUBECONFIG", layer="arc",
    )  # fmt: skip
