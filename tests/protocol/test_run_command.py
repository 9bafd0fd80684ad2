"""Run command over ARM: its life, its limits, and what each of its refusals says."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.azure.run_command import FILES_LIMIT, OUTPUT_LIMIT, RunCommand, command_id, packed
from app.errors import JumpdeckError, UsageError
from tests.arm_server import AKS, ArmServer, arm_server, azure_at, good, refusal
from tests.fakes import FakeIdentity

RUN = f"{AKS}/runCommand"
RESULT = f"{AKS}/commandResults/abc123"


def cluster(**properties: Any) -> dict[str, Any]:
    return {"id": AKS, "name": "aks-prod", "properties": {"powerState": {"code": "Running"}, **properties}}


def started(after: str = "") -> web.Response:
    answer = good({}, 202)
    answer.headers["Location"] = f"https://elsewhere.example{RESULT}?api-version=2026-08-01"
    if after:
        answer.headers["Retry-After"] = after
    return answer


def done(logs: str = "hello\n", code: int = 0, state: str = "Succeeded", **more: Any) -> dict[str, Any]:
    return {"id": "abc123", "properties": {"provisioningState": state, "exitCode": code, "logs": logs, **more}}


RUNNING = {"id": "abc123", "properties": {"provisioningState": "Running"}}


@asynccontextmanager
async def commands(
    folder: Path, found: dict[str, Any] | None = None, **how: Any
) -> AsyncIterator[tuple[ArmServer, RunCommand, FakeIdentity]]:
    identity = FakeIdentity()
    async with arm_server() as server, azure_at(server, folder, identity) as azure:
        server.on(AKS, found or cluster())
        server.on(RUN, started(), method="POST")
        server.on(RESULT, done())
        yield server, RunCommand(azure, AKS, **{"poll": 0.01, **how}), identity


def sent(server: ArmServer) -> dict[str, Any]:
    return next(json.loads(body) for request, body in zip(server.seen, server.bodies, strict=True)
                if request.method == "POST")  # fmt: skip


async def test_a_command_is_sent_polled_by_its_id_and_judged_by_the_body(tmp_path: Path) -> None:
    async with commands(tmp_path) as (server, command, _):
        server.on(RESULT, good(RUNNING, 202), good(RUNNING), good(done("three\n", 3), 202))
        told: list[str] = []
        result = await command.run("kubectl get pods", told=told.append)
        assert (result.exit_code, result.output, result.cut) == (3, "three\n", False)
        assert [request.method for request in server.seen] == ["GET", "POST", "GET", "GET", "GET"]
        assert sent(server) == {"command": "kubectl get pods", "context": "", "clusterToken": ""}
        assert any("running" in line for line in told) and "abc123" in told[0]
        assert all("elsewhere" not in str(request.url) for request in server.seen)


async def test_the_persons_token_goes_along_only_where_the_cluster_has_entra(tmp_path: Path) -> None:
    async with commands(tmp_path, cluster(aadProfile={"managed": True})) as (server, command, identity):
        await command.run("kubectl version")
        scope = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
        assert sent(server)["clusterToken"] == identity.value(scope)
    async with commands(tmp_path) as (server, command, identity):
        await command.run("kubectl version")
        assert all("6dae42f8" not in scope for scope, _, _ in identity.asked)


async def test_files_travel_in_a_zip(tmp_path: Path) -> None:
    async with commands(tmp_path) as (server, command, _):
        await command.run("kubectl apply -f a.yaml", files={"a.yaml": b"kind: X\n", "chart/b": b"\0"})
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(sent(server)["context"]))) as archive:
            packed_files = {name: archive.read(name) for name in archive.namelist()}
        assert packed_files == {"a.yaml": b"kind: X\n", "chart/b": b"\0"}
    with pytest.raises(UsageError) as caught:
        packed({"big": bytes(FILES_LIMIT + 1)})
    assert caught.value.code == "JD-INVOKE-FILES" and "1 MiB" in caught.value.detail


async def test_output_that_azure_has_cut_is_known(tmp_path: Path) -> None:
    async with commands(tmp_path) as (server, command, _):
        server.on(RESULT, done("x" * (OUTPUT_LIMIT - 1)), done("x" * OUTPUT_LIMIT), done("é" * (OUTPUT_LIMIT // 2)))
        assert [(await command.run("kubectl get pods")).cut for _ in range(3)] == [False, True, True]


async def test_what_passes_by_itself_does_not_end_the_wait(tmp_path: Path) -> None:
    async with commands(tmp_path) as (server, command, _):
        server.on(RESULT, *[refusal(429, "TooManyRequests", "slow down", Retry_After="0.01")] * 6, done())
        assert (await command.run("helm upgrade x ./x --wait")).output == "hello\n"


@pytest.mark.parametrize("after", ["nan", "inf"])
async def test_a_wait_that_no_clock_knows_stops_no_clock(tmp_path: Path, after: str) -> None:
    async with commands(tmp_path, wait_limit=0.1) as (server, command, _):
        server.on(RUN, started(after), method="POST")
        server.on(RESULT, RUNNING)
        with pytest.raises(JumpdeckError) as caught:
            async with asyncio.timeout(10):
                await command.run("kubectl get pods")
        assert caught.value.code == "JD-INVOKE-TIMEOUT"


async def test_after_its_limit_a_command_is_left_to_go_on(tmp_path: Path) -> None:
    async with commands(tmp_path, wait_limit=0.2) as (server, command, _):
        server.on(RESULT, RUNNING)
        with pytest.raises(JumpdeckError) as caught:
            await command.run("helm test x")
        assert (caught.value.code, int(caught.value.exit_code)) == ("JD-INVOKE-TIMEOUT", 5)
        assert "abc123" in caught.value.hint and not caught.value.transient


_GATEKEEPER = 'admission webhook "validation.gatekeeper.sh" denied the request: [no-foreign-images] nope'
_SLOW = "KubernetesPerformanceError: container command-x in aks-command namespace did not start within 30s"


@pytest.mark.parametrize(
    ("posted", "result", "code", "exit_code", "words"),
    [
        (None, done(state="Failed", reason=_SLOW), "JD-INVOKE-NO-START", 5, "aks-command"),
        (refusal(400, "KubernetesPerformanceError", _SLOW), None, "JD-INVOKE-NO-START", 5, "aks-command"),
        (None, done(state="Failed", reason=_GATEKEEPER), "JD-INVOKE-POLICY", 5, "gatekeeper"),
        (refusal(400, "KubernetesOperationError", _GATEKEEPER), None, "JD-INVOKE-POLICY", 5, "policy"),
        (None, done(state="Failed", reason="", logs=""), "JD-INVOKE-FAILED", 5, "no reason"),
        (refusal(400, "BadRequest", "Run command is disabled for this cluster."), None, "JD-INVOKE-DISABLED", 5,
         "enable-run-command"),
        (None, refusal(404, "NotFound", "Not Found"), "JD-INVOKE-NO-POD", 5, "never started"),
        (refusal(403, "AuthorizationFailed",
                 "The client 'jo' with object id 'x' does not have authorization to perform action "
                 "'Microsoft.ContainerService/managedClusters/runCommand/action' over scope '/s'."), None,
         "JD-ARM-FORBIDDEN", 4, "runCommand/action"),
    ],
)  # fmt: skip
async def test_refusals_say_what_to_do(
    posted: Any, result: Any, code: str, exit_code: int, words: str, tmp_path: Path
) -> None:
    async with commands(tmp_path) as (server, command, _):
        if posted is not None:
            server.on(RUN, posted, method="POST")
        if result is not None:
            server.on(RESULT, result)
        with pytest.raises(JumpdeckError) as caught:
            await command.run("kubectl get pods")
        error = caught.value
        assert (error.code, int(error.exit_code)) == (code, exit_code)
        assert error.hint and words in " ".join(error.lines())
        assert sum(request.method == "POST" for request in server.seen) == 1, "a command is never sent twice"


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (cluster(powerState={"code": "Stopped"}), "JD-AKS-STOPPED"),
        (cluster(apiServerAccessProfile={"disableRunCommand": True}), "JD-INVOKE-DISABLED"),
    ],
)
async def test_what_cannot_work_is_known_before_anything_is_sent(
    found: dict[str, Any], code: str, tmp_path: Path
) -> None:
    async with commands(tmp_path, found) as (server, command, _):
        with pytest.raises(JumpdeckError) as caught:
            await command.run("kubectl get pods")
        assert caught.value.code == code
        assert [request.method for request in server.seen] == ["GET"]


def test_only_the_id_of_a_location_counts() -> None:
    assert command_id(f"https://evil.example{RESULT}?x=1", {}) == "abc123"
    assert command_id("", {"id": f"{RESULT}"}) == "abc123"
    for location in ("", "https://arm/x", f"https://arm{AKS}/commandResults/..%2F..%2Fx?"):
        with pytest.raises(JumpdeckError):
            command_id(location, {})


async def test_neither_token_nor_command_stand_in_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with commands(tmp_path, cluster(aadProfile={"managed": True})) as (server, command, identity):
        await command.run("kubectl create secret generic x --from-literal=p=sentinel-literal")
        assert identity.sentinel in sent(server)["clusterToken"]
    assert identity.sentinel not in caplog.text and "sentinel-literal" not in caplog.text
