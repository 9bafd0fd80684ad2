"""Our verdict on a host key beside that of OpenSSH's own client, on the same known_hosts file and the same sshd."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.dialer import Dialer
from app.profiles.model import SshHop
from app.routes.context import RouteContext
from app.routes.direct import DirectDialer
from app.routes.host_keys import HostKeyError, HostKeys, Verdict
from app.routes.known_hosts import hash_name
from app.routes.ssh import Endpoint, SshDial
from app.secrets.secret import SecretSource
from tests.peers import require
from tests.sshd import USER, Sshd, make_key, public_key, sshd

HOST = "127.0.0.1"
WAIT_LIMIT = 30.0
"""Seconds for one login on a busy build machine."""
STRICTER = {"known with port, revoked without"}
"""Where OpenSSH connects and we refuse: whoever revokes a key of a host does not mean one of its ports."""


class World:
    """The server, keys, and what a case may name in its file."""

    def __init__(self, folder: Path, server: Sshd) -> None:
        self.folder, self.server = folder, server
        self.name = f"[{HOST}]:{server.port}"
        self.key = server.public_key
        self.other = public_key(make_key(folder / "other"))
        self.rsa = public_key(make_key(folder / "rsa", "rsa", bits=2048))
        self.authority = public_key(folder / "authority")
        self.wrong_authority = public_key(make_key(folder / "wrong_authority"))


CASES: dict[str, Callable[[World], str]] = {
    "known": lambda w: f"{w.name} {w.key}\n",
    "known without port": lambda w: f"{HOST} {w.key}\n",
    "known in a list": lambda w: f"a.example,{w.name},b.example {w.key} a comment\n",
    "known, the second of two": lambda w: f"{w.name} {w.other}\n{w.name} {w.key}\n",
    "unknown, empty file": lambda _: "",
    "unknown, others known": lambda w: f"elsewhere {w.key}\n[{HOST}]:1 {w.key}\n",
    "changed": lambda w: f"{w.name} {w.other}\n",
    "changed, without port": lambda w: f"{HOST} {w.other}\n",
    "changed with port, right without": lambda w: f"{w.name} {w.other}\n{HOST} {w.key}\n",
    "another key type": lambda w: f"{w.name} {w.rsa}\n",
    "another key type, without port": lambda w: f"{HOST} {w.rsa}\n",
    "another key type and the right one": lambda w: f"{w.name} {w.rsa}\n{w.name} {w.key}\n",
    "revoked with port": lambda w: f"@revoked {w.name} {w.key}\n",
    "revoked without port": lambda w: f"@revoked {HOST} {w.key}\n",
    "revoked everywhere": lambda w: f"@revoked * {w.key}\n",
    "known and revoked": lambda w: f"{w.name} {w.key}\n@revoked {w.name} {w.key}\n",
    "known without port, revoked with": lambda w: f"{HOST} {w.key}\n@revoked {w.name} {w.key}\n",
    "known with port, revoked without": lambda w: f"{w.name} {w.key}\n@revoked {HOST} {w.key}\n",
    "known and revoked everywhere": lambda w: f"@revoked * {w.key}\n{w.name} {w.key}\n",
    "another key revoked": lambda w: f"@revoked * {w.other}\n{w.name} {w.key}\n",
    "changed and another revoked": lambda w: f"@revoked * {w.rsa}\n{w.name} {w.other}\n",
    "hashed": lambda w: f"{hash_name(w.name)} {w.key}\n",
    "hashed without port": lambda w: f"{hash_name(HOST)} {w.key}\n",
    "hashed, changed": lambda w: f"{hash_name(w.name)} {w.other}\n",
    "hashed, revoked": lambda w: f"@revoked {hash_name(w.name)} {w.key}\n",
    "hashed, another host": lambda w: f"{hash_name('elsewhere')} {w.key}\n",
    "wildcard": lambda w: f"127.0.0.* {w.key}\n",
    "wildcard with port": lambda w: f"[127.?.?.1]:* {w.key}\n",
    "wildcard, changed": lambda w: f"[127.*]:* {w.other}\n",
    "everything": lambda w: f"* {w.key}\n",
    "negated": lambda w: f"*,!{w.name} {w.key}\n",
    "negated, without port too": lambda w: f"*,!{w.name},!{HOST} {w.key}\n",
    "only negated": lambda w: f"!elsewhere {w.key}\n",
    "upper case": lambda w: f"LOCALHOST,{w.name} {w.key}\n",
    "garbage": lambda w: f"nonsense\n{w.name}\n{w.name} ssh-ed25519 !!!\n@what {w.name} {w.key}\n\x00\x01\xff\n",
    "garbage around the right line": lambda w: f"@\n|1|x|y {w.key}\n{w.name} ssh-ed25519\n \t {w.name} \t {w.key}\n",
    "half a key": lambda w: f"{w.name} {w.key[:-12]}\n",
    "key of a wrong type name": lambda w: f"{w.name} ssh-rsa {w.key.split()[1]}\n",
    "carriage returns": lambda w: f"{w.name} {w.key}\r\n",
    "two markers": lambda w: f"@revoked @cert-authority {w.name} {w.key}\n",
    "commented out": lambda w: f"# {w.name} {w.key}\n",
    "an authority as host key": lambda w: f"@cert-authority {w.name} {w.key}\n",
}
"""The file of each case, for a server with one plain ED25519 key."""

CERTIFICATE_CASES: dict[str, Callable[[World], str]] = {
    "authority": lambda w: f"@cert-authority {w.name} {w.authority}\n",
    "authority without port": lambda w: f"@cert-authority {HOST} {w.authority}\n",
    "authority for all": lambda w: f"@cert-authority * {w.authority}\n",
    "authority, hashed": lambda w: f"@cert-authority {hash_name(w.name)} {w.authority}\n",
    "wrong authority": lambda w: f"@cert-authority * {w.wrong_authority}\n",
    "wrong authority, plain key known": lambda w: f"@cert-authority * {w.wrong_authority}\n{w.name} {w.key}\n",
    "wrong authority, plain key changed": lambda w: f"@cert-authority * {w.wrong_authority}\n{w.name} {w.other}\n",
    "authority of another host": lambda w: f"@cert-authority elsewhere {w.authority}\n",
    "authority revoked": lambda w: f"@cert-authority * {w.authority}\n@revoked * {w.authority}\n",
    "authority revoked, plain key known": lambda w: (
        f"@cert-authority * {w.authority}\n@revoked * {w.authority}\n{w.name} {w.key}\n"
    ),
    "strange authority revoked": lambda w: f"@cert-authority * {w.wrong_authority}\n@revoked * {w.authority}\n",
    "strange authority revoked, plain key known": lambda w: (
        f"@cert-authority * {w.wrong_authority}\n@revoked * {w.authority}\n{w.name} {w.key}\n"
    ),
    "no authority, strange one revoked, plain key known": lambda w: f"@revoked * {w.authority}\n{w.name} {w.key}\n",
    "authority, key inside revoked": lambda w: f"@cert-authority * {w.authority}\n@revoked * {w.key}\n",
    "authority as plain key": lambda w: f"{w.name} {w.authority}\n",
    "authority and a changed plain key": lambda w: f"@cert-authority * {w.authority}\n{w.name} {w.other}\n",
    "no authority, plain key known": lambda w: f"{w.name} {w.key}\n",
    "no authority, nothing known": lambda _: "",
}  # fmt: skip
"""The same for a server that shows a certificate too."""


class Dial(SshDial):
    """The hop as profiles build it, but that trust may be kept under any name."""

    name = ""

    def alias(self, server: Endpoint, through: Dialer) -> str:
        return self.name


async def our_verdict(world: World, file: Path, alias: str = "") -> Verdict:
    """What the hop says, on that file alone."""
    spec = SshHop(ssh=(f"{USER}@{HOST}:{world.server.port}",), key=world.folder / "user")
    keys = HostKeys(world.folder / "own" / "known_hosts", (file,))
    hop = Dial(spec, RouteContext(None, SecretSource(None), keys), profile="test", policy="strict")
    hop.name = alias
    try:
        async with hop.open(DirectDialer()):
            return Verdict.KNOWN
    except HostKeyError as error:
        return error.finding.verdict


async def ssh_verdict(world: World, file: Path, *options: str) -> Verdict:
    """What `ssh` says in so many words."""
    process = await asyncio.create_subprocess_exec(
        require("ssh"), "-F", "none", "-p", str(world.server.port), "-i", str(world.folder / "user"), "-n",
        "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={file}",
        "-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", *options,
        "-s", f"{USER}@{HOST}", "sftp",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(WAIT_LIMIT):
        _, raw = await process.communicate()
    said = raw.decode()
    if process.returncode == 0:
        return Verdict.KNOWN
    if "REVOKED HOST KEY DETECTED" in said:
        return Verdict.REVOKED
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        return Verdict.CHANGED
    assert "host key is known for" in said, said
    return Verdict.UNKNOWN


@asynccontextmanager
async def world_in(folder: Path, **options: str) -> AsyncIterator[World]:
    user = make_key(folder / "user")
    async with sshd(folder / "sshd", host_key=folder / "host", **options) as server:
        server.authorize(user)
        yield World(folder, server)


def _keys(folder: Path, *limits: str) -> None:
    """The host key, an authority, and the certificate that it gives the host."""
    require("ssh-keygen", "sshd", "ssh")
    host, authority = make_key(folder / "host"), make_key(folder / "authority")
    what = limits or ("-n", f"{HOST},stable.name")
    command = ["ssh-keygen", "-q", "-s", str(authority), "-h", "-I", "host", *what, f"{host}.pub"]
    subprocess.run(command, check=True, capture_output=True)


async def compare(world: World, cases: dict[str, Callable[[World], str]]) -> None:
    wrong = []
    for number, (case, text) in enumerate(cases.items()):
        file = world.folder / f"known_{number}"
        file.write_bytes(text(world).encode("latin-1"))
        ours, theirs = await asyncio.gather(our_verdict(world, file), ssh_verdict(world, file))
        expected = Verdict.REVOKED if case in STRICTER else theirs
        if case in STRICTER:
            assert theirs is Verdict.KNOWN
        if ours is not expected:
            wrong.append(f"{case}: OpenSSH {theirs.value}, we {ours.value}")
    assert not wrong


SHARES = 4
"""Parts of the cases, each a test: all of them take a slow and busy machine longer than one test has."""


def share(cases: dict[str, Callable[[World], str]], number: int) -> dict[str, Callable[[World], str]]:
    """Every fourth case, from this one on."""
    return dict(list(cases.items())[number::SHARES])


@pytest.mark.parametrize("number", range(SHARES))
async def test_plain_keys_get_the_verdict_of_openssh(tmp_path: Path, number: int) -> None:
    _keys(tmp_path)
    async with world_in(tmp_path) as world:
        await compare(world, share(CASES, number))


@pytest.mark.parametrize("number", range(SHARES))
async def test_host_certificates_get_the_verdict_of_openssh(tmp_path: Path, number: int) -> None:
    _keys(tmp_path)
    async with world_in(tmp_path, HostCertificate=str(tmp_path / "host-cert.pub")) as world:
        await compare(world, share(CERTIFICATE_CASES, number))


@pytest.mark.parametrize("wrong", ["name", "date"])
async def test_a_certificate_for_others_counts_only_by_its_plain_key(tmp_path: Path, wrong: str) -> None:
    _keys(tmp_path, *(["-n", "elsewhere"] if wrong == "name" else ["-n", HOST, "-V", "20200101:20200102"]))
    async with world_in(tmp_path, HostCertificate=str(tmp_path / "host-cert.pub")) as world:
        cases = {
            "authority": CERTIFICATE_CASES["authority"],
            "authority and plain key": lambda w: f"@cert-authority * {w.authority}\n{w.name} {w.key}\n",
        }
        await compare(world, cases)


async def test_an_alias_replaces_host_and_port(tmp_path: Path) -> None:
    _keys(tmp_path)
    async with world_in(tmp_path) as world:
        cases = {
            "known": f"stable.name {world.key}\n",
            "known in other letters": f"Stable.NAME {world.key}\n",
            "known under the host only": f"{world.name} {world.key}\n{HOST} {world.key}\n",
            "known under the alias with port": f"[stable.name]:{world.server.port} {world.key}\n",
            "changed": f"stable.name {world.other}\n",
            "revoked for the host": f"stable.name {world.key}\n@revoked {world.name} {world.key}\n",
            "revoked for the alias": f"stable.name {world.key}\n@revoked stable.name {world.key}\n",
            "hashed": f"{hash_name('stable.name')} {world.key}\n",
        }
        for case, text in cases.items():
            file = tmp_path / "aliased"
            file.write_text(text)
            ours = await our_verdict(world, file, alias="stable.name")
            assert ours is await ssh_verdict(world, file, "-o", "HostKeyAlias=stable.name"), case


async def test_a_missing_file_knows_nobody(tmp_path: Path) -> None:
    _keys(tmp_path)
    async with world_in(tmp_path) as world:
        assert await our_verdict(world, tmp_path / "none") is Verdict.UNKNOWN
        assert await ssh_verdict(world, tmp_path / "none") is Verdict.UNKNOWN


async def test_a_key_of_the_known_type_is_asked_for_first(tmp_path: Path) -> None:
    """A server with two keys of which the second type is known is known, as in OpenSSH."""
    _keys(tmp_path)
    rsa = make_key(tmp_path / "host_rsa", "rsa", bits=2048)
    second = {"HostKey": f"{tmp_path / 'host'}\nHostKey {rsa}"}
    async with world_in(tmp_path, **second) as world:
        await compare(
            world,
            {
                "second type known": lambda w: f"{w.name} {public_key(rsa)}\n",
                "second type known without port": lambda w: f"{HOST} {public_key(rsa)}\n",
                "second type changed": lambda w: f"{w.name} {w.rsa}\n",
                "first type changed, second right": lambda w: f"{w.name} {w.other}\n{w.name} {public_key(rsa)}\n",
            },
        )
