"""The processes and files of one `az connectedk8s proxy` that runs for one session.

Token mode: az would take the service account's token on its command line, which every user of the computer can read in
the list of processes. So az gets a word that is no token in its place, and with it the mode: it asks ARM for a relay
for `Token`, hands the program no identity of its own, and puts the word into the user entry of the kubeconfig, which is
all that it ever does with a token (extension 1.11.2: `insert_token_in_kubeconfig`; the sister client of Arc-enabled
appliances does so only after `register`, so the program does not need it). Our client sends the real token in the
header of each request, over TLS to the program, as kubectl would.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path

from app.arc.az_account import AzAccount
from app.arc.az_failures import of_end
from app.arc.az_folders import Az
from app.arc.az_shared import TURN_LIMIT, SharedConfig, forget
from app.arc.child_env import child_environment
from app.arc.last_lines import LastLines
from app.arc.listeners import check_listener
from app.arc.ports import free_neighbours
from app.arc.processes import MARK, end, marked, program_name, wait_gone
from app.arc.program import LAYER
from app.arc.run_records import GRACE, RunFolder
from app.arc.windows_job import Job, job_of
from app.azure.fields import name_of, part_of
from app.errors import JumpdeckError, ProfileError, RouteError
from app.identity.source import About
from app.process_group import KILL_LIMIT, end_group, start_group
from app.profiles.model import ArcCluster, Profile
from app.records import Record
from app.tasks import spawn, to_its_end
from app.text import clean

NO_TOKEN = "sent-by-jumpdeck"  # noqa: S105 (the word that stands for it)
"""What az gets in place of the service account's token; it shows in the list of processes."""
LINES_KEPT = 40
"""Lines of az's that are kept: an error has up to ten."""
_PROGRAM = "arcProxy"
"""How the name of the vendor's program begins."""
_NAME = re.compile(r"[^\W_][\w.()-]*")
"""Names that may stand on a command line. (az reads a file for what begins with @.)"""
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


class AzLimits(Record):
    """Seconds."""

    start: float = 120.0
    """Until the API server has answered: az itself takes ten to thirty, a download of the program some more."""
    turn: float = TURN_LIMIT
    """To wait for another start by az."""
    look: float = 0.1
    """Between two looks at az's kubeconfig, then at the port: nobody signals either."""
    version: float = 10.0
    """For one answer to /version, which goes through the relay to the cluster."""
    grace: float = GRACE
    """For az and the program to end by themselves."""


class AzUse(Record):
    """az, checked for one profile."""

    az: Az
    account: AzAccount


