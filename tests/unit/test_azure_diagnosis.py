"""What ARM knows of a cluster, a Bastion and its targets, said before a connection fails obscurely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.azure import aks, bastions, machines
from app.azure.fields import name_of, part_of
from app.errors import JumpdeckError, Recovery, SignInError
from app.profiles.model import BastionHop, HopSpec, InvokeHop, NetworkHop, SshHop
from tests.arm_server import AKS, GROUP, ArmServer, arm_server, arm_to, refusal
from tests.fakes import FakeIdentity

BASTION = f"{GROUP}/providers/Microsoft.Network/bastionHosts/hub"
VM = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/jump"
SET = f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/jumps"
SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"


def cluster_object(**changes: Any) -> dict[str, Any]:
    access = {"enablePrivateCluster": True, "privateDNSZone": "system", **changes.pop("access", {})}
    properties = {
        "provisioningState": "Succeeded", "powerState": {"code": "Running"},
        "fqdn": "aks.test", "nodeResourceGroup": "MC_rg", "aadProfile": {"managed": True, "tenantID": "t"},
        "apiServerAccessProfile": access, **changes,
    }  # fmt: skip
    return {"id": AKS, "name": "aks-prod", "properties": properties}


async def read(server: ArmServer, folder: Path, **changes: Any) -> aks.Cluster:
    server.on(AKS, cluster_object(**changes))
    async with arm_to(server, folder) as arm:
        return await aks.read_cluster(arm, AKS)


async def test_a_cluster_is_read_and_what_it_does_not_say_is_empty(tmp_path: Path) -> None:
    async with arm_server() as server:
        found = await read(server, tmp_path)
        assert (found.name, found.private, found.fqdn, found.tenant) == ("aks-prod", True, "aks.test", "t")
        assert aks.diagnose(found, (BastionHop(BASTION),)) == ()
        server.on(AKS, {"properties": {"powerState": None, "apiServerAccessProfile": [], "fqdn": 7}})
        async with arm_to(server, tmp_path) as arm:
            bare = await aks.read_cluster(arm, AKS)
            assert (bare.name, bare.power, bare.fqdn, bare.private) == ("aks-prod", "", "", False)
            assert aks.diagnose(bare, ()) == ()
            server.on(AKS, {"value": []})
            with pytest.raises(JumpdeckError) as caught:
                await aks.read_cluster(arm, AKS)
            assert caught.value.code == "JD-ARM-ANSWER"


async def test_what_cannot_work_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    async with arm_server() as server:
        stopped = await read(server, tmp_path, powerState={"code": "Stopped"})
        no_invoke = await read(server, tmp_path, access={"disableRunCommand": True})
        no_name = await read(server, tmp_path, fqdn=None)
    for cluster, via, public, code, remedy in (
        (stopped, (), False, "JD-AKS-STOPPED", "az aks start --name aks-prod --resource-group rg --subscription"),
        (stopped, (InvokeHop(),), False, "JD-AKS-STOPPED", "az aks start"),
        (no_invoke, (InvokeHop(),), False, "JD-INVOKE-DISABLED", "--enable-run-command"),
        (no_name, (), True, "JD-AKS-NO-PUBLIC-NAME", "--enable-public-fqdn"),
    ):
        with pytest.raises(JumpdeckError) as caught:
            aks.diagnose(cluster, via, public=public)
        assert (caught.value.code, int(caught.value.exit_code), caught.value.transient) == (code, 5, False)
        assert remedy in caught.value.hint
        assert "aks-prod" in caught.value.detail
    assert aks.diagnose(no_invoke, (BastionHop(BASTION),)) == ()


async def test_what_may_fail_is_a_warning(tmp_path: Path) -> None:
    ssh = SshHop(("jump",))
    ranges = {"enablePrivateCluster": False, "authorizedIPRanges": [f"203.0.113.{n}/32" for n in range(6)]}
    async with arm_server() as server:
        private = await read(server, tmp_path)
        no_zone = await read(server, tmp_path, access={"privateDNSZone": "none"})
        limited = await read(server, tmp_path, access=ranges)
        failed = await read(server, tmp_path, provisioningState="Failed")
    cases: list[tuple[aks.Cluster, tuple[HopSpec, ...], str]] = [
        (private, (), "private DNS zone in MC_rg"),
        (no_zone, (), "public DNS"),
        (limited, (), "203.0.113.0/32, 203.0.113.1/32, 203.0.113.2/32, 203.0.113.3/32 and 2 more: the public address "
                      "of this computer"),
        (limited, (NetworkHop("VPN"),), "this computer"),
        (limited, (BastionHop(BASTION),), "the Bastion's public address"),
        (limited, (ssh,), "the last hop"),
        (failed, (ssh,), "Azure says of aks-prod: Failed"),
    ]  # fmt: skip
    for cluster, via, words in cases:
        (warning,) = aks.diagnose(cluster, via)
        assert words in warning
    assert aks.diagnose(private, (NetworkHop("VPN"),)) == ()
    assert aks.diagnose(limited, (InvokeHop(),)) == ()
    (warning,) = aks.diagnose(private, (), address="10.0.0.4")
    assert "DNS" not in warning


def bastion(**changes: Any) -> bastions.Bastion:
    return bastions.Bastion(**{"id": BASTION, "name": "hub", "sku": "Standard", "dns_name": "bst.test",
                               "tunnelling": True, "ip_connect": False, "provisioning": "Succeeded",
                               **changes})  # fmt: skip


def test_a_bastion_that_can_is_let_through() -> None:
    bastions.check_bastion(bastion(), cluster=True)
    bastions.check_bastion(bastion(sku="Premium", ip_connect=True), by_address=True)
    bastions.check_bastion(bastion(sku="Developer", tunnelling=False), one_session=True)
    bastions.check_bastion(bastion(provisioning=""))


@pytest.mark.parametrize(
    ("changes", "wanted", "code", "remedy", "recovery"),
    [
        ({"sku": "Basic", "tunnelling": False}, {}, "JD-BASTION-SKU", "--sku Standard", Recovery.PERMANENT),
        ({"sku": ""}, {}, "JD-BASTION-SKU", "--sku Standard", Recovery.PERMANENT),
        ({"sku": "Developer"}, {"cluster": True, "one_session": True}, "JD-BASTION-DEVELOPER", "Standard or Premium",
         Recovery.PERMANENT),
        ({"sku": "QuickConnect"}, {}, "JD-BASTION-DEVELOPER", "Standard or Premium", Recovery.PERMANENT),
        ({"tunnelling": False}, {}, "JD-BASTION-TUNNELING", f"--name hub --resource-group rg --subscription "
         f"{SUBSCRIPTION} --enable-tunneling true", Recovery.PERMANENT),
        ({"provisioning": "Updating"}, {}, "JD-BASTION-STATE", "tried again", Recovery.TRANSIENT),
        ({"provisioning": "Failed"}, {}, "JD-BASTION-STATE", "portal", Recovery.PERMANENT),
        ({}, {"by_address": True}, "JD-BASTION-IP-CONNECT", "--enable-ip-connect true", Recovery.PERMANENT),
        ({"dns_name": ""}, {}, "JD-BASTION-NO-ADDRESS", "portal", Recovery.PERMANENT),
    ],
)  # fmt: skip
def test_a_bastion_that_cannot_is_refused_with_the_remedy(
    changes: dict[str, Any], wanted: dict[str, bool], code: str, remedy: str, recovery: Recovery
) -> None:
    with pytest.raises(JumpdeckError) as caught:
        bastions.check_bastion(bastion(**changes), **wanted)
    assert (caught.value.code, int(caught.value.exit_code), caught.value.recovery) == (code, 5, recovery)
    assert remedy in caught.value.hint and "hub" in caught.value.detail


async def test_a_bastion_is_read_and_absent_tunnelling_is_off(tmp_path: Path) -> None:
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        said = {"dnsName": "bst.test:8443", "provisioningState": "Succeeded"}
        server.on(BASTION, {"name": "hub", "sku": {"name": "Standard"}, "properties": said})
        found = await bastions.read_bastion(arm, BASTION)
        assert (found.sku, found.dns_name, found.tunnelling) == ("Standard", "bst.test:8443", False)
        assert server.seen[0].query["api-version"] == "2024-01-01"


def view(power: str) -> dict[str, Any]:
    return {"statuses": [{"code": "ProvisioningState/succeeded"}, {"code": f"PowerState/{power}"}]}


async def test_a_running_machine_is_chosen(tmp_path: Path) -> None:
    instances = [
        {"id": f"{SET}/virtualMachines/{n}", "name": f"jumps_{n}", "instanceId": str(n),
         "properties": {"instanceView": view(power)}}
        for n, power in enumerate(("deallocated", "running", "starting"))
    ]  # fmt: skip
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        server.on(f"{VM}/instanceView", view("deallocated"))
        server.on(f"{SET}/virtualMachines", {"value": instances})
        found = await machines.machines_of(arm, SET)
        assert [one.power for one in found] == ["running", "starting", "deallocated"]
        assert server.seen[0].query["$expand"] == "instanceView"
        running = await machines.running_machines(arm, (VM, SET))
        assert [one.id for one in running] == [f"{SET}/virtualMachines/1", f"{SET}/virtualMachines/2"]
        with pytest.raises(JumpdeckError) as caught:
            await machines.running_machines(arm, (VM,))
        assert caught.value.code == "JD-BASTION-TARGET-STOPPED"
        assert caught.value.hint == f"Start it: az vm start --ids {VM}"
        server.on(f"{SET}/virtualMachines", {"value": instances[:1]})
        with pytest.raises(JumpdeckError) as caught:
            await machines.running_machines(arm, (SET,))
        assert "az vmss start --name jumps --resource-group rg" in caught.value.hint
        server.on(f"{SET}/virtualMachines", {"value": []})
        with pytest.raises(JumpdeckError) as caught:
            await machines.running_machines(arm, (SET,))
        assert caught.value.code == "JD-BASTION-TARGET-EMPTY"


async def test_a_machine_that_may_not_be_looked_at_is_tried(tmp_path: Path) -> None:
    async with arm_server() as server, arm_to(server, tmp_path) as arm:
        server.on(f"{VM}/instanceView", refusal(403, "AuthorizationFailed", "no"))
        (found,) = await machines.running_machines(arm, (VM,))
        assert (found.id, found.power) == (VM, "")
        with pytest.raises(JumpdeckError) as caught:
            await machines.running_machines(arm, (f"{VM}2",))
        assert caught.value.code == "JD-ARM-NOT-FOUND"
        (found,) = await machines.running_machines(arm, (f"{VM}2", VM))
        assert found.id == VM


async def test_a_sign_in_that_fails_is_told_and_no_further_target_is_asked_for(tmp_path: Path) -> None:
    async with arm_server() as server:
        identity = FakeIdentity()
        identity.error = SignInError("sign in", code="JD-SIGN-IN-NEEDED")
        server.on(f"{VM}/instanceView", view("running"))
        async with arm_to(server, tmp_path, identity) as arm:
            with pytest.raises(SignInError):
                await machines.running_machines(arm, (f"{VM}2", VM))
        assert server.seen == []


def test_parts_of_an_id() -> None:
    assert (name_of(AKS), part_of(AKS, "resourcegroups"), part_of(AKS, "nothing")) == ("aks-prod", "rg", "")
