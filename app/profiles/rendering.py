"""A profile as TOML or JSON, from an allow-list of fields: what is not named here never leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.profiles.model import (
    AksCluster,
    ArcCluster,
    BastionHop,
    Cloud,
    Cluster,
    HopSpec,
    InvokeHop,
    Jit,
    KubeconfigCluster,
    NetworkHop,
    Profile,
    ProxyHop,
    ServerCluster,
    SignIn,
    SshHop,
)

Table = dict[str, object]


def profile_table(profile: Profile) -> Table:
    """The fields of a profile as they stand in a file; named hops and sign-ins are written in place."""
    return _filled(
        ("title", profile.title),
        ("tags", list(profile.tags)),
        ("cluster", cluster_table(profile.cluster)),
        ("via", [hop_table(hop) for hop in profile.via]),
        ("sign-in", _sign_in(profile.sign_in)),
        ("namespaces", list(profile.namespaces)),
        ("cloud", profile.cloud.name if profile.cloud != Cloud() else None),
        ("host-keys", profile.host_keys),
        ("proxy", profile.proxy),
        ("ca-file", _path(profile.ca_file)),
        ("allow-write", profile.allow_write),
        ("arc-proxy", _path(profile.arc_proxy)),
        ("notes", profile.notes),
    )


def cluster_table(cluster: Cluster) -> Table:
    """`cluster` as it stands in a file."""
    if isinstance(cluster, KubeconfigCluster):
        return _filled(
            ("kubeconfig", _path(cluster.kubeconfig)), ("context", cluster.context), ("address", cluster.address)
        )
    if isinstance(cluster, ServerCluster):
        return _filled(
            ("server", cluster.server),
            ("ca-file", _path(cluster.ca_file)),
            ("tls-server-name", cluster.tls_server_name),
            ("auth", cluster.auth if cluster.auth != "token" else None),
            ("address", cluster.address),
        )
    if isinstance(cluster, AksCluster):
        auth = cluster.auth if cluster.auth != "entra" else None
        return _filled(("aks", cluster.aks), ("auth", auth), ("fqdn", cluster.fqdn), ("address", cluster.address))
    assert isinstance(cluster, ArcCluster)
    return _filled(("arc", cluster.arc), ("auth", cluster.auth))


def hop_table(hop: HopSpec) -> Table:
    """An entry of `via` as it stands in a file."""
    if isinstance(hop, NetworkHop):
        return _filled(("network", hop.network), ("kind", hop.kind), ("expect", hop.expect))
    if isinstance(hop, ProxyHop):
        return {"proxy": hop.proxy}
    if isinstance(hop, InvokeHop):
        return {"command-invoke": True}
    if isinstance(hop, BastionHop):
        target = list(hop.target) if len(hop.target) > 1 else (*hop.target, None)[0]
        return _filled(("bastion", hop.bastion), ("target", target), ("port", hop.port), ("jit", _jit(hop.jit)))
    assert isinstance(hop, SshHop)
    return _filled(
        ("ssh", list(hop.ssh) if len(hop.ssh) > 1 else hop.ssh[0]),
        ("user", hop.user),
        ("key", _path(hop.key)),
        ("certificate", _path(hop.certificate)),
        ("agent", _path(hop.agent) if isinstance(hop.agent, Path) else hop.agent),
        ("password", hop.password),
        ("host-key", hop.host_key),
        ("entra-certificate", hop.entra_certificate),
        ("vm", hop.vm),
        ("jit", _jit(hop.jit)),
    )


def cloud_table(cloud: Cloud) -> Table:
    """`[cloud.NAME]` as it stands in a file; empty for a built-in cloud."""
    return _filled(
        ("authority", cloud.authority),
        ("resource-manager", cloud.resource_manager),
        ("aks-scope", cloud.aks_scope),
        ("arm-scope", cloud.arm_scope),
        ("ssh-scope", cloud.ssh_scope),
        ("suffixes", dict(cloud.suffixes)),
        ("ca-file", _path(cloud.ca_file)),
    )


def way(profile: Profile) -> str:
    """The way in, in a few words: `bastion > ssh`, or `direct`."""
    names = {NetworkHop: "", SshHop: "ssh", BastionHop: "bastion", ProxyHop: "proxy", InvokeHop: "invoke"}
    words = [hop.kind if isinstance(hop, NetworkHop) else names[type(hop)] for hop in profile.via]
    if isinstance(profile.cluster, ArcCluster):
        words.append("arc")
    return " > ".join(words) or "direct"


def destination(cluster: Cluster) -> str:
    """The cluster in a few words."""
    if isinstance(cluster, KubeconfigCluster):
        return f"context {cluster.context}" if cluster.context else "current context"
    if isinstance(cluster, ServerCluster):
        return cluster.server
    return (cluster.aks if isinstance(cluster, AksCluster) else cluster.arc).rsplit("/", 1)[-1]


def to_toml(title: str, table: Mapping[str, object]) -> str:
    """A table with its heading `[title]`, as TOML text that ends with a line feed."""
    lines = [f"[{'.'.join(_key(part) for part in title.split('.', 1))}]"]
    lines += [f"{_key(key)} = {value_text(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def value_text(value: object) -> str:
    """A value as TOML; tables in line. Texts with a backslash (Windows paths) stand in single quotes where possible."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if "\\" in value and "'" not in value and value.isprintable():
            return f"'{value}'"
        return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escaped(c)) for c in value) + '"'
    if isinstance(value, list):
        return f"[{', '.join(value_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(str(key))} = {value_text(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, int | float):
        return repr(value)
    return str(value)  # dates and times; no field takes one


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escaped(letter: str) -> str:
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _key(key: str) -> str:
    bare = bool(key) and all(c.isascii() and (c.isalnum() or c in "-_") for c in key)
    return key if bare else value_text(key)


def _filled(*fields: tuple[str, object]) -> Table:
    """The fields that say something."""
    return {name: value for name, value in fields if value not in (None, "", [], {}, False)}


def _path(path: Path | None) -> str | None:
    """A path as one writes it: `~` for the home folder, so that it means the same to a colleague."""
    if path is None:
        return None
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


def _jit(jit: Jit | None) -> Table | None:
    return None if jit is None else _filled(("hours", jit.hours), ("port", jit.port))


def _sign_in(sign_in: SignIn | None) -> object:
    if sign_in is None:
        return None
    table = _filled(
        ("kind", sign_in.kind),
        ("account", sign_in.account),
        ("tenant", sign_in.tenant),
        ("client-id", sign_in.client_id),
    )
    return sign_in.kind if len(table) == 1 else table