class AzRun:
    """The processes and files of one az."""

    def __init__(
        self, process: asyncio.subprocess.Process, folder: RunFolder, port: int, config: SharedConfig | None,
        job: Job | None, cluster: ArcCluster, about: About, limits: AzLimits,
    ) -> None:  # fmt: skip
        self.process, self.folder, self.port, self.limits = process, folder, port, limits
        self.lost: asyncio.Future[JumpdeckError] = asyncio.get_running_loop().create_future()
        self._config, self._job, self._cluster, self._about = config, job, cluster, about
        self._said = LastLines(process.stdout, LINES_KEPT, f"az {process.pid}")
        self._watcher = spawn(self._watch(), name=f"wait for az {process.pid}")
        self._closing = False

    @classmethod
    async def start(
        cls, profile: Profile, cluster: ArcCluster, use: AzUse, env: Mapping[str, str], state: Path | None,
        limits: AzLimits,
    ) -> AzRun:  # fmt: skip
        path = use.az.path
        folder = await RunFolder.make_aside(path, profile.name, state=state)
        process = None
        try:
            config = await asyncio.to_thread(SharedConfig)
            port = free_neighbours()
            await asyncio.to_thread(config.keep, folder.path, port)
            argv = [*use.az.argv, *_arguments(cluster, folder.path / "kubeconfig", port)]
            own = {**env, MARK: folder.name, **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder.path))}
            process = await start_group(argv, env=own, cwd=folder.path, said=asyncio.subprocess.STDOUT)
            job = job_of(process.pid)
            folder.record(process.pid, path, profile.name)
        except BaseException as error:
            if process is not None:
                await end_group(process)
            folder.remove()
            if isinstance(error, OSError | ValueError):
                raise RouteError(
                    "The Azure CLI cannot be started", clean(getattr(error, "strerror", None) or str(error)),
                    "Check its installation: az version", code="JD-ARC-AZ-MISSING", layer=LAYER,
                ) from error  # fmt: skip
            raise
        about = About("azure-cli", profile=profile.name, account=use.account.user, tenant=use.account.tenant)
        return cls(process, folder, port, config, job, cluster, about, limits)

    @property
    def file(self) -> Path:
        """az's kubeconfig, private and for us alone."""
        return self.folder.path / "kubeconfig"

    @property
    def last_words(self) -> str:
        """az's last line, redacted."""
        return self._said.last

    def put_back(self, *, cut_off: bool = False) -> None:
        """Restore what az overwrote of the files that all az proxies share; the second time nothing is done.

        `cut_off`: az has been ended before it was ready.
        """
        config, self._config = self._config, None
        if config is not None:
            config.put_back(self.port, cut_off=cut_off)
            forget(self.folder.path)

    async def check_listener(self) -> None:
        """Raise RouteError (JD-ARC-PORT) when what listens on the port was not started by our az."""
        await check_listener(self.port, self.process.pid, "az's proxy", run=self.folder.name, image=_PROGRAM)

    async def aclose(self) -> None:
        """End everything. Whoever is cancelled meanwhile is so after the end. Twice is no error."""
        if self._closing:
            return
        self._closing = True
        await to_its_end(spawn(self._end(), name=f"end az {self.process.pid}"))

    async def _end(self) -> None:
        if not self.lost.done():
            self.lost.set_result(RouteError("The proxy was closed", "", code="JD-ARC-CLOSED", layer=LAYER))
        try:
            await end_group(self.process, grace=self.limits.grace)
            await asyncio.to_thread(self._end_those_who_left)
        finally:
            self._said.close()
            self._watcher.cancel()
            if self._job is not None:
                self._job.close()
            self.put_back(cut_off=True)
            await asyncio.to_thread(self.folder.remove)

    def _end_those_who_left(self) -> None:
        """az leaves its program behind when it alone is ended; one that left the group carries our mark. Blocks."""
        for process in marked().get(self.folder.name, ()):
            if not program_name(process.pid).startswith(_PROGRAM):
                continue  # a browser that az has opened, or what a person started from it
            if end(process, ask=True) and not wait_gone(process, self.limits.grace):
                end(process, ask=False)
                wait_gone(process, KILL_LIMIT)

    async def _watch(self) -> None:
        code = await self.process.wait()
        await self._said.read_up()
        if not self.lost.done():
            self.lost.set_result(of_end(code, self._said.all, self._cluster.arc, self._about))


def _arguments(cluster: ArcCluster, file: Path, port: int) -> list[str]:
    """The command's arguments. Raises ProfileError for names that az would read in another way."""
    name, group = name_of(cluster.arc), part_of(cluster.arc, "resourceGroups")
    subscription = part_of(cluster.arc, "subscriptions")
    for value in (name, group, subscription):
        if not _NAME.fullmatch(value):
            raise ProfileError("The cluster's ARM id cannot be given to az", f"{clean(value)} is no name there",
                               "Copy the id again from the portal.", code="JD-ARC-AZ-NAME")  # fmt: skip
    more = [f"--token={NO_TOKEN}"] if cluster.auth == "token" else []
    return ["connectedk8s", "proxy", f"--name={name}", f"--resource-group={group}", f"--subscription={subscription}",
            f"--file={file}", f"--port={port}", "--only-show-errors", *more]  # fmt: skip


def environment(proxy: str | None, ca_file: Path | None) -> dict[str, str]:
    """az's environment: ours, with this computer in NO_PROXY; nothing is installed and nothing asked."""
    env = {name: value for name, value in os.environ.items() if name.upper() not in _PROXIES}
    env.update(child_environment(proxy=proxy, ca_file=ca_file))
    if ca_file is not None:
        env["REQUESTS_CA_BUNDLE"] = str(ca_file.expanduser())
    return env | {
        "AZURE_CORE_NO_COLOR": "true", "AZURE_CORE_COLLECT_TELEMETRY": "false",
        "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no", "AZURE_CORE_DISABLE_CONFIRM_PROMPT": "true",
    }  # fmt: skip
