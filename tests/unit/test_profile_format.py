"""The profile file as product.md describes it: every kind, every rule, and the exact words of the errors."""
# ruff: noqa: E501  (the table of golden texts: a row per line)

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ProfileError
from app.profiles.model import (
    AksCluster,
    ArcCluster,
    BastionHop,
    Cloud,
    InvokeHop,
    Jit,
    KubeconfigCluster,
    NetworkHop,
    ProxyHop,
    ServerCluster,
    SignIn,
    SshHop,
)
from app.profiles.problem import CORRECT_IT
from app.profiles.source import Source, parse_source
from app.profiles.store import ProfileBook, assemble, load

GROUP = "/subscriptions/0f0e0d0c-1111-2222-3333-444455556666/resourceGroups/rg/providers"
AKS = f"{GROUP}/Microsoft.ContainerService/managedClusters/aks-prod"
ARC = f"{GROUP}/Microsoft.Kubernetes/connectedClusters/shop-01"
HUB = f"{GROUP}/Microsoft.Network/bastionHosts/hub"
JUMP = f"{GROUP}/Microsoft.Compute/virtualMachines/jump0"
SET = f"{GROUP}/Microsoft.Compute/virtualMachineScaleSets/jumps/virtualMachines/3"
FILE = Path("/conf/profiles.toml")

WHOLE = f"""
version = 1
[defaults]
ssh-user = "ops"
sign-in  = "azure-cli"
[hop.hub-jump]
bastion = "{HUB}"
target  = ["{JUMP}1", "{SET}"]
[sign-in.adm]
kind = "broker"
account = "adm-jo@contoso.com"
tenant = "contoso.com"
[cloud.stack]
authority = "https://login.stack.example"
resource-manager = "https://arm.stack.example"
arm-scope = "https://arm.example//.default"
ssh-scope = "https://ssh.example/.default"
suffixes = {{ aks = "azmk8s.stack.example" }}
[profile.prod-weu]
title      = "Production, West Europe"
tags       = ["production"]
cluster    = {{ aks = "{AKS}" }}
via        = ["hub-jump", {{ ssh = "ops@jump01", key = "/keys/id" }}]
sign-in    = "adm"
namespaces = ["payments", "shop"]
[profile.staging]
cluster    = {{ kubeconfig = "/kube/config", context = "staging" }}
via        = [{{ ssh = ["jump01.corp:22", "jo@[fe80::1]:2222"], vm = "{JUMP}1", jit = {{ hours = 3 }} }}, {{ ssh = "inner" }}]
[profile.aks-by-bastion]
cluster    = {{ aks = "{AKS}", auth = "admin", fqdn = "public" }}
via        = [{{ bastion = "{HUB}" }}]
[profile.shop-edge]
cluster    = {{ arc = "{ARC}", auth = "token" }}
cloud      = "stack"
[profile.office]
cluster    = {{ kubeconfig = "~/.kube/config" }}
via        = [{{ network = "Contoso VPN", kind = "vpn", expect = "10.40.0.0/16" }}, {{ proxy = "http://proxy:3128" }}]
sign-in    = {{ kind = "service-principal", tenant = "contoso.com", client-id = "0f0e0d0c-1111-2222-3333-444455556666" }}
[profile.invoke]
cluster    = {{ aks = "{AKS}" }}
via        = [{{ command-invoke = true }}]
[profile.plain]
cluster    = {{ server = "https://[fd00::1]:6443", ca-file = "ca.pem", tls-server-name = "api", address = "10.4.0.4" }}
host-keys  = "strict"
proxy      = "http://proxy:3128"
ca-file    = "/ca.pem"
allow-write = true
arc-proxy  = "bin/arcproxy"
notes      = "two\\nlines"
"""


def book_of(text: str | bytes, path: Path = FILE) -> ProfileBook:
    return assemble(parse_source(path, text if isinstance(text, bytes) else text.encode()))


