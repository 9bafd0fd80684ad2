"""Kubeconfigs: what is read, what is refused and how it is said; nothing in them runs."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cluster import kubeconfig
from app.cluster.access import resolve_access, token_expiry
from app.errors import JumpdeckError, ProfileError, SignInError
from app.outbound import environment_proxy
from app.profiles.model import AksCluster, KubeconfigCluster, NetworkHop, Profile, ServerCluster, SshHop
from app.secrets.secret import Secret
from tests.fakes import FakeAsker
from tests.tls_servers import authority

CA = base64.b64encode(authority().pem).decode()


def write(folder: Path, text: str, name: str = "config") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def config(cluster: str = "", user: str = "token: t", context: str = "", server: str = "https://api.test:6443") -> str:
    return (
        f"current-context: here\nclusters: [{{name: c, cluster: {{server: '{server}', {cluster}}}}}]\n"
        f"users: [{{name: u, user: {{{user}}}}}]\n"
        f"contexts: [{{name: here, context: {{cluster: c, user: u, {context}}}}}]\n"
    )


def choose(folder: Path, text: str, context: str | None = None) -> kubeconfig.Chosen:
    return kubeconfig.load([write(folder, text)]).choose(context)


def test_a_whole_context(tmp_path: Path) -> None:
    cluster = f"certificate-authority-data: {CA}, tls-server-name: x.test"
    text = config(cluster, context="namespace: shop", server="https://rancher.test/k8s/clusters/c-1/")
    chosen = choose(tmp_path, text)
    assert (chosen.cluster.host, chosen.cluster.port) == ("rancher.test", 443)
    assert chosen.cluster.base_path == "/k8s/clusters/c-1"
    assert chosen.cluster.server == "https://rancher.test/k8s/clusters/c-1"
    assert chosen.cluster.ca == authority().pem
    assert chosen.cluster.tls_server_name == "x.test"
    assert chosen.namespace == "shop"
    assert chosen.user.token == Secret("t")
    assert "t" not in repr(chosen.user.token)


def test_paths_count_from_the_file_that_holds_them(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    pair = authority().issue("jo", client=True)
    pair.files(tmp_path / "pki", "jo")
    write(tmp_path / "pki", authority().pem.decode(), "ca.pem")
    user = "client-certificate: pki/jo.pem, client-key: pki/jo.key, tokenFile: pki/t"
    chosen = choose(tmp_path, config("certificate-authority: pki/ca.pem", user))
    assert chosen.cluster.ca == authority().pem
    assert chosen.user.certificate == pair.certificate
    assert chosen.user.key == Secret(pair.key.decode())
    assert chosen.user.token_file == tmp_path / "pki" / "t"


def test_a_kubeconfig_list_is_merged_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write(tmp_path, "clusters: [{name: c, cluster: {server: 'https://one.test'}}]\n", "one")
    two = write(tmp_path, config(server="https://two.test") + "extensions: []\n", "two")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(one), str(tmp_path / "missing"), "", str(two)]))
    chosen = kubeconfig.load(kubeconfig.default_paths()).choose(None)
    assert chosen.cluster.host == "one.test"
    assert chosen.context == "here"


PROBLEMS = [
    (config("insecure-skip-tls-verify: 'false'"), "JD-KUBECONFIG-FIELD", "insecure-skip-tls-verify", "text in quotes"),
    (config("insecure-skip-tls-verify: \"true\""), "JD-KUBECONFIG-FIELD", "insecure-skip-tls-verify", "text in quotes"),
    (config("insecure-skip-tls-verify: 1"), "JD-KUBECONFIG-FIELD", "insecure-skip-tls-verify", "a number"),
    (config("insecure-skip-tls-verify: true"), "JD-TLS-SKIP-VERIFY", "insecure-skip-tls-verify", "who answers"),
    (config(user="username: jo, password: secret"), "JD-KUBECONFIG-BASIC-AUTH", "user u", "1.19"),
    (config(user="auth-provider: {name: azure}"), "JD-KUBECONFIG-AUTH-PROVIDER", "user u", "1.26"),
    (config(user="token: t, as: admin"), "JD-KUBECONFIG-IMPERSONATE", "user u", "somebody else"),
    (config(user="token: 12345"), "JD-KUBECONFIG-FIELD", "token", "a number"),
    (config(user="client-certificate-data: AAAA"), "JD-KUBECONFIG-FIELD", "client-key", "missing"),
    (config(user="exec: [a]"), "JD-KUBECONFIG-FIELD", "exec", "a list"),
    (config(user="exec: {command: x, apiVersion: v, args: [1]}"),
     "JD-KUBECONFIG-FIELD", "args", "list of texts"),
    (config(user="exec: {apiVersion: client.authentication.k8s.io/v1}"), "JD-KUBECONFIG-FIELD", "command", "missing"),
    (config(user="exec: {command: x, apiVersion: v, interactiveMode: Always}"),
     "JD-KUBECONFIG-FIELD", "interactiveMode", "terminal"),
    (config("certificate-authority-data: '%%%'"), "JD-KUBECONFIG-FIELD", "certificate-authority-data", "base64"),
    (config(server="http://api.test"), "JD-KUBECONFIG-FIELD", "server", "in the open"),
    (config(server="api.test:6443"), "JD-KUBECONFIG-FIELD", "server", "not a URL"),
    (config(server="https://api.test:x"), "JD-KUBECONFIG-FIELD", "server", "not a URL"),
    (config(server="https://jo:pw@api.test"), "JD-KUBECONFIG-FIELD", "server", "more than host"),
    (config().replace("cluster: c,", "cluster: gone,"), "JD-KUBECONFIG-FIELD", "cluster", "gone"),
    (config().replace("user: u,", "user: gone,"), "JD-KUBECONFIG-FIELD", "user", "gone"),
    (config().replace("current-context: here", ""), "JD-KUBECONFIG-FIELD", "current-context", "not set"),
    (config().replace("current-context: here", "current-context: elsewhere"),
     "JD-KUBECONFIG-CONTEXT", "here", "elsewhere"),
    ("[]", "JD-KUBECONFIG-FIELD", "file", "not a map"),
    ("", "JD-KUBECONFIG-FIELD", "current-context", "not set"),
    ("clusters: {a: b}", "JD-KUBECONFIG-FIELD", "clusters", "not a list"),
    ("users: [{user: {}}]", "JD-KUBECONFIG-FIELD", "users", "no name"),
    ("a: &x 1\nb: *x\n", "JD-PROFILE-YAML", "config", "aliases"),
    ("a: [", "JD-PROFILE-YAML", "config", "line"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "field", "why"), PROBLEMS)
def test_a_problem_names_file_field_and_remedy(tmp_path: Path, text: str, code: str, field: str, why: str) -> None:
    with pytest.raises(ProfileError) as caught:
        choose(tmp_path, text)
    error = caught.value
    assert (error.code, int(error.exit_code)) == (code, 3)
    said = " ".join(error.lines())
    assert "config" in said
    assert field in said
    assert why in said
    assert "pw@" not in said
    assert "secret" not in said


def test_a_missing_file_and_a_writable_one(tmp_path: Path) -> None:
    with pytest.raises(ProfileError):
        kubeconfig.load([tmp_path / "none"])
    path = write(tmp_path, config())
    path.chmod(0o666)
    if os.name == "posix":
        with pytest.raises(ProfileError):
            kubeconfig.load([path])


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(
                        ["name", "cluster", "user", "context", "server", "token", "exec", "args", "env", "command"]),
                        inner, max_size=4), max_leaves=8))  # fmt: skip
def test_no_shape_of_a_file_escapes_as_another_exception(value: object) -> None:
    merged = kubeconfig.Kubeconfig()
    entry = kubeconfig._Entry(value if isinstance(value, dict) else {}, Path("f"))
    for judge in (kubeconfig._cluster, kubeconfig._user):
        try:
            judge("x", entry)
        except JumpdeckError as error:
            assert error.code
    merged.contexts["x"] = entry
    with pytest.raises(ProfileError):
        merged.choose("x")


async def test_kinds_of_cluster_that_need_azure_say_so() -> None:
    for cluster in (AksCluster("/subscriptions/x"), ServerCluster("https://api.test", auth="entra")):
        with pytest.raises(SignInError) as caught:
            await resolve_access(Profile("p", cluster), asker=None)
        assert (caught.value.code, int(caught.value.exit_code)) == ("JD-SIGN-IN-NO-AZURE", 4)


async def test_a_token_is_asked_for_once_and_again_after_a_refusal() -> None:
    profile = Profile("asked", ServerCluster("https://api.test:6443", tls_server_name="in.test", address="10.0.0.4"))
    access = await resolve_access(profile, asker=FakeAsker(["first ", "second"]))
    assert (access.host, access.port, access.tls_name) == ("10.0.0.4", 6443, "in.test")
    assert access.server_label == "https://api.test:6443 (TLS name in.test)"
    assert await access.credentials.headers() == {"Authorization": "Bearer first"}
    again = await resolve_access(profile, asker=None)
    assert await again.credentials.headers() == {"Authorization": "Bearer first"}
    assert not await access.credentials.refresh()
    with pytest.raises(SignInError) as caught:
        await again.credentials.headers()
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-SECRET-NEEDED", 4)
    assert await access.credentials.headers() == {"Authorization": "Bearer second"}
    await access.credentials.refresh()


async def test_a_token_file_is_read_again_after_a_refusal(tmp_path: Path) -> None:
    token = write(tmp_path, "one\n", "token")
    path = write(tmp_path, config(user=f"tokenFile: '{token}', token: other"))
    access = await resolve_access(Profile("p", KubeconfigCluster(path)), asker=None)
    assert await access.credentials.headers() == {"Authorization": "Bearer one"}
    assert not await access.credentials.refresh()
    write(tmp_path, "two\n", "token")
    assert await access.credentials.headers() == {"Authorization": "Bearer one"}
    assert await access.credentials.refresh()
    assert await access.credentials.headers() == {"Authorization": "Bearer two"}


@pytest.mark.parametrize("token", ["a\r\nX: y", "a b", "", "ä"])
async def test_a_token_that_would_change_the_request_is_not_sent(tmp_path: Path, token: str) -> None:
    path = write(tmp_path, config(user="tokenFile: token"))
    write(tmp_path, token, "token")
    access = await resolve_access(Profile("p", KubeconfigCluster(path)), asker=None)
    with pytest.raises(SignInError):
        await access.credentials.headers()


PROXIES = [
    ({}, None), ({"HTTPS_PROXY": "http://p:1"}, "http://p:1"), ({"https_proxy": "p:1"}, "http://p:1"),
    ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test"}, None),
    ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".test"}, None),
    ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
    ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "est,other.test"}, "http://p:1"),
    ({"HTTP_PROXY": "http://p:1"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("env", "proxy"), PROXIES)
def test_the_environments_proxy(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], proxy: str | None) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert environment_proxy("api.test") == proxy


async def test_who_wins_among_proxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://env:1")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    there = KubeconfigCluster(write(tmp_path, config("proxy-url: 'http://file:1'"), "a"))
    plain = KubeconfigCluster(write(tmp_path, config(), "b"))
    local = KubeconfigCluster(write(tmp_path, config(server="https://127.0.0.1:1"), "c"))
    inner = KubeconfigCluster(write(tmp_path, config(server="https://10.1.2.3"), "d"))

    async def proxy(profile: Profile) -> str | None:
        return (await resolve_access(profile, asker=None)).proxy

    assert await proxy(Profile("p", there, proxy="http://own:1")) == "http://own:1"
    assert await proxy(Profile("p", there)) == "http://file:1"
    assert await proxy(Profile("p", plain, via=(NetworkHop("VPN"),))) == "http://env:1"
    assert await proxy(Profile("p", local, proxy="http://own:1")) is None
    assert await proxy(Profile("p", inner)) is None
    assert await proxy(Profile("p", plain, via=(SshHop(("jump",)),), proxy="http://own:1")) is None


def test_a_jwt_tells_when_it_ends() -> None:
    claims = base64.urlsafe_b64encode(b'{"exp": 1700000000}').decode().rstrip("=")
    never = base64.urlsafe_b64encode(b'{"exp": 1%s}' % (b"0" * 400)).decode().rstrip("=")
    assert token_expiry(Secret(f"a.{claims}.c")) == 1700000000.0
    for other in ("opaque", "a.b.c", "a..c", "a.e30.c", f"a.{never}.c"):
        assert token_expiry(Secret(other)) is None
