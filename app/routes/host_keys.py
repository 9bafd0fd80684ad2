"""Whether the key that an SSH server shows is the one that it should have (S-01 to S-04)."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from app.asking import HostKeyQuestion
from app.errors import RouteError
from app.records import Record

if TYPE_CHECKING:
    import asyncssh


class Verdict(Enum):
    """Four events that are never mixed up."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


class Server(Record):
    """The SSH server of a hop for which trust is decided."""

    profile: str
    host: str
    """As the profile names it, without user and port."""
    port: int
    address: str = ""
    """Where the connection goes, for people."""
    alias: str = ""
    """The name under which trust is kept, when not the host's (`HostKeyAlias`): S-04."""
    policy: str = "ask"
    """strict, ask or pinned."""
    pin: str | None = None
    """`host-key` of the hop."""
    vm: str | None = None
    """ARM id, for the command that reads the key out of the VM."""


class Finding(Record):
    """What was found about one shown key."""

    verdict: Verdict
    server: Server
    key_type: str
    fingerprint: str
    line: str
    """The key as `type base64`, for the known_hosts file."""

    def question(self) -> HostKeyQuestion:
        """For an unknown key."""
        raise NotImplementedError

    def error(self) -> RouteError:
        """What to tell when it is not trusted."""
        raise NotImplementedError


class HostKeyCheck:
    """All that is known of one server, read before the connection is made."""

    algorithms: tuple[str, ...] | None = None
    """Host-key algorithms in the order to offer (known types first); None: the library's."""

    def judge(self, key: asyncssh.SSHKey) -> Finding:
        """The verdict on a plain key."""
        raise NotImplementedError

    def judge_authority(self, key: asyncssh.SSHKey) -> Finding:
        """The verdict on the authority that signed a host certificate (asyncssh checks names and dates)."""
        raise NotImplementedError


class HostKeys:
    """The known_hosts files: the person's and the system's to read, our own to write."""

    def __init__(self, own: Path | None = None, others: tuple[Path, ...] | None = None) -> None:
        raise NotImplementedError

    def check_for(self, server: Server) -> HostKeyCheck:
        """Read the files. Blocks: run it off the loop. Raises ProfileError for a file that cannot be used."""
        raise NotImplementedError

    def trust(self, finding: Finding) -> None:
        """Keep an unknown key as known. Blocks. Audited."""
        raise NotImplementedError
