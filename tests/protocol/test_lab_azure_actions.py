"""What the lab's ARM does: commands in the cluster, just-in-time access, certificates; and its tokens at the API."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import socket
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from app.lab.azure_names import AKS_NAME, CLUSTER, GROUP_ID, JIT_POLICY, JUMP_VM, OBJECT_ID, SUBSCRIPTION, TENANT, UPN
from app.lab.invoke import MAX_OUTPUT
from app.lab.practice import Lab
from tests.azure_world import AKS_SCOPE, CLI_SCOPE, LIMIT, Json, Portal, azure_world
from tests.peers import require


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with azure_world() as portal:
        yield portal


# tokens at the API server


def write_config(portal: Portal, path: Path, token: str) -> Path:
    door = portal.lab.door.port
    cluster = {"server": f"https://127.0.0.1:{door}", "certificate-authority": portal.ca, "tls-server-name": AKS_NAME}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path.write_text(json.dumps(config))
    return path


async def kubectl(path: Path, *words: str) -> tuple[int, str]:
    env = {**os.environ, "KUBECONFIG": str(path)}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(require("kubectl"), *words, env=env, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), LIMIT)
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


async def test_kubectl_gets_in_with_a_token_of_entra_until_it_expires(portal: Portal, tmp_path: Path) -> None:
    require("kubectl")
    good = write_config(portal, tmp_path / "good", portal.token(AKS_SCOPE))
    assert await kubectl(good, "get", "pods", "-o", "name") == (0, "pod/web\n")
    assert UPN in (await kubectl(good, "auth", "whoami"))[1]
    for token in (
        portal.token(AKS_SCOPE, life=-1),
        portal.token(CLI_SCOPE),
        portal.token(AKS_SCOPE, tenant=SUBSCRIPTION),
    ):
        code, said = await kubectl(write_config(portal, tmp_path / "bad", token), "get", "pods")
        assert code == 1
        assert "must be logged in" in said or "Unauthorized" in said


SAID = (
    "get pods -A", "get pods -A -o wide", "get po -n shop", "get ns", "get pods -n nowhere", "get pod nosuch",
    "get nothing", "get pods -o name", "get events -A --no-headers", "logs nosuch", "logs clock-0 -c nosuch",
    "logs clock-0 --previous", "get deploy -A", "get pods --bad-flag", "auth whoami",
    "auth whoami -o jsonpath={.status.userInfo.username}",
)  # fmt: skip


async def test_the_kubectl_of_a_command_says_what_kubectl_says(tmp_path: Path) -> None:
    require("kubectl")
    async with Lab.open(seed=3, estate="still") as lab:  # one that lives changes between the two questions
        portal = Portal(lab)
        lab.azure.invoke.start_delay = 0.01
        config = write_config(portal, tmp_path / "config", portal.token(AKS_SCOPE))
        for line in SAID:
            code, said = await kubectl(config, *line.split())
            ours = await portal.invoke(f"kubectl {line}")
            assert (line, ours["exitCode"]) == (line, code)
            assert (line, _ageless(ours["logs"])) == (line, _ageless(said))


def _ageless(text: str) -> list[list[str]]:
    """The words of each line, without those that pass with time, and without blanks at the ends of lines."""
    return [re.sub(r"\b\d+[smhd](\d+[smh])?\b", "AGE", line).split() for line in text.splitlines()]


async def test_json_of_a_command_is_that_of_kubectl(portal: Portal, tmp_path: Path) -> None:
    require("kubectl")
    config = write_config(portal, tmp_path / "config", portal.token(AKS_SCOPE))
    for words in (("get", "pods", "-A", "-o", "json"), ("get", "pod", "web", "-ojson"), ("get", "ns", "-o", "json")):
        ours = await portal.invoke(f"kubectl {' '.join(words)}")
        assert ours["logs"] == (await kubectl(config, *words))[1]


# command invoke


async def test_a_command_is_started_waited_for_and_its_result_kept(portal: Portal) -> None:
    portal.lab.cluster.write_log("default", "web", "app", b"one\ntwo\n")
    sent = {"command": "kubectl logs web --tail=1", "context": "", "clusterToken": portal.token(AKS_SCOPE)}
    portal.lab.azure.invoke.start_delay = 3.0  # the first look comes before its end on a busy machine too
    started = await portal.arm("POST", f"{CLUSTER}/runCommand", sent)
    assert (started.status_code, started.headers["Retry-After"]) == (202, "1")
    where = started.headers["Location"]
    assert re.search(r"/commandResults/\w+\?api-version=", where)
    running = await portal.arm("GET", where)
    assert (running.status_code, running.json()["properties"]["provisioningState"]) == (202, "Running")
    await asyncio.wait_for(portal.lab.azure.invoke.wait_ended(), LIMIT)
    done = await portal.arm("GET", where)
    found = done.json()["properties"]
    assert (found["provisioningState"], found["exitCode"], found["logs"]) == ("Succeeded", 0, "two\n")
    assert found["startedAt"] <= found["finishedAt"]
    assert (await portal.arm("GET", where)).json() == done.json()
    assert portal.lab.azure.invoke.commands == ["kubectl logs web --tail=1"]


COMMANDS = [
    ("kubectl get pods && kubectl get pods nosuch; kubectl version", 0, "Server Version"),
    ("kubectl get pods nosuch && kubectl version", 1, '"nosuch" not found'),
    ("kubectl delete pod web", 1, "unknown command"), ("kubectl logs", 1, "expected 'logs"),
    ("kubectl logs web --since=soon", 1, "invalid duration"), ("kubectl get", 1, "Required resource"),
    ("helm version", 0, "version.BuildInfo"), ("helm list", 0, "NAME\tNAMESPACE"), ("helm up", 1, "unknown command"),
    ("rm -rf /", 127, "command not found"), ("kubectl get pods | head", 2, "no pipes"), ("kubectl 'get", 2, "syntax"),
    ("kubectl get pods -o jsonpath={}", 1, "unable to match a printer"), ("cat nothing", 1, "No such file"),
    ("kubectl apply -f x.yaml", 1, 'the path "x.yaml" does not exist'),
]  # fmt: skip


@pytest.mark.parametrize(("command", "code", "said"), COMMANDS)
async def test_a_command_succeeds_with_its_own_exit_code(portal: Portal, command: str, code: int, said: str) -> None:
    found = await portal.invoke(command)
    assert (found["provisioningState"], found["exitCode"]) == ("Succeeded", code)
    assert said in found["logs"]


async def test_files_go_along_with_a_command(portal: Portal) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(
            "deploy/web.yaml", "kind: Deployment\nmetadata: {name: web}\n---\nkind: Service\nmetadata: {name: web}\n"
        )
        archive.writestr("broken.yaml", "kind: [")
    context = base64.b64encode(packed.getvalue()).decode()
    done = await portal.invoke("kubectl apply --dry-run=client -f deploy/web.yaml", context=context)
    assert done["logs"] == "deployment/web created (dry run)\nservice/web created (dry run)\n"
    assert "MethodNotAllowed" in (await portal.invoke("kubectl apply -f deploy/web.yaml", context=context))["logs"]
    assert "parsing" in (await portal.invoke("kubectl apply --dry-run=client -f broken.yaml", context=context))["logs"]
    assert (await portal.invoke("ls; cat broken.yaml", context=context))["logs"].endswith("kind: [")


async def test_the_objects_of_a_file_are_looked_up(portal: Portal) -> None:
    portal.lab.cluster.add_pod({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": []}})
    pod = "kind: Pod\nmetadata: {name: web, namespace: shop}\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("web.yaml", pod)
        archive.writestr("both.yaml", f"{pod}---\nkind: Pod\nmetadata: {{name: gone}}\n")
    context = base64.b64encode(packed.getvalue()).decode()
    table = (await portal.invoke("kubectl get -f web.yaml", context=context))["logs"].splitlines()
    assert [line.split()[0] for line in table] == ["NAME", "web"]
    assert (await portal.invoke("kubectl get -f web.yaml -o name", context=context))["logs"] == "pod/web\n"
    for command, said in (
        ("get pods -f web.yaml", "you may not specify resource arguments as well"),
        ("get -f both.yaml", 'pods "gone" not found'),
        ("get -f both.yaml -o json", "files with one object"),
        ("get -f other.yaml", 'the path "other.yaml" does not exist'),
    ):
        done = await portal.invoke(f"kubectl {command}", context=context)
        assert done["exitCode"] == 1 and said in done["logs"]


async def test_output_is_cut_at_512_kb_without_a_word() -> None:
    async with azure_world(log_limit=2 * MAX_OUTPUT) as portal:
        for _ in range(600):
            portal.lab.cluster.write_log("default", "web", "app", b"y" * 999 + b"\n")
        found = await portal.invoke("kubectl logs web")
    assert len(found["logs"]) == MAX_OUTPUT
    assert found["exitCode"] == 0


async def test_logs_of_several_containers_say_which_one_was_taken(portal: Portal) -> None:
    containers = [{"name": "app"}, {"name": "side"}]
    portal.lab.cluster.add_pod(
        {"metadata": {"name": "two", "namespace": "default"}, "spec": {"containers": containers}}
    )
    portal.lab.cluster.write_log("default", "two", "side", b"hello\n")
    assert (await portal.invoke("kubectl logs two"))["logs"] == 'Defaulted container "app" out of: app, side\n'
    assert (await portal.invoke("kubectl logs two -c side"))["logs"] == "hello\n"
    both = await portal.invoke("kubectl logs two --all-containers --prefix")
    assert both["logs"] == "[pod/two/side] hello\n"


REFUSED: list[tuple[Json, str]] = [
    ({"clusterToken": ""}, "clusterToken is required"),
    ({"clusterToken": "guess"}, "clusterToken is required"),
    ({"command": ""}, "command is missing"),
    ({"context": "no zip"}, "valid zip"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
async def test_a_command_that_cannot_be_run_is_refused(portal: Portal, change: Json, said: str) -> None:
    sent = {"command": "helm list", "context": "", "clusterToken": portal.token(AKS_SCOPE), **change}
    answer = await portal.arm("POST", f"{CLUSTER}/runCommand", sent)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


async def test_faults_of_command_invoke(portal: Portal) -> None:
    sent = {"command": "helm list", "context": "", "clusterToken": portal.token(AKS_SCOPE)}
    for fault, said in (("run-command-disabled", "disabled"), ("aks-stopped", "Stopped")):
        await portal.lab.fault(fault)
        answer = await portal.arm("POST", f"{CLUSTER}/runCommand", sent)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequest")
        assert said in answer.json()["error"]["message"]
        await portal.lab.fault(fault, on=False)
    await portal.lab.fault("invoke-fails")
    failed = await portal.invoke("helm list")
    assert failed["provisioningState"] == "Failed"
    assert "KubernetesPerformanceError" in failed["reason"]
    assert "exitCode" not in failed
    await portal.lab.fault("invoke-fails", on=False)
    await portal.lab.fault("invoke-slow")
    portal.lab.azure.invoke.slow_start = 0.2
    assert (await portal.invoke("helm list"))["provisioningState"] == "Succeeded"
    lost = await portal.arm("GET", f"{CLUSTER}/commandResults/nothing")
    assert lost.status_code == 404


async def test_a_command_runs_as_the_one_who_sent_it_and_inside(portal: Portal) -> None:
    await portal.lab.fault("cut", "api")
    assert (await portal.invoke("kubectl get pods -o name"))["logs"] == "pod/web\n"
    await portal.lab.fault("error-500", "api")
    assert "Error from server (InternalError)" in (await portal.invoke("kubectl get pods"))["logs"]


# just-in-time access


def asked(until: timedelta, **port: Any) -> Json:
    end = (datetime.now(UTC) + until).isoformat().replace("+00:00", "Z")
    ports = [{"number": 22, "allowedSourceAddressPrefix": "10.77.1.0/26", "endTimeUtc": end, **port}]
    return {"virtualMachines": [{"id": JUMP_VM, "ports": ports}], "justification": "paged"}


def reach(portal: Portal) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", portal.lab.jump.door.port), timeout=LIMIT):
            return True
    except ConnectionRefusedError:
        return False


async def test_the_jump_box_opens_after_a_request_and_shuts_at_its_end(portal: Portal) -> None:
    assert reach(portal)
    await portal.lab.fault("jit-closed")
    assert not reach(portal)
    jit = portal.lab.azure.jit

    async def until_reached(wanted: bool) -> None:
        async with asyncio.timeout(LIMIT):
            while reach(portal) is not wanted:
                await jit.wait_changed()

    answer = await portal.arm("POST", f"{JIT_POLICY}/initiate", asked(timedelta(hours=1)))
    assert answer.status_code == 202
    port = answer.json()["virtualMachines"][0]["ports"][0]
    assert (port["number"], port["status"], port["statusReason"]) == (22, "Initiated", "UserRequested")
    assert answer.json()["requestor"] == UPN
    assert answer.json()["justification"] == "paged"
    await until_reached(True)
    shown = (await portal.read(JIT_POLICY))["properties"]["requests"][-1]
    assert shown["startTimeUtc"] == answer.json()["startTimeUtc"]
    jit.initiate(asked(timedelta(seconds=1)))  # without a request on the wire, which may take as long
    await until_reached(False)
    ended = (await portal.read(JIT_POLICY))["properties"]["requests"][-1]["virtualMachines"][0]["ports"][0]
    assert (ended["status"], ended["statusReason"]) == ("Revoked", "Expired")
    await portal.lab.fault("jit-closed", on=False)
    assert reach(portal)


async def test_a_policy_is_found_in_every_list_and_can_be_missing(portal: Portal) -> None:
    policies = "providers/Microsoft.Security/jitNetworkAccessPolicies"
    lists = [
        f"/subscriptions/{SUBSCRIPTION}/{policies}", f"{GROUP_ID}/{policies}", JIT_POLICY.rpartition("/")[0],
    ]  # fmt: skip
    for path in lists:
        (found,) = (await portal.read(path))["value"]
        rule = found["properties"]["virtualMachines"][0]["ports"][0]
        assert (rule["number"], rule["maxRequestAccessDuration"]) == (22, "PT3H")
    await portal.lab.fault("jit-no-policy")
    for path in lists:
        assert (await portal.read(path))["value"] == []
    assert (await portal.arm("GET", JIT_POLICY)).status_code == 404
    assert (await portal.arm("POST", f"{JIT_POLICY}/initiate", asked(timedelta(hours=1)))).status_code == 404


BAD_REQUESTS: list[tuple[Json, str]] = [
    (asked(timedelta(hours=1), number=3389), "VirtualMachineNotInPolicy"),
    (asked(timedelta(hours=9)), "InvalidRequestedTime"),
    (asked(timedelta(hours=-1)), "InvalidRequestedTime"),
    (asked(timedelta(hours=1), endTimeUtc="soon"), "InvalidRequestContent"),
    ({"properties": {}}, "InvalidRequestContent"),
    ({"virtualMachines": []}, "InvalidRequestContent"),
]


@pytest.mark.parametrize(("body", "code"), BAD_REQUESTS)
async def test_requests_that_the_policy_does_not_allow_are_refused(portal: Portal, body: Json, code: str) -> None:
    answer = await portal.arm("POST", f"{JIT_POLICY}/initiate", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert portal.lab.azure.jit.requests == []


# SSH certificates


def _part(number: int) -> str:
    """An SSH mpint in base64url: with the zero in front when the first bit is set, and with padding."""
    return base64.urlsafe_b64encode(number.to_bytes(number.bit_length() // 8 + 1, "big")).decode()


async def certificate(portal: Portal, key: asyncssh.SSHKey) -> asyncssh.SSHCertificate:
    public: Any = key.convert_to_public().pyca_key
    numbers: rsa.RSAPublicNumbers = public.public_numbers()
    cnf = json.dumps({"kty": "RSA", "n": _part(numbers.n), "e": _part(numbers.e), "kid": "k1"})
    data = {"token_type": "ssh-cert", "req_cnf": cnf, "key_id": "k1"}
    scope = "https://pas.windows.net/CheckMyAccess/Linux/.default"
    body = (await portal.lab.handle({"command": "token", "scope": scope, "data": data}))["token"]
    return asyncssh.import_certificate(f"ssh-rsa-cert-v01@openssh.com {body}")


async def test_a_certificate_of_entra_opens_the_jump_box(portal: Portal) -> None:
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    found = await certificate(portal, key)
    options = {"known_hosts": None, "config": None, "client_keys": [(key, found)], "agent_path": None}
    port = portal.lab.jump.door.port
    async with asyncio.timeout(LIMIT):
        async with asyncssh.connect("127.0.0.1", port, username=UPN, **options) as connection:
            _, writer = await connection.open_connection(AKS_NAME, 443)
            writer.close()
        assert portal.lab.jump.logins == 1
        for name in ("ops", "root"):
            with pytest.raises(asyncssh.PermissionDenied):
                await asyncssh.connect("127.0.0.1", port, username=name, **options)
        await portal.lab.fault("denied", "jump")
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect("127.0.0.1", port, username=UPN, **options)


async def test_a_certificate_has_the_shape_of_a_real_one(portal: Portal) -> None:
    from cryptography.hazmat.primitives.serialization import load_ssh_public_identity

    found = await certificate(portal, asyncssh.generate_private_key("ssh-rsa", key_size=2048))
    parsed: Any = load_ssh_public_identity(found.export_certificate())
    assert parsed.valid_principals == [UPN.encode()]
    assert parsed.key_id == f"{OBJECT_ID}@{TENANT}".encode()
    assert parsed.valid_before - parsed.valid_after == 3_900
    assert parsed.extensions[b"oid@sshservice.azure.net"] == OBJECT_ID.encode()
    assert parsed.extensions[b"permit-port-forwarding"] == b""
    parsed.verify_cert_signature()


async def test_a_key_that_is_no_rsa_key_gets_no_certificate(portal: Portal) -> None:
    for cnf in ("", "{}", json.dumps({"kty": "EC", "n": "AQAB", "e": "AQAB", "kid": "k"})):
        data = {"token_type": "ssh-cert", "req_cnf": cnf}
        answer = await portal.lab.handle({"command": "token", "scope": "x/.default", "data": data})
        assert "req_cnf" in answer["error"]["detail"]
