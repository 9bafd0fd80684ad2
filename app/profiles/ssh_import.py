"""Named hops, and a profile when wanted, for hosts of an SSH client configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.errors import ProfileError
from app.profiles.importing import Found, free_name
from app.profiles.model import SshHop
from app.profiles.rendering import Table, hop_table
from app.profiles.ssh_config import SshConfig, SshHost, choose_hosts
from app.text import clean


@dataclass
class SshFound(Found):
    """What an import of SSH hosts brings."""

    ways: dict[str, list[str]] = field(default_factory=dict)
    """Host to the names of its hops, in the order in which they stand in `via`."""


def from_ssh_config(config: SshConfig, hosts: Iterable[str], prefix: str, present: Mapping[str, object]) -> SshFound:
    """Hops for the hosts of a configuration (all, when `hosts` is empty), and for those that they jump through.

    `present` are the named hops that exist, by name; one that is the same is used again. Raises ProfileError for a host
    that is not there, and for one that was named and cannot be used; of all hosts those are left out with the reason.
    """
    found = SshFound()
    named = list(hosts)
    tables: dict[str, object] = dict(present)
    used: list[str] = []
    for alias in choose_hosts(config, named):
        try:
            chain = config.chain(alias)
        except ProfileError as error:
            if named:
                raise
            found.skipped.append(f"{clean(alias)}: {error.detail}")
            continue
        found.ways[alias] = [_hop_name(server, prefix, tables, found) for server in chain]
        used += [server.alias for server in chain]
        found.skipped += [
            f"{clean(server.alias)}: its CertificateFile, which needs an IdentityFile here"
            for server in chain
            if server.key is None and config.first(server.alias, "certificatefile")
        ]
    found.skipped = [*dict.fromkeys(found.skipped), *config.ignored_for(dict.fromkeys(used))]
    return found


def _hop_name(server: SshHost, prefix: str, tables: dict[str, object], found: SshFound) -> str:
    """The name of the hop for a server: one that is there already, or a new entry."""
    table: Table = hop_table(SshHop((server.server,), user=server.user, key=server.key, certificate=server.certificate))
    for name, there in tables.items():
        if there == table:
            return name
    name = free_name(prefix + server.alias, tables) or free_name(f"{prefix}hop", tables)
    tables[name] = table
    found.entries.append(("hop", name, table))
    return name
