"""Keeps every test away from the person's own files and environment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

_FOREIGN = ("KUBECONFIG", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy", "NO_COLOR",
            "VISUAL", "EDITOR")  # fmt: skip

if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # Under nohup we stay deaf to a hang-up, by a handler: unlike SIG_IGN it is not inherited by what tests start.
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders and home of this test alone; no secret store, proxy, kubeconfig or editor from outside."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("JUMPDECK_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JUMPDECK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")  # never the person's own store
    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)
    os.umask(0o077)
