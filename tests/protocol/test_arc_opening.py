"""Which way a connected cluster is opened: natively, by az where that is not possible, or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from app.arc.az import AzTunnel
from app.arc.opening import Opened, Opening
from app.arc.processes import MARK
from app.asking import ConsentQuestion
from app.azure.arm import Arm
from app.azure.context import Azure
from app.errors import JumpdeckError, SignInError
from app.identity.clouds import PUBLIC
from app.identity.identity import AccessToken
from app.identity.source import About
from app.process_group import end_group, start_group
from app.profiles.model import ArcCluster, Profile
from app.routes.arc import ArcConnection
from app.secrets.secret import Secret
from tests.audit_lines import records
from tests.az_proxy import ARC, TENANT, Az
from tests.fakes import Consenting, FakeAsker
from tests.peers import require_linux
from tests.protocol.test_arc_orphans import gone, written

require_linux("the stand-ins are scripts")


class FakeIdentity:
    """A sign-in of some kind that has bearer tokens."""

    def __init__(self, kind: str) -> None:
        self.about = About(kind)
        self.label = kind

    async def token(self, scope: str, *, fresh: bool = False, claims: str | None = None) -> AccessToken:
        return AccessToken(Secret("opaque"), time.time() + 3_600)


class FakeArm:
    """An ARM that knows the cluster, and hands out nothing."""

    async def get(self, path: str, api_version: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        assert path == ARC
        return {"name": "Shop-01", "properties": {"connectivityStatus": "Connected"}, "identity": {"tenantId": TENANT}}


class Steps:
    """The labels of the steps that were shown."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def __call__(self, label: str) -> AbstractAsyncContextManager[None]:
        self.labels.append(label)
        return nullcontext()


def azure(kind: str) -> Azure:
    return Azure(FakeIdentity(kind), PUBLIC, cast("Arm", FakeArm()))


async def opened(kind: str, steps: Steps, asker: FakeAsker | None = None) -> Opened:
    return await Opening(Profile("edge", ArcCluster(ARC)), azure(kind), steps, asker=asker).open()


async def test_a_sign_in_that_gets_no_bound_token_is_opened_by_az_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    az, steps = Az(tmp_path / "world", monkeypatch), Steps()
    found = await opened("broker", steps)
    connection = ArcConnection("Shop-01 (Azure Arc)", "Entra", found.tunnel, found.facts)
    try:
        assert isinstance(found.tunnel, AzTunnel)
        assert steps.labels == ["Azure's facts of the cluster", "az connectedk8s proxy"]
        (warning,) = connection.warnings
        assert "opened by az connectedk8s proxy" in warning and "broker" in warning
        assert "az connectedk8s proxy (connectedk8s 1.11.2)" in connection.facts().note
        assert b"127.0.0.1" in connection.kubeconfig and connection.token_ends is None
        await connection.renew()  # az does that itself
        await connection.verify(20)
    finally:
        await connection.aclose()
    assert list((az.state / "run").glob("arc-*")) == []


@contextmanager
def refused() -> Iterator[pytest.ExceptionInfo[JumpdeckError]]:
    with pytest.raises(JumpdeckError) as caught:
        yield caught


async def test_where_az_cannot_do_it_either_it_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    az = Az(tmp_path / "world", monkeypatch)
    with refused() as caught:
        await opened("managed-identity", Steps())
    assert isinstance(caught.value, SignInError) and caught.value.code == "JD-SIGN-IN-POP"
    (az.bin / "az").unlink()
    monkeypatch.setenv("PATH", str(az.bin))
    with refused() as caught:
        await opened("broker", Steps())
    assert caught.value.code == "JD-SIGN-IN-POP" and int(caught.value.exit_code) == 4
    assert az.calls == []


async def test_who_can_be_asked_decides_about_programs_of_earlier_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    az = Az(tmp_path / "world", monkeypatch)
    folder = written(az.state, owner=gone(), process=None)
    left = await start_group(["/bin/sleep", "600"], env={MARK: folder.name})
    try:
        no, yes = Consenting(False), Consenting(True)
        for person, asked in ((FakeAsker(), 0), (no, 1), (no, 1), (yes, 0)):
            with refused():
                await opened("managed-identity", Steps(), person)
            assert len(person.asked) == asked and left.returncode is None, "who said no is not asked again"
        again = written(az.state, owner=gone(), process=None)
        second = await start_group(["/bin/sleep", "600"], env={MARK: again.name})
        try:
            with refused():
                await opened("managed-identity", Steps(), yes)
            (question,) = yes.asked
            assert isinstance(question, ConsentQuestion) and question.yes == "end it"
            assert await second.wait() == -15 and left.returncode is None and not again.path.exists()
        finally:
            await end_group(second)
    finally:
        await end_group(left)
    assert "arc-program.orphan-ended" in [record["event"] for record in records()]
