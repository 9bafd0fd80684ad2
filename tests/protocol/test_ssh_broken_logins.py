"""Logins that end before the server has said yes or no: nobody is asked for ever, and no password is sent for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.errors import ExitCode, JumpdeckError, Recovery
from app.profiles.model import SshHop
from app.routes.context import RouteContext
from app.routes.direct import DirectDialer
from app.routes.ssh import SshDial
from app.secrets.secret import password_name
from tests.fakes import SlowAsker
from tests.logins import Gate, MemoryStore, context, person
from tests.sshd import USER, make_key, sshd

pytestmark = pytest.mark.timeout(60)


def known(folder: Path, port: int, key: str) -> None:
    """The server's key is known."""
    path = folder / "own_known_hosts"
    path.write_text(f"[127.0.0.1]:{port} {key}\n")
    path.chmod(0o600)


async def errors(spec: SshHop, around: RouteContext, times: int) -> list[JumpdeckError]:
    """What so many tries bring, one after the other, as a session makes them."""
    found = []
    for _ in range(times):
        with pytest.raises(JumpdeckError) as caught:
            async with SshDial(spec, around, profile="p", policy="ask").open(DirectDialer()):
                pass
        found.append(caught.value)
    return found


async def test_a_server_that_breaks_off_in_place_of_a_refusal_gets_a_password_twice_at_most(tmp_path: Path) -> None:
    async with Gate(password="open sesame", cuts=True) as gate:
        known(tmp_path, gate.port, gate.host_key)
        store = MemoryStore(**{password_name("ops", "127.0.0.1", gate.port): "old"})
        spec = SshHop((f"ops@127.0.0.1:{gate.port}",), password=True)
        first, second, third = await errors(spec, context(tmp_path, None, store), 3)
        assert first.transient, "a link may break at any moment"
        assert (second.code, second.recovery) == ("JD-SSH-DENIED", Recovery.PERMANENT)
        assert third.code == "JD-SECRET-NEEDED"
        assert gate.passwords == ["old", "old"]


async def test_a_login_that_succeeds_forgets_the_one_that_broke_off(tmp_path: Path) -> None:
    async with Gate(password="open sesame", cuts=True) as gate:
        known(tmp_path, gate.port, gate.host_key)
        around = context(tmp_path, person("open sesame"))
        spec = SshHop((f"ops@127.0.0.1:{gate.port}",), password=True)
        for _ in range(2):
            gate.cuts = True
            assert (await errors(spec, around, 1))[0].transient
            gate.cuts = False
            async with SshDial(spec, around, profile="p", policy="ask").open(DirectDialer()) as dialer:
                assert dialer.facts().note.endswith("password")
        assert len(gate.passwords) == 4


async def test_a_server_that_does_not_wait_for_the_answer_is_not_tried_again_by_itself(tmp_path: Path) -> None:
    async with sshd(tmp_path / "a", LoginGraceTime="5") as server:
        key = make_key(tmp_path / "key", passphrase="open sesame")
        server.authorize(key)
        known(tmp_path, server.port, server.public_key)
        asker = SlowAsker("open sesame")
        spec = SshHop((f"{USER}@127.0.0.1:{server.port}",), key=key)
        (error,) = await errors(spec, context(tmp_path, asker), 1)
        assert (error.code, error.recovery) == ("JD-SECRET-NEEDED", Recovery.NEEDS_PERSON)
        assert error.exit_code is ExitCode.SIGN_IN and len(asker.asked) == 1
        await asyncio.wait_for(asker.withdrawn.wait(), 10)
