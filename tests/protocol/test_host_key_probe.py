"""Looking at a server's key asks nothing of anybody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.profiles.model import SshHop
from app.routes.direct import DirectDialer
from app.routes.host_key_probe import look_at
from app.routes.host_keys import HostKeys, Verdict
from tests.sshd import USER, sshd


async def test_no_agent_is_asked_and_no_key_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[asyncio.StreamWriter] = []
    agent = await asyncio.start_unix_server(lambda _, writer: asked.append(writer), tmp_path / "agent")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    monkeypatch.setenv("HOME", str(tmp_path))
    async with agent, sshd(tmp_path / "sshd") as server:
        (tmp_path / ".ssh").mkdir(mode=0o700)
        (tmp_path / ".ssh" / "id_ed25519").symlink_to("/dev/zero")
        address = f"{USER}@127.0.0.1:{server.port}"
        for spec in (SshHop((address,)), SshHop((address,), key=tmp_path / "none"), SshHop((address,), agent=True)):
            keys = HostKeys(tmp_path / "own", ())
            found = await look_at(spec, address, DirectDialer(), keys, profile="p", policy="ask")
            assert (found.verdict, found.fingerprint) == (Verdict.UNKNOWN, server.fingerprint)
        assert asked == [] and server.logins == 0
