"""What Azure's refusals mean for a connected cluster, and what to do next."""

from __future__ import annotations

from app.arc.program import LAYER
from app.azure.fields import name_of, part_of
from app.errors import JumpdeckError, RouteError, SignInError
from app.text import clean

USER_ROLE = "Azure Arc Enabled Kubernetes Cluster User Role"
"""Built-in role 00493d72-78f6-4148-b6c5-d3ce8e4799dd: the smallest that hands out the relay's credential."""


def of_credential(error: JumpdeckError, arc_id: str) -> JumpdeckError:
    """A failure to get the relay's credential, worded for a connected cluster; others stay as they are."""
    if error.code == "JD-ARM-FORBIDDEN" and error.layer != "sign-in":
        if "policy" in error.title:
            return error
        return SignInError(
            "You cannot open this cluster", f"the role {USER_ROLE} is missing on {clean(arc_id)}; {error.detail}",
            f"Ask an administrator for {USER_ROLE} there. If it was given just now, sign in again.", code=error.code,
            layer=error.layer, recovery=error.recovery,
        )  # fmt: skip
    return of_read(error, arc_id)


def of_read(error: JumpdeckError, arc_id: str) -> JumpdeckError:
    """A failure that reading it and opening it have in common."""
    if error.code in ("JD-ARM-NOT-FOUND", "JD-ARM-NO-SUBSCRIPTION"):
        group, subscription = part_of(arc_id, "resourceGroups"), part_of(arc_id, "subscriptions")
        return RouteError(
            f"No connected cluster {clean(name_of(arc_id))}",
            f"not in {clean(group)} of subscription {clean(subscription)}; {error.detail}",
            f"Check the subscription and the ARM id. {error.hint.removeprefix('Check the ARM id. ')}", code=error.code,
            layer=error.layer, recovery=error.recovery,
        )  # fmt: skip
    return error


def private_link(name: str) -> RouteError:
    """Cluster connect does not go together with private link."""
    return RouteError(
        "Cluster connect is not available while private link is enabled", f"{clean(name)}: privateLinkState Enabled",
        "Use another way in (SSH, VPN, Bastion), or have private link switched off.", code="JD-ARC-PRIVATE-LINK",
        layer=LAYER,
    )  # fmt: skip
