"""What ARM knows of a connected cluster before it is opened: advice, since not all who may open it may read it.

Source: `connectedClusters` of Microsoft.Kubernetes 2026-05-01. No property says whether cluster connect is enabled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from app.ages import human_duration
from app.arc import failures
from app.azure.fields import Json, flag, inner, name_of, objects, properties, text
from app.errors import JumpdeckError
from app.identity.source import token_claims
from app.records import Record
from app.text import clean, prose

if TYPE_CHECKING:
    from app.azure.context import Azure

API_VERSION = "2026-05-01"
STALE = 3600.0
"""Seconds without contact after which a cluster that ARM calls connected is doubted; agents report often."""
LEAST_AGENT = (1, 14)
"""Agents before this version are refused by az for several operations."""
HIDDEN = "Cluster details hidden (no read permission); connecting anyway."
_DOUBTED = ("offline", "expired", "agentnotinstalled", "connecting")
_ADVISORY = ("JD-ARM-SERVER", "JD-ARM-BUSY", "JD-ARM-ANSWER", "JD-ARM-NOT-ARM", "JD-ARM-TOO-LARGE", "JD-ARM-REFUSED")
"""Failures to read it that say nothing about opening it."""
_SHOWN_ERRORS = 2
"""Errors of the agent that are shown; each is a paragraph."""


class ArcFacts(Record):
    """What is known of a connected cluster. Texts are cleaned; empty when not said."""

    id: str
    name: str
    tenant: str
    """Of the sign-in that ARM accepts, in which the cluster's tokens are asked for too; empty when not known."""
    warnings: tuple[str, ...] = ()
    region: str = ""
    """As ARM writes locations: `westeurope`."""
    agent_version: str = ""
    status: str = ""
    """Connecting, Connected, Offline, Expired or AgentNotInstalled."""
    last_contact: float | None = None
    """POSIX seconds."""
    cluster_tenant: str = ""
    azure_rbac: bool | None = None
    """Whether Azure's roles decide inside the cluster; None when hidden."""
    version: str = ""
    """Of Kubernetes."""
    hidden: bool = False
    """Nobody could read it."""

    @property
    def told(self) -> tuple[str, ...]:
        """The agent's version, status and last contact, and who decides inside the cluster, as far as Azure said."""
        at = "" if self.last_contact is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(self.last_contact))
        seen = f"(last contact {at})" if at else ""
        agent = " ".join(filter(None, (self.agent_version, self.status, seen)))
        rbac = {True: "Azure RBAC on", False: "Azure RBAC off", None: ""}[self.azure_rbac]
        return tuple(filter(None, (agent and f"agent {agent}", rbac)))


async def preflight(azure: Azure, arc_id: str, *, clock: Callable[[], float] = time.time) -> ArcFacts:
    """The facts and lasting warnings. Raises JumpdeckError for what cannot work: 401, 404, private link, no network.

    Not allowed to read it, and ARM in trouble, are warnings.
    """
    try:
        found = await azure.arm.get(arc_id, API_VERSION)
        said = properties(found, arc_id)
    except JumpdeckError as error:
        return await _unread(azure, arc_id, error)
    name = clean(text(found, "name") or name_of(arc_id))
    if text(said, "privateLinkState").lower() == "enabled":
        raise failures.private_link(name)
    tenant = await sign_in_tenant(azure)
    cluster_tenant = text(inner(found, "identity"), "tenantId")
    last = _moment(text(said, "lastConnectivityTime"))
    aad = inner(said, "aadProfile")
    warnings = (*_contact(said, last, clock()), *_agent(said, clock()), *_tenants(name, tenant, cluster_tenant))
    return ArcFacts(
        arc_id, name, tenant, warnings, region_of(text(found, "location")), clean(text(said, "agentVersion")),
        clean(text(said, "connectivityStatus")), last, clean(cluster_tenant),
        flag(aad, "enableAzureRBAC"), clean(text(said, "kubernetesVersion")),
    )  # fmt: skip


async def _unread(azure: Azure, arc_id: str, error: JumpdeckError) -> ArcFacts:
    forbidden = error.code == "JD-ARM-FORBIDDEN" and error.layer != "sign-in"
    if not forbidden and error.code not in _ADVISORY:
        raise failures.of_read(error, arc_id) from error
    told = HIDDEN if forbidden else f"Cluster details not read ({error.title}); connecting anyway."
    return ArcFacts(arc_id, clean(name_of(arc_id)), await sign_in_tenant(azure), (told,), hidden=True)


async def sign_in_tenant(azure: Azure) -> str:
    """The tenant of the token that ARM is asked with, from its claims. Raises SignInError."""
    token = await azure.identity.token(azure.endpoints.arm_scope)
    return clean(str(token_claims(token.value).get("tid") or ""))[:80]


def region_of(location: str) -> str:
    """A region as services write it: the display name without its spaces (East US 2 → eastus2)."""
    return clean("".join(location.split()).lower())


def _contact(said: Json, last: float | None, now: float) -> list[str]:
    status = text(said, "connectivityStatus")
    seen = f"last seen {human_duration(now - last)} ago" if last is not None and last <= now else ""
    if status.lower() in _DOUBTED:
        told = f"Agent {seen} ({clean(status)})" if seen else f"Azure says of the agent: {clean(status)}"
        return [f"{told}. The tunnel will probably fail."]
    if last is not None and now - last > STALE:
        return [f"Agent {seen} ({clean(status) or 'status not said'}). The tunnel may fail."]
    return []


def _agent(said: Json, now: float) -> list[str]:
    warnings = []
    provisioning = text(said, "provisioningState")
    if provisioning.lower() in ("failed", "canceled", "deleting"):
        warnings.append(f"Azure says of the cluster: {clean(provisioning)}")
    version = text(said, "agentVersion")
    if (known := _version(version)) is not None and known < LEAST_AGENT:
        least = ".".join(str(part) for part in LEAST_AGENT)
        warnings.append(f"The agent is old ({clean(version)}, before {least}): it may not take this connection.")
    ends = _moment(text(said, "managedIdentityCertificateExpirationTime"))
    if ends is not None and ends < now:
        warnings.append(f"The agent's certificate ended {human_duration(now - ends)} ago: it cannot reach Azure.")
    profile = inner(said, "arcAgentProfile")
    for one in objects(profile, "agentErrors")[:_SHOWN_ERRORS]:
        if told := prose(text(one, "message"), 300):
            warnings.append(f"The agent reports: {told}")
    return warnings


def _tenants(name: str, signed_in: str, of_cluster: str) -> list[str]:
    if not signed_in or not of_cluster or signed_in.lower() == of_cluster.lower():
        return []
    return [
        f"The sign-in is of tenant {clean(signed_in)}, {name} of {clean(of_cluster)}: "
        "it may refuse the token. Set `tenant` in the profile's sign-in."
    ]


def _version(said: str) -> tuple[int, ...] | None:
    parts = said.lstrip("v").split(".")[:2]
    return tuple(int(part) for part in parts) if len(parts) == 2 and all(part.isdecimal() for part in parts) else None


def _moment(said: str) -> float | None:
    """RFC 3339 as POSIX seconds; None when it is none."""
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
