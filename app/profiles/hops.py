"""Reads hops (`via` entries and `[hop.NAME]`): each kind with its fields, then the rules of their order."""

from __future__ import annotations

from app.profiles import patterns
from app.profiles.fields import Fields, one_of
from app.profiles.model import (
    AksCluster,
    ArcCluster,
    BastionHop,
    Cluster,
    HopSpec,
    InvokeHop,
    Jit,
    NetworkHop,
    ProxyHop,
    SshHop,
)
from app.records import replace

HOP_KINDS = ("network", "ssh", "bastion", "proxy", "command-invoke")
ADDRESS_PORTS = (22, 3389)
"""To bare addresses the published client lets these two through; nobody has shown that the service takes others."""
MAX_JIT_HOURS = 24
"""The longest request that Azure's just-in-time policies take."""


def read_hop(fields: Fields) -> HopSpec | None:
    """The hop that a table describes; None when the table has complaints that leave no hop."""
    kinds = [kind for kind in HOP_KINDS if kind in fields.values]
    if len(kinds) != 1:
        why = "a hop is one of these, not several" if kinds else "the kind of hop is missing"
        fields.complain("", why, f"Write one of {', '.join(HOP_KINDS)}.")
        if not kinds:
            fields.finish(HOP_KINDS)
        return None
    hop = _READERS[kinds[0]](fields)
    fields.finish()
    return hop


def read_named_hop(fields: Fields, name: str) -> HopSpec | None:
    """The hop of `[hop.NAME]`."""
    hop = read_hop(fields)
    return replace(hop, name=name) if isinstance(hop, SshHop) else hop


def _read_network(fields: Fields) -> HopSpec | None:
    name = fields.text("network")
    kind = fields.choice("kind", ("vpn", "expressroute")) or "vpn"
    expect = fields.text("expect", check=patterns.network)
    return NetworkHop(name, kind, expect) if name else None


def _read_ssh(fields: Fields) -> HopSpec | None:
    servers = fields.texts("ssh", check=patterns.ssh_server, one=True)
    user = fields.text("user", check=plain_word)
    for server in servers:
        if user and (other := patterns.ssh_user(server)) and other != user:
            fields.complain("user", f"{user} is not the user in {server}", "Name the user in one of the two places.")
    key, certificate = fields.path("key"), fields.path("certificate")
    if certificate and not key:
        fields.complain("certificate", "a certificate needs its key", 'Add key = "…".')
    agent = fields.flag("agent") if isinstance(fields.values.get("agent"), bool) else fields.path("agent")
    hop = SshHop(
        servers,
        user=user,
        key=key,
        certificate=certificate,
        agent=agent or False,
        password=fields.flag("password") or False,
        host_key=fields.text("host-key", check=patterns.fingerprint),
        entra_certificate=fields.flag("entra-certificate") or False,
        vm=fields.arm_id("vm", patterns.MACHINE),
        jit=_read_jit(fields),
    )
    if certificate and hop.entra_certificate:
        fields.complain("entra-certificate", "it stands beside certificate", "Keep one of the two.")
    return hop if servers else None


def _read_bastion(fields: Fields) -> HopSpec | None:
    bastion = fields.arm_id("bastion", patterns.BASTION)
    target = fields.arm_ids("target", patterns.TARGET, addresses=True)
    if len({patterns.is_ipv4(value) for value in target}) > 1:
        fields.complain("target", "ids and addresses stand side by side", "Name all of them by their ids.")
    port = fields.number("port", 1, 65535, whole=True)
    if port and port not in ADDRESS_PORTS and any(map(patterns.is_ipv4, target)):
        fields.complain("port", "a Bastion lets 22 and 3389 through to a bare address", "Write the VM's id as target.")
    jit = _read_jit(fields)
    if jit and "target" not in fields.values:
        fields.complain("jit", "just-in-time access opens a port of a VM, and there is no target", "Add target.")
    if jit and any(map(patterns.is_ipv4, target)):
        fields.complain("jit", "just-in-time access needs the VM's id, not its address", "Write the id as target.")
    return BastionHop(bastion, target, int(port) if port else None, jit) if bastion else None


