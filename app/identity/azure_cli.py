"""Tokens from `az account get-access-token`: reuses the sign-in of the Azure CLI, in a process group that ends with it.

azure-identity's own class kills only `az` itself after its limit; the interpreter that az is lives on.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import Recovery, SignInError
from app.identity.failures import from_aadsts, words
from app.identity.identity import AccessToken
from app.identity.source import About, Obtained, Show, principal
from app.process_group import TooLongError, TooMuchError, run_group
from app.secrets.secret import Secret
from app.text import clean

if TYPE_CHECKING:
    from app.identity.credentials import Threads

RUN_LIMIT = 30.0
"""Seconds for az: a cold start takes ten on a managed Windows computer."""
OUTPUT_LIMIT = 64 << 10
"""Bytes of each of its outputs; a token has two to five KiB."""
_RESOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:/_-]{0,255}")
"""What goes to az: on Windows it is a batch file, whose shell takes &, | and % for its own."""
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w.-]+|\"accessToken\"\s*:\s*\"[^\"]*\"?")
_AADSTS = re.compile(r"AADSTS(\d{4,7})")


class AzureCliSource:
    """Asks az each time; `app.identity.identities` keeps what it answers."""

    def __init__(self, about: About, *, limit: float = RUN_LIMIT, threads: Threads | None = None) -> None:
        self.about = about
        self._limit = limit
        self._threads = threads

    async def silent(self, scope: str, claims: str | None, fresh: bool) -> Obtained:
        """As `TokenSource.silent`; az has a cache of its own, which it answers from."""
        if claims is not None:
            raise self._challenged(scope, claims)
        resource = scope.removesuffix("/.default")
        if not _RESOURCE.fullmatch(resource):
            raise SignInError("The Azure CLI cannot be asked for this", f"{clean(scope)} is no scope",
                              "Check aks-scope of the cloud.", code="JD-SIGN-IN-AZ")  # fmt: skip
        args = ["account", "get-access-token", "--output", "json", "--resource", resource]
        if self.about.tenant:
            args += ["--tenant", self.about.tenant]
        code, output, said = await self._run(args)
        if code != 0:
            raise self._failed(said)
        found = self._read(output)
        self._check_account(found.token.value)
        return found

    async def ask(self, scope: str, claims: str | None, show: Show) -> Obtained:
        """az signs in by itself, at another prompt."""
        return await self.silent(scope, claims, False)

    async def key_bound(self, scope: str, data: dict[str, str], show: Show | None, tenant: str = "") -> AccessToken:
        """A token that is bound to a key, with az's sign-in (`app.identity.azure_cli_cache`). Raises SignInError."""
        from app.identity.azure_cli_cache import acquire
        from app.identity.credentials import SILENT_LIMIT

        threads = self._threads
        if threads is None:
            raise SignInError("The Azure CLI gives no token for a key", self.about.label, "",
                              code="JD-SIGN-IN-KIND")  # fmt: skip
        options = (await threads.transport()).options
        authority = self.about.authority
        return await threads.call(
            lambda: acquire(self.about, authority, options, scope, data, tenant), SILENT_LIMIT
        )

    async def forget(self) -> bool:
        """Nothing of az's is ours to forget."""
        return False

    def close(self) -> None:
        """Let go of connections."""
        if self._threads is not None:
            self._threads.abandon()

    async def _run(self, args: list[str]) -> tuple[int, str, str]:
        program = await asyncio.to_thread(find_az)
        if program is None:
            raise SignInError(
                "The Azure CLI is not installed here", "az is not on PATH",
                "Install it, or choose another kind of sign-in.", code="JD-SIGN-IN-AZ-MISSING",
            )  # fmt: skip
        environment = {**os.environ, "AZURE_CORE_NO_COLOR": "true", "AZURE_CORE_COLLECT_TELEMETRY": "false"}
        try:
            ended = await run_group(
                [str(program), *args], env=environment, limit=self._limit, output_limit=OUTPUT_LIMIT, cwd=program.parent
            )
        except TooLongError as error:
            raise SignInError(
                "The Azure CLI took too long", f"no answer in {self._limit:g} s; it was ended",
                "Try it: az account get-access-token", code="JD-SIGN-IN-TIMEOUT", recovery=Recovery.TRANSIENT,
            ) from error  # fmt: skip
        except TooMuchError:
            raise _no_token(f"more than {OUTPUT_LIMIT >> 10} KiB") from None
        except (OSError, ValueError) as error:
            raise SignInError(
                "The Azure CLI cannot be started", clean(str(error)), "Check its installation: az version",
                code="JD-SIGN-IN-AZ-MISSING",
            ) from error  # fmt: skip
        return ended.code, ended.output.decode("utf-8", "replace"), ended.said.decode("utf-8", "replace")

    def _read(self, output: str) -> Obtained:
        try:
            fields = json.loads(output)
            token = str(fields["accessToken"])
            if "expires_on" in fields:
                ends = float(fields["expires_on"])
            else:  # before az 2.54: the local time, without a zone
                ends = datetime.strptime(fields["expiresOn"], "%Y-%m-%d %H:%M:%S.%f").timestamp()
        except (ValueError, KeyError, TypeError):
            raise _no_token(f"{len(output)} characters") from None
        return Obtained(AccessToken(Secret(token), ends))

    def _failed(self, said: str) -> SignInError:
        if found := _AADSTS.search(said):
            return from_aadsts(int(found.group(1)), words(_without_tokens(said)), self.about)
        if "az login" in said or "az account set" in said:
            return self._needs_login("nobody is signed in to the Azure CLI")
        text = words(_without_tokens(said))
        return SignInError("The Azure CLI gives no token", text, "Try it: az account get-access-token",
                           code="JD-SIGN-IN-AZ")  # fmt: skip

    def _needs_login(self, why: str) -> SignInError:
        login = f"az login --tenant {clean(self.about.tenant)}" if self.about.tenant else "az login"
        return SignInError("The Azure CLI is not signed in", why, f"Run: {login}", code="JD-SIGN-IN-AZ-LOGIN",
                           recovery=Recovery.NEEDS_PERSON)  # fmt: skip

    def _challenged(self, scope: str, claims: str) -> SignInError:
        encoded = base64.b64encode(claims.encode()).decode()
        return SignInError(
            "Azure wants a new proof of who you are", "az cannot give it for us",
            f'Run: az login --scope {clean(scope)} --claims-challenge "{encoded}"', code="JD-SIGN-IN-MFA",
            recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip

    def _check_account(self, token: Secret) -> None:
        wanted, found = self.about.account, principal(token)
        if wanted and found and found.lower() != wanted.lower():
            raise SignInError(
                "The Azure CLI is signed in as somebody else", f"{found}, not {clean(wanted)}",
                f"Run: az login (as {clean(wanted)}), or take account out of the sign-in.",
                code="JD-SIGN-IN-ACCOUNT", recovery=Recovery.NEEDS_PERSON,
            )  # fmt: skip


def _no_token(what: str) -> SignInError:
    """Without what was read: it may hold a token."""
    return SignInError("The Azure CLI answered something else than a token", what,
                       "Try it: az account get-access-token", code="JD-SIGN-IN-AZ")  # fmt: skip


def _without_tokens(text: str) -> str:
    return _TOKEN.sub("***", text)


def config_folder() -> Path:
    """Where az keeps its settings, its tokens and who is signed in."""
    return Path(os.environ.get("AZURE_CONFIG_DIR") or "~/.azure").expanduser()


def find_az() -> Path | None:
    """az on PATH, by an absolute folder: never in the present one. Blocks."""
    names = ("az.cmd", "az.exe", "az.bat") if sys.platform == "win32" else ("az",)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if not os.path.isabs(folder):
            continue
        for name in names:
            path = Path(folder) / name
            if path.is_file() and os.access(path, os.X_OK):
                return path
    return None
