"""A profile as frozen data: what to reach (`cluster`) and how (`via`), validated, without secrets.

A profile is the specification; `app.sessions` runs it. Field names follow the file with `-` written as `_`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class _Spec:
    """Equality, hash and text of every specification; made anew for each class they cost a tenth of a start."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__slots__))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class KubeconfigCluster(_Spec):
    """A context of a kubeconfig file. `context` None means the file's current one."""

    kubeconfig: Path
    context: str | None = None
    address: str | None = None
    """Dialled in place of the server's name, which TLS still verifies."""
    namespace: str | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ServerCluster(_Spec):
    """An API server named outright."""

    server: str
    ca_file: Path | None = None
    tls_server_name: str | None = None
    auth: str = "token"
    """token (secret store, or asked) or entra."""
    address: str | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AksCluster(_Spec):
    """An AKS cluster by its ARM id."""

    aks: str
    auth: str = "entra"
    """entra, or admin: the local admin credential, asked from ARM."""
    fqdn: str | None = None
    """`public` dials the public name of a private cluster."""
    address: str | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ArcCluster(_Spec):
    """A connected cluster by its ARM id."""

    arc: str
    auth: str = "entra"
    """entra or token (service-account token)."""


Cluster = KubeconfigCluster | ServerCluster | AksCluster | ArcCluster


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Jit(_Spec):
    """Just-in-time access to ask for before connecting."""

    hours: float = 3.0
    port: int | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NetworkHop(_Spec):
    """A network to be on. Opens nothing; fails first when `expect` is not reachable."""

    network: str
    kind: str = "vpn"
    """vpn or expressroute."""
    expect: str | None = None
    """An address range (CIDR) that the API server's address must lie in and that must be routed."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SshHop(_Spec):
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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BastionHop(_Spec):
    """An Azure Bastion by its ARM id; `target` are VMs or scale sets as alternatives, empty for the cluster itself."""

    bastion: str
    target: tuple[str, ...] = ()
    port: int | None = None
    jit: Jit | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ProxyHop(_Spec):
    """A web proxy (CONNECT)."""

    proxy: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class InvokeHop(_Spec):
    """No network path: ARM runs kubectl in a pod of the cluster."""


HopSpec = NetworkHop | SshHop | BastionHop | ProxyHop | InvokeHop


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SignIn(_Spec):
    """How to sign in to Azure."""

    kind: str
    name: str = ""
    """The name of its table, or empty when given in place."""
    account: str | None = None
    tenant: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Cloud(_Spec):
    """An Azure cloud: where to sign in and where ARM is. Built-in ones have only a name."""

    name: str = "public"
    authority: str | None = None
    resource_manager: str | None = None
    aks_scope: str | None = None
    suffixes: tuple[tuple[str, str], ...] = ()
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Profile(_Spec):
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
