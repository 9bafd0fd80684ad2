"""Bad input, one row each: one clear message that names the place, the right exit code, and never a traceback."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.lab.practice import Lab
from tests.running import Done, jumpdeck

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: "{server}"}}}}]
users: [{{name: u, user: {{token: whatever}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
"""


@pytest_asyncio.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab.open(estate="none") as opened:
        opened.cluster.add_pod(
            {"metadata": {"namespace": "default", "name": "web-1"}, "spec": {"containers": [{"name": "app"}]}}
        )
        yield opened


def write_profile(folder: Path, cluster: str, extra: str = "") -> dict[str, str]:
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "profiles.toml"
    path.write_text(f"version = 1\n[profile.p]\ncluster = {cluster}\n{extra}\n")
    path.chmod(0o600)
    return {"JUMPDECK_CONFIG_DIR": str(folder)}


def write_kubeconfig(folder: Path, text: str) -> Path:
    path = folder / "kubeconfig"
    path.write_text(text)
    path.chmod(0o600)
    return path


def check(done: Done, code: int, *words: str) -> None:
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert len(re.findall(r"\[JD-[A-Z0-9-]+\]", done.err)) == 1, done.err
    assert 1 <= len(done.err.strip().splitlines()) <= 3, done.err
    for word in words:
        assert word in done.err


async def test_a_broken_kubeconfig(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path, "apiVersion: v1\nclusters: [}\n")
    where = write_profile(tmp_path / "c", f'{{ kubeconfig = "{path}", context = "c" }}')
    check(await jumpdeck("pods", "p", **where), 3, str(path))


async def test_an_unknown_context(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path, KUBECONFIG.format(server="https://127.0.0.1:1"))
    where = write_profile(tmp_path / "c", f'{{ kubeconfig = "{path}", context = "other" }}')
    check(await jumpdeck("pods", "p", **where), 3, "other", str(path))


async def test_a_bad_toml_line(tmp_path: Path) -> None:
    where = write_profile(tmp_path / "c", "{ kubeconfig = ")
    check(await jumpdeck("pods", "p", **where), 3, "profiles.toml", "line")


async def test_an_unknown_field(tmp_path: Path) -> None:
    where = write_profile(tmp_path / "c", '{ kubeconfig = "k" }', 'namespace = ["x"]')
    check(await jumpdeck("pods", "p", **where), 3, "profile", "namespaces")


async def test_a_wrong_query_regex(lab: Lab) -> None:
    where = {"JUMPDECK_CONFIG_DIR": str(lab.config_dir)}
    check(await jumpdeck("logs", "lab-direct", "web-(", **where), 2, "web-(")


async def test_a_wrong_include_regex(lab: Lab) -> None:
    where = {"JUMPDECK_CONFIG_DIR": str(lab.config_dir)}
    check(await jumpdeck("logs", "lab-direct", "web", "-i", "[", **where), 2, "include")


async def test_an_unreachable_server(tmp_path: Path) -> None:
    with socket.socket() as held:  # bound and not listening: refused for certain
        held.bind(("127.0.0.1", 0))
        path = write_kubeconfig(tmp_path, KUBECONFIG.format(server=f"https://127.0.0.1:{held.getsockname()[1]}"))
        where = write_profile(tmp_path / "c", f'{{ kubeconfig = "{path}" }}')
        check(await jumpdeck("pods", "p", **where), 5, "127.0.0.1")


async def test_an_expired_token(lab: Lab) -> None:
    await lab.fault("expired-token")
    check(await jumpdeck("pods", "lab-direct", JUMPDECK_CONFIG_DIR=str(lab.config_dir)), 6)


async def test_a_403(lab: Lab, tmp_path: Path) -> None:
    where = write_profile(tmp_path / "c", f'{{ kubeconfig = "{lab.kubeconfig}", context = "lab-nobody" }}')
    check(await jumpdeck("pods", "p", "-A", **where), 6, "pods")


async def test_a_missing_pod(lab: Lab) -> None:
    where = {"JUMPDECK_CONFIG_DIR": str(lab.config_dir)}
    check(await jumpdeck("logs", "lab-direct", "pod/nope", "--no-follow", **where), 7, "nope")


async def test_an_unknown_profile(tmp_path: Path) -> None:
    where = write_profile(tmp_path / "c", '{ kubeconfig = "k" }')
    check(await jumpdeck("pods", "q", **where), 3, "q")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nonsense",), 2),
        (("pods",), 2),
        (("pods", "p", "--nonsense"), 2),
        (("pods", "p", "-o", "yaml"), 2),
        (("logs", "p", "q", "--since", "soon"), 2),
        ((), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_usage(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    where = write_profile(tmp_path / "c", '{ kubeconfig = "k" }')
    check(await jumpdeck(*words, **where), code)


@pytest.mark.parametrize(
    ("cluster", "via", "code", "says"),
    [
        ('{ aks = "A" }', '{ bastion = "B" }', 4, "does not say how to sign in"),
        ('{ aks = "A" }', "{ command-invoke = true }", 4, "does not say how to sign in"),
        ('{ aks = "A" }', None, 4, "does not say how to sign in"),
        ('{ arc = "C", auth = "entra" }', None, 4, "sign in"),
    ],
)
async def test_a_way_through_azure_that_lacks_something_says_what(
    tmp_path: Path, cluster: str, via: str | None, code: int, says: str
) -> None:
    group = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers"
    ids = {
        '"K"': f'"{write_kubeconfig(tmp_path, KUBECONFIG.format(server="https://127.0.0.1:1"))}"',
        '"B"': f'"{group}/Microsoft.Network/bastionHosts/hub"',
        '"A"': f'"{group}/Microsoft.ContainerService/managedClusters/aks"',
        '"C"': f'"{group}/Microsoft.Kubernetes/connectedClusters/shop"',
    }
    for mark, text in ids.items():
        cluster, via = cluster.replace(mark, text), via and via.replace(mark, text)
    where = write_profile(tmp_path / "c", cluster, f"via = [{via}]" if via else "")
    check(await jumpdeck("pods", "p", **where), code, says)