def _read_proxy(fields: Fields) -> HopSpec | None:
    proxy = fields.text("proxy", check=proxy_url)
    return ProxyHop(proxy) if proxy else None


def _read_invoke(fields: Fields) -> HopSpec | None:
    if fields.flag("command-invoke") is False:
        fields.complain("command-invoke", "only true has a meaning", "Write true, or leave the hop out.")
    return InvokeHop()


def _read_jit(fields: Fields) -> Jit | None:
    inner = fields.table("jit")
    if inner is None:
        return None
    hours = inner.number("hours", 0.25, MAX_JIT_HOURS)
    port = inner.number("port", 1, 65535, whole=True)
    inner.finish()
    return Jit(3.0 if hours is None else float(hours), int(port) if port else None)


_READERS = {
    "network": _read_network,
    "ssh": _read_ssh,
    "bastion": _read_bastion,
    "proxy": _read_proxy,
    "command-invoke": _read_invoke,
}


def proxy_url(value: str) -> str | None:
    """What is wrong with the URL of a web proxy, or None."""
    if value.lower().rstrip("/").endswith((".pac", "/wpad.dat", "://wpad")):
        return "it is a script that chooses a proxy (PAC), not a proxy: write the one that it names, http://HOST:PORT"
    return patterns.url(value, ("http", "https"), path=False)


def plain_word(value: str) -> str | None:
    """What is wrong with a user's name, or None."""
    return "a name without spaces, @ and : is expected" if any(c.isspace() or c in "@:" for c in value) else None


def check_order(fields: Fields, via: tuple[HopSpec, ...], cluster: Cluster | None, pinned: bool) -> None:
    """The rules that a chain of hops must keep: what can follow what, and what the cluster must be."""
    for at, hop in enumerate(via):
        where = f"via[{at}]" if len(via) > 1 else "via"
        wrong = _misplaced(at, hop, via, cluster)
        if wrong:
            fields.complain(where, *wrong)
        if pinned and isinstance(hop, SshHop) and not hop.host_key:
            fields.complain(where, 'host-keys = "pinned", and this hop names no host-key', 'Add host-key = "SHA256:…".')


def _misplaced(at: int, hop: HopSpec, via: tuple[HopSpec, ...], cluster: Cluster | None) -> tuple[str, str] | None:
    last = at == len(via) - 1
    if isinstance(cluster, ArcCluster) and not isinstance(hop, NetworkHop | ProxyHop):
        return (
            "a connected cluster is reached through Azure Relay, by a program that takes no stream of ours",
            "Leave this hop out; a network to be on or a web proxy may stand here.",
        )
    if isinstance(hop, InvokeHop):
        if len(via) > 1:
            return "command-invoke stands alone: it has no network path", "Remove the other hops."
        if cluster is not None and not isinstance(cluster, AksCluster):
            return "command-invoke needs an AKS cluster", 'Write cluster = { aks = "/subscriptions/…" }.'
    elif isinstance(hop, NetworkHop):
        if any(not isinstance(before, NetworkHop) for before in via[:at]):
            return "a network to be on comes before the hops that go through it", "Move it to the front."
    elif isinstance(hop, SshHop):
        if hop.jit and not hop.vm and not any(isinstance(before, BastionHop) for before in via[:at]):
            return "jit needs the VM whose port is opened", "Add vm, or a Bastion hop before it."
    elif isinstance(hop, BastionHop):
        if not hop.target and (not last or (cluster is not None and not isinstance(cluster, AksCluster))):
            return "a Bastion without target goes straight to an AKS cluster", "Add target, or make it the last hop."
        if hop.target and (last or not isinstance(via[at + 1], SshHop)):
            return "a Bastion with a target is followed by an SSH hop on that VM", 'Add { ssh = "user@vm" } behind it.'
    return None


def unknown_hop(name: str, known: tuple[str, ...]) -> tuple[str, str]:
    """What to say of a `via` entry that names no hop."""
    if known:
        return f"there is no [hop.{name}]", one_of(name, known)
    return f"there is no [hop.{name}]", f'Add [hop.{name}], or write the hop in place: {{ ssh = "{name}" }}.'