def test_reads_every_kind() -> None:
    book = book_of(WHOLE)
    assert not book.problems
    found = book.profiles
    prod = found["prod-weu"]
    assert prod.cluster == AksCluster(AKS)
    assert prod.via == (
        BastionHop(HUB, (JUMP + "1", SET)),
        SshHop(("ops@jump01",), key=Path("/keys/id")),
    )
    assert prod.sign_in == SignIn("broker", "adm", account="adm-jo@contoso.com", tenant="contoso.com")
    assert prod.production
    assert prod.namespaces == ("payments", "shop")
    assert found["staging"].cluster == KubeconfigCluster(Path("/kube/config"), "staging")
    assert found["staging"].via == (
        SshHop(("ops@jump01.corp:22", "jo@[fe80::1]:2222"), vm=JUMP + "1", jit=Jit(3.0)),
        SshHop(("ops@inner",)),
    )
    assert found["aks-by-bastion"].cluster == AksCluster(AKS, "admin", "public")
    assert found["shop-edge"].cluster == ArcCluster(ARC, "token")
    assert found["shop-edge"].cloud == Cloud(
        "stack",
        "https://login.stack.example",
        "https://arm.stack.example",
        arm_scope="https://arm.example//.default",
        ssh_scope="https://ssh.example/.default",
        suffixes=(("aks", "azmk8s.stack.example"),),
    )
    assert found["office"].via == (NetworkHop("Contoso VPN", "vpn", "10.40.0.0/16"), ProxyHop("http://proxy:3128"))
    assert found["office"].cluster == KubeconfigCluster(Path.home() / ".kube/config")
    assert found["invoke"].via == (InvokeHop(),)
    assert found["invoke"].sign_in == SignIn("azure-cli")
    plain = found["plain"]
    assert plain.cluster == ServerCluster("https://[fd00::1]:6443", Path("/conf/ca.pem"), "api", address="10.4.0.4")
    assert (plain.host_keys, plain.proxy, plain.allow_write) == ("strict", "http://proxy:3128", True)
    assert (plain.arc_proxy, plain.notes, plain.origin) == (Path("/conf/bin/arcproxy"), "two\nlines", FILE)


CLUSTER = 'cluster = { kubeconfig = "/k" }\n'
AKS_LINE = f'cluster = {{ aks = "{AKS}" }}\n'

