"""Looks at the host key of one SSH server without logging in there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.records import replace
from app.routes.context import RouteContext
from app.routes.host_keys import Finding, HostKeyCheck, HostKeyError, HostKeys, Server, Verdict
from app.routes.ssh import SshDial
from app.secrets.secret import SecretSource

if TYPE_CHECKING:
    import asyncssh

    from app.dialer import Dialer
    from app.profiles.model import SshHop


class _Look(HostKeyCheck):
    """Judges as the other check does, and lets nobody in: a key that is known ends the handshake as well."""

    def __init__(self, check: HostKeyCheck, keys: _LookingKeys) -> None:
        self._check, self._keys = check, keys
        self.server, self.algorithms = check.server, check.algorithms

    def revoked(self) -> list[asyncssh.SSHKey]:
        return self._check.revoked()

    def judge(self, key: asyncssh.SSHKey) -> Finding:
        return self._seen(self._check.judge(key))

    def judge_authority(self, key: asyncssh.SSHKey) -> Finding:
        return self._seen(self._check.judge_authority(key))

    def after_refusal(self, finding: Finding | None) -> HostKeyCheck | None:
        if self._keys.seen is not None and self._keys.seen.verdict is Verdict.KNOWN:
            return None
        following = self._check.after_refusal(finding)
        return _Look(following, self._keys) if following is not None else None

    def _seen(self, finding: Finding) -> Finding:
        self._keys.seen = finding
        return replace(finding, verdict=Verdict.UNKNOWN) if finding.verdict is Verdict.KNOWN else finding


class _LookingKeys(HostKeys):
    """The files of another `HostKeys`, and what was seen last."""

    def __init__(self, keys: HostKeys) -> None:
        super().__init__(keys.own.path, keys.others)
        self.seen: Finding | None = None

    def check_for(self, server: Server) -> HostKeyCheck:
        return _Look(super().check_for(server), self)

    def refuse(self, finding: Finding) -> None:
        """Nobody has decided anything."""


async def look_at(spec: SshHop, server: str, through: Dialer, keys: HostKeys, *, profile: str, policy: str) -> Finding:
    """The finding on the key that `server` of the hop shows. Raises RouteError when it cannot be reached.

    The handshake ends before anything of ours is sent: no user name, no key.
    """
    looking = _LookingKeys(keys)
    # with a password as the only way in, no key file is read and no agent is asked; it does not come to it
    alone = replace(spec, ssh=(server,), key=None, certificate=None, agent=False, password=True)
    hop = SshDial(alone, RouteContext(None, SecretSource(None), looking), profile=profile, policy=policy)
    try:
        async with hop.open(through):
            raise AssertionError("the handshake went on although every key is refused")
    except HostKeyError as error:
        if looking.seen is None:
            return error.finding
        return replace(looking.seen, server=error.finding.server)
