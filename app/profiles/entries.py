"""Reads clusters, sign-ins, clouds and the fields of a profile from their tables."""

from __future__ import annotations

import re
from pathlib import Path

from app.profiles import patterns
from app.profiles.fields import MAX_NOTES, Fields, one_of
from app.profiles.hops import plain_word, proxy_url
from app.profiles.model import (
    AksCluster,
    ArcCluster,
    Cloud,
    Cluster,
    KubeconfigCluster,
    Profile,
    ServerCluster,
    SignIn,
)
from app.records import Record, replace
from app.text import clean_block

CLUSTER_KINDS = ("kubeconfig", "server", "aks", "arc")
SIGN_IN_KINDS = (
    "azure-cli",
    "broker",
    "browser",
    "device-code",
    "managed-identity",
    "service-principal",
    "environment",
)
BARE_SERVICE_PRINCIPAL = (
    "a service principal needs tenant and client-id",
    'Write [sign-in.NAME] with kind = "service-principal", tenant and client-id, and sign-in = "NAME" here.',
)
LAB_SIGN_IN = "lab"
"""Known only in the folder of a running lab, which signs its own profiles in."""
CLOUDS = ("public", "us-government", "china")
"""Azure clouds that need no table."""


def read_cluster(fields: Fields) -> Cluster | None:
    """What to reach; None when there are complaints that leave nothing."""
    kinds = [kind for kind in CLUSTER_KINDS if kind in fields.values]
    if len(kinds) != 1:
        why = f"{' and '.join(kinds)} are given; a cluster is one of them" if kinds else "it does not say what to reach"
        fields.complain("", why, f"Write one of {', '.join(CLUSTER_KINDS)}.")
        if not kinds:
            fields.finish(CLUSTER_KINDS)
        return None
    cluster = _READERS[kinds[0]](fields)
    fields.finish()
    return cluster


def _read_kubeconfig(fields: Fields) -> Cluster | None:
    path = fields.path("kubeconfig")
    context, address = fields.text("context"), fields.text("address", check=patterns.host)
    return KubeconfigCluster(path, context, address) if path else None


def _read_server(fields: Fields) -> Cluster | None:
    server = fields.text("server", check=_server_url)
    cluster = ServerCluster(
        server or "",
        ca_file=fields.path("ca-file"),
        tls_server_name=fields.text("tls-server-name", check=patterns.host),
        auth=fields.choice("auth", ("token", "entra")) or "token",
        address=fields.text("address", check=patterns.host),
    )
    return cluster if server else None


def _read_aks(fields: Fields) -> Cluster | None:
    aks = fields.arm_id("aks", patterns.AKS)
    auth, fqdn = fields.choice("auth", ("entra", "admin")) or "entra", fields.choice("fqdn", ("public", "private"))
    address = fields.text("address", check=patterns.host)
    return AksCluster(aks, auth, None if fqdn == "private" else fqdn, address) if aks else None


def _read_arc(fields: Fields) -> Cluster | None:
    arc = fields.arm_id("arc", patterns.ARC)
    auth = fields.choice("auth", ("entra", "token")) or "entra"
    return ArcCluster(arc, auth) if arc else None


_READERS = {"kubeconfig": _read_kubeconfig, "server": _read_server, "aks": _read_aks, "arc": _read_arc}


def _server_url(value: str) -> str | None:
    if value.startswith("http://"):
        return "http:// would send the credential in the clear; https:// is expected"
    return patterns.url(value, ("https",))


def read_sign_in(fields: Fields, name: str = "") -> SignIn | None:
    """How to sign in to Azure."""
    in_lab = (fields.source("kind").path.parent / "lab.json").is_file()
    kind = fields.choice("kind", (*SIGN_IN_KINDS, LAB_SIGN_IN) if in_lab else SIGN_IN_KINDS)
    found = SignIn(
        kind or "",
        name,
        account=fields.text("account"),
        tenant=fields.text("tenant", check=_tenant),
        client_id=fields.text("client-id", check=_guid),
    )
    if "kind" not in fields.values:
        fields.complain("kind", "it is missing", f"Write one of {', '.join(SIGN_IN_KINDS)}.")
    if kind == "service-principal":
        for needed in ("tenant", "client-id"):
            if needed not in fields.values:
                fields.complain(needed, "a service principal needs it", f'Add {needed} = "…".')
    if kind in ("managed-identity", "service-principal", "environment") and found.account:
        fields.complain("account", f"{kind} signs in no person", "Leave account out.")
    if kind in ("azure-cli", "environment") and found.client_id:
        fields.complain("client-id", f"{kind} brings an application of its own", "Leave client-id out.")
    fields.finish()
    return found if kind else None


def _tenant(value: str) -> str | None:
    return patterns.host(value) and "a tenant is a domain such as contoso.com or its id"