GOLDEN = [
    ('clustr = { kubeconfig = "/k" }', "cluster is missing: what to reach", 'Add cluster = { kubeconfig = "~/.kube/config", context = "…" }.'),
    (CLUSTER + 'titel = "x"', "line 3, [profile.p]: titel: there is no such field here", "Did you mean title?"),
    ("cluster = {}", "cluster: it does not say what to reach", "Write one of kubeconfig, server, aks, arc."),
    (f'cluster = {{ aks = "{AKS}", kubeconfig = "/k" }}', "cluster: kubeconfig and aks are given; a cluster is one of them", "Write one of kubeconfig, server, aks, arc."),
    ('cluster = "x"', "cluster: a table { … } is expected, not a text", ""),
    ('cluster = { kubeconfig = "/k", contex = "a" }', "cluster.contex: there is no such field here", "Did you mean context?"),
    ('cluster = { server = "http://x" }', "cluster.server: http:// would send the credential in the clear; https:// is expected", ""),
    ('cluster = { server = "https://" }', "cluster.server: the URL has no valid host and port", ""),
    ('cluster = { server = "https://x:99999" }', "cluster.server: not a URL", ""),
    ('cluster = { server = "https://x", auth = "tokn" }', "cluster.auth: 'tokn' is not known", "Did you mean token?"),
    ('cluster = { kubeconfig = "/k", address = "10.4.0" }', "cluster.address: not an IP address", ""),
    (f'cluster = {{ aks = "{HUB}" }}', "cluster.aks: the id of a Microsoft.Network/bastionHosts; expected Microsoft.ContainerService/managedClusters", "Copy the resource id"),
    (f'cluster = {{ aks = "{AKS}/" }}', "cluster.aks: not the id of a resource; it looks like", "Leave out the / at the end."),
    (f'cluster = {{ aks = "https://portal.azure.com/#/resource{AKS}" }}', "cluster.aks: not the id of a resource", "Begin at /subscriptions/."),
    ('cluster = { arc = "shop-01" }', "cluster.arc: not the id of a resource; it looks like /subscriptions/GUID/resourceGroups/GROUP/providers/Microsoft.Kubernetes/connectedClusters/NAME", "Copy the resource id"),
    ('cluster = { kubeconfig = "C:\\temp\\new" }', "cluster.kubeconfig: the path holds a control character", "Put a Windows path in single quotes"),
    (CLUSTER + 'via = { ssh = "a" }', "via: a list of hops is expected, not a table", "Put it into [ … ]."),
    (CLUSTER + 'via = ["hub"]', "via: there is no [hop.hub]", 'Add [hop.hub], or write the hop in place: { ssh = "hub" }.'),
    (CLUSTER + "via = [{ sshh = 1 }]", "via: the kind of hop is missing", "Write one of network, ssh, bastion, proxy, command-invoke."),
    (CLUSTER + 'via = [{ ssh = "a" }, { ssh = "a:0" }]', "via[1].ssh: the port is not between 1 and 65535", ""),
    (CLUSTER + 'via = [{ ssh = "fe80::1:22" }]', "via.ssh: an IPv6 address stands in brackets: [fe80::1]:22", ""),
    (CLUSTER + 'via = [{ ssh = "a b" }]', "via.ssh: not [user@]host[:port]", ""),
    (CLUSTER + 'via = [{ ssh = "jo:hunter2@a" }]', "via.ssh: a password has no place here", ""),
    (CLUSTER + 'via = [{ ssh = "jo@a", user = "ops" }]', "via.user: ops is not the user in jo@a", "Name the user in one of the two places."),
    (CLUSTER + 'via = [{ ssh = "a", certificate = "/c" }]', "via.certificate: a certificate needs its key", 'Add key = "…".'),
    (CLUSTER + 'via = [{ ssh = "a", host-key = "aa:bb" }]', "via.host-key: a fingerprint in the form SHA256:… (43 characters) is expected", ""),
    (CLUSTER + 'via = [{ ssh = "a", jit = { hours = 3 } }]', "via: jit needs the VM whose port is opened", "Add vm, or a Bastion hop before it."),
    (CLUSTER + f'via = [{{ ssh = "a", vm = "{JUMP}", jit = {{ hours = 30 }} }}]', "via.jit.hours: it must be between 0.25 and 24", ""),
    (CLUSTER + 'via = [{ network = "n", kind = "vpm" }]', "via.kind: 'vpm' is not known", "Did you mean vpn?"),
    (CLUSTER + 'via = [{ network = "n", expect = "10.40.1.0/16" }]', "via.expect: address bits are set behind the prefix; 10.40.0.0/16 is the range", ""),
    (CLUSTER + 'via = [{ network = "n", expect = "10.40.0.0" }]', "via.expect: an address range in the form 10.40.0.0/16 is expected", ""),
    (CLUSTER + 'via = [{ ssh = "a" }, { network = "n" }]', "via[1]: a network to be on comes before the hops that go through it", "Move it to the front."),
    (CLUSTER + 'via = [{ proxy = "proxy:3128" }]', "via.proxy: a URL that begins with http:// or https:// is expected", ""),
    (CLUSTER + f'via = [{{ bastion = "{HUB}" }}]', "via: a Bastion without target goes straight to an AKS cluster", "Add target, or make it the last hop."),
    (CLUSTER + f'via = [{{ bastion = "{HUB}", target = ["{JUMP}", "10.0.0.4"] }}, {{ ssh = "jump" }}]', "via[0].target: ids and addresses stand side by side", "Name all of them by their ids."),
    (CLUSTER + f'via = [{{ bastion = "{HUB}", target = "10.0.0.4", port = 443 }}, {{ ssh = "jump" }}]', "via[0].port: a Bastion lets 22 and 3389 through to a bare address", "Write the VM's id"),
    (CLUSTER + f'via = [{{ bastion = "{HUB}", target = "10.0.0.4", jit = {{ hours = 1 }} }}, {{ ssh = "jump" }}]', "via[0].jit: just-in-time access needs the VM's id, not its address", "Write the id"),
    (CLUSTER + f'via = [{{ bastion = "{HUB}", target = "{JUMP}" }}]', "via: a Bastion with a target is followed by an SSH hop on that VM", "Add { ssh"),
    (CLUSTER + "via = [{ command-invoke = true }]", "via: command-invoke needs an AKS cluster", "Write cluster = { aks"),
    (AKS_LINE + 'via = [{ proxy = "http://p" }, { command-invoke = true }]', "via[1]: command-invoke stands alone: it has no network path", "Remove the other hops."),
    (AKS_LINE + "via = [{ command-invoke = false }]", "via.command-invoke: only true has a meaning", "Write true, or leave the hop out."),
    (CLUSTER + 'tags = "production"', "tags: a list of texts is expected, not a text", 'Write tags = ["…"].'),
    (CLUSTER + 'tags = ["a b"]', "tags: a tag has letters, digits, . _ and -", ""),
    (CLUSTER + 'namespaces = ["Shop"]', "namespaces: not a namespace's name (small letters, digits and -)", ""),
    (CLUSTER + 'allow-write = "yes"', "allow-write: true or false (without quotes) is expected, not a text", ""),
    (CLUSTER + 'host-keys = "accept-new"', "host-keys: 'accept-new' is not known", "Known: strict, ask, pinned."),
    (CLUSTER + 'host-keys = "pinned"\nvia = [{ ssh = "a" }]', 'via: host-keys = "pinned", and this hop names no host-key', 'Add host-key = "SHA256:…".'),
    (CLUSTER + 'cloud = "chinna"', "cloud: there is no [cloud.chinna]", "Did you mean china?"),
    (CLUSTER + 'sign-in = "azure-cly"', "sign-in: there is no [sign-in.azure-cly]", "Did you mean azure-cli?"),
    (CLUSTER + 'sign-in = { kind = "service-principal" }', "sign-in.tenant: a service principal needs it", 'Add tenant = "…".'),
    (CLUSTER + 'sign-in = { kind = "azure-cli", client-id = "00000000-0000-0000-0000-000000000000" }', "sign-in.client-id: azure-cli brings an application of its own", "Leave client-id out."),
    (CLUSTER + 'title = ""', "title: it is empty", "Give it a value, or leave it out."),
    (CLUSTER + 'title = "' + "x" * 600 + '"', "title: it has more than 512 characters", ""),
    (CLUSTER + "title = 1979-05-27", "title: a text in quotes is expected, not a date or time", ""),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "detail", "hint"), GOLDEN, ids=[detail[:50] for _, detail, _ in GOLDEN])
