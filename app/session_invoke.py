"""The session of a profile without a network path: UP when ARM says that commands can be run in the cluster.

No command is spent on finding that out, and none on finding out that it is still so: each makes a pod in the cluster.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.errors import ProfileError
from app.profiles.model import AksCluster, InvokeHop, Profile
from app.rows import HopState

if TYPE_CHECKING:
    from app.asking import Asker
    from app.azure.run_command import RunCommand
    from app.cluster.invoke import InvokeReader
    from app.session_route import RouteGround
    from app.session_states import StateBoard

HOP = "command invoke"
"""How it stands in the route line."""
_AS_ADMIN = "commands run as the cluster's administrator: it has no Entra sign-in of its own"


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
            target = await command.look()
            warnings = (*diagnose(target, self._profile.via), *notes)
        board.publish(
            identity=azure.identity.label, warnings=warnings if target.entra else (_AS_ADMIN, *warnings),
            namespace=(self._profile.namespaces or ("default",))[0],
        )  # fmt: skip
        self.reader = self.reader or InvokeReader(command, self._profile)

    async def hold(self, wake: asyncio.Event) -> None:
        """Stay UP; look at the cluster again only when somebody wants that. Raises what is wrong then."""
        assert self._command is not None, "connect comes first"
        while True:
            await wake.wait()
            wake.clear()
            await self._command.look()

    @property
    def command(self) -> RunCommand:
        """For a command that a person gives; the session is UP."""
        assert self._command is not None, "the session is UP"
        return self._command
