"""The lab's own profiles through its Azure, as a person runs them: without a question, or with a device code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from app.lab.azure_names import CLUSTER, OBJECT_ID, TENANT
from tests.azure_world import Portal, azure_world
from tests.peers import require
from tests.running import Done
from tests.running import jumpdeck as run
from tests.terminal import Terminal

PROFILES = ("lab-bastion", "lab-bastion-aks", "lab-invoke")


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with azure_world() as portal:
        yield portal


def where(portal: Portal, folder: Path) -> dict[str, str]:
    (folder / "home").mkdir(exist_ok=True)
    return {
        "JUMPDECK_CONFIG_DIR": str(portal.lab.config_dir), "JUMPDECK_STATE_DIR": str(folder / "state"),
        "HOME": str(folder / "home"),
    }  # fmt: skip


async def jumpdeck(portal: Portal, folder: Path, *words: str) -> Done:
    return await run(*words, "--no-input", **where(portal, folder))


def secret_lines(folder: Path, *needles: str) -> list[str]:
    texts = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    return [line for text in texts for line in text.splitlines() if any(needle in line for needle in needles)]


async def test_each_opens_and_leaves_no_token_behind(portal: Portal, tmp_path: Path) -> None:
    portal.lab.cluster.write_log("default", "web", "app", b"one\ntwo\n")
    for profile, logins in zip(PROFILES, (2, 2, 2), strict=True):  # only the first goes through the jump box
        done = await jumpdeck(portal, tmp_path, "pods", profile, "-o", "name", "--verbose")
        assert (done.code, done.out) == (0, "pod/web\n"), done.err
        done = await jumpdeck(portal, tmp_path, "logs", profile, "web", "--tail=1", "--no-follow", "-o", "raw")
        assert (done.code, done.out) == (0, "two\n"), done.err
        assert portal.lab.jump.logins == logins
    assert len(portal.lab.azure.invoke.commands) >= 2
    assert portal.lab.azure.entra.asked == []
    assert secret_lines(tmp_path, "eyJ", "aztoken=", "webtunnelv2/") == []


async def test_the_public_name_of_the_cluster_is_one_that_tls_verifies(portal: Portal, tmp_path: Path) -> None:
    shown = tomllib.loads((portal.lab.config_dir / "profiles.toml").read_text())["profile"]["lab-bastion-aks"]
    public = f'\n[profile.by-public]\ncluster = {{ aks = "{CLUSTER}", fqdn = "public" }}\n'
    with (portal.lab.config_dir / "profiles.toml").open("a") as file:
        file.write(f'{public}via = [{{ bastion = "{shown["via"][0]["bastion"]}" }}]\ncloud = "lab"\nsign-in = "lab"\n')
    done = await jumpdeck(portal, tmp_path, "pods", "by-public", "-o", "name")
    assert (done.code, done.out) == (0, "pod/web\n"), done.err


@pytest.mark.parametrize("profile", PROFILES)
async def test_kubectl_runs_through_each(portal: Portal, tmp_path: Path, profile: str) -> None:
    require("kubectl")
    words = ("exec", profile, "--no-input", "--", "kubectl", "get", "pods", "-o", "name")
    done = await run(*words, **where(portal, tmp_path))
    assert (done.code, done.out) == (0, "pod/web\n"), done.err


async def test_a_certificate_of_entra_opens_the_jump_box_of_the_labs_cloud(portal: Portal, tmp_path: Path) -> None:
    """A cloud of one's own has certificates when its table names the scope, and the lab's does."""
    profiles = portal.lab.config_dir / "profiles.toml"
    text = profiles.read_text()
    bastion = tomllib.loads(text)["profile"]["lab-bastion"]
    vm, ssh = bastion["via"]
    mine = (
        f'[profile.certified]\ncluster = {{ aks = "{CLUSTER}" }}\ncloud = "lab"\n'
        f'via = [{{ bastion = "{vm["bastion"]}", target = "{vm["target"]}" }}, '
        f'{{ ssh = "jump", host-key = "{ssh["host-key"]}", entra-certificate = true }}]\n'
        f'sign-in = {{ kind = "service-principal", tenant = "{TENANT}", client-id = "{OBJECT_ID}" }}\n'
    )
    profiles.write_text(f"{text}\n{mine}")
    done = await jumpdeck(portal, tmp_path, "pods", "certified", "-o", "name")
    assert (done.code, done.out) == (0, "pod/web\n"), done.err


async def test_a_device_code_is_shown_and_typed_and_the_profile_opens(portal: Portal, tmp_path: Path) -> None:
    portal.lab.azure.entra.approve_after = None
    profiles = portal.lab.config_dir / "profiles.toml"
    text = profiles.read_text()
    mine = f'[profile.coded]\ncluster = {{ aks = "{CLUSTER}" }}\nvia = [{{ command-invoke = true }}]\n'
    profiles.write_text(f'{text}\n{mine}cloud = "lab"\nsign-in = "lab-code"\n')
    refused = await jumpdeck(portal, tmp_path, "pods", "coded")
    assert (refused.code, "jumpdeck sign-in coded" in refused.err) == (4, True)
    with closing(Terminal("pods", "coded", "-o", "name", **where(portal, tmp_path))) as shown:
        await shown.until(lambda said: b"/devicelogin" in said and re.search(rb"\b[0-9A-F]{9}\b", said) is not None)
        code = re.search(rb"\b[0-9A-F]{9}\b", shown.written)
        assert code is not None
        assert portal.lab.azure.entra.approve(code[0].decode()) == 1
        assert await shown.ended() == 0
    assert b"pod/web" in shown.written


FAULTS = [
    ("conditional-access", "lab-bastion", 4, "JD-SIGN-IN-CONDITIONAL-ACCESS"),
    ("wrong-tenant@entra", "lab-bastion-aks", 4, "JD-SIGN-IN-WRONG-TENANT"),
    ("arm-403", "lab-invoke", 4, "JD-ARM-FORBIDDEN"),
    ("basic-sku", "lab-bastion", 5, "JD-BASTION-SKU"),
    ("aks-stopped", "lab-bastion-aks", 5, "JD-AKS-STOPPED"),
    ("run-command-disabled", "lab-invoke", 5, "JD-INVOKE-DISABLED"),
]


@pytest.mark.parametrize(("fault", "profile", "code", "name"), FAULTS)
async def test_a_fault_is_told_with_its_code(
    portal: Portal, tmp_path: Path, fault: str, profile: str, code: int, name: str
) -> None:
    what, _, place = fault.partition("@")
    await portal.lab.fault(what, place or None)
    done = await jumpdeck(portal, tmp_path, "pods", profile)
    assert (done.code, name in done.err) == (code, True), done.err


async def test_the_kind_lab_is_known_in_a_lab_only(portal: Portal, tmp_path: Path) -> None:
    elsewhere = tmp_path / "config"
    elsewhere.mkdir(mode=0o700)
    copy = elsewhere / "profiles.toml"
    copy.write_text((portal.lab.config_dir / "profiles.toml").read_text())
    copy.chmod(0o600)
    done = await run("pods", "lab-invoke", "--no-input", JUMPDECK_CONFIG_DIR=str(elsewhere))
    assert done.code == 3
    assert "'lab' is not known" in done.err
