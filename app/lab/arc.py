"""The lab's Azure Arc: what ARM says of the connected clusters, the relay in front of them, and the proxy program.

Shapes: azure-mgmt-hybridkubernetes and the REST examples of Microsoft.Kubernetes. The program is a stand-in under the
vendor's file name; it reads which faults are on from a file beside it.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.lab.arm_errors import ArmError, forbidden
from app.lab.azure_names import ARC_ENTRA, ARC_TOKEN, GROUP, OBJECT_ID, REGION, SERVICE_ACCOUNT, TENANT
from app.lab.relay import NAMESPACE, RelayServer

CLUSTERS = (ARC_ENTRA, ARC_TOKEN)
KIND = "Microsoft.Kubernetes/connectedClusters"
CREDENTIAL_VERSIONS = ("2026-05-01", "2025-08-01-preview")
"""Versions of listClusterUserCredential that the published SDK and az ask for."""
PROGRAM_VERSION = "1_3_035022"
RELAY_LIFE = 10_800
"""Seconds that a relay's token lives, as in the published samples."""
SHORT_RELAY_LIFE = 60
"""Seconds that it lives under the fault `arc-short-relay`."""
_UNUSED = "the-proxy-adds-the-credential"
"""The user's token in a kubeconfig: kubectl asks for a name where there is none. In token mode the client's own one
takes its place."""
_STATE = "arc-faults.json"

Json = dict[str, Any]
Faults = Set[str]


def program_name() -> str:
    """The vendor's file name for this machine, as the published az client builds it."""
    machine = platform.machine().lower()
    arch = "arm64" if machine in ("arm64", "aarch64") else "amd64" if machine.endswith("64") else "386"
    return f"arcProxy_{platform.system().lower()}_{arch}_{PROGRAM_VERSION}"


def hybrid_connection(arm_id: str) -> str:
    """The name of a cluster's hybrid connection."""
    from hashlib import sha256

    return f"microsoft.kubernetes/connectedclusters/{sha256(arm_id.lower().encode()).hexdigest()}"


class LabArc:
    """The Arc side of the lab's Azure. `clock` is POSIX seconds."""

    def __init__(self, folder: Path, relay: RelayServer, clock: Callable[[], float] = time.time) -> None:
        self.relay = relay
        self.program = folder / (program_name() + (".cmd" if sys.platform == "win32" else ""))
        """The stand-in, ready to run."""
        self.relay_life = RELAY_LIFE
        """Seconds until a credential that is given out expires; tests set it."""
        self.expires_at: int | None = None
        """The expiry of credentials in POSIX seconds, in place of `relay_life`."""
        self.given: list[tuple[str, str, str]] = []
        """Cluster, method and correlation id of each credential that was given out, for tests."""
        self.faults: set[str] = _Written(self._write)
        """Names of the faults at the place `arc` that are on."""
        self.exit_code = 3
        """With which the program ends under `arc-exits` and `arc-dies`. Set before the fault is switched on."""
        self.slow_start = 2.0
        """Seconds that it takes under `arc-slow-start`. Set before the fault is switched on."""
        self._state = folder / _STATE
        self._clock = clock

    def install(self) -> None:
        """Write the program and its faults into the lab's folder. Raises OSError."""
        root = Path(__file__).resolve().parents[2]
        code = (
            f"import sys\nfrom pathlib import Path\nsys.path.insert(0, {str(root)!r})\n"
            f"from app.lab.arc_proxy import main\nsys.exit(main(sys.argv[1:], Path({str(self._state)!r})))\n"
        )
        if sys.platform == "win32":
            script = self.program.with_suffix(".py")
            script.write_text(code, encoding="utf-8")
            self.program.write_text(f'@"{sys.executable}" "{script}" %*\r\n', encoding="utf-8")
        else:
            self.program.write_text(f"#!{sys.executable}\n{code}", encoding="utf-8")
            self.program.chmod(0o700)
        self._write()

    def _write(self) -> None:
        fresh = self._state.with_suffix(".new")
        found = {"faults": sorted(self.faults), "exit_code": self.exit_code, "slow_start": self.slow_start}
        fresh.write_text(json.dumps(found), encoding="utf-8")
        os.replace(fresh, self._state)

    # ARM

    def documents(self, faults: Faults) -> dict[str, Json]:
        """The connected clusters by their id. `faults` are those of ARM."""
        return {arm_id: _cluster(arm_id, faults, self._clock()) for arm_id in CLUSTERS}

    def credential(self, arm_id: str, sent: Json, version: str, correlation: str, faults: Faults) -> Json:
        """The answer of listClusterUserCredential. Raises ArmError."""
        if version not in CREDENTIAL_VERSIONS:
            message = f"The api-version '{version}' is invalid. The supported versions are '{CREDENTIAL_VERSIONS}'."
            raise ArmError(400, "InvalidApiVersionParameter", message)
        if "arc-credential-403" in faults:
            raise forbidden(f"{KIND}/listClusterUserCredential/action", arm_id)
        if "arc-credential-409" in faults:
            message = "The cluster's agents are being changed. Please try again once that is done."
            raise ArmError(409, "Conflict", message)
        method = sent.get("authenticationMethod")
        if method not in ("AAD", "Token") or not isinstance(sent.get("clientProxy"), bool):
            message = "authenticationMethod has to be AAD or Token, and clientProxy true or false."
            raise ArmError(400, "InvalidRequestContent", message)
        answer: Json = {"kubeconfigs": [{"name": "Kubeconfig", "value": _kubeconfig(arm_id)}]}
        if sent["clientProxy"]:
            answer["hybridConnectionConfig"] = self._connection(arm_id, faults)
        self.given.append((arm_id, method, correlation))
        return answer

    def _connection(self, arm_id: str, faults: Faults) -> Json:
        life = SHORT_RELAY_LIFE if "arc-short-relay" in faults else self.relay_life
        ends = int(self._clock() + life) if self.expires_at is None else self.expires_at
        name = hybrid_connection(arm_id)
        return {
            "expirationTime": ends, "hybridConnectionName": name, "relay": NAMESPACE,
            "token": self.relay.token(name, ends), "relayTid": TENANT, "relayType": "",
        }  # fmt: skip


