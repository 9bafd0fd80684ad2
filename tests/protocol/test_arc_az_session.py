"""The hop of a connected cluster where the native way is not possible: az does it, and the screen says so and why."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path

import pytest

from app.arc.tunnel import Tunnel
from app.azure.context import Azure
from app.errors import JumpdeckError, RouteError, SignInError
from app.identity.identity import AccessToken
from app.identity.pop import unable
from app.identity.source import About
from app.profiles.model import ArcCluster, Profile, SignIn
from app.routes.arc import ArcConnection, ArcDial
from app.routes.context import RouteContext
from app.routes.direct import DirectDialer
from app.routes.host_keys import HostKeys
from app.secrets.secret import SecretSource
from tests.arm_server import ArmServer, arm_server, azure_at, refusal
from tests.az_proxy import ARC, PROGRAM, Az
from tests.fakes import FakeIdentity
from tests.leftovers import lasting
from tests.peers import require_linux

require_linux("looks at processes and their environment in /proc")


class Person(FakeIdentity):
    """A sign-in of one kind; Entra gives it no token that is bound to a key, unless az asks."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.about = About(kind, profile="shop-edge")

    async def key_bound(self, scope: str, data: dict[str, str], *, tenant: str, ask: bool) -> AccessToken:
        raise unable(self.label, "az keeps this sign-in in Windows' account broker", True)


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Az:
    return Az(tmp_path, monkeypatch)


class World:
    """A profile's hop with its ARM; `steps` are those that were shown."""

    def __init__(self, arm: ArmServer, azure: Azure) -> None:
        self.arm, self.azure = arm, azure
        self.steps: list[str] = []
        relay = {"relay": "r", "hybridConnectionName": "h", "token": "SharedAccessSignature x",
                 "expirationTime": int(time.time()) + 10_800}  # fmt: skip
        config = base64.b64encode(b"apiVersion: v1\nkind: Config\n").decode()
        arm.on(ARC, refusal(403, "AuthorizationFailed", "no"))
        arm.on("/metadata/endpoints", {})
        arm.on(f"{ARC}/listClusterUserCredential", {
            "hybridConnectionConfig": relay, "kubeconfigs": [{"name": "x", "value": config}],
        }, method="POST")  # fmt: skip

    def show(self, step: str) -> AbstractAsyncContextManager[None]:
        self.steps.append(step)
        return nullcontext()

    def hop(self, kind: str, arc_proxy: Path | None = None) -> ArcDial:
        async def azure() -> Azure:
            return self.azure

        cluster = ArcCluster(ARC)
        context = RouteContext(None, SecretSource(None), HostKeys(), azure=azure, show=self.show)
        return ArcDial(Profile("shop-edge", cluster, sign_in=SignIn(kind), arc_proxy=arc_proxy), cluster, context)

    async def failure(self, hop: ArcDial) -> JumpdeckError:
        with pytest.raises(JumpdeckError) as caught:
            async with hop.open(DirectDialer()):
                pass
        return caught.value


@asynccontextmanager
async def world(folder: Path, kind: str) -> AsyncIterator[World]:
    async with arm_server() as arm, azure_at(arm, folder, Person(kind)) as azure:
        yield World(arm, azure)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("broker", "Windows' account broker signs such tokens with keys of its own only"),
        ("azure-cli", "az keeps this sign-in in Windows' account broker"),
    ],
    ids=["known beforehand", "told by the sign-in"],
)
async def test_a_sign_in_without_bound_tokens_goes_by_az(az: Az, tmp_path: Path, kind: str, why: str) -> None:
    async with world(tmp_path, kind) as here, here.hop(kind).open(DirectDialer()) as connection:
        assert here.steps[-1] == "az connectedk8s proxy"
        assert why in connection.warnings[-1] and connection.warnings[-1].startswith("opened by az connectedk8s proxy")
        assert connection.facts().note.startswith("Entra, az connectedk8s proxy (connectedk8s 1.11.2), opened by az")
        assert isinstance(connection, ArcConnection)
        tunnel: Tunnel = connection.tunnel
        assert tunnel.port == int(az.calls[0]["argv"][6].removeprefix("--port="))
    assert lasting(f"HOME={az.home}") == []


@pytest.mark.parametrize(("status", "code", "exit_code"), [
    (401, "JD-ARM-FORBIDDEN", 4), (403, "JD-ARM-FORBIDDEN", 4), (404, "JD-ARM-NOT-FOUND", 5),
    (429, "JD-ARM-BUSY", 5), (500, "JD-ARM-SERVER", 5),
])  # fmt: skip
async def test_where_azure_refuses_nothing_is_started_and_az_is_not_tried(
    az: Az, tmp_path: Path, status: int, code: str, exit_code: int
) -> None:
    async with world(tmp_path, "azure-cli") as here:
        no = refusal(status, "No", "as planned", Retry_After="3600")
        here.arm.on(f"{ARC}/listClusterUserCredential", no, method="POST")
        error = await here.failure(here.hop("azure-cli"))
    assert (error.code, int(error.exit_code), error.transient) == (code, exit_code, status in (429, 500))
    assert here.steps == ["Azure's facts of the cluster", "credential of the relay"]
    assert az.calls == [] and not (az.state / "run").exists()


async def test_without_a_program_az_is_used(az: Az, tmp_path: Path) -> None:
    (az.shared / PROGRAM).unlink()
    (az.bin / "az").write_text("#!/bin/sh\necho 'ERROR: [AZK8S0800] Failed to download proxy' >&2; exit 1\n")
    async with world(tmp_path, "azure-cli") as here:
        error = await here.failure(here.hop("azure-cli"))
    assert error.code == "JD-ARC-AZ-DOWNLOAD" and here.steps[-1] == "az connectedk8s proxy"


async def test_a_program_that_somebody_named_is_not_replaced_by_az(az: Az, tmp_path: Path) -> None:
    named = tmp_path / "arcProxy"
    named.write_text("#!/bin/sh\n")
    async with world(tmp_path, "azure-cli") as here:
        for path in (named, tmp_path / "nowhere"):
            error = await here.failure(here.hop("azure-cli", path))
            assert error.code == "JD-ARC-PROGRAM" and str(path) in error.detail and "by az" not in error.detail
    assert az.calls == []


async def test_where_az_is_missing_too_both_are_said(az: Az, tmp_path: Path) -> None:
    (az.shared / PROGRAM).unlink()
    for folder in (az.config / "cliextensions").iterdir():
        folder.rename(az.home / "gone")
    async with world(tmp_path, "azure-cli") as here:
        error = await here.failure(here.hop("azure-cli"))
        assert isinstance(error, RouteError) and (error.code, error.exit_code) == ("JD-ARC-PROGRAM", 5)
        assert "extension connectedk8s of az is missing" in error.detail
        assert "jumpdeck trust" in error.hint and "az extension add --source FILE.whl" in error.hint
    async with world(tmp_path, "broker") as here:
        other = await here.failure(here.hop("broker"))
    assert isinstance(other, SignInError) and (other.code, other.exit_code) == ("JD-SIGN-IN-POP", 4)
    assert "Sign in with one of" in other.hint and "az extension add" in other.hint
    assert az.calls == []