def test_says_what_is_wrong_where_and_what_to_do(fields: str, detail: str, hint: str) -> None:
    book = book_of(f"[profile.p]\n{fields}\n[profile.good]\n{CLUSTER}")
    with pytest.raises(ProfileError) as caught:
        book.get("p")
    error = caught.value
    assert error.exit_code == 3
    assert error.title == "The profile p is not valid"
    assert error.detail.startswith("/conf/profiles.toml, line ")
    assert detail in error.detail
    assert error.hint.startswith(hint) if hint else error.hint == CORRECT_IT
    assert list(book.profiles) == ["good"]
    assert [getattr(problem, "profile", None) for problem in book.problems] == ["p"]


SECRETS = [
    "password",
    "client-secret",
    "token",
    "ssh-passphrase",
    "api_key",
    "private-key",
    "client-key-data",
    "credential",
]


@pytest.mark.parametrize("field", SECRETS)
def test_refuses_a_secret_and_never_repeats_it(field: str) -> None:
    for place in (f"{CLUSTER}{field} = 'hunter2'", f"cluster = {{ kubeconfig = '/k', {field} = 'hunter2' }}",
                  f"{CLUSTER}via = [{{ ssh = 'a', {field} = 'hunter2' }}]"):  # fmt: skip
        (problem,) = book_of(f"[profile.p]\n{place}").problems
        assert problem.code == "JD-PROFILE-SECRET"
        assert "Remove it from the file" in problem.hint
        assert "hunter2" not in "".join(problem.lines()) + repr(vars(problem))


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("via = [{ ssh = 'jump01', user = 'ops', password = 'hunter2' }]", "password ops@jump01"),
        ("via = [{ ssh = ['ops@a:2222', 'b'], password = 'hunter2' }]", "password ops@a:2222"),
        ("via = [{ ssh = 'jo:hunter2@a', passwd = 'hunter2' }]", "password USER@HOST"),
        ("via = [{ ssh = 'a', key = '~/.ssh/id', passphrase = 'hunter2' }]", "passphrase ~/.ssh/id"),
        ("bearer-token = 'hunter2'", "token p"),
    ],
)
def test_a_secret_in_the_file_is_told_the_command_that_stores_it(text: str, command: str) -> None:
    (problem,) = book_of(f"[profile.p]\n{CLUSTER}{text}").problems
    found = [each for each in (problem, *problem.more) if each.code == "JD-PROFILE-SECRET"]  # type: ignore[attr-defined]
    assert found[0].hint.endswith(f"jumpdeck secrets set {command}")
    assert "hunter2" not in "".join(found[0].lines())


