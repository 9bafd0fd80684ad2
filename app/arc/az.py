"""The other way to a connected cluster: `az connectedk8s proxy`, supervised, where the native way is not possible.

az starts the vendor's program itself, renews by itself, and ends at the first renewal that fails. What it prints says
nothing about when it is ready (and a pipe sees it only at the end): its kubeconfig and an answer to /version do.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.arc.az_account import AzAccount, account_for
from app.arc.az_folders import find_az_with_extension
from app.arc.az_run import AzLimits, AzRun, AzUse, environment
from app.arc.az_shared import program_is_here, turn
from app.arc.ports import HOST
from app.arc.program import LAYER
from app.errors import JumpdeckError, ProfileError, Recovery, RouteError, SignInError
from app.outbound import trusting
from app.profiles.model import ArcCluster, Profile
from app.restricted_yaml import MAX_YAML_BYTES, load_yaml
from app.text import clean


def check_az(profile: Profile, who: str = "") -> AzUse:
    """az as it would open the profile's cluster; `who` is the UPN of the profile's own sign-in when it is known.

    Blocks; reads az's folders, never starts it. Raises JumpdeckError with the remedy.
    """
    return AzUse(find_az_with_extension(), account_for(profile, who))


def neither(why: JumpdeckError, lack: JumpdeckError) -> JumpdeckError:
    """The failure of the native way (`why`) where az cannot step in (`lack`): both causes, both ways on."""
    kind = SignInError if isinstance(why, SignInError) else RouteError
    hints = (why.hint, f"For az: {lack.hint}" if lack.hint else "")
    return kind(
        why.title, "; ".join(filter(None, (why.detail, f"by az neither: {lack}"))), " ".join(filter(None, hints)),
        code=why.code, exit_code=why.exit_code, layer=why.layer, recovery=why.recovery,
    )  # fmt: skip


class AzTunnel:
    """A running az with its proxy. Make one with `AzTunnel.open`, end it with `aclose`."""

    correlation_id = ""
    """az makes its own, and does not tell."""
    relay_ends: float | None = None
    token_ends: float | None = None

    def __init__(self, run: AzRun, label: str, notes: tuple[str, ...]) -> None:
        self._run = run
        self.label = label
        self.notes = notes
        """How it is opened and why by az; what that means."""
        self.kubeconfig = b""
        self._version: _Version | None = None

    @property
    def warning(self) -> str:
        """The line for the session: that az drives it, as whom, and why."""
        return self.notes[0]

    @property
    def port(self) -> int:
        """The loopback port (TLS) that serves the Kubernetes API."""
        return self._run.port

    @property
    def pid(self) -> int:
        """az's process."""
        return self._run.process.pid

    @classmethod
    async def open(
        cls, profile: Profile, why: str, *, who: str = "", proxy: str | None = None, ca_file: Path | None = None,
        state: Path | None = None, limits: AzLimits | None = None,
    ) -> AzTunnel:  # fmt: skip
        """Start az for the profile's cluster and wait until the API server has answered through it.

        `why` says why not natively, for the screen; `who` is the UPN of the profile's sign-in when it is known; `proxy`
        the web proxy of the way in; `ca_file` a CA in place of the system's.

        Raises JumpdeckError: what is missing of az (JD-ARC-AZ-MISSING, -EXTENSION, -OLD, -ACCOUNT, JD-SIGN-IN-…), that
        another start does not end (-BUSY), that it takes too long (-TIMEOUT), or what az said. Nothing is left then.
        """
        assert isinstance(profile.cluster, ArcCluster)
        limits = limits or AzLimits()
        use = await asyncio.to_thread(check_az, profile, who)
        fetches = not await asyncio.to_thread(program_is_here)
        async with turn(state=state, limit=limits.turn):
            run = await AzRun.start(profile, profile.cluster, use, environment(proxy, ca_file), state, limits)
            notes = _notes(profile.cluster, use.account, why, fetches)
            made = cls(run, f"az connectedk8s proxy ({use.az.label})", notes)
            try:
                await made._until_ready(profile.cluster.arc)
            except BaseException:
                await made.aclose()
                raise
            run.put_back()
        return made

    async def check_listener(self) -> None:
        """Raise RouteError (JD-ARC-PORT) when what listens on the port was not started by our az."""
        await self._run.check_listener()

    async def wait_lost(self) -> JumpdeckError:
        """Return when az has ended, or its program does not answer any more."""
        return await asyncio.shield(self._run.lost)

    async def verify(self, limit: float) -> None:
        """Have the program answer, whatever it says, within `limit` seconds. Raises RouteError, and it is lost then."""
        if self._run.lost.done():
            raise self._run.lost.result()
        try:
            assert self._version is not None
            await self._version.ask(limit)
        except (OSError, ValueError) as error:
            why = clean(str(error) or "no answer in time")
            found = RouteError(
                "The proxy that az runs does not answer", f"{HOST}:{self.port}: {why}",
                "It is started again.", code="JD-ARC-SILENT", layer=LAYER, recovery=Recovery.TRANSIENT,
            )  # fmt: skip
            if not self._run.lost.done():
                self._run.lost.set_result(found)
            raise found from error

    async def aclose(self) -> None:
        """End az, its program, and what left their group. Twice is no error."""
        await self._run.aclose()

    async def _until_ready(self, arc_id: str) -> None:
        state = "az has written no kubeconfig"
        try:
            async with asyncio.timeout(self._run.limits.start):
                while True:
                    if self._run.lost.done():
                        raise self._run.lost.result()
                    state = await self._look(arc_id)
                    if not state:
                        break
                    await asyncio.wait({self._run.lost}, timeout=self._run.limits.look)
            await self.check_listener()
        except TimeoutError:
            said = f"; az says: {self._run.last_words}" if self._run.last_words else ""
            raise RouteError(
                "az connectedk8s proxy is not ready in time", f"after {self._run.limits.start:g} s: {state}{said}",
                "It is tried again. Try it by hand: az connectedk8s proxy", code="JD-ARC-AZ-TIMEOUT", layer=LAYER,
                recovery=Recovery.TRANSIENT,
            ) from None  # fmt: skip

    async def _look(self, arc_id: str) -> str:
        """One look: what is still missing; empty when the API server has answered."""
        if self._version is None:
            data = await asyncio.to_thread(_read, self._run.file)
            found = _way(data) if data else None
            if found is None:
                return "az has written no kubeconfig" if not data else "az's kubeconfig is not whole"
            self._version = _Version.of(found, self.port, arc_id)
            self.kubeconfig = data
        try:
            status = await self._version.ask(self._run.limits.version)
        except (OSError, ValueError) as error:
            return f"no answer to /version ({clean(str(error) or 'in time')})"
        return "" if status < 500 and status != 404 else f"/version answers {status}"


