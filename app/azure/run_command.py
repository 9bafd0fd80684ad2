"""Run command of AKS: ARM starts a pod in the cluster that runs one command and hands back its output.

Wire: POST managedClusters/{name}/runCommand, then GET commandResults/{id} until `properties.provisioningState` is
Succeeded or Failed, as the Azure CLI judges it (HTTP 200 and 202 both occur with either). There is no way to end a
command that runs, and none to stream: every look costs a pod.
"""

from __future__ import annotations

import asyncio
import base64
import io
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from app.azure.aks import API_VERSION, Cluster, diagnose, read_cluster
from app.azure.context import Azure
from app.errors import JumpdeckError, Recovery, RouteError, UsageError
from app.profiles.model import InvokeHop
from app.records import Record, field
from app.text import clean, prose

WAIT_LIMIT = 3_600.0
"""Seconds that a command's end is waited for. The Azure CLI gives up after 300, while the command goes on: charts with
hooks and waits take a quarter of an hour."""
FIRST_POLL, MOST_POLL, GROWTH = 2.0, 10.0, 1.3
"""Seconds between two questions for the result: a list is done within five, and ARM counts requests."""
OUTPUT_LIMIT = 512_000
"""Bytes of output that Azure keeps (512 kB, AKS documentation); output of this length or more was cut."""
FILES_LIMIT = 1 << 20
"""Bytes of files that go along with a command: they travel inside one ARM request."""
LAYER = "invoke"

Told = Callable[[str], None]


class CommandResult(Record):
    """How a command ended. Succeeded with another exit code than 0 is normal: kubectl did not find something."""

    id: str
    exit_code: int
    output: str = field(repr=False)
    """Standard output and standard error in one, as they came: not cleaned."""
    cut: bool
    """Whether Azure kept only the first 512 kB."""
    seconds: float


class RunCommand:
    """Commands for one cluster, by its ARM id. Every method raises JumpdeckError only."""

    def __init__(self, azure: Azure, cluster: str, *, wait_limit: float = WAIT_LIMIT, poll: float = FIRST_POLL) -> None:
        self._azure, self._cluster = azure, cluster
        self._wait_limit, self._poll = wait_limit, poll
        self.name = clean(cluster.rpartition("/")[2])
        self._target: Cluster | None = None

    async def look(self) -> Cluster:
        """Read the cluster from ARM: it must run, with run command allowed. Sends no command.

        Raises RouteError (JD-AKS-STOPPED, JD-INVOKE-DISABLED) and what ARM raises.
        """
        found = await read_cluster(self._azure.arm, self._cluster)
        diagnose(found, (InvokeHop(),))
        self._target = found
        return found

    async def run(
        self, command: str, *, files: Mapping[str, bytes] | None = None, told: Told | None = None
    ) -> CommandResult:
        """Run a shell line in the cluster, with `files` (by relative name) beside it; waits for its end.

        `told` hears what is waited for, in words. When this is cancelled the command goes on in the cluster.
        """
        target = self._target or await self.look()
        token = ""
        if target.entra:
            token = (await self._azure.identity.token(self._azure.endpoints.aks_scope)).value.reveal()
        context = await asyncio.to_thread(packed, files) if files else ""
        began = time.monotonic()
        body = {"command": command, "context": context, "clusterToken": token}
        try:
            answer = await self._azure.arm.post(f"{self._cluster}/runCommand", API_VERSION, body)
        except JumpdeckError as error:
            raise _named(error, self.name) from error
        known = command_id(answer.headers.get("location", ""), answer.body)
        _tell(told, f"{self.name}: command {known} is starting a pod")
        body = answer.body
        wait = _seconds(answer.headers.get("retry-after")) or self._poll
        while not _ended(body):
            left = self._wait_limit - (time.monotonic() - began)
            if left <= 0:
                raise self._given_up(known)
            await asyncio.sleep(min(wait, left))
            body, wait = await self._ask(known, body), min(wait * GROWTH, MOST_POLL)
            _tell(told, self._waiting(known, body, time.monotonic() - began))
        return self._result(known, body, time.monotonic() - began)

    async def _ask(self, known: str, before: dict[str, Any]) -> dict[str, Any]:
        """The result as it stands; what passes by itself leaves it as it was: the command goes on meanwhile."""
        try:
            return await self._azure.arm.get(f"{self._cluster}/commandResults/{known}", API_VERSION)
        except JumpdeckError as error:
            if error.transient:
                return before
            raise _named(error, self.name) from error

    def _waiting(self, known: str, body: dict[str, Any], seconds: float) -> str:
        state = clean(str(_table(body.get("properties")).get("provisioningState") or "waiting"))[:40].lower()
        return f"{self.name}: command {known}: {state}, {seconds:.0f} s"

    def _result(self, known: str, body: dict[str, Any], seconds: float) -> CommandResult:
        properties = _table(body.get("properties"))
        output = str(properties.get("logs") or "")
        if properties.get("provisioningState") == "Failed":
            said = str(properties.get("reason") or "") or output
            raise _failed(self.name, f"command {known}: {prose(said, 600) or 'no reason is given'}", said)
        code = properties.get("exitCode")
        size = len(output) if output.isascii() else len(output.encode("utf-8", "surrogatepass"))
        return CommandResult(known, code if isinstance(code, int) else 0, output, size >= OUTPUT_LIMIT, seconds)

    def _given_up(self, known: str) -> JumpdeckError:
        return RouteError(
            "The command has not ended in time", f"command {known} on {self.name}: {self._wait_limit:g} s have passed",
            f"It goes on in the cluster; its result: az aks command result --command-id {known} (with -g and -n).",
            code="JD-INVOKE-TIMEOUT", layer=LAYER,
        )  # fmt: skip


