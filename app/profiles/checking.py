"""What reading a profile cannot know: whether the files that it names are there."""

from __future__ import annotations

import os
from pathlib import Path

from app.files import shown
from app.profiles.model import KubeconfigCluster, Profile, ServerCluster, SshHop
from app.profiles.problem import ProfileProblem


def missing_files(profile: Profile) -> list[ProfileProblem]:
    """A problem for each file that the profile names and that is missing or cannot be read."""
    return [
        ProfileProblem(
            f"{shown(path)} {wrong}",
            "Correct the path, or put the file there.",
            code="JD-PROFILE-FILE",
            file=profile.origin,
            table=f"profile.{profile.name}",
            profile=profile.name,
            field=field,
        )
        for field, path in _named_files(profile)
        if (wrong := _wrong(path))
    ]


def _named_files(profile: Profile) -> list[tuple[str, Path]]:
    cluster = profile.cluster
    named: list[tuple[str, Path | bool | None]] = [
        ("ca-file", profile.ca_file),
        ("arc-proxy", profile.arc_proxy),
        ("cloud.ca-file", profile.cloud.ca_file),
    ]
    if isinstance(cluster, KubeconfigCluster):
        named.append(("cluster.kubeconfig", cluster.kubeconfig))
    if isinstance(cluster, ServerCluster):
        named.append(("cluster.ca-file", cluster.ca_file))
    for at, hop in enumerate(profile.via):
        if isinstance(hop, SshHop):
            where = f"via[{at}]" if len(profile.via) > 1 else "via"
            named += [
                (f"{where}.key", hop.key),
                (f"{where}.certificate", hop.certificate),
                (f"{where}.agent", hop.agent),
            ]
    return [(field, path) for field, path in named if isinstance(path, Path)]


def _wrong(path: Path) -> str | None:
    try:
        if not path.exists():
            return "does not exist"
        if path.is_dir():
            return "is a folder"
    except (OSError, ValueError):
        return "cannot be looked at"
    return None if os.access(path, os.R_OK) else "cannot be read"