SERVICE_PRINCIPAL = 'kind = "service-principal", tenant = "contoso.com", client-id = "{}"'
CLIENT = "00000000-0000-0000-0000-00000000000c"


@pytest.mark.parametrize(
    ("fields", "then"),
    [
        (f"{SERVICE_PRINCIPAL.format(CLIENT)}, client-secret = 'hunter2'", f"secrets set client-secret {CLIENT}"),
        (f"{SERVICE_PRINCIPAL.format(CLIENT)}, password = 'hunter2'", f"secrets set client-secret {CLIENT}"),
        (f"{SERVICE_PRINCIPAL.format(CLIENT)}, cert-secret = 'hunter2'", f"secrets set client-certificate {CLIENT}"),
        (f"{SERVICE_PRINCIPAL.format('hunter2')}, secret = 'hunter2'", "secrets set client-secret CLIENT_ID"),
        ("kind = 'browser', password = 'hunter2'", "this kind of sign-in needs none."),
    ],
)
def test_a_secret_of_a_sign_in_is_told_its_own_command(fields: str, then: str) -> None:
    written = "\n".join(fields.split(", "))
    for text in (f"sign-in = {{ {fields} }}", f'sign-in = "adm"\n[sign-in.adm]\n{written}'):
        problems = book_of(f"[profile.p]\n{CLUSTER}{text}").problems
        all_of_it = [each for problem in problems for each in (problem, *problem.more)]  # type: ignore[attr-defined]
        refused = [each for each in all_of_it if each.code == "JD-PROFILE-SECRET"]
        assert refused
        for found in refused:
            assert found.hint.endswith(then)
            assert "hunter2" not in "".join(found.lines())


def test_a_service_principal_by_its_kind_alone_is_a_problem_of_the_profile() -> None:
    for text in (f"[profile.p]\n{CLUSTER}sign-in = 'service-principal'",
                 f"[defaults]\nsign-in = 'service-principal'\n[profile.p]\n{CLUSTER}"):  # fmt: skip
        (problem,) = book_of(text).problems
        assert "a service principal needs tenant and client-id" in problem.detail
        assert problem.hint.startswith("Write [sign-in.NAME] with kind")


def test_the_default_sign_in_may_be_a_table() -> None:
    book = book_of(f"[defaults]\nsign-in = {{ kind = 'device-code', tenant = 'contoso.com' }}\n[profile.p]\n{CLUSTER}")
    assert not book.problems
    sign_in = book.get("p").sign_in
    assert sign_in and (sign_in.kind, sign_in.tenant) == ("device-code", "contoso.com")
    (problem,) = book_of(f"[defaults]\nsign-in = {{ kind = 'broker', acount = 'jo' }}\n[profile.p]\n{CLUSTER}").problems
    assert "[defaults]: sign-in.acount: there is no such field" in problem.detail


