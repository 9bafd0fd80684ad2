"""What stands in the lab's resource group, as ARM shows it. The faults that are on show in the documents."""

from __future__ import annotations

import base64
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from app.lab.azure_names import (
    AKS_NAME,
    AKS_PUBLIC_NAME,
    AKS_SERVER_APP,
    BASTION,
    BASTION_SUBNET,
    CLUSTER,
    GROUP,
    GROUP_ID,
    JUMP_ADDRESS,
    JUMP_VM,
    KUBELOGIN_APP,
    NETWORK,
    NIC,
    NSG,
    REGION,
    RESOURCE_GROUP,
    SCALE_SET,
    STOPPED_VM,
    SUBSCRIPTION,
    TENANT,
    TENANT_DOMAIN,
)

Json = dict[str, Any]
Faults = Set[str]

_RUNNING = {"code": "PowerState/running", "level": "Info", "displayStatus": "VM running"}
_DEALLOCATED = {"code": "PowerState/deallocated", "level": "Info", "displayStatus": "VM deallocated"}
_PROVISIONED = {"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the documents say of this lab that is known only once it runs."""

    bastion_host: str
    """`127.0.0.1:PORT` of the data plane."""
    bastion_sku: str
    ip_connect: bool
    ca_pem: bytes


def _resource(arm_id: str, properties: Json, **more: Any) -> Json:
    kind = arm_id.split("/providers/")[-1].split("/")
    return {
        "name": kind[-1], "id": arm_id, "type": "/".join([kind[0], *kind[1::2]]), "location": REGION,
        "properties": {"provisioningState": "Succeeded", **properties}, **more,
    }  # fmt: skip


def bastion(facts: Facts, faults: Faults) -> Json:
    """The bastion host. Without native client support the field is absent, as for hosts that never had it."""
    ip_configuration = {
        "name": "configuration",
        "id": f"{BASTION}/bastionHostIpConfigurations/configuration",
        "properties": {
            "provisioningState": "Succeeded",
            "privateIPAllocationMethod": "Dynamic",
            "subnet": {"id": f"{NETWORK}/subnets/AzureBastionSubnet"},
        },
    }
    sku = "Basic" if "basic-sku" in faults else facts.bastion_sku
    properties: Json = {"dnsName": facts.bastion_host, "scaleUnits": 2, "ipConfigurations": [ip_configuration]}
    if sku != "Basic" and "bastion-no-tunneling" not in faults:
        properties |= {"enableTunneling": True, "enableIpConnect": facts.ip_connect}
    return _resource(BASTION, properties, sku={"name": sku}, etag='W/"lab"')


def cluster(_facts: Facts, faults: Faults) -> Json:
    """The managed cluster: private, with Entra."""
    ranges = "ip-ranges" in faults
    access: Json = {
        "enablePrivateCluster": not ranges,
        "privateDNSZone": "system",
        "enablePrivateClusterPublicFQDN": False,
        "disableRunCommand": "run-command-disabled" in faults,
    }
    if ranges:
        access["authorizedIPRanges"] = ["203.0.113.0/24"]
    properties = {
        "provisioningState": "Succeeded",
        "powerState": {"code": "Stopped" if "aks-stopped" in faults else "Running"},
        "kubernetesVersion": "1.36.1",
        "currentKubernetesVersion": "1.36.1",
        "dnsPrefix": "lab-aks",
        "privateFQDN": AKS_NAME,
        "fqdn": AKS_PUBLIC_NAME,
        "azurePortalFQDN": "lab-aks.portal.jumpdeck.internal",
        "nodeResourceGroup": "MC_lab_lab-aks_westeurope",
        "enableRBAC": True,
        "disableLocalAccounts": "local-accounts-disabled" in faults,
        "aadProfile": {
            "managed": True, "enableAzureRBAC": False, "adminGroupObjectIDs": [GROUP], "tenantID": TENANT,
        },
        "apiServerAccessProfile": access,
        "networkProfile": {"networkPlugin": "azure", "loadBalancerSku": "standard", "outboundType": "loadBalancer"},
    }  # fmt: skip
    return _resource(CLUSTER, properties, sku={"name": "Base", "tier": "Standard"}, tags={"practice": "yes"})


def instance_view(*, running: bool) -> Json:
    """Whether a machine runs."""
    view: Json = {"statuses": [_PROVISIONED, _RUNNING if running else _DEALLOCATED]}
    if running:
        view["vmAgent"] = {"vmAgentVersion": "2.14.0.1", "statuses": [{"code": "ProvisioningState/succeeded"}]}
    return view


def machine(arm_id: str, faults: Faults, *, expand: bool = False) -> Json:
    """A virtual machine; with `expand` the view of its instance stands in it."""
    properties: Json = {
        "vmId": "00000000-0000-0000-0000-0000000000e1",
        "hardwareProfile": {"vmSize": "Standard_B1s"},
        "osProfile": {"computerName": arm_id.rpartition("/")[2], "adminUsername": "ops"},
        "storageProfile": {"osDisk": {"osType": "Linux"}},
        "networkProfile": {"networkInterfaces": [{"id": NIC}]},
    }
    if expand:
        properties["instanceView"] = instance_view(running=runs(arm_id, faults))
    return _resource(arm_id, properties)


def runs(arm_id: str, faults: Faults) -> bool:
    """Whether the machine, or the instance of the scale set, runs."""
    return "vm-stopped" not in faults and arm_id.lower() in (JUMP_VM.lower(), f"{SCALE_SET}/virtualMachines/1".lower())


def instances(faults: Faults, *, expand: bool) -> list[Json]:
    """The instances of the scale set."""
    found = []
    for number in ("0", "1"):
        one = machine(f"{SCALE_SET}/virtualMachines/{number}", faults, expand=expand)
        found.append({**one, "name": f"jumps_{number}", "instanceId": number})
    return found


def subscription() -> Json:
    return {
        "id": f"/subscriptions/{SUBSCRIPTION}", "subscriptionId": SUBSCRIPTION, "tenantId": TENANT,
        "displayName": "Lab", "state": "Enabled", "authorizationSource": "RoleBased", "managedByTenants": [],
        "subscriptionPolicies": {"locationPlacementId": "Public_2014-09-01", "spendingLimit": "Off"},
    }  # fmt: skip


def tenant() -> Json:
    return {
        "id": f"/tenants/{TENANT}", "tenantId": TENANT, "displayName": "Jumpdeck Lab",
        "defaultDomain": TENANT_DOMAIN, "domains": [TENANT_DOMAIN], "tenantCategory": "Home",
    }  # fmt: skip


def resource_group() -> Json:
    kind = "Microsoft.Resources/resourceGroups"
    properties = {"provisioningState": "Succeeded"}
    return {"id": GROUP_ID, "name": RESOURCE_GROUP, "type": kind, "location": REGION, "properties": properties}


def _subnet(name: str, prefix: str) -> Json:
    arm_id, kind = f"{NETWORK}/subnets/{name}", "Microsoft.Network/virtualNetworks/subnets"
    properties = {"provisioningState": "Succeeded", "addressPrefix": prefix}
    return {"name": name, "id": arm_id, "type": kind, "properties": properties}


_SUBNETS = (("AzureBastionSubnet", BASTION_SUBNET), ("machines", "10.77.2.0/24"))


def documents(facts: Facts, faults: Faults, *, expand: bool) -> dict[str, Json]:
    """Everything that can be read by its ARM id (in lower case). `expand`: machines with the view of their instance."""
    network = {
        "addressSpace": {"addressPrefixes": ["10.77.0.0/16"]}, "subnets": [_subnet(*each) for each in _SUBNETS],
        "virtualNetworkPeerings": [],
    }  # fmt: skip
    address = {"privateIPAddress": JUMP_ADDRESS, "subnet": {"id": f"{NETWORK}/subnets/machines"}}
    interface = {
        "ipConfigurations": [{"name": "ipconfig1", "properties": address}],
        "networkSecurityGroup": {"id": NSG},
    }
    found = {
        f"/subscriptions/{SUBSCRIPTION}": subscription(),
        GROUP_ID: resource_group(),
        BASTION: bastion(facts, faults),
        CLUSTER: cluster(facts, faults),
        SCALE_SET: _resource(SCALE_SET, {"orchestrationMode": "Uniform"}, sku={"name": "Standard_B1s", "capacity": 2}),
        NETWORK: _resource(NETWORK, network),
        NIC: _resource(NIC, interface),
    }
    for vm in (JUMP_VM, STOPPED_VM):
        found[vm] = machine(vm, faults, expand=expand)
    for number, one in enumerate(instances(faults, expand=expand)):
        found[f"{SCALE_SET}/virtualMachines/{number}"] = one
    for vm in [arm_id for arm_id in found if "/virtualMachines/" in arm_id]:
        found[f"{vm}/instanceView"] = instance_view(running=runs(vm, faults))
    found |= {f"{NETWORK}/subnets/{name}": _subnet(name, prefix) for name, prefix in _SUBNETS}
    return {arm_id.lower(): document for arm_id, document in found.items()}


def kubeconfig(facts: Facts, *, form: str, public: bool) -> str:
    """The credential of an Entra cluster, in the form `exec` or `azure`, as AKS returns it. YAML, base64 within ARM."""
    ca = base64.b64encode(facts.ca_pem).decode()
    user = f"clusterUser_{RESOURCE_GROUP}_lab-aks"
    plugin = (
        "    auth-provider:\n      config:\n        apiserver-id: " + AKS_SERVER_APP + "\n"
        f"        client-id: {KUBELOGIN_APP}\n        config-mode: '1'\n        environment: AzurePublicCloud\n"
        f"        tenant-id: {TENANT}\n      name: azure\n"
        if form == "azure"
        else "    exec:\n      apiVersion: client.authentication.k8s.io/v1beta1\n      args:\n      - get-token\n"
        f"      - --environment\n      - AzurePublicCloud\n      - --server-id\n      - {AKS_SERVER_APP}\n"
        f"      - --client-id\n      - {KUBELOGIN_APP}\n      - --tenant-id\n      - {TENANT}\n"
        "      - --login\n      - devicecode\n      command: kubelogin\n      env: null\n"
        "      installHint: |2\n\n        kubelogin is not installed which is required to connect to AAD enabled "
        "cluster.\n\n        To learn more, please go to https://aka.ms/aks/kubelogin\n"
        "      provideClusterInfo: false\n"
    )
    return _config(AKS_PUBLIC_NAME if public else AKS_NAME, ca, user, plugin)


def admin_kubeconfig(facts: Facts, token: str) -> str:
    """The local administrator's credential. A real one has a client certificate beside the token; the lab has none."""
    ca = base64.b64encode(facts.ca_pem).decode()
    return _config(AKS_NAME, ca, f"clusterAdmin_{RESOURCE_GROUP}_lab-aks", f"    token: {token}\n", "lab-aks-admin")


def _config(host: str, ca: str, user: str, secret: str, context: str = "lab-aks") -> str:
    return (
        f"apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: https://{host}:443\n"
        f"  name: lab-aks\ncontexts:\n- context:\n    cluster: lab-aks\n    user: {user}\n  name: {context}\n"
        f"current-context: {context}\nkind: Config\npreferences: {{}}\nusers:\n- name: {user}\n  user:\n{secret}"
    )
