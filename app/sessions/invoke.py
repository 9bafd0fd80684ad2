"""The session of a profile without a network path: UP when ARM says that commands can be run in the cluster.

No command is spent on finding that out, and none on finding out that it is still so: each makes a pod in the cluster.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.errors import JumpdeckError, ProfileError
from app.policy import require
from app.profiles.model import AksCluster, InvokeHop, Profile
from app.rows import HopState

if TYPE_CHECKING:
    from app.asking import Asker
    from app.azure.aks import Cluster
    from app.azure.run_command import RunCommand
    from app.cluster.invoke import InvokeReader
    from app.identity.identity import Identity
    from app.sessions.route import RouteGround
    from app.sessions.states import StateBoard

HOP = "command invoke"
"""How it stands in the route line."""
_AS_ADMIN = "commands run as the cluster's administrator: it has no Entra sign-in of its own"


_ROLE = (
    "Command invoke needs the actions read, runcommand/action and commandResults/read of "
    "Microsoft.ContainerService/managedClusters on this cluster: a custom role with these three, or Azure Kubernetes "
    "Service Contributor Role (which may also change it). If it was given just now, sign in again."
)


def by_invoke(profile: Profile) -> bool:
    """Whether a profile's cluster is read by commands that ARM runs."""
    return any(isinstance(hop, InvokeHop) for hop in profile.via)


class InvokeLink:
    """Command invoke in place of a route. `reader` is the same object for life."""

    def __init__(self, profile: Profile, ground: RouteGround, asker: Asker | None) -> None:
        self._profile, self._ground, self._asker = profile, ground, asker
        self._command: RunCommand | None = None
        self.reader: InvokeReader | None = None

    def hop_states(self) -> tuple[HopState, ...]:
        """How it stands, once it was found usable."""
        return (
            ()
            if self.reader is None
            else (HopState(HOP, note="nothing stays open: each look is a question of its own"),)
        )

    async def connect(self, board: StateBoard, notes: tuple[str, ...]) -> None:
        """Sign in and ask ARM about the cluster; each step shows itself. Raises JumpdeckError."""
        cluster = self._profile.cluster
        if not isinstance(cluster, AksCluster):
            raise ProfileError(f"Profile {self._profile.name} cannot be used", "command-invoke needs an AKS cluster",
                               'Write cluster = { aks = "/subscriptions/…" }.', code="JD-PROFILE-INVOKE")  # fmt: skip
        async with board.step("profile and credentials"):
            require("command-invoke", self._profile.name, self._ground.policy_file)
            from app.azure.aks import diagnose
            from app.azure.run_command import RunCommand
            from app.cluster.invoke import InvokeReader

            azure = await self._ground.azure(self._profile, self._asker)
            await azure.identity.token(azure.endpoints.arm_scope)
        command = self._command = self._command or RunCommand(azure, cluster.aks)
        board.publish(
            route=("workstation", HOP, command.name), cluster=command.name, identity=azure.identity.label,
            warnings=notes,
        )  # fmt: skip
        async with board.step(f"{HOP} ({command.name})"):
            target = await self._look()
            warnings = (*diagnose(target, self._profile.via), *notes)
        self.reader = self.reader or InvokeReader(command, self._profile)
        self.reader.asked = lambda: board.publish(token_until=_until(azure.identity))
        board.publish(
            token_until=_until(azure.identity),
            identity=azure.identity.label, warnings=warnings if target.entra else (_AS_ADMIN, *warnings),
            namespace=(self._profile.namespaces or ("default",))[0],
        )  # fmt: skip

    async def hold(self, wake: asyncio.Event) -> None:
        """Stay UP; look at the cluster again only when somebody wants that. Raises what is wrong then."""
        assert self._command is not None, "connect comes first"
        while True:
            await wake.wait()
            wake.clear()
            await self._look()

    async def _look(self) -> Cluster:
        """Read the cluster from ARM. A role that lacks is told as what all of this needs, not this first step alone."""
        assert self._command is not None, "connect comes first"
        try:
            return await self._command.look()
        except JumpdeckError as error:
            if error.code == "JD-ARM-FORBIDDEN" and error.layer == "arm":
                error.hint = _ROLE
            raise

    @property
    def command(self) -> RunCommand:
        """For a command that a person gives; the session is UP."""
        assert self._command is not None, "the session is UP"
        return self._command


def _until(identity: Identity) -> float | None:
    """POSIX seconds at which the first of its tokens ends, where it tells that."""
    tells = getattr(identity, "expires_at", None)
    found: float | None = tells() if callable(tells) else None
    return found
