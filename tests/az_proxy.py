"""A program `az` whose `connectedk8s proxy` behaves as the published one (azure-arc.md §2.4-2.8), and its arcProxy.

`Az` puts them where the published ones lie: `az` on PATH, the extension in az's folders, arcProxy and its shared
config.yml in ~/.clientproxy. `Az.does` says in what they differ from the usual.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from app.arc.program import this_platform
from tests.tls_servers import Authority

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
OTHER_SUBSCRIPTION = "66666666-2222-3333-4444-555555555555"
TENANT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
OTHER_TENANT = "ffffffff-bbbb-cccc-dddd-eeeeeeeeeeee"
ARC = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/Edge/providers/Microsoft.Kubernetes/connectedClusters/Shop-01"
PROGRAM = this_platform().file_name("1.3.035022")

_AZ = r'''#!PYTHON -IS
import json, os, subprocess, sys, time
here = os.path.dirname(os.path.abspath(__file__))
plan = json.load(open(os.path.join(here, "plan.json")))
options = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[3:])
with open(os.path.join(here, "calls.jsonl"), "a") as file:
    file.write(json.dumps({"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid()}) + "\n")
if "say" in plan:
    print(plan["say"], file=sys.stderr)
    sys.exit(plan.get("exit", 1))
folder = os.path.join(os.path.expanduser("~"), ".clientproxy")
config, port = os.path.join(folder, "config.yml"), int(options["port"])
if os.path.isfile(config):
    os.remove(config)
with open(config, "w") as file:
    file.write(f"cloud: AZUREPUBLICCLOUD\nserver:\n  httpPort: {port - 1}\n  httpsPort: {port}\n")
child = subprocess.Popen([os.path.join(folder, "PROGRAM"), "-c", config], stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, start_new_session=plan.get("leaves", False))
with open(os.path.join(here, "child"), "w") as file:
    file.write(str(child.pid))
print(f"Proxy is listening on port {port}")  # before anything listens; a pipe sees it at the end
if plan.get("hangs"):
    time.sleep(600)
text = plan["kubeconfig"].replace("PORT", str(port)).replace("TOKEN", options.get("token", ""))
half = len(text) // 2
with os.fdopen(os.open(options["file"], os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
    file.write(text[:half])
    file.flush()
    file.write(text[half:])
print("Press Ctrl+C to close proxy.")
if plan.get("ends"):
    child.kill()
child.wait()
print("ERROR: " + plan.get("last", "Proxy closed externally."), file=sys.stderr)
sys.exit(1)
'''

_PROXY = r'''#!PYTHON -IS
import json, re, socket, ssl, sys, os
here = "HERE"
plan = json.load(open(os.path.join(here, "plan.json")))
control, port = (int(re.search(name + r": (\d+)", open(sys.argv[2]).read())[1]) for name in ("httpPort", "httpsPort"))
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(os.path.join(here, "proxy.pem"), os.path.join(here, "proxy.key"))
listening, unused = (socket.create_server(("127.0.0.1", number)) for number in (port, control))
asked = 0
while True:
    plain, _ = listening.accept()
    try:
        with server.wrap_socket(plain, server_side=True) as link:
            path = link.recv(65536).decode().split()[1]
            if path == "/identity/poppublickey":
                link.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"publicKey":{"kid":"key"}}')
                continue
            asked += 1
            status = plan.get("statuses", [200])[min(asked, len(plan.get("statuses", [200]))) - 1]
            right = path == plan["path"] + "/version"
            link.sendall(f"HTTP/1.1 {status if right else 404} As planned\r\nContent-Length: 0\r\n\r\n".encode())
    except OSError:
        pass
'''


class Az:
    """The stand-ins, in folders of one test; HOME and az's folders lead there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.bin, self.state = folder / "home", folder / "bin", folder / "state"
        self.config = self.home / ".azure"
        self.shared = self.home / ".clientproxy"
        for made in (self.bin, self.config, self.shared, self.home / ".kube"):
            made.mkdir(parents=True)
        (self.home / ".kube" / "config").write_text("# mine\n")
        for name in ("AZURE_CONFIG_DIR", "AZURE_EXTENSION_DIR", "AZURE_EXTENSION_SYS_DIR", "AZURE_CLOUD_NAME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setenv("JUMPDECK_STATE_DIR", str(self.state))
        monkeypatch.setenv("PATH", f"{self.bin}{os.pathsep}{os.environ['PATH']}")
        for path, text in ((self.bin / "az", _AZ), (self.shared / PROGRAM, _PROXY)):
            for name, value in (("PYTHON", sys.executable), ("PROGRAM", PROGRAM), ("HERE", str(self.bin))):
                text = text.replace(name, value, 1)
            path.write_text(text)
            path.chmod(0o755)
        self.authority = Authority("arcProxy")
        self.authority.issue("127.0.0.1").files(self.bin, "proxy")
        self.install("1.11.2")
        self.signed_in()
        self.does()

    def install(self, version: str, *, needs: str = "2.70.0", under: Path | None = None) -> Path:
        """The extension as az lays it out."""
        folder = (under or self.config / "cliextensions") / "connectedk8s"
        (folder / f"connectedk8s-{version}.dist-info").mkdir(parents=True)
        (folder / "azext_connectedk8s").mkdir()
        told = {"azext.minCliCoreVersion": needs, "azext.isPreview": False}
        (folder / "azext_connectedk8s" / "azext_metadata.json").write_text(json.dumps(told))
        return folder

    def signed_in(self, *subscriptions: dict[str, Any]) -> None:
        """Who is signed in to az; by itself one person with the cluster's subscription as the default."""
        listed = subscriptions or (subscription(),)
        text = json.dumps({"installationId": "x", "subscriptions": listed})
        (self.config / "azureProfile.json").write_bytes(b"\xef\xbb\xbf" + text.encode())

    def does(self, **plan: Any) -> None:
        """What differs: `say` and `exit`, `hangs`, `leaves`, `ends`, `last`, `statuses`, `kubeconfig`."""
        path = f"/{hashlib.sha256(ARC.lower().encode()).hexdigest()}"
        told = {"path": path, "kubeconfig": self.kubeconfig(path), **plan}
        (self.bin / "plan.json").write_text(json.dumps(told))

    def kubeconfig(self, path: str, *, ca: bytes | None = None, server: str = "https://127.0.0.1:PORT") -> str:
        """The kubeconfig that az writes, PORT and TOKEN not yet filled in."""
        import base64

        data = base64.b64encode(self.authority.pem if ca is None else ca).decode()
        trust = f"    certificate-authority-data: {data}\n" if data else ""
        return (
            f"apiVersion: v1\nclusters:\n- cluster:\n{trust}    server: {server}{path}\n  name: shop-01\n"
            "contexts:\n- context:\n    cluster: shop-01\n    user: who\n  name: shop-01\ncurrent-context: shop-01\n"
            "kind: Config\nusers:\n- name: who\n  user:\n    token: 'TOKEN'\n"
        )

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Arguments and environment of each start."""
        log = self.bin / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def child(self) -> int:
        """The process of the last arcProxy."""
        return int((self.bin / "child").read_text())


def subscription(
    identity: str = SUBSCRIPTION, *, tenant: str = TENANT, user: str = "ops@contoso.com", kind: str = "user",
    default: bool = True, cloud: str = "AzureCloud",
) -> dict[str, Any]:  # fmt: skip
    """An entry of azureProfile.json."""
    return {
        "id": identity, "name": "x", "state": "Enabled", "user": {"name": user, "type": kind}, "isDefault": default,
        "tenantId": tenant, "environmentName": cloud,
    }  # fmt: skip
