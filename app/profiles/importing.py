"""Profiles from what the user has already: contexts of kubeconfigs, and profile files of others.

Nothing in what is imported runs, and no credential is copied: a profile names the kubeconfig and its context.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import ProfileError
from app.files import read_private, shown
from app.profiles import entries
from app.profiles.assembly import Assembly
from app.profiles.commands import RESERVED
from app.profiles.model import KubeconfigCluster, Profile
from app.profiles.rendering import Table, cloud_table, cluster_table, profile_table
from app.profiles.source import parse_source
from app.restricted_yaml import MAX_YAML_BYTES, load_yaml
from app.text import clean

MAX_TITLE = 200
"""Characters of a context's name that become the title; those of EKS have about 100."""


@dataclass
class Found:
    """What an import brings: entries to add (section, name, fields) and what was left out, with the reason."""

    entries: list[tuple[str, str, Table]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Names of the profiles that come."""
        return [name for section, name, _ in self.entries if section == "profile"]


def default_kubeconfigs() -> list[Path]:
    """The files that kubectl reads: those of `KUBECONFIG` that exist, else `~/.kube/config`."""
    listed = [Path(part).expanduser() for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [path for path in listed if path.exists()] or [Path("~/.kube/config").expanduser()]


@dataclass
class _Kubeconfig:
    """The parts of a kubeconfig that an import looks at."""

    path: Path
    contexts: dict[str, dict[object, object]]
    clusters: set[object]
    users: set[object]


def from_kubeconfigs(
    paths: Iterable[Path], contexts: Iterable[str], prefix: str, present: Mapping[str, Profile], taken: set[str]
) -> Found:
    """Profiles for the contexts of kubeconfigs (all, when `contexts` is empty).

    `present` are the profiles that exist, `taken` the names that nobody may get. Raises ProfileError when a file cannot
    be read, or no file has such a context (JD-PROFILE-CONTEXT).
    """
    files = [_read_kubeconfig(Path(os.path.abspath(path.expanduser()))) for path in paths]
    offered = {name for file in files for name in file.contexts}
    wanted = list(dict.fromkeys(contexts))
    where = ", ".join(shown(file.path) for file in files)
    for name in wanted:
        if name not in offered:
            raise ProfileError(
                f"There is no context {clean(name)}",
                f"{where} has: {', '.join(map(clean, sorted(offered))) or 'none'}",
                "Name one of these with --context.",
                code="JD-PROFILE-CONTEXT",
            )
    found, taken = Found(), taken | set(present)
    there = {_key(each.cluster): name for name, each in present.items() if isinstance(each.cluster, KubeconfigCluster)}
    seen: set[str] = set()
    for file in files:
        for context in file.contexts:
            if context not in seen and (not wanted or context in wanted):  # as in kubectl, the first file wins
                seen.add(context)
                _add_context(found, file, context, prefix, there, taken)
        if not file.contexts:
            found.skipped.append(f"{shown(file.path)}: it has no contexts")
    return found


def _add_context(
    found: Found,
    file: _Kubeconfig,
    context: str,
    prefix: str,
    there: Mapping[tuple[str, str | None], str],
    taken: set[str],
) -> None:
    inner, label = file.contexts[context], clean(context)
    cluster = KubeconfigCluster(file.path, context)
    user = inner.get("user")
    if not context or inner.get("cluster") not in file.clusters or (user and user not in file.users):
        found.skipped.append(f"{label}: its cluster or user is not in {shown(file.path)}")
    elif _key(cluster) in there:
        found.skipped.append(f"{label}: it is there already, as {there[_key(cluster)]}")
    elif not (name := free_name(prefix + context, taken)):
        found.skipped.append(f"{label}: no name can be made of it; use profiles add")
    else:
        taken.add(name)
        table: Table = {} if name == context or not context.isprintable() else {"title": context[:MAX_TITLE]}
        found.entries.append(("profile", name, {**table, "cluster": cluster_table(cluster)}))


def _read_kubeconfig(path: Path) -> _Kubeconfig:
    data = read_private(path, limit=MAX_YAML_BYTES, what="kubeconfig", shared=True)
    document = load_yaml(data, f"the kubeconfig {shown(path)}")
    return _Kubeconfig(
        path,
        dict(_named(document, "contexts", "context")),
        {name for name, _ in _named(document, "clusters", "cluster")},
        {name for name, _ in _named(document, "users", "user")},
    )


def from_profile_file(
    path: Path, prefix: str, present: Mapping[str, Profile], taken: set[str], data: bytes | None = None
) -> Found:
    """Profiles of another profile file, with named hops and sign-ins written in place. Its defaults stay behind.

    `present` are the profiles that exist, `taken` the names that nobody may get, `data` what stands in the file when
    it is read already. Raises ProfileError when the file cannot be read.
    """
    path = Path(os.path.abspath(path.expanduser()))
    source = parse_source(path, read_private(path, shared=True) if data is None else data, shared=True)
    assembly = Assembly(source, [])
    found = Found()
    found.skipped += [" ".join((problem.title, problem.detail)) for problem in assembly.problems]
    if source.tables.get("include"):
        found.skipped.append("include: files that it includes are not imported")
    existing = {repr(profile_table(profile)): name for name, profile in present.items()}
    taken = taken | set(present)
    clouds = {profile.cloud.name: profile.cloud for profile in present.values()}
    for profile in assembly.profiles.values():
        table = profile_table(profile)
        if (same := existing.get(repr(table))) is not None:
            found.skipped.append(f"{profile.name}: it is there already, as {same}")
            continue
        cloud = profile.cloud
        if cloud.name in clouds and clouds[cloud.name] != cloud:
            found.skipped.append(f"{profile.name}: another [cloud.{cloud.name}] is there already")
            continue
        if cloud.name not in (*entries.CLOUDS, *clouds):
            found.entries.append(("cloud", cloud.name, cloud_table(cloud)))
            clouds[cloud.name] = cloud
        name = free_name(prefix + profile.name, taken)
        taken.add(name)
        found.entries.append(("profile", name, table))
    return found


def free_name(text: str, taken: Iterable[str]) -> str:
    """A valid name made of `text` that nobody has: collisions are numbered. "" when nothing valid is left of it."""
    base = entries.valid_name(text)
    if not base:
        return ""
    if base in RESERVED:
        base += "-cluster"
    taken = set(taken)
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base[: 62 - len(str(number))].rstrip('-')}-{number}"
    return name


def _named(document: object, section: str, inner: str) -> list[tuple[str, dict[object, object]]]:
    """(name, body) of the entries of a kubeconfig section; entries of another shape are left out."""
    listed = document.get(section) if isinstance(document, dict) else None
    pairs: list[tuple[str, dict[object, object]]] = []
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, dict) and "name" in item:
            body = item.get(inner)
            pairs.append((str(item["name"]), body if isinstance(body, dict) else {}))
    return pairs


def _key(cluster: object) -> tuple[str, str | None]:
    assert isinstance(cluster, KubeconfigCluster)
    return os.path.realpath(cluster.kubeconfig), cluster.context
