"""`jumpdeck trust` as a program of its own, against OpenSSH's sshd: what it stores, says, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app import audit
from tests.audit_lines import records
from tests.running import Done, jumpdeck
from tests.sshd import USER, Sshd, fingerprint, make_key, public_key, sshd
from tests.terminal import Terminal
from tests.tls_servers import unused_port

WRONG = "SHA256:" + "A" * 43


class Place:
    """A home of its own with one or more servers, and profiles that lead through them."""

    def __init__(self, folder: Path) -> None:
        self.home, self.config, self.state = folder / "home", folder / "config", folder / "state"
        for each in (self.home / ".ssh", self.config, self.state):
            each.mkdir(mode=0o700, parents=True)
        self.environment = {
            "HOME": str(self.home), "JUMPDECK_CONFIG_DIR": str(self.config), "JUMPDECK_STATE_DIR": str(self.state),
        }  # fmt: skip

    @property
    def known(self) -> Path:
        return self.state / "known_hosts"

    def lines(self) -> list[str]:
        return self.known.read_text().splitlines() if self.known.exists() else []

    def profile(self, *servers: Sshd, more: str = "", hop: str = "", name: str = "here") -> None:
        via = ", ".join(f'{{ ssh = "{USER}@127.0.0.1:{server.port}"{hop} }}' for server in servers)
        path = self.config / "profiles.toml"
        path.write_text(
            f'version = 1\n[profile.{name}]\ncluster = {{ server = "https://127.0.0.1:1" }}\nvia = [{via}]\n{more}\n'
        )  # fmt: skip
        path.chmod(0o600)

    async def run(self, *words: str) -> Done:
        return await jumpdeck(*words, **self.environment)

    def records(self) -> list[dict[str, object]]:
        return records(self.state / "audit")


@asynccontextmanager
async def world(folder: Path, **options: str) -> AsyncIterator[tuple[Place, Sshd]]:
    async with sshd(folder / "sshd", **options) as server:
        place = Place(folder)
        place.profile(server)
        yield place, server


async def test_an_unknown_server_without_a_terminal_says_what_to_run(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, server):
        done = await place.run("trust", "here")
        assert done.code == 5
        assert "JD-SSH-HOST-KEY-UNKNOWN" in done.err
        assert f"jumpdeck trust here --fingerprint {server.fingerprint}" in done.err
        assert place.lines() == []
        assert server.logins == server.refusals == 0, "nothing was tried at the server"


async def test_a_fingerprint_trusts_exactly_that_key(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, server):
        wrong = await place.run("trust", "here", "--fingerprint", WRONG)
        assert (wrong.code, place.lines()) == (5, [])
        assert "JD-SSH-HOST-KEY-MISMATCH" in wrong.err
        assert server.fingerprint in wrong.err
        right = await place.run("trust", "here", "--fingerprint", server.fingerprint)
        assert right.code == 0, right.err
        assert place.lines() == [server.known_hosts_line.strip()]
        assert place.known.stat().st_mode & 0o777 == 0o600
        again = await place.run("trust", "here")
        assert (again.code, "is known" in again.out) == (0, True)
        assert (await place.run("trust", "here", "--fingerprint", WRONG)).code == 5
        listed = await place.run("trust", "list")
        assert f"{server.fingerprint}  ED25519  [127.0.0.1]:{server.port}" in listed.out
        assert [record["event"] for record in place.records()] == ["host-key.refused", "host-key.trusted"]
        assert audit.verify(place.state / "audit") == []


async def test_a_changed_key_is_replaced_only_on_demand(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, server):
        old = fingerprint(make_key(tmp_path / "old"))
        public = public_key(tmp_path / "old")
        old_line = f"[127.0.0.1]:{server.port} {public}"
        place.known.write_text(f"# mine\n{old_line}\nother {public}\n")
        place.known.chmod(0o600)
        theirs = place.home / ".ssh" / "known_hosts"
        theirs.write_text(old_line + "\n")
        refused = await place.run("trust", "here", "--fingerprint", server.fingerprint)
        assert refused.code == 5
        assert "JD-SSH-HOST-KEY-CHANGED" in refused.err
        assert server.fingerprint in refused.err
        assert old in refused.err
        assert "known_hosts:2" in refused.err
        assert "jumpdeck trust here --replace" in refused.err
        assert (await place.run("trust", "here", "--replace")).code == 5, "nobody was asked"
        done = await place.run("trust", "here", "--replace", "--fingerprint", server.fingerprint)
        assert done.code == 0, done.err
        assert place.lines() == ["# mine", f"other {public}", server.known_hosts_line.strip()]
        assert "ssh-keygen -f" in done.err
        assert "~/.ssh/known_hosts:1" in done.err
        assert theirs.read_text() == old_line + "\n", "nothing of theirs is written"
        assert (await place.run("trust", "here")).code == 0
        events = [record["event"] for record in place.records()]
        assert events == ["host-key.refused", "host-key.refused", "host-key.replaced"]


async def test_a_revoked_key_is_never_trusted(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, server):
        (place.home / ".ssh" / "known_hosts2").write_text(f"@revoked * {server.public_key}\n")
        for words in ((), ("--replace",), ("--fingerprint", server.fingerprint)):
            done = await place.run("trust", "here", *words)
            assert done.code == 5
            assert "JD-SSH-HOST-KEY-REVOKED" in done.err
            assert "known_hosts2:1" in done.err
        assert place.lines() == []


async def test_a_pinned_key_is_the_profiles_to_say(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, server):
        place.profile(server, hop=f', host-key = "{WRONG}"', more='host-keys = "pinned"')
        done = await place.run("trust", "here", "--replace", "--fingerprint", server.fingerprint)
        assert done.code == 5
        assert "JD-SSH-HOST-KEY-PINNED" in done.err
        assert WRONG in done.err
        assert server.fingerprint in done.err
        place.profile(server, hop=f', host-key = "{server.fingerprint}"', more='host-keys = "pinned"')
        assert (await place.run("trust", "here")).code == 0
        assert place.lines() == []


async def test_production_is_trusted_by_this_command_too(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, server):
        place.profile(server, more='tags = ["production"]')
        assert (await place.run("trust", "here", "--fingerprint", server.fingerprint)).code == 0
        assert place.lines() == [server.known_hosts_line.strip()]


async def test_on_a_terminal_only_the_proof_says_yes(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, server):
        for typed, code, kept in (("yes", 5, 0), (server.fingerprint[-4:], 0, 1)):
            terminal = Terminal("trust", "here", **place.environment)
            try:
                await terminal.until(lambda seen: server.fingerprint[-4:].encode() + b")" in seen)
                assert server.fingerprint.encode() in terminal.written
                assert b"ED25519" in terminal.written
                terminal.type(typed.encode() + b"\r")
                assert await terminal.ended() == code
            finally:
                terminal.close()
            assert len(place.lines()) == kept


async def test_the_second_server_is_reached_through_the_first(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, jump), sshd(tmp_path / "inner", kind="ecdsa") as inner:
        make_key(place.home / ".ssh" / "id_ed25519")
        jump.authorize(place.home / ".ssh" / "id_ed25519")
        place.profile(jump, inner)
        only = await place.run("trust", "here", "--fingerprint", jump.fingerprint)
        assert only.code == 5
        assert inner.fingerprint in only.err
        assert place.lines() == [jump.known_hosts_line.strip()]
        both = await place.run("trust", "here", "--fingerprint", inner.fingerprint)
        assert both.code == 0, both.err
        assert place.lines() == [jump.known_hosts_line.strip(), inner.known_hosts_line.strip()]
        await jump.logged_in(2)
        assert inner.logins == 0


async def test_each_alternative_is_trusted_for_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, first), sshd(tmp_path / "second") as second:
        ports = (first.port, unused_port(), second.port)
        place.profile(first)
        path = place.config / "profiles.toml"
        servers = ", ".join(f'"{USER}@127.0.0.1:{port}"' for port in ports)
        path.write_text(path.read_text().replace(f'"{USER}@127.0.0.1:{first.port}"', f"[{servers}]"))
        done = await place.run("trust", "here", "--fingerprint", first.fingerprint, "--fingerprint", second.fingerprint)
        assert done.code == 5, "one of them could not be looked at"
        assert "JD-TCP-REFUSED" in done.err
        assert place.lines() == [first.known_hosts_line.strip(), second.known_hosts_line.strip()]


async def test_what_was_trusted_can_be_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path) as (place, server):
        for which in (f"127.0.0.1:{server.port}", f"[127.0.0.1]:{server.port}", server.fingerprint):
            place.known.write_text(f"# kept\nother,[127.0.0.1]:{server.port} {server.public_key}\n")
            place.known.chmod(0o600)
            done = await place.run("trust", "remove", which)
            assert done.code == 0, done.err
            left = ["# kept"] if which == server.fingerprint else ["# kept", f"other {server.public_key}"]
            assert place.lines() == left
        assert (await place.run("trust", "remove", "nobody")).code == 7
        place.known.write_text(f"[127.0.0.1]:{server.port} {server.public_key}\n")
        done = await place.run("trust", "remove", "127.0.0.1")
        assert done.code == 7 and f"Did you mean [127.0.0.1]:{server.port}?" in done.err
        place.known.write_text("")
        done = await place.run("trust", "list")
        assert (done.code, done.out) == (0, "") and "no server and no command" in done.err


async def test_a_persons_ssh_configuration_changes_nothing(tmp_path: Path) -> None:
    """S-01: no setting of OpenSSH's client makes an unknown key known."""
    async with world(tmp_path) as (place, _):
        (place.home / ".ssh" / "config").write_text(
            "Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking no\n"
            "  HostKeyAlias anything\n"
        )
        for command in (("trust", "here"), ("pods", "here", "--no-input")):
            done = await place.run(*command)
            assert done.code == 5
            assert "JD-SSH-HOST-KEY-UNKNOWN" in done.err
        assert place.lines() == []


async def test_a_profile_with_nothing_to_trust_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.profile()
    done = await place.run("trust", "here")
    assert (done.code, "Nothing to trust" in done.out) == (0, True)
