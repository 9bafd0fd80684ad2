"""A profile as frozen data: what to reach (`cluster`) and how (`via`), validated, without secrets.

A profile is the specification; `app.sessions` runs it. Field names follow the file with `-` written as `_`.
"""

from __future__ import annotations

from pathlib import Path

from app.records import Record


class KubeconfigCluster(Record):
    """A context of a kubeconfig file. `context` None means the file's current one."""

    kubeconfig: Path
    context: str | None = None
    address: str | None = None
    """Dialled in place of the server's name, which TLS still verifies."""
    namespace: str | None = None


class ServerCluster(Record):
    """An API server named outright."""

    server: str
    ca_file: Path | None = None
    tls_server_name: str | None = None
    auth: str = "token"
    """token (secret store, or asked) or entra."""
    address: str | None = None


class AksCluster(Record):
    """An AKS cluster by its ARM id."""

    aks: str
    auth: str = "entra"
    """entra, or admin: the local admin credential, asked from ARM."""
    fqdn: str | None = None
    """`public` dials the public name of a private cluster."""
    address: str | None = None


class ArcCluster(Record):
    """A connected cluster by its ARM id."""

    arc: str
    auth: str = "entra"
    """entra or token (service-account token)."""


Cluster = KubeconfigCluster | ServerCluster | AksCluster | ArcCluster


class Jit(Record):
    """Just-in-time access to ask for before connecting."""

    hours: float = 3.0
    port: int | None = None


class NetworkHop(Record):
    """A network to be on. Opens nothing; fails first when `expect` is not reachable."""

    network: str
    kind: str = "vpn"
    """vpn or expressroute."""
    expect: str | None = None
    """An address range (CIDR) that the API server's address must lie in and that must be routed."""


class SshHop(Record):
    """An SSH server, or several as alternatives; each `[user@]host[:port]`."""

    ssh: tuple[str, ...]
    user: str | None = None
    key: Path | None = None
    certificate: Path | None = None
    agent: bool | Path = False
    password: bool = False
    host_key: str | None = None
    entra_certificate: bool = False
    vm: str | None = None
    jit: Jit | None = None
    name: str = ""
    """Of its table `[hop.NAME]`, or empty when it was written in place."""


class BastionHop(Record):
    """An Azure Bastion by its ARM id; `target` are VMs or scale sets as alternatives, empty for the cluster.

    A target may also be an IPv4 address, where the Bastion connects to addresses (ports 22 and 3389 only).
    """

    bastion: str
    target: tuple[str, ...] = ()
    port: int | None = None
    jit: Jit | None = None


class ProxyHop(Record):
    """A web proxy (CONNECT)."""

    proxy: str


class InvokeHop(Record):
    """No network path: ARM runs kubectl in a pod of the cluster."""


HopSpec = NetworkHop | SshHop | BastionHop | ProxyHop | InvokeHop


class SignIn(Record):
    """How to sign in to Azure."""

    kind: str
    name: str = ""
    """The name of its table, or empty when given in place."""
    account: str | None = None
    tenant: str | None = None
    client_id: str | None = None


class Cloud(Record):
    """An Azure cloud: where to sign in and where ARM is. Built-in ones have only a name."""

    name: str = "public"
    authority: str | None = None
    resource_manager: str | None = None
    aks_scope: str | None = None
    arm_scope: str | None = None
    ssh_scope: str | None = None
    suffixes: tuple[tuple[str, str], ...] = ()
    ca_file: Path | None = None


class Profile(Record):
    """A named, validated, secret-free description of one cluster and the way to it."""

    name: str
    cluster: Cluster
    via: tuple[HopSpec, ...] = ()
    title: str = ""
    tags: tuple[str, ...] = ()
    sign_in: SignIn | None = None
    namespaces: tuple[str, ...] = ()
    cloud: Cloud = Cloud()
    host_keys: str | None = None
    """strict, ask or pinned; None: strict with the tag production, else ask."""
    proxy: str | None = None
    ca_file: Path | None = None
    allow_write: bool = False
    arc_proxy: Path | None = None
    notes: str = ""
    origin: Path | None = None
    """The file that it comes from."""

    @property
    def production(self) -> bool:
        """Whether red frames and typed confirmations apply."""
        return "production" in self.tags
