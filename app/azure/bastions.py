"""Azure Bastion hosts as ARM describes them, and the gates before a tunnel is tried.

Source: `bastionHosts` of Microsoft.Network 2024-01-01; the gates are those of the Azure CLI's bastion extension, and
what its issues tell of hosts without `enableTunneling` in their properties.
"""

from __future__ import annotations

from app.azure.arm import Arm
from app.azure.fields import flag, inner, name_of, part_of, properties, text
from app.errors import Recovery, RouteError
from app.records import Record
from app.text import clean

API_VERSION = "2024-01-01"

TUNNELLING_SKUS = ("standard", "premium")
"""Those with native client support."""

ONE_SESSION_SKUS = ("developer", "quickconnect")
"""Those that serve one connection to one VM."""

_RAISE = "--sku Standard --enable-tunneling true"

_CHANGING = ("creating", "updating", "accepted", "running")


class Bastion(Record):
    """A Bastion host. Texts are as they came."""

    id: str
    name: str
    sku: str
    """Basic, Standard, Premium, Developer, QuickConnect; empty when not said."""
    dns_name: str
    """Host (and port, in the lab) of the data plane; never built by ourselves."""
    tunnelling: bool
    """`enableTunneling`; absent means that native client support was never switched on."""
    ip_connect: bool
    provisioning: str

    @property
    def label(self) -> str:
        """How errors and the screen name it."""
        return clean(self.name)


async def read_bastion(arm: Arm, arm_id: str) -> Bastion:
    """The host with this ARM id. Raises JumpdeckError."""
    found = await arm.get(arm_id, API_VERSION)
    said = properties(found, arm_id)
    return Bastion(
        id=arm_id, name=text(found, "name") or name_of(arm_id), sku=text(inner(found, "sku"), "name"),
        dns_name=text(said, "dnsName"), tunnelling=flag(said, "enableTunneling"),
        ip_connect=flag(said, "enableIpConnect"), provisioning=text(said, "provisioningState"),
    )  # fmt: skip


def check_bastion(
    bastion: Bastion, *, cluster: bool = False, by_address: bool = False, one_session: bool = False
) -> None:
    """Raise RouteError when the host cannot carry what is wanted.

    `cluster`: an AKS API server; `by_address`: a bare IP; `one_session`: a single connection to a VM, which a Developer
    host carries. Codes: JD-BASTION-DEVELOPER, -SKU, -STATE, -TUNNELING, -IP-CONNECT, -NO-ADDRESS.
    """
    _check_sku(bastion, cluster=cluster, one_session=one_session)
    _check_state(bastion)
    if not bastion.tunnelling and bastion.sku.lower() in TUNNELLING_SKUS:
        raise _error(bastion, "JD-BASTION-TUNNELING", "Tunnels are switched off on this Bastion",
                     "native client support (enableTunneling) is not on",
                     f"Switch it on: {_update(bastion, '--enable-tunneling true')}")  # fmt: skip
    if by_address and not bastion.ip_connect:
        change = _update(bastion, "--enable-ip-connect true")
        raise _error(bastion, "JD-BASTION-IP-CONNECT", "This Bastion does not connect to addresses",
                     "IP-based connection (enableIpConnect) is not on",
                     f"Name the VM's ARM id as target, or switch it on: {change}")  # fmt: skip
    if not bastion.dns_name:
        raise _error(bastion, "JD-BASTION-NO-ADDRESS", "The Bastion has no address", "ARM names no dnsName",
                     "A private-only Bastion, or one that is being made: look at it in the Azure portal.")  # fmt: skip


def _check_sku(bastion: Bastion, *, cluster: bool, one_session: bool) -> None:
    sku, shown = bastion.sku.lower(), clean(bastion.sku) or "unnamed"
    if sku in ONE_SESSION_SKUS and (cluster or not one_session):
        why = "it lets one connection to one VM through at a time"
        if cluster:
            why += ", and an API server takes many at once (lists, watches, logs)"
        raise _error(bastion, "JD-BASTION-DEVELOPER", f"The {shown} SKU of Bastion does not carry this", why,
                     f"Use a Standard or Premium Bastion, or raise this one: {_update(bastion, _RAISE)}")  # fmt: skip
    if sku not in TUNNELLING_SKUS and sku not in ONE_SESSION_SKUS:
        raise _error(bastion, "JD-BASTION-SKU", f"The {shown} SKU of Bastion has no tunnels",
                     "native client support needs Standard or Premium",
                     f"Raise it (it takes minutes): {_update(bastion, _RAISE)}")  # fmt: skip


def _check_state(bastion: Bastion) -> None:
    state = bastion.provisioning
    if state and state.lower() != "succeeded":
        changing = state.lower() in _CHANGING
        raise _error(bastion, "JD-BASTION-STATE", "The Bastion is not ready", f"Azure says: {clean(state)}",
                     "It is being changed; it is tried again." if changing else "Look at it in the Azure portal.",
                     Recovery.TRANSIENT if changing else Recovery.PERMANENT)  # fmt: skip


def _update(bastion: Bastion, change: str) -> str:
    group, subscription = part_of(bastion.id, "resourceGroups"), part_of(bastion.id, "subscriptions")
    return (f"az network bastion update --name {clean(name_of(bastion.id))} --resource-group {clean(group)} "
            f"--subscription {clean(subscription)} {change}")  # fmt: skip


def _error(
    bastion: Bastion, code: str, title: str, why: str, hint: str, recovery: Recovery = Recovery.PERMANENT
) -> RouteError:
    return RouteError(title, f"{bastion.label}: {why}", hint, code=code, layer="hop", recovery=recovery)