@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2ln",
        "https://jo:hunter2@proxy:3128",
    ],
)
def test_refuses_a_value_that_is_a_secret(value: str) -> None:
    for field in ("notes", "title", "proxy"):
        (problem,) = book_of(f'[profile.p]\n{CLUSTER}{field} = "{value}"').problems
        assert problem.code == "JD-PROFILE-SECRET"
        assert value not in "".join(problem.lines())


def test_all_problems_of_a_profile_are_told() -> None:
    (problem,) = book_of(f'[profile.p]\n{CLUSTER}titel = "x"\ntags = 1\nvia = ["x"]').problems
    assert [more.field for more in (problem, *problem.more)] == ["via", "tags", "titel"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["Prod", "a_b", "-a", "x" * 64, "ä", "pods", "help", "sign-in"])
def test_refuses_a_bad_name(name: str) -> None:
    book = book_of(f'[profile."{name}"]\n{CLUSTER}')
    assert not book.profiles
    with pytest.raises(ProfileError) as caught:
        book.get(name)
    assert caught.value.code == "JD-PROFILE-NAME"


def test_a_bad_hop_is_a_problem_of_itself_and_of_those_who_use_it() -> None:
    book = book_of(f'[hop.h]\nssh = "a:x"\n[profile.p]\n{CLUSTER}via = ["h"]\n[profile.q]\n{CLUSTER}')
    assert list(book.profiles) == ["q"]
    assert [getattr(problem, "profile", None) for problem in book.problems] == ["", "p"]
    assert "line 2, [hop.h]: ssh: not [user@]host[:port]" in book.problems[1].detail


def test_unknown_tables_hide_nothing() -> None:
    book = book_of(f"profil = 1\nhop = 3\n[profile.p]\n{CLUSTER}")
    assert list(book.profiles) == ["p"]
    assert [(problem.code, problem.hint) for problem in book.problems] == [
        ("JD-PROFILE-UNKNOWN-FIELD", "Did you mean profile?"),
        ("JD-PROFILE-FIELD", CORRECT_IT),
    ]


def test_an_unknown_name_is_told_with_near_ones() -> None:
    book = book_of(f"[profile.staging]\n{CLUSTER}")
    with pytest.raises(ProfileError) as caught:
        book.get("stagin\x1b[31m")
    assert caught.value.lines() == [
        "There is no profile stagin␛[31m [JD-PROFILE-UNKNOWN]",
        "/conf/profiles.toml has no such profile",
        "Did you mean staging?",
    ]


@pytest.mark.parametrize(
    ("text", "line", "why", "hint"),
    [
        (b'a = 1\nb = "C:\\Users\\jo"', 2, "Invalid hex value (column 10)", "Put a Windows path in single quotes ('C:\\Users\\jo'), or write / for \\."),
        (b'k = "\\\\x\\share"', 1, "Unescaped '\\' in a string (column 11)", "Put a Windows path"),
        (b"a = [\n", 1, "Invalid value (at the end of the file)", "Correct the TOML at this place."),
        (b"a = 1\na = 2\nb = 3", 2, "Cannot overwrite a value (column 6)", "Correct the TOML at this place."),
        (b"\nx\xff", 2, "byte 3 is not UTF-8", "Save the file as UTF-8."),
        (b"version = 0", None, "version is not a whole number from 1 up", "Write version = 1."),
        (b"version = '1'", None, "version is not a whole number from 1 up", "Write version = 1."),
    ],
)  # fmt: skip
def test_syntax_errors_have_their_place(text: bytes, line: int | None, why: str, hint: str) -> None:
    with pytest.raises(ProfileError) as caught:
        book_of(text)
    place = f", line {line}" if line else ""
    assert caught.value.detail == f"/conf/profiles.toml{place}: {why}"
    assert caught.value.hint.startswith(hint)


