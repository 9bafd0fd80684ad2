"""The lab's folder on disk: made private, filled with profiles and kubeconfig, and removed at the end.

Layout: `config/` is the JUMPDECK_CONFIG_DIR; the kubeconfig and the certificates lie beside it, not in it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.lab.azure_names import ARC_ENTRA, ARC_TOKEN, BASTION, CLUSTER, JUMP_VM, SSH_SCOPE, TENANT

API_NAME = "lab-api.jumpdeck.internal"
"""The private name of the lab's API server; no resolver knows it, only the jump boxes do."""

INNER_NAME = "inner.jumpdeck.internal"
"""The private name of the second jump box; only the first one knows it."""

SSH_USER = "ops"
"""The user of both jump boxes."""

CONTEXTS = {"lab": "admin", "lab-restricted": "restricted", "lab-nobody": "nobody"}
"""Contexts of the lab's kubeconfig that go straight to the API server, and the user behind each."""

PRIVATE_CONTEXT = "lab-private"
"""The context whose server only the jump boxes reach; its user is the administrator."""

_PREFIX = "jumpdeck-lab-"
_OWN = ("config", "kubeconfig", "ca.pem", "server.pem", "server.key", "jump.key", "control.sock", "arc-faults.json")


@dataclass(frozen=True, slots=True)
class LabFolder:
    """Paths of one lab."""

    root: Path

    @property
    def config(self) -> Path:
        """The folder that JUMPDECK_CONFIG_DIR names."""
        return self.root / "config"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def jump_key(self) -> Path:
        """The private key for the jump box; its passphrase is in the lab's memory."""
        return self.root / "jump.key"

    @property
    def lab_json(self) -> Path:
        """How to reach the running lab."""
        return self.config / "lab.json"


@contextmanager
def lab_folder(root: Path | None) -> Iterator[LabFolder]:
    """A private folder for one lab, removed at the end. A given folder must be new or empty. Raises OSError."""
    made = root is None or not root.exists()
    if root is None:
        root = Path(tempfile.mkdtemp(prefix=_PREFIX))
    else:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise FileExistsError(f"{root} is not empty")
    folder = LabFolder(root)
    try:
        folder.config.mkdir(mode=0o700)
        yield folder
    finally:
        for path in (*(root / name for name in _OWN), *root.glob("arcProxy_*")):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if made:
            shutil.rmtree(root, ignore_errors=True)


def remove_left_behind(root: Path) -> None:
    """Remove the temporary folder of a lab that was killed; a folder that somebody chose, or a link, is left alone."""
    if root.name.startswith(_PREFIX) and root.parent == Path(tempfile.gettempdir()) and not root.is_symlink():
        shutil.rmtree(root, ignore_errors=True)


def write_private(path: Path, text: str) -> None:
    """A new file that only its owner reads."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _quoted(value: str | Path) -> str:
    """A string that is the same in JSON, YAML and TOML."""
    return json.dumps(str(value), ensure_ascii=False)


def write_kubeconfig(folder: LabFolder, port: int, ca: Path, tokens: Mapping[str, str]) -> None:
    """The kubeconfig of the lab: its API server straight and as the jump boxes see it. `tokens` is user to token."""
    lines = ["apiVersion: v1", "kind: Config", "clusters:", "- name: lab", "  cluster:"]
    lines += [f"    server: https://127.0.0.1:{port}", f"    certificate-authority: {_quoted(ca)}"]
    lines += [f"    tls-server-name: {API_NAME}", f"- name: {PRIVATE_CONTEXT}", "  cluster:"]
    lines += [f"    server: https://{API_NAME}", f"    certificate-authority: {_quoted(ca)}", "users:"]
    for user in CONTEXTS.values():
        lines += [f"- name: {user}", "  user:", f"    token: {_quoted(tokens[user])}"]
    lines.append("contexts:")
    for context, user in CONTEXTS.items():
        lines += [f"- name: {context}", f"  context: {{cluster: lab, user: {user}, namespace: default}}"]
    lines += [f"- name: {PRIVATE_CONTEXT}"]
    lines += [f"  context: {{cluster: {PRIVATE_CONTEXT}, user: admin, namespace: default}}", "current-context: lab"]
    write_private(folder.kubeconfig, "\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True)
class AzureEnds:
    """Where the lab's Azure listens: URLs without a slash at the end, and the authority that TLS trusts there."""

    authority: str
    resource_manager: str
    ca: Path
    arc_proxy: Path
    """The Arc proxy program."""


