"""Command invoke of the lab's cluster: ARM's runCommand, which starts a pod and runs a command line in it.

The wire is that of azure-mgmt-containerservice: 202 with Location and Retry-After, then the result by its id.
"""

from __future__ import annotations

import asyncio
import base64
import io
import shlex
import ssl
import uuid
import zipfile
from collections.abc import Set
from datetime import UTC, datetime
from typing import Any

from app.lab.arm_errors import ArmError
from app.lab.azure_names import AKS_SERVER_APP
from app.lab.entra_tokens import BadToken, Tokens
from app.lab.invoke_kubectl import Kubectl
from app.tasks import TaskOwner

START_DELAY = 0.4
"""Seconds until the pod runs; a real one takes several."""
SLOW_START = 20.0
"""Seconds that it takes under the fault `invoke-slow`: a cluster that pulls the image first."""
MAX_OUTPUT = 512 * 1024
"""Bytes of output that ARM passes on; the rest is lost without a word."""
RETRY_AFTER = 1
"""Seconds that ARM asks to wait between two questions for the result."""
MAX_KEPT = 100
"""Results that are remembered; the oldest goes."""
MAX_CONTEXT = 16 * 1024 * 1024
"""Bytes that the files of a command may have once they are unpacked."""

Json = dict[str, Any]


class Invoke:
    """Runs commands, one pod each. Close it with `aclose`."""

    def __init__(self, tokens: Tokens, api: str, tls: ssl.SSLContext, faults: Set[str]) -> None:
        self.start_delay = START_DELAY
        self.slow_start = SLOW_START
        self.commands: list[str] = []
        """The command lines that were sent, for tests to count: each one was a pod."""
        self._tokens, self._api, self._tls, self._faults = tokens, api, tls, faults
        self._results: dict[str, Json] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._owner = TaskOwner("lab command invoke")

    async def aclose(self) -> None:
        """End what runs."""
        await self._owner.aclose()

    def start(self, body: Json) -> str:
        """Start a command; returns the id of its result. Raises ArmError."""
        if "run-command-disabled" in self._faults:
            raise ArmError(400, "BadRequest", "Run command is disabled for this cluster (disableRunCommand is true).")
        if "aks-stopped" in self._faults:
            raise ArmError(400, "BadRequest", "Operation is not allowed: the managed cluster is in the state Stopped.")
        command, token = body.get("command"), body.get("clusterToken")
        if not isinstance(command, str) or not command.strip():
            raise ArmError(400, "InvalidParameter", "Required parameter command is missing (null).")
        try:
            self._tokens.read(str(token or ""), AKS_SERVER_APP)
        except BadToken as bad:
            why = "clusterToken is required for Microsoft Entra enabled clusters"
            raise ArmError(400, "BadRequest", f"{why}: the token is {bad.why}.") from bad
        files = _unpack(str(body.get("context") or ""))
        name = uuid.uuid4().hex
        while len(self._results) >= MAX_KEPT:
            del self._results[next(iter(self._results))]
        self._results[name] = {"provisioningState": "Running", "startedAt": _now()}
        self.commands.append(command)
        kubectl = Kubectl(self._api, self._tls, str(token), files)
        task = self._owner.spawn(self._run(name, command, kubectl, files), name="command")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return name

    async def wait_ended(self) -> None:
        """Wait until all commands that run now have ended."""
        if self._running:
            await asyncio.wait(set(self._running))

    def result(self, name: str) -> tuple[bool, Json]:
        """Whether the command has ended, and its result as ARM shows it. Raises ArmError 404."""
        properties = self._results.get(name)
        if properties is None:
            raise ArmError(404, "NotFound", f"The command result {name} was not found. The pod may not have started.")
        return properties["provisioningState"] != "Running", {"id": name, "properties": properties}

    async def _run(self, name: str, command: str, kubectl: Kubectl, files: dict[str, bytes]) -> None:
        await asyncio.sleep(self.slow_start if "invoke-slow" in self._faults else self.start_delay)
        properties = self._results[name]
        if "invoke-fails" in self._faults:
            why = "KubernetesPerformanceError: Failed to run command due to cluster perf issue, container command-"
            why += f"{name} in aks-command namespace did not start within 30s on your cluster, retry may help."
            properties |= {"provisioningState": "Failed", "reason": why, "finishedAt": _now()}
            return
        started = _now()
        code, output = await _shell(command, kubectl, files)
        logs = output.encode()[:MAX_OUTPUT].decode("utf-8", "ignore")
        properties |= {
            "provisioningState": "Succeeded", "exitCode": code, "startedAt": started, "finishedAt": _now(),
            "logs": logs,
        }  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _unpack(context: str) -> dict[str, bytes]:
    """The files that came along: a zip in base64, empty for none. Raises ArmError 400."""
    if not context:
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(context, validate=True))) as archive:
            if sum(each.file_size for each in archive.infolist()) > MAX_CONTEXT:
                raise ArmError(400, "BadRequest", "The command context is too large.")
            return {each.filename: archive.read(each) for each in archive.infolist() if not each.is_dir()}
    except (ValueError, zipfile.BadZipFile) as error:
        raise ArmError(400, "BadRequest", "The command context is no valid zip in base64.") from error


async def _shell(command: str, kubectl: Kubectl, files: dict[str, bytes]) -> tuple[int, str]:
    """Run simple commands, joined by `&&` and `;` at most."""
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split, lexer.commenters = True, ""
        tokens = list(lexer)
    except ValueError as error:
        return 2, f"sh: syntax error: {error}\n"
    said, code, current = "", 0, list[str]()
    for word in [*tokens, ";"]:
        if word not in (";", "&&"):
            current.append(word)
            continue
        if current[:1] == ["echo"]:
            said += " ".join(str(code) if each == "$?" else each for each in current[1:]) + "\n"
            code = 0
        elif current:
            code, more = await _simple(current, kubectl, files)
            said += more
        current = []
        if word == "&&" and code != 0:
            break
    return code, said


async def _simple(words: list[str], kubectl: Kubectl, files: dict[str, bytes]) -> tuple[int, str]:
    if any(word and not word.strip("|&<>()") for word in words):
        return 2, "sh: the shell of the lab has no pipes and no redirections\n"
    program, rest = words[0], words[1:]
    if program == "kubectl":
        return await kubectl.run(rest)
    if program == "helm":
        return _helm(rest)
    if program == "ls":
        return 0, "".join(f"{name}\n" for name in sorted(files))
    if program == "cat":
        missing = [name for name in rest if name not in files]
        text = "".join(files[name].decode("utf-8", "replace") for name in rest if name in files)
        return int(bool(missing)), text + "".join(f"cat: {name}: No such file or directory\n" for name in missing)
    return 127, f"/bin/sh: line 1: {program}: command not found\n"


def _helm(words: list[str]) -> tuple[int, str]:
    if words[:1] == ["version"]:
        return 0, 'version.BuildInfo{Version:"v3.18.4", GitCommit:"lab", GitTreeState:"clean", GoVersion:"go1.24.4"}\n'
    if words[:1] in (["list"], ["ls"]):
        return 0, "NAME\tNAMESPACE\tREVISION\tUPDATED\tSTATUS\tCHART\tAPP VERSION\n"
    return 1, f'Error: unknown command "{words[0] if words else ""}" for "helm" in the lab: it has list and version\n'
