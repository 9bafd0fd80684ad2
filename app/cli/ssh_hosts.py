"""`jumpdeck profiles import --ssh-config`: hosts of an SSH client configuration as named hops."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.frame import say
from app.cli.profile_changes import parse_table
from app.cli.profiles import out
from app.errors import UsageError
from app.files import shown
from app.text import clean

if TYPE_CHECKING:
    from app.profiles.ssh_import import SshFound
    from app.profiles.store import ProfileBook

DEFAULT_FILE = "~/.ssh/config"


def import_ssh_hosts(args: argparse.Namespace, book: ProfileBook, taken: set[str]) -> int:
    """Add the hops, and a profile through them with --cluster; say how to use them and what was left out."""
    from app.profiles.rendering import to_toml
    from app.profiles.saving import add_entries, current_text
    from app.profiles.source import parse_source
    from app.profiles.ssh_config import read_ssh_config
    from app.profiles.ssh_import import from_ssh_config

    file, hosts = _file_and_hosts(args.words)
    cluster = parse_table(args.cluster, "--cluster") if args.cluster else None
    if cluster is not None and len(hosts) != 1:
        raise UsageError(
            "Through which host?", "--cluster makes one profile, through one host",
            "jumpdeck profiles import --ssh-config HOST --cluster …", code="JD-USAGE-ARGUMENTS",
        )  # fmt: skip
    present = parse_source(book.path, current_text(book.path)).tables.get("hop")
    found = from_ssh_config(read_ssh_config(file), hosts, args.prefix, present if isinstance(present, dict) else {})
    if cluster is not None:
        _add_profile(found, args, hosts[0], cluster, taken | set(book.profiles))
    for line in found.skipped:
        say(f"jumpdeck: left out {line}")
    if args.dry_run:
        out("\n".join(to_toml(f"{section}.{name}", table) for section, name, table in found.entries))
        return 0
    if found.entries:
        add_entries(book.path, found.entries, list(book.shared))
        added = ", ".join(f"[{section}.{name}]" for section, name, _ in found.entries)
        say(f"jumpdeck: added {added} to {shown(book.path)}")
    elif found.ways:
        say("jumpdeck: nothing added: the hops are there already")
    if cluster is None:
        for host, names in found.ways.items():
            listed = ", ".join(f'"{name}"' for name in names)
            say(f"  through {clean(host)}: via = [{listed}]")
    return 0


def _file_and_hosts(words: list[str]) -> tuple[Path, list[str]]:
    """A first word with a separator or `~` is the file; the others are hosts."""
    if words and ("/" in words[0] or "\\" in words[0] or words[0].startswith("~")):
        return Path(words[0]), words[1:]
    return Path(DEFAULT_FILE), words


def _add_profile(found: SshFound, args: argparse.Namespace, host: str, cluster: object, taken: set[str]) -> None:
    from app.profiles.importing import free_name

    name = args.name or free_name(args.prefix + host, taken)
    found.entries.append(("profile", name, {"cluster": cluster, "via": list(found.ways[host])}))