AZURE_PROFILES = ("lab-bastion", "lab-bastion-aks", "lab-invoke")
"""The profiles that go through the lab's Azure."""


ARC_PROFILES = ("lab-arc", "lab-arc-token")
"""The profiles of the lab's Arc clusters: as the person, and with a service account's token."""


def write_profiles(
    folder: LabFolder, jump_port: int, jump_fingerprint: str, inner_fingerprint: str, azure: AzureEnds
) -> None:
    """The lab's profiles: one per route that exists. Host keys are pinned, so nothing asks."""
    lines = ["# Written by the lab; it goes when the lab ends.", "version = 1", "", "[hop.jump]"]
    lines += [f'ssh = "{SSH_USER}@127.0.0.1:{jump_port}"', f"key = {_quoted(folder.jump_key)}"]
    lines += [f'host-key = "{jump_fingerprint}"', "", "[hop.inner]", f'ssh = "{SSH_USER}@{INNER_NAME}"']
    lines += ["password = true", f'host-key = "{inner_fingerprint}"']
    lines += _profile(folder, "lab-direct", "Practice cluster, straight", "lab")
    lines += _profile(folder, "lab-ssh", "Practice cluster, behind a jump box", PRIVATE_CONTEXT, "jump")
    lines += _profile(folder, "lab-ssh-chain", "Practice cluster, behind two", PRIVATE_CONTEXT, "jump", "inner")
    lines += _azure_profiles(folder, jump_fingerprint, azure)
    write_private(folder.config / "profiles.toml", "\n".join(lines) + "\n")


def _azure_profiles(folder: LabFolder, jump_fingerprint: str, azure: AzureEnds) -> list[str]:
    """The cloud, the sign-in, and what goes through them."""
    bastion, invoke = f'{{ bastion = "{BASTION}" }}', "{ command-invoke = true }"
    vm = f'{{ bastion = "{BASTION}", target = "{JUMP_VM}" }}'
    ssh = f'{{ ssh = "{SSH_USER}@jump", key = {_quoted(folder.jump_key)}, host-key = "{jump_fingerprint}" }}'
    ways = (
        ("Practice cluster, through Bastion and a jump box", f"{vm}, {ssh}"),
        ("Practice cluster, through Bastion alone", bastion),
        ("Practice cluster, by command invoke", invoke),
    )
    lines = ["", "[cloud.lab]", f'authority = "{azure.authority}"', f'resource-manager = "{azure.resource_manager}"']
    lines += [f'ssh-scope = "{SSH_SCOPE}"', f"ca-file = {_quoted(azure.ca)}", "", "[sign-in.lab]", 'kind = "lab"', ""]
    lines += ["[sign-in.lab-code]", 'kind = "device-code"', f'tenant = "{TENANT}"']
    for name, (title, via) in zip(AZURE_PROFILES, ways, strict=True):
        lines += ["", f"[profile.{name}]", f'title = "{title}"', 'tags = ["practice"]']
        lines += [f'cluster = {{ aks = "{CLUSTER}" }}', f"via = [{via}]", 'cloud = "lab"', 'sign-in = "lab"']
    arcs = ((ARC_ENTRA, "entra", "as yourself"), (ARC_TOKEN, "token", "by a service account"))
    for name, (arm_id, auth, how) in zip(ARC_PROFILES, arcs, strict=True):
        title = f"Practice cluster, through Azure Arc {how}"
        lines += ["", f"[profile.{name}]", f'title = "{title}"', 'tags = ["practice"]']
        lines += [f'cluster = {{ arc = "{arm_id}", auth = "{auth}" }}', 'cloud = "lab"', 'sign-in = "lab"']
        lines += [f"arc-proxy = {_quoted(azure.arc_proxy)}"]
    return lines


def _profile(folder: LabFolder, name: str, title: str, context: str, *hops: str) -> list[str]:
    via = [f"via = {json.dumps(hops)}"] if hops else []
    return [
        "", f"[profile.{name}]", f'title = "{title}"', 'tags = ["practice"]',
        f'cluster = {{ kubeconfig = {_quoted(folder.kubeconfig)}, context = "{context}" }}', *via,
    ]  # fmt: skip
