"""Credentials made by a command of the kubeconfig, run only after trust (S-20).

Protocol: client.authentication.k8s.io/v1 and v1beta1, kind ExecCredential: the request goes in KUBERNETES_EXEC_INFO,
the answer comes on standard output.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.asking import Asker
from app.cluster.kubeconfig import ClusterEntry, ExecEntry
from app.cluster.tls import ClientCertificate
from app.errors import Recovery, SignInError
from app.process_group import TooLongError, TooMuchError, run_group
from app.secrets.secret import Secret
from app.text import clean, prose
from app.trust import CommandTrust, TrustedCommand, find_program, hash_program, trust_needed

RUN_LIMIT = 30.0
"""Seconds for the command; a token from a cloud takes one to five."""

OUTPUT_LIMIT = 64 << 10
"""Bytes of each of its outputs; a credential with a certificate has five KiB."""

EARLY = 60.0
"""Seconds before its end at which a credential is renewed, so that no request goes out with a dying one."""

SETTLED = 5.0
"""Seconds within which a second 401 does not run the command again: requests that failed together renew once."""

_GROUPS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")

_AZURE = ("kubelogin", "az")
"""Programs that sign in to Azure: a profile with an Azure sign-in does the same without a program."""

_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "SYSTEMROOT", "SYSTEMDRIVE",
    "WINDIR", "USERPROFILE", "USERNAME", "USERDOMAIN", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES",
    "HOMEDRIVE", "HOMEPATH", "TEMP", "TMP", "COMSPEC", "PATHEXT",
)  # fmt: skip
"""The environment of the command: where things are and how to get out, nothing else of ours."""


@dataclass(frozen=True)
class Credential:
    """What the command answered."""

    token: Secret | None
    certificate: ClientCertificate | None
    expires_at: float | None
    """POSIX seconds; None: good until refused."""


class ExecCredentials:
    """Credentials from a trusted command: run when first needed, before expiry and after a 401, once for all askers."""

    def __init__(self, command: TrustedCommand, entry: ExecEntry, cluster: ClusterEntry) -> None:
        self._command = command
        self._entry = entry
        self._cluster = cluster
        self._lock = asyncio.Lock()
        self._credential: Credential | None = None
        self._ran_at = -SETTLED
        self._version = 0
        self.runs = 0
        """How often the command has run."""

    @classmethod
    async def trusted(
        cls, profile: str, entry: ExecEntry, cluster: ClusterEntry, asker: Asker | None
    ) -> ExecCredentials:
        """The credentials of an entry whose command is trusted, or trusted now by the person. Raises SignInError."""
        command = await asyncio.to_thread(describe_command, profile, entry)
        trust = CommandTrust()
        if not await asyncio.to_thread(trust.trusts, command):
            if _stem(command.argv[0]) in _AZURE:
                raise _azure(command)
            if asker is None or not await asker.ask_trust(command):
                raise trust_needed(command)
            await asyncio.to_thread(trust.add, command)
        return cls(command, entry, cluster)

    @property
    def expires_at(self) -> float | None:
        return self._credential.expires_at if self._credential else None

    def certificate(self) -> ClientCertificate | None:
        """The client certificate of the last answer."""
        return self._credential.certificate if self._credential else None

    def certificate_version(self) -> int:
        """Grows with every new client certificate."""
        return self._version

    async def current(self) -> Credential:
        """A credential that is good now. Raises SignInError when the command fails: nothing goes out without one."""
        async with self._lock:
            credential = self._credential
            if credential is None or _ends_within(credential, EARLY):
                try:
                    await self._renew()
                except SignInError:
                    if credential is None or _ends_within(credential, 0.0):
                        raise
            assert self._credential is not None
            return self._credential

    async def headers(self) -> dict[str, str]:
        token = (await self.current()).token
        return {"Authorization": f"Bearer {token.reveal()}"} if token else {}

    async def refresh(self) -> bool:
        async with self._lock:
            if time.monotonic() - self._ran_at >= SETTLED:
                await self._renew()
            return True

    async def _renew(self) -> None:
        # The program is judged anew each time: a different file in its place is a different command.
        now = await asyncio.to_thread(describe_command, self._command.profile, self._entry)
        if now.fingerprint != self._command.fingerprint:
            raise trust_needed(now)
        self.runs += 1
        before = self.certificate()
        answer = await run_command(self._command, _exec_info(self._entry, self._cluster))
        self._credential = read_answer(answer, self._entry.api_version, _name(self._command))
        self._ran_at = time.monotonic()
        if self._credential.certificate != before:
            self._version += 1


def describe_command(profile: str, entry: ExecEntry) -> TrustedCommand:
    """The command exactly as it would run; nothing runs. Blocks. Raises SignInError when the program is missing."""
    if entry.api_version not in _GROUPS:
        raise SignInError(
            "The kubeconfig's exec entry cannot be used", f"apiVersion {clean(entry.api_version)} is not known",
            f"Make it anew with its vendor's tool: {_GROUPS[0]}.", code="JD-EXEC-VERSION",
        )  # fmt: skip
    program = find_program(entry.command, entry.folder)
    if program is None:
        hint = f"From the kubeconfig: {prose(entry.install_hint, 500)}" if entry.install_hint else "Install it first."
        if _stem(entry.command) in _AZURE:
            hint = 'Jumpdeck signs in without it: set sign-in = "azure-cli" (or another kind) in the profile.'
        raise SignInError("The program that signs in is missing", f"{clean(entry.command)} is not on PATH", hint,
                          code="JD-EXEC-MISSING", recovery=Recovery.NEEDS_PERSON)  # fmt: skip
    try:
        digest = hash_program(program)
    except OSError as exc:
        raise SignInError("The program that signs in cannot be read", f"{clean(str(program))}: {prose(str(exc))}",
                          "Check its permissions.", code="JD-EXEC-MISSING") from exc  # fmt: skip
    return TrustedCommand(profile, (str(program), *entry.args), entry.env, digest)


async def run_command(command: TrustedCommand, info: str, *, limit: float = RUN_LIMIT) -> bytes:
    """Run it: no shell, nothing on standard input, no terminal, bounded in time and output. Its group dies with it.

    Raises SignInError (JD-EXEC-FAILED, JD-EXEC-TIMEOUT, JD-EXEC-OUTPUT) with the end of what it said.
    """
    name = _name(command)
    try:
        ended = await run_group(
            command.argv, env=_environment(command.env, info), limit=limit, output_limit=OUTPUT_LIMIT
        )
    except TooLongError as exc:
        raise _failed(name, "JD-EXEC-TIMEOUT", f"gave no answer in {limit:g} s", "it was ended") from exc
    except TooMuchError as exc:
        raise _failed(name, "JD-EXEC-OUTPUT", f"wrote more than {OUTPUT_LIMIT >> 10} KiB", "it was ended") from exc
    except (OSError, ValueError) as exc:
        raise _failed(name, "JD-EXEC-FAILED", "cannot be started", prose(str(exc))) from exc
    if ended.code != 0:
        said = f"it said: {prose(ended.said[-4096:])}"
        raise _failed(name, "JD-EXEC-FAILED", f"failed with code {ended.code}", said)
    return ended.output


def _environment(extra: tuple[tuple[str, str], ...], info: str) -> dict[str, str]:
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**env, **dict(extra), "KUBERNETES_EXEC_INFO": info}


def _exec_info(entry: ExecEntry, cluster: ClusterEntry) -> str:
    spec: dict[str, Any] = {"interactive": False}
    if entry.provide_cluster_info:
        about: dict[str, str] = {"server": cluster.server}
        if cluster.tls_server_name:
            about["tls-server-name"] = cluster.tls_server_name
        if cluster.ca is not None:
            about["certificate-authority-data"] = base64.b64encode(cluster.ca).decode()
        if cluster.proxy_url:
            about["proxy-url"] = cluster.proxy_url
        spec["cluster"] = about
    return json.dumps({"apiVersion": entry.api_version, "kind": "ExecCredential", "spec": spec})


def read_answer(raw: bytes, api_version: str, name: str) -> Credential:
    """The credential in an ExecCredential. Raises SignInError (JD-EXEC-ANSWER)."""
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise _answer(name, "it is not JSON") from exc
    if not isinstance(answer, Mapping) or answer.get("kind") != "ExecCredential":
        raise _answer(name, "it is not an ExecCredential")
    if answer.get("apiVersion") != api_version:
        raise _answer(name, f"apiVersion {clean(str(answer.get('apiVersion')))}, the kubeconfig says {api_version}")
    status = answer.get("status")
    if not isinstance(status, Mapping):
        raise _answer(name, "it has no status")
    token, chain, key = (status.get(part) for part in ("token", "clientCertificateData", "clientKeyData"))
    if any(value is not None and not isinstance(value, str) for value in (token, chain, key)):
        raise _answer(name, "a credential in it is not text")
    if bool(chain) != bool(key):
        raise _answer(name, "certificate and key belong together, one is missing")
    if not token and not chain:
        raise _answer(name, "it holds neither token nor certificate")
    if token and (not token.isascii() or not token.isprintable() or " " in token):
        raise _answer(name, "the token has characters that no token has")
    certificate = ClientCertificate(chain.encode(), Secret(key), name) if chain and key else None
    return Credential(Secret(token) if token else None, certificate, _when(status.get("expirationTimestamp"), name))


def _when(stamp: object, name: str) -> float | None:
    if stamp is None:
        return None
    try:
        return datetime.fromisoformat(str(stamp)).timestamp()
    except (ValueError, OverflowError) as exc:
        raise _answer(name, f"expirationTimestamp {clean(str(stamp))} is not a time") from exc


def _ends_within(credential: Credential, seconds: float) -> bool:
    return credential.expires_at is not None and credential.expires_at - seconds <= time.time()


def _stem(command: str) -> str:
    return Path(command.replace("\\", "/")).name.lower().removesuffix(".exe").removesuffix(".cmd")


def _name(command: TrustedCommand) -> str:
    return clean(Path(command.argv[0]).name)


def _azure(command: TrustedCommand) -> SignInError:
    return SignInError(
        "This kubeconfig signs in to Azure with a program",
        f"{clean(command.argv[0])}; with a sign-in of its own the profile needs no program",
        f'Set sign-in = "azure-cli" (or another kind) in the profile, or trust it: jumpdeck trust {command.profile}',
        code="JD-SIGN-IN-KUBELOGIN", layer="trust", recovery=Recovery.NEEDS_PERSON,
    )  # fmt: skip


def _failed(name: str, code: str, what: str, why: str) -> SignInError:
    return SignInError(f"The program that signs in {what}", f"{name}: {why}", "Run it by hand to see what it needs.",
                       code=code, recovery=Recovery.NEEDS_PERSON)  # fmt: skip


def _answer(name: str, why: str) -> SignInError:
    return SignInError("The answer of the program that signs in cannot be used", f"{name}: {why}",
                       "Check its version and its apiVersion in the kubeconfig.", code="JD-EXEC-ANSWER",
                       recovery=Recovery.NEEDS_PERSON)  # fmt: skip
