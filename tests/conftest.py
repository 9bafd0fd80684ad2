"""Keeps every test away from the person's own files and environment."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.sshd import USER

_FOREIGN = (
    "KUBECONFIG", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY",
    "all_proxy", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "VISUAL", "EDITOR", "BROWSER", "DISPLAY",
    "WAYLAND_DISPLAY", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME",
    "XDG_CACHE_HOME", "XDG_DATA_HOME", "PYTHONUNBUFFERED",
)  # fmt: skip
_FOREIGN_KINDS = ("AZURE_", "JUMPDECK_", "PYTHON_KEYRING_")
"""How names begin that stand for what somebody has, or how a build machine is set up."""

settings.register_profile(
    "steady", deadline=None, database=None, derandomize=not os.environ.get("SOAK"),
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("steady")  # a busy machine takes its time, and a landing tries what the one before it tried

if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # Under nohup we stay deaf to a hang-up, by a handler: unlike SIG_IGN it is not inherited by what tests start.
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders and home of this test alone; nothing from outside that names another, a proxy, a CA or a sign-in."""
    for name in tuple(os.environ):
        if name in _FOREIGN or name.startswith(_FOREIGN_KINDS):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    running = tmp_path / "run"  # else "the newest lab" is that of another worker's test
    for folder in (home, running):
        folder.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(running))
    monkeypatch.setenv("JUMPDECK_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JUMPDECK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")  # never the person's own store
    if sys.platform != "win32":  # a build machine may run us under another account than it says
        for name in ("LOGNAME", "USER"):
            monkeypatch.setenv(name, USER)
    os.umask(0o077)