def _guid(value: str) -> str | None:
    return (
        None
        if re.fullmatch(patterns.GUID, value)
        else "an id in the form 00000000-0000-0000-0000-000000000000 is expected"
    )


def read_cloud(fields: Fields, name: str) -> Cloud:
    """A cloud of the user's own: `[cloud.NAME]`."""
    suffixes = fields.table("suffixes")
    pairs: list[tuple[str, str]] = []
    if suffixes is not None:
        for key in suffixes.values:
            if value := suffixes.text(key, check=_suffix):
                pairs.append((key, value))
    cloud = Cloud(
        name,
        authority=fields.text("authority", check=_https),
        resource_manager=fields.text("resource-manager", check=_https),
        aks_scope=fields.text("aks-scope"),
        arm_scope=fields.text("arm-scope"),
        ssh_scope=fields.text("ssh-scope"),
        suffixes=tuple(pairs),
        ca_file=fields.path("ca-file"),
    )
    for needed in ("authority", "resource-manager"):
        if needed not in fields.values:
            fields.complain(needed, "it is missing", f'Add {needed} = "https://…".')
    fields.finish()
    return cloud


def _https(value: str) -> str | None:
    return patterns.url(value, ("https",))


def _suffix(value: str) -> str | None:
    return patterns.host(value.removeprefix(".")) and "a domain such as azmk8s.io is expected"


HOST_KEYS = ("strict", "ask", "pinned")


class Defaults(Record):
    """`[defaults]`: personal values for what a profile leaves open. Never exported, never taken from a shared file."""

    ssh_user: str | None = None
    ssh_key: Path | None = None
    sign_in: object = None
    """A name as written, or what a table says."""
    cloud: object = None
    host_keys: str | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    arc_proxy: Path | None = None


def read_defaults(fields: Fields) -> Defaults:
    """The personal defaults."""
    found = Defaults(
        ssh_user=fields.text("ssh-user", check=plain_word),
        ssh_key=fields.path("ssh-key"),
        sign_in=_default_sign_in(fields),
        cloud=fields.take("cloud"),
        host_keys=fields.choice("host-keys", HOST_KEYS),
        proxy=fields.text("proxy", check=proxy_url),
        ca_file=fields.path("ca-file"),
        arc_proxy=fields.path("arc-proxy"),
    )
    fields.finish()
    return found


def _default_sign_in(fields: Fields) -> object:
    value = fields.take("sign-in")  # a name is looked up later, when all tables are known
    return read_sign_in(fields.inner("sign-in", value)) if isinstance(value, dict) else value


def read_rest(fields: Fields, profile: Profile, defaults: Defaults) -> Profile:
    """The plain fields of a profile; `profile` brings name, cluster, hops, sign-in and cloud."""
    tags = fields.texts("tags", check=_tag)
    personal = defaults.host_keys
    if "production" in tags and personal != "strict":
        personal = None  # a personal default never loosens a production profile
    return replace(
        profile,
        title=fields.text("title") or "",
        tags=tags,
        namespaces=fields.texts("namespaces", check=_namespace),
        host_keys=fields.choice("host-keys", HOST_KEYS) or personal,
        proxy=fields.text("proxy", check=proxy_url) or defaults.proxy,
        ca_file=fields.path("ca-file") or defaults.ca_file,
        allow_write=fields.flag("allow-write") or False,
        arc_proxy=fields.path("arc-proxy") or defaults.arc_proxy,
        notes=clean_block(fields.text("notes", limit=MAX_NOTES) or ""),
    )


def _tag(value: str) -> str | None:
    return None if re.fullmatch(patterns.TAG, value) else "a tag has letters, digits, . _ and -"


def _namespace(value: str) -> str | None:
    return None if re.fullmatch(patterns.NAMESPACE, value) else "not a namespace's name (small letters, digits and -)"


def name_problem(name: str, reserved: frozenset[str] = frozenset()) -> tuple[str, str] | None:
    """What is wrong with the name of an entry, and the remedy; None when it is good."""
    if not re.fullmatch(patterns.NAME, name):
        guess = valid_name(name)
        return "a name has small letters, digits and -, begins with a letter or digit, and has at most 63", (
            f"Name it {guess}." if guess else ""
        )
    if name in reserved:
        return "it is the name of a command", f"Name it {name}-cluster, for example."
    return None


def valid_name(text: str) -> str:
    """The nearest valid name; "" when nothing is left of it."""
    letters = [letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower()]
    return "-".join(part for part in "".join(letters).split("-") if part)[:63].rstrip("-")


def unknown_sign_in(name: str, known: tuple[str, ...]) -> tuple[str, str]:
    """What to say of a sign-in that is neither a table nor a kind."""
    return f"there is no [sign-in.{name}]", one_of(name, (*known, *SIGN_IN_KINDS))
