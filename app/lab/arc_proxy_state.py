"""What the stand-in for the vendor's Arc proxy knows: its configuration, its key, who is signed in, what is registered.

Wire: what the published az client (connectedk8s) sends and reads; what the vendor's program keeps to itself is chosen
here, and a comment says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER_ID = "6256c85f-0aad-4d50-b960-e6e9b21efe35"
"""The application that tokens for Arc's cluster connect are for."""
REGISTER_VERSION = "2020-10-01"

_REGISTER = re.compile(
    r"(/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Kubernetes/connectedClusters/[^/]+)/register",
    re.IGNORECASE,
)

Json = dict[str, Any]


class Refused(Exception):
    """A control call that is not good: the status and the text of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Settings:
    """What config.yml says. `client` is empty in token mode: then no credential is added to requests."""

    http_port: int
    https_port: int
    tenant: str
    client: str
    suffix: str
    """Of relay names, without a dot before it."""


def read_settings(path: Path) -> Settings:
    """Raises OSError and ValueError."""
    import yaml

    try:
        found = yaml.safe_load(path.read_bytes())
        server, identity = found["server"], found.get("identity") or {}
        cloud = found.get("cloudConfig") or {}
        return Settings(
            int(server["httpPort"]), int(server["httpsPort"]), str(identity.get("tenantID", "")),
            str(identity.get("clientID", "")), str(cloud.get("serviceBusEndpointSuffix", "servicebus.windows.net")),
        )  # fmt: skip
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} is not a configuration: {error}") from error


class Moods:
    """The faults of place `arc`, as the lab last wrote them: read anew whenever it matters."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._done: set[str] = set()

    def _read(self) -> Json:
        try:
            found = json.loads(self._path.read_bytes()) if self._path else {}
        except (OSError, ValueError):  # the lab has ended
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def left_behind(self) -> bool:
        """Whether the lab has ended."""
        return self._path is not None and not self._path.exists()

    def on(self, fault: str) -> bool:
        return fault in self._read().get("faults", ())

    def once(self, fault: str) -> bool:
        """Whether it is on and has not happened in this process."""
        if fault in self._done or not self.on(fault):
            return False
        self._done.add(fault)
        return True

    def number(self, name: str, default: float) -> float:
        found = self._read().get(name, default)
        return float(found) if isinstance(found, int | float) else default


class SignedIn:
    """The key of this process and the token that was handed in for it.

    The stand-in does not sign with the key: the API server behind the lab's relay takes the token itself.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.kid = ""
        self.token = ""
        self._ends = 0.0
        self.rotate()

    def rotate(self) -> None:
        """A new key id, shaped like a thumbprint (RFC 7638)."""
        self.kid = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")

    @property
    def good(self) -> bool:
        return bool(self.token) and time.time() < self._ends

    def take(self, body: bytes) -> None:
        """`POST /identity/at`. Raises Refused; the words are chosen here, but for `public key expired`."""
        try:
            sent = json.loads(body)
            token, server, tenant, kid = (str(sent[name]) for name in ("accessToken", "serverId", "tenantID", "kid"))
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
            bound, ends = claims.get("cnf"), float(claims["exp"])
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise Refused(400, f"invalid request: {type(error).__name__}") from error
        if kid != self.kid:
            raise Refused(500, "public key expired")
        if server != SERVER_ID:
            raise Refused(400, "unknown server id")
        if self._settings.tenant and tenant.lower() != self._settings.tenant.lower():
            raise Refused(400, "the tenant is not that of the configuration")
        if not isinstance(bound, dict) or bound.get("kid") != self.kid:
            raise Refused(400, "the token is not bound to the public key (cnf)")
        self.token, self._ends = token, ends


@dataclass(frozen=True, slots=True)
class Registration:
    """One cluster: how its relay lets us in, and until when (POSIX seconds)."""

    relay: str
    connection: str
    token: str
    ends: float

    @property
    def good(self) -> bool:
        return time.time() < self.ends


def cluster_id(path: str, version: str) -> str | None:
    """The id in the path of a register call; None when it is none. Raises Refused for another version."""
    match = _REGISTER.fullmatch(path)
    if match is None:
        return None
    if version != REGISTER_VERSION:
        raise Refused(400, f"unknown api-version {version!r}")
    return match[1]


def prefix_of(arm_id: str) -> str:
    """What stands before the paths of a cluster's API: SHA-256 of its id in lower case."""
    return hashlib.sha256(arm_id.lower().encode()).hexdigest()


def read_registration(body: bytes) -> tuple[Registration, Json]:
    """The relay and the kubeconfig (parsed) of a register call. Raises Refused."""
    import yaml

    try:
        sent = json.loads(body)
        first, relay = sent["kubeconfigs"][0], sent["hybridConnectionConfig"]
        config = yaml.safe_load(base64.b64decode(first["value"], validate=True))
        name, ends = str(relay["hybridConnectionName"]), float(relay["expirationTime"])
        known = Registration(str(relay["relay"]), name, str(relay["token"]), ends)
        if not (config["clusters"] and config["users"] and config["contexts"]):
            raise ValueError("the kubeconfig is empty")
    except (ValueError, KeyError, TypeError, IndexError, yaml.YAMLError) as error:
        raise Refused(400, f"invalid request: {type(error).__name__}") from error
    if not known.good:
        raise Refused(400, "the hybrid connection's token has expired")
    return known, config


def kubeconfig_answer(config: Json, server: str, ca_pem: bytes) -> Json:
    """The kubeconfig with our address and our CA in place of the cluster's; users stay as they came."""
    import yaml

    cluster = config["clusters"][0]
    cluster["cluster"] = {"server": server, "certificate-authority-data": base64.b64encode(ca_pem).decode()}
    value = base64.b64encode(yaml.safe_dump(config).encode()).decode()
    return {"kubeconfigs": [{"name": "Kubeconfig", "value": value}]}