def test_a_newer_file_is_read_only_and_what_is_unknown_there_is_ignored() -> None:
    inner = 'cluster = { kubeconfig = "/k", colour = "red" }\n'
    book = book_of(f"version = 2\nbeta = 1\n[profile.p]\n{CLUSTER}[profile.q]\n{inner}shiny = 1\n[new.x]\ny = 1\n")
    assert book.read_only
    assert not book.problems
    assert list(book.profiles) == ["p", "q"]
    assert "newer format" in book.notices[0]
    assert "ignored: beta, new, profile.q.cluster.colour, profile.q.shiny. Update" in book.notices[1]


def test_a_newer_file_is_still_held_to_what_is_known() -> None:
    book = book_of(f"version = 2\n[profile.p]\n{CLUSTER}password = 'x'\n[profile.q]\n{CLUSTER}title = 1")
    assert [problem.code for problem in book.problems] == ["JD-PROFILE-SECRET", "JD-PROFILE-FIELD"]
    assert "update Jumpdeck" in book.problems[1].hint


def test_personal_defaults_fill_gaps_and_never_loosen_production() -> None:
    text = '[defaults]\nhost-keys = "ask"\nssh-key = "/k"\nssh-user = "ops"\n'
    book = book_of(
        f'{text}[profile.p]\n{CLUSTER}tags = ["production"]\nvia = [{{ ssh = "a" }}]\n[profile.q]\n{CLUSTER}'
    )
    assert book.profiles["p"].host_keys is None
    assert book.profiles["q"].host_keys == "ask"
    assert book.profiles["p"].via == (SshHop(("ops@a",), key=Path("/k")),)


def test_no_file_is_an_empty_book(tmp_path: Path) -> None:
    book = load(tmp_path / "none")
    assert not book.profiles and not book.problems
    with pytest.raises(ProfileError, match="no profile x"):
        book.get("x")


def test_an_unreadable_file_is_the_reason_that_get_gives(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text("[profile.p\n")
    with pytest.raises(ProfileError) as caught:
        load(tmp_path).get("p")
    assert caught.value.code == "JD-PROFILE-SYNTAX"


words = st.sampled_from(
    ["version", "include", "defaults", "hop", "sign-in", "cloud", "profile", "p", "cluster", "via", "ssh", "kubeconfig",
     "title", "tags", "jit", "aks", "network", "expect", "server", "password"]
)  # fmt: skip
values = st.recursive(
    st.datetimes() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | words | st.sampled_from([AKS, "https://x", "a@b:1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(words, st.dictionaries(words, st.dictionaries(words, values, max_size=5), max_size=2) | values))
@settings(max_examples=300 if os.environ.get("SOAK") else 100, deadline=None)  # eight seconds' computing are 300
def test_any_tables_give_a_book(tables: dict[str, object]) -> None:
    tables.pop("include", None)
    book = assemble(Source(FILE, b"", tables=tables))
    for problem in book.problems:
        assert problem.lines() and all("\n" not in line or "\n" in repr(tables) for line in problem.lines())


@given(st.binary(max_size=60) | st.text(alphabet="[]{}\"'=.\\\n #aprofile1-,", max_size=60).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_book_or_a_profile_error(data: bytes) -> None:
    try:
        book_of(data)
    except ProfileError as error:
        assert error.exit_code == 3


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    with pytest.raises(ProfileError):
        book_of("a = " + "[" * 5000)
    with pytest.raises(ProfileError):
        book_of("a = " + "9" * 5000)


def test_an_ssh_hop_keeps_the_name_of_its_table() -> None:
    book = book_of(
        'version = 1\n[hop.hub]\nssh = "ops@jump01"\n[profile.p]\ncluster = { kubeconfig = "k" }\n'
        'via = ["hub", { ssh = "inner" }]\n'
    )
    assert [hop.name for hop in book.get("p").via if isinstance(hop, SshHop)] == ["hub", ""]