class _Written(set[str]):
    """A set of which each change is written."""

    def __init__(self, write: Callable[[], None]) -> None:
        super().__init__()
        self._changed = write

    def add(self, name: str) -> None:
        super().add(name)
        self._changed()

    def discard(self, name: object) -> None:
        super().discard(name)
        self._changed()


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _cluster(arm_id: str, faults: Faults, now: float) -> Json:
    """A connected cluster as ARM shows it."""
    states = {"arc-offline": "Offline", "arc-expired": "Expired", "arc-no-agent": "AgentNotInstalled"}
    state = next((state for fault, state in states.items() if fault in faults), "Connected")
    seen = now - (timedelta(days=3).total_seconds() if state != "Connected" else 90)
    properties = {
        "agentPublicKeyCertificate": base64.b64encode(b"lab").decode(),
        "provisioningState": "Succeeded",
        "kubernetesVersion": "1.36.1",
        "totalNodeCount": 3,
        "totalCoreCount": 12,
        "agentVersion": "" if state == "AgentNotInstalled" else "1.31.4",
        "distribution": "generic",
        "distributionVersion": "",
        "infrastructure": "generic",
        "offering": "",
        "connectivityStatus": state,
        "lastConnectivityTime": _stamp(seen),
        "managedIdentityCertificateExpirationTime": _stamp(now + timedelta(days=60).total_seconds()),
        "privateLinkState": "Enabled" if "arc-private-link" in faults else "Disabled",
        "azureHybridBenefit": "NotApplicable",
        "aadProfile": {"enableAzureRBAC": False, "tenantID": TENANT, "adminGroupObjectIDs": [GROUP]},
        "arcAgentProfile": {"agentAutoUpgrade": "Enabled", "agentState": "Succeeded", "agentErrors": []},
        "arcAgentryConfigurations": [],
        "gateway": {"enabled": False},
        "miscellaneousProperties": {},
    }
    return {
        "id": arm_id, "name": arm_id.rpartition("/")[2], "type": KIND, "location": REGION, "tags": {"practice": "yes"},
        "identity": {"type": "SystemAssigned", "principalId": OBJECT_ID, "tenantId": TENANT},
        "properties": properties, "systemData": {},
    }  # fmt: skip


def _kubeconfig(arm_id: str) -> str:
    """The kubeconfig of the answer, base64 of YAML. Its server is of no use: the proxy puts its own in its place."""
    name = arm_id.rpartition("/")[2]
    text = (
        "apiVersion: v1\nclusters:\n- cluster:\n    insecure-skip-tls-verify: false\n"
        f"    server: https://proxy.invalid/{name}\n  name: {name}\ncontexts:\n- context:\n    cluster: {name}\n"
        f"    user: clusterUser_lab_{name}\n  name: {name}\ncurrent-context: {name}\nkind: Config\n"
        f"preferences: {{}}\nusers:\n- name: clusterUser_lab_{name}\n  user:\n    token: {_UNUSED}\n"
    )
    return base64.b64encode(text.encode()).decode()


def account_claims(now: float) -> Json:
    """The claims of the token of a service account's Secret (type kubernetes.io/service-account-token)."""
    _, _, namespace, name = SERVICE_ACCOUNT.split(":")
    kind = "kubernetes.io/serviceaccount"
    return {
        "iss": kind, f"{kind}/namespace": namespace, f"{kind}/secret.name": f"{name}-secret",
        f"{kind}/service-account.name": name, f"{kind}/service-account.uid": secrets.token_hex(16),
        "sub": SERVICE_ACCOUNT, "iat": int(now),
    }  # fmt: skip
