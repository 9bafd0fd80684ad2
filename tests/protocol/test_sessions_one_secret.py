"""Several sessions that need one secret of a person: one question, and nobody else is held up meanwhile."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from app.profiles.model import NetworkHop, SshHop
from app.profiles.store import ProfileBook
from app.records import replace
from app.routes.host_keys import HostKeys
from app.rows import SessionPhase
from app.secrets.secret import MEMORY
from app.sessions.asking import MAX_CONNECTS
from app.sessions.route import RouteGround
from app.sessions.states import is_asking
from app.sessions.supervisor import Sessions
from tests.fakes import SlowAsker, SmallServer, profile_for
from tests.sshd import USER, make_key, sshd
from tests.states import reach

P = SessionPhase


async def version(request: web.Request) -> web.StreamResponse:
    return web.json_response({"gitVersion": "v1.36.2"})


async def test_the_passphrase_of_one_key_for_several_jump_boxes(tmp_path: Path) -> None:
    """The boxes differ, so that nothing but the key is common; more sessions than may connect at once."""
    MEMORY._known.clear()
    asker = SlowAsker("open sesame")
    async with SmallServer(version) as api, sshd(tmp_path / "sshd") as server:
        key = make_key(tmp_path / "key", passphrase="open sesame")
        server.authorize(key)
        known = tmp_path / "known"
        known.write_text(server.known_hosts_line)
        known.chmod(0o600)
        ground = RouteGround(asker, host_keys=HostKeys(known, ()))
        plain = profile_for(tmp_path, api.port, name="plain")
        book = ProfileBook(tmp_path / "profiles.toml")
        book.profiles["plain"] = plain
        names = [f"box-{number}" for number in range(MAX_CONNECTS + 2)]
        for name in names:
            jump = SshHop((f"{USER}@127.0.0.1:{server.port}",), key=key)
            book.profiles[name] = replace(plain, name=name, via=(NetworkHop(name), jump))
        async with Sessions(book, asker=asker, ground=ground) as sessions:
            boxes = [sessions.open(name) for name in names]
            for session in boxes:
                assert is_asking(await reach(session, lambda s: s.phase is P.NEEDS_SECRET))
            await reach(sessions.open("plain"), lambda s: s.phase is P.UP)
            asker.typed.set()
            for session in boxes:
                await reach(session, lambda s: s.phase is P.UP)
        assert len(asker.asked) == 1
        await server.logged_in(len(names))