def command_id(location: str, body: Mapping[str, Any]) -> str:
    """The id of a command, from the Location of the answer (`…/commandResults/ID?…`) or from its body.

    Only the id is taken: a Location of another host is never asked with our token. Raises RouteError.
    """
    path = urlsplit(location).path
    found = re.search(r"/commandResults/([^/?]+)", path, re.IGNORECASE)
    known = unquote(found[1]) if found else str(body.get("id") or "").rpartition("/")[2]
    if not re.fullmatch(r"[\w.-]{1,128}", known):
        raise RouteError("Azure's answer to a command cannot be used", "it names no command", "Try again.",
                         code="JD-INVOKE-ANSWER", layer=LAYER)  # fmt: skip
    return known


def packed(files: Mapping[str, bytes]) -> str:
    """Files as the base64 of a zip. Blocks. Raises UsageError above `FILES_LIMIT`."""
    size = sum(map(len, files.values()))
    if size > FILES_LIMIT:
        raise UsageError(
            "The files are too large for command invoke", f"{size:,} bytes; at most {FILES_LIMIT >> 20} MiB goes along",
            "Name fewer files, or use a profile with a network path.", code="JD-INVOKE-FILES",
        )  # fmt: skip
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return base64.b64encode(held.getvalue()).decode()


_FAILURES: tuple[tuple[str, str, str, str], ...] = (
    ("JD-INVOKE-POLICY", r"gatekeeper|admission webhook|denied the request|disallowed by policy",
     "A policy of the cluster forbids the pod of run command",
     "Ask whoever runs the policy (gatekeeper) to let pods of namespace aks-command through."),
    ("JD-INVOKE-NO-START", r"KubernetesPerformanceError|did not start within",
     "The command's pod did not start in time",
     "Its nodes may be full or starting (the pod asks for 200m and 500 MiB in namespace aks-command); then try again."),
    ("JD-INVOKE-DISABLED", r"run ?command is (disabled|not (allowed|enabled))|RunCommandDisabled|disableRunCommand",
     "", ""),
)  # fmt: skip
"""Code, words of ARM or of the result, title and next step (AKS troubleshooting of command invoke)."""


def _failed(name: str, detail: str, said: str, recovery: Recovery = Recovery.PERMANENT) -> JumpdeckError:
    for code, words, title, hint in _FAILURES:
        if re.search(words, said, re.IGNORECASE):
            if code == "JD-INVOKE-DISABLED":
                return _disabled(name, detail)
            return RouteError(title, detail, hint, code=code, layer=LAYER)
    return RouteError("Azure could not run the command", detail,
                      "See the pods and events of namespace aks-command; then try again.",
                      code="JD-INVOKE-FAILED", layer=LAYER, recovery=recovery)  # fmt: skip


def _named(error: JumpdeckError, name: str) -> JumpdeckError:
    """The error of ARM, in the words of run command where it is one of its own."""
    if error.code == "JD-ARM-NOT-FOUND" and "/commandresults/" in error.detail.lower():
        return RouteError(
            "The command's pod never started", error.detail,
            "Its namespace aks-command tells why: quota, policy, or no node with room. Then try again.",
            code="JD-INVOKE-NO-POD", layer=LAYER,
        )  # fmt: skip
    found = _failed(name, error.detail, error.detail)
    return error if found.code == "JD-INVOKE-FAILED" else found


def _disabled(name: str, detail: str) -> JumpdeckError:
    return RouteError(
        f"Command invoke is switched off on {name}", detail,
        f"An administrator can allow it (az aks update --enable-run-command -n {name} -g GROUP); or use another route.",
        code="JD-INVOKE-DISABLED", layer=LAYER,
    )  # fmt: skip


def _ended(body: Mapping[str, Any]) -> bool:
    return _table(body.get("properties")).get("provisioningState") in ("Succeeded", "Failed")


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text or "")
    except ValueError:
        return 0.0
    return min(seconds, 60.0) if seconds > 0 else 0.0  # `nan` is not: no clock can wait for it


def _tell(told: Told | None, text: str) -> None:
    if told is not None:
        told(text)
