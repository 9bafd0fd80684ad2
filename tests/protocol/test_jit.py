"""Just-in-time access: open already, asked for, refused; and a port that opens a moment after the answer."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.azure.context import Azure
from app.azure.jit import JitAccess, duration, have_access
from app.dialer import ProtocolFactory
from app.errors import JumpdeckError, Recovery, RouteError
from app.lab.azure_names import BASTION_SUBNET
from app.profiles.model import Jit
from app.routes.context import RouteContext
from app.routes.host_keys import HostKeys
from app.routes.jit import Place, open_port
from app.secrets.secret import SecretSource
from tests.arm_server import GROUP, ArmServer, arm_server, azure_at, good, refusal
from tests.azure_world import azure_world
from tests.fakes import FakeAsker, FakeIdentity
from tests.running import jumpdeck

SUBSCRIPTION = GROUP.partition("/resourceGroups")[0]
VM = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/Jump01"
BASTION = f"{GROUP}/providers/Microsoft.Network/bastionHosts/hub"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/n/subnets/AzureBastionSubnet"
POLICY = f"{GROUP}/providers/Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/default"
POLICIES = "providers/Microsoft.Security/jitNetworkAccessPolicies"
PRICING = f"{SUBSCRIPTION}/providers/Microsoft.Security/pricings/VirtualMachines"


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


def request(
    who: str = "jo@contoso.test", ends: float = 3_000, status: str = "Initiated", **port: Any
) -> dict[str, Any]:
    one = {"number": 22, "endTimeUtc": stamp(ends), "status": status, **port}
    return {"requestor": who, "startTimeUtc": stamp(-60), "virtualMachines": [{"id": VM.lower(), "ports": [one]}]}


def policies(*requests: dict[str, Any], port: int = 22, longest: str = "PT3H", vm: str = VM) -> dict[str, Any]:
    rule = {"number": port, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": longest}
    machines = [{"id": vm, "ports": [rule]}]
    return {"value": [{"id": POLICY, "properties": {"virtualMachines": machines, "requests": list(requests)}}]}


@asynccontextmanager
async def world(folder: Path, found: dict[str, Any]) -> AsyncIterator[tuple[ArmServer, Azure]]:
    async with arm_server() as server, azure_at(server, folder, FakeIdentity()) as azure:
        server.on(f"{GROUP}/{POLICIES}", found)
        server.on(f"{SUBSCRIPTION}/{POLICIES}", {"value": []})
        server.on(f"{POLICY}/initiate", good({"requestor": "jo@contoso.test"}, 202), method="POST")
        subnet = {"ipConfigurations": [{"properties": {"subnet": {"id": SUBNET}}}]}
        server.on(BASTION, {"id": BASTION, "properties": subnet})
        server.on(SUBNET, {"properties": {"addressPrefix": "10.9.0.0/26"}})
        yield server, azure


def posted(server: ArmServer) -> list[dict[str, Any]]:
    pairs = zip(server.seen, server.bodies, strict=True)
    return [json.loads(body) for request, body in pairs if request.method == "POST"]


async def because() -> str:
    return "release 7"


async def have(azure: Azure, **how: Any) -> JitAccess:
    return await have_access(azure, VM, 22, how.pop("hours", 2.0), **{"reason": because, **how})


async def test_access_is_asked_for_from_the_own_address(tmp_path: Path) -> None:
    async with world(tmp_path, policies()) as (server, azure):
        access = await have(azure)
    (body,) = posted(server)
    assert set(body) == {"virtualMachines", "justification"} and body["justification"] == "release 7"
    (port,) = body["virtualMachines"][0]["ports"]
    assert set(port) == {"number", "endTimeUtc"}, "no address: ARM takes the caller's"
    assert port["endTimeUtc"].endswith("Z") and access.asked and not access.shortened
    assert abs(access.until - time.time() - 7_200) < 30
    assert access.note.startswith("just-in-time access until ")


async def test_behind_a_bastion_its_subnet_is_the_source(tmp_path: Path) -> None:
    async with world(tmp_path, policies()) as (server, azure):
        await have(azure, bastion=BASTION)
    assert posted(server)[0]["virtualMachines"][0]["ports"][0]["allowedSourceAddressPrefix"] == "10.9.0.0/26"


@pytest.mark.parametrize(
    ("one", "bastion", "is_open"),
    [
        (request(), None, True),
        (request(who="other@contoso.test"), None, False),
        (request(status="Revoked"), None, False),
        (request(ends=30), None, False),
        (request(number=3389), None, False),
        (request(who="other@contoso.test", allowedSourceAddressPrefix="10.9.0.0/26"), BASTION, True),
        (request(allowedSourceAddressPrefix="203.0.113.9"), BASTION, False),
        (request(who="other@contoso.test", allowedSourceAddressPrefix="*"), None, True),
    ],
)
async def test_access_that_serves_is_not_asked_for_again(
    one: dict[str, Any], bastion: str | None, is_open: bool, tmp_path: Path
) -> None:
    async with world(tmp_path, policies(one)) as (server, azure):
        access = await have(azure, bastion=bastion)
        assert access.asked is not is_open and len(posted(server)) == (not is_open)
        if is_open:
            assert (await have(azure, bastion=bastion, anew=True)).asked


async def test_the_policy_bounds_the_hours(tmp_path: Path) -> None:
    async with world(tmp_path, policies(longest="PT30M")) as (_, azure):
        access = await have(azure)
    assert access.shortened and abs(access.until - time.time() - 1_800) < 30 and "no longer" in access.note
    assert [duration(text) for text in ("PT3H", "P1D", "PT1H30M", "what")] == [10_800, 86_400, 5_400, 10_800]


_DENIED = refusal(403, "AuthorizationFailed", "The client 'jo' does not have authorization to perform action 'x'.")


@pytest.mark.parametrize(
    ("found", "pricing", "initiate", "code", "words"),
    [
        (_DENIED, None, None, "JD-JIT-FORBIDDEN", "jitNetworkAccessPolicies/*/read"),
        (policies(), None, _DENIED, "JD-JIT-FORBIDDEN", "jitNetworkAccessPolicies/initiate/action"),
        (policies(port=3389), None, None, "JD-JIT-PORT", "3389"),
        ({"value": []}, {"properties": {"pricingTier": "Free"}}, None, "JD-JIT-NO-PLAN", "Plan 2"),
        ({"value": []}, {"properties": {"pricingTier": "Standard", "subPlan": "P1"}}, None, "JD-JIT-NO-PLAN", "P1"),
        (policies(vm=f"{VM}2"), {"properties": {"pricingTier": "Standard", "subPlan": "P2"}}, None,
         "JD-JIT-NO-POLICY", "Defender for Servers Plan 2"),
        ({"value": []}, None, None, "JD-JIT-NO-POLICY", "no just-in-time policy knows Jump01"),
        (policies(), None, refusal(400, "InvalidRequestedTime", "too long"), "JD-JIT-REFUSED", "too long"),
    ],
)  # fmt: skip
async def test_what_is_missing_is_named(
    found: Any, pricing: Any, initiate: Any, code: str, words: str, tmp_path: Path
) -> None:
    async with world(tmp_path, found) as (server, azure):
        if pricing is not None:
            server.on(PRICING, pricing)
        if initiate is not None:
            server.on(f"{POLICY}/initiate", initiate, method="POST")
        with pytest.raises(JumpdeckError) as caught:
            await have(azure)
    assert (caught.value.code, int(caught.value.exit_code)) == (code, 5)
    assert caught.value.hint and words.lower() in " ".join(caught.value.lines()).lower()


# -- the port -----------------------------------------------------------------------------------------------------


class Gate:
    """A dialer to a port that opens after so many tries."""

    def __init__(self, opens_after: int) -> None:
        self.left, self.tries = opens_after, 0

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        self.tries += 1
        self.left -= 1
        if self.left >= 0:
            raise RouteError("refused", code="JD-TCP-REFUSED", recovery=Recovery.TRANSIENT)
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            name = server.sockets[0].getsockname()
            transport, _ = await asyncio.get_running_loop().create_connection(factory, *name[:2])
        return transport

    async def wait_lost(self) -> JumpdeckError:
        await asyncio.Event().wait()
        raise AssertionError


def context(azure: Azure, folder: Path, asker: FakeAsker | None = None, justification: str = "") -> RouteContext:
    async def get() -> Azure:
        return azure

    return RouteContext(
        asker=asker, secrets=SecretSource(None), host_keys=HostKeys(folder / "known", ()),
        justification=justification, azure=get,
    )  # fmt: skip


PLACE = Place(VM, "jump01", 22, 22, Jit(hours=2.0), None)


async def test_the_port_is_waited_for_after_the_request(tmp_path: Path) -> None:
    asker, gate = FakeAsker(prompts=[("ticket 12",)]), Gate(opens_after=2)
    async with world(tmp_path, policies()) as (server, azure):
        access = await open_port(PLACE, gate, context(azure, tmp_path, asker), "prod")
    assert access.asked and gate.tries == 3
    assert posted(server)[0]["justification"] == "ticket 12"


async def test_a_justification_from_the_command_line_is_not_asked_for(tmp_path: Path) -> None:
    asker = FakeAsker()
    async with world(tmp_path, policies()) as (server, azure):
        await open_port(PLACE, Gate(0), context(azure, tmp_path, asker, "ticket 13"), "prod")
    assert posted(server)[0]["justification"] == "ticket 13" and not asker.asked


async def test_without_anybody_to_ask_it_says_which_flag(tmp_path: Path) -> None:
    async with world(tmp_path, policies()) as (server, azure):
        with pytest.raises(JumpdeckError) as caught:
            await open_port(PLACE, Gate(0), context(azure, tmp_path), "prod")
    assert caught.value.code == "JD-JIT-JUSTIFICATION" and "--justification" in caught.value.hint
    assert not posted(server)


async def test_access_of_another_address_is_asked_for_anew_and_the_wait_ends(tmp_path: Path) -> None:
    async with world(tmp_path, policies(request())) as (server, azure):
        with pytest.raises(JumpdeckError) as caught:
            gate = Gate(1_000)
            await open_port(PLACE, gate, context(azure, tmp_path, None, "why"), "prod", standing=0.6, limit=0.6)
    assert caught.value.code == "JD-JIT-CLOSED" and caught.value.transient
    assert len(posted(server)) == 1, "once"


async def test_behind_the_labs_bastion_the_port_opens_for_the_command(tmp_path: Path) -> None:
    async with azure_world() as portal:
        profiles = portal.lab.config_dir / "profiles.toml"
        await asyncio.to_thread(_with_jit, profiles)
        jit = portal.lab.azure.jit
        await jit.require(True)
        where = {"JUMPDECK_CONFIG_DIR": str(portal.lab.config_dir), "XDG_STATE_HOME": str(tmp_path / "state")}
        done = await jumpdeck("pods", "lab-jit", "-n", "default", **where)
        assert done.code == 4 and "JD-JIT-JUSTIFICATION" in done.err and jit.requests == [], done
        done = await jumpdeck("pods", "lab-jit", "-n", "default", "--justification", "ticket 14", **where)
        assert done.code == 0 and "web" in done.out, done
        (asked,) = jit.requests
        port = asked["virtualMachines"][0]["ports"][0]
        assert (asked["justification"], port["allowedSourceAddressPrefix"]) == ("ticket 14", BASTION_SUBNET)
        done = await jumpdeck("pods", "lab-jit", "-n", "default", **where)
        assert done.code == 0 and len(jit.requests) == 1, "access is there: nobody is asked"


def _with_jit(profiles: Path) -> None:
    """A profile like lab-bastion whose Bastion hop asks for access."""
    text = profiles.read_text()
    block = re.search(r"\[profile\.lab-bastion\]\n.*?(?=\n\[|\Z)", text, re.DOTALL)
    assert block is not None
    made = block[0].replace("[profile.lab-bastion]", "[profile.lab-jit]")
    made = made.replace('virtualMachines/jump" }', 'virtualMachines/jump", jit = { hours = 1 } }')
    profiles.write_text(f"{text}\n{made}\n")
