"""The environment of the programs that carry an Arc tunnel: what they need, and nothing that is a secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from app.outbound import exempt

_PASSED = frozenset({
    "HOME", "PATH", "USER", "LOGNAME", "SHELL", "TMPDIR", "TEMP", "TMP", "TZ", "LANG", "LANGUAGE", "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "GODEBUG", "SYSTEMROOT",
    "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "USERNAME", "USERDOMAIN", "HOMEDRIVE", "HOMEPATH",
    "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "PROCESSOR_ARCHITECTURE", "NUMBER_OF_PROCESSORS",
    "COMPUTERNAME",
})  # fmt: skip
"""Names that are passed on, in whatever case they are written."""
_LOCAL = ("localhost", "127.0.0.1")


def child_environment(
    *, proxy: str | None = None, ca_file: Path | None = None, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment for the program, from ours (or `base`).

    `proxy` is the profile's web proxy. NO_PROXY always has this computer: its own control calls must not go out.
    `ca_file` is trusted in place of the system's store (SSL_CERT_FILE, which Go obeys on Linux and the BSDs only).
    """
    ours = os.environ if base is None else base
    env = {name: value for name, value in ours.items() if name.upper() in _PASSED or name.upper().startswith("LC_")}
    if proxy:
        for name in [name for name in env if name.upper() in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")]:
            del env[name]
        env["HTTPS_PROXY"] = env["HTTP_PROXY"] = proxy
    exempt = [entry for name in ("no_proxy", "NO_PROXY") for entry in env.pop(name, "").split(",") if entry.strip()]
    env["NO_PROXY"] = ",".join(dict.fromkeys((*(entry.strip() for entry in exempt), *_LOCAL)))
    if os.name != "nt":  # names differ by case there; Go looks at both, in upper case first
        env["no_proxy"] = env["NO_PROXY"]
    if ca_file is not None:
        env["SSL_CERT_FILE"] = str(ca_file.expanduser())
    return env


def proxy_of_program(host: str, proxy: str | None = None) -> str | None:
    """The web proxy's URL by which a program with this environment reaches a host; None: straight.

    As Go programs choose it (golang.org/x/net/http/httpproxy): NO_PROXY holds for a named proxy too. This computer is
    `localhost` and its addresses; names below `localhost` stand for hosts outside, in the lab.
    """
    env, host = child_environment(proxy=proxy), host.lower().rstrip(".")
    found = env.get("HTTPS_PROXY") or env.get("https_proxy") or ""
    listed = ",".join(entry for entry in env["NO_PROXY"].lower().split(",") if entry not in _LOCAL)
    if not found or host == "localhost" or exempt(host, f"{listed},127.0.0.0/8,::1/128"):
        return None
    return found if "://" in found else f"http://{found}"