class _Version:
    """GET /version, over TLS that the kubeconfig's CA verifies."""

    def __init__(self, port: int, path: str, trust: ssl.SSLContext) -> None:
        self._port, self._path, self._trust = port, path, trust

    @classmethod
    def of(cls, cluster: Mapping[str, Any], port: int, arc_id: str) -> _Version:
        """From the cluster entry that az wrote. Raises RouteError (JD-ARC-AZ-KUBECONFIG) for another one."""
        server, ca = cluster.get("server"), cluster.get("certificate-authority-data")
        path = f"/{hashlib.sha256(arc_id.lower().encode()).hexdigest()}"
        parts = urlsplit(server if isinstance(server, str) else "")
        try:
            at = (parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/").lower())
        except ValueError:
            at = ("", None, None, "")
        if at != ("https", HOST, port, path):
            raise _unusable(f"its server is {clean(str(server)[:200])}")
        if not isinstance(ca, str) or not ca or cluster.get("insecure-skip-tls-verify"):
            raise _unusable("it names no CA, and what is not verified is not used")
        try:
            return cls(port, path, trusting(base64.b64decode(ca, validate=True), "the kubeconfig of az's proxy"))
        except (ValueError, ProfileError) as error:
            raise _unusable(f"its CA cannot be read: {clean(str(error))}") from error

    async def ask(self, limit: float) -> int:
        """The status of the answer. Raises OSError (TimeoutError after `limit` seconds) and ValueError."""
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(HOST, self._port, ssl=self._trust, server_hostname=HOST)
            try:
                writer.write(
                    f"GET {self._path}/version HTTP/1.1\r\nHost: {HOST}:{self._port}\r\nUser-Agent: jumpdeck\r\n"
                    "Accept: application/json\r\nConnection: close\r\n\r\n".encode()
                )
                line = await reader.readline()
            finally:
                writer.transport.abort()
        words = line.split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise ValueError("it does not speak HTTP")
        return int(words[1])


def _notes(cluster: ArcCluster, account: AzAccount, why: str, fetches: bool) -> tuple[str, ...]:
    """What to say of it, the first line for the session."""
    notes = [f"opened by az connectedk8s proxy, signed in as {account.user}, because {why}",
             "az renews by itself and ends when one renewal fails; it may then open a browser"]  # fmt: skip
    if fetches:
        notes.append("az has fetched the vendor's program into ~/.clientproxy: there was none")
    if cluster.auth == "token":
        notes.append("az is not given the service account's token: Jumpdeck sends it with each request")
    return tuple(notes)


def _read(path: Path) -> bytes:
    """What az has written so far; empty when there is nothing. Blocks."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(MAX_YAML_BYTES)
    return b""


def _way(data: bytes) -> dict[str, Any] | None:
    """The cluster entry of the current context; None while the file is not whole: az writes it in place."""
    with suppress(ProfileError):
        root = load_yaml(data, "kubeconfig of az's proxy")
        if not isinstance(root, dict):
            return None
        context = _named(root, "contexts", "context", root.get("current-context"))
        cluster = _named(root, "clusters", "cluster", context.get("cluster"))
        _named(root, "users", "user", context.get("user"))
        return cluster
    return None


def _named(root: Mapping[str, Any], section: str, kind: str, name: object) -> dict[str, Any]:
    entries = root.get(section)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(kind), dict):
            return dict(entry[kind])
    raise ProfileError("The kubeconfig is not whole", section, code="JD-ARC-AZ-KUBECONFIG")


def _unusable(why: str) -> RouteError:
    return RouteError(
        "The kubeconfig of az's proxy cannot be used", why,
        "Update az's extension: az extension update --name connectedk8s", code="JD-ARC-AZ-KUBECONFIG", layer=LAYER,
    )  # fmt: skip
