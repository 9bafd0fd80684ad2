"""No secret in arguments, environments, files or output (S-06): planted sentinels, all flows, failures included."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from aiohttp import web

from tests.logins import Asking, Gate
from tests.running import jumpdeck
from tests.sshd import USER, make_key, sshd
from tests.terminal import Terminal
from tests.tls_servers import api_server, authority

pytestmark = pytest.mark.timeout(120)


class Through(Asking):
    """Lets whoever knows the password through to anywhere."""

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True


class JumpBox(Gate):
    """A jump box with a password."""

    async def __aenter__(self) -> JumpBox:
        key = asyncssh.generate_private_key("ssh-ed25519")
        self._listener = await asyncssh.create_server(
            lambda: Through(self), "127.0.0.1", 0, server_host_keys=[key], gss_host=None
        )
        self.port = self._listener.get_port()
        return self


class Sentinels:
    """Secrets that occur nowhere else, and the search for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.made: list[str] = []
        self.found: list[str] = []

    def new(self, kind: str) -> str:
        self.made.append(f"{kind}-{secrets.token_hex(12)}")
        return self.made[-1]

    def look(self, *written: bytes | str) -> None:
        """Search every process's arguments and environment, the test's folders, and what was written."""
        for text in written:
            self._search(text if isinstance(text, bytes) else text.encode(), "output")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                for name in ("cmdline", "environ"):
                    self._search(_content(entry / name), f"{name} of {entry.name}")
        for path in self._files():
            self._search(_content(path), str(path))

    def _files(self) -> Iterator[Path]:
        return (path for path in self._folder.rglob("*") if path.is_file() and not path.is_symlink())

    def _search(self, data: bytes, where: str) -> None:
        self.found += [f"{sentinel.split('-')[0]} in {where}" for sentinel in self.made if sentinel.encode() in data]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@asynccontextmanager
async def cluster(token: str) -> AsyncIterator[int]:
    """An API server that takes one token and has no pods."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {token}":
            said = {"kind": "Status", "status": "Failure", "reason": "Unauthorized", "message": "no", "code": 401}
            return web.json_response(said, status=401)
        if request.path == "/version":
            return web.json_response({"gitVersion": "v1.33.0", "major": "1", "minor": "33"})
        return web.json_response(
            {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}
        )

    async with api_server(answer) as port:
        yield port


def write_profile(folder: Path, api_port: int, hop: str) -> None:
    config = folder / "config"
    config.mkdir(mode=0o700)
    (folder / "ca.pem").write_bytes(authority().pem)
    text = (
        "version = 1\n[profile.leak]\n"
        f'cluster = {{ server = "https://127.0.0.1:{api_port}", ca-file = "{folder}/ca.pem", auth = "token" }}\n'
        f"via = [{hop}]\n"
    )
    (config / "profiles.toml").write_text(text)


async def answered(shown: Terminal, planted: Sentinels, answers: dict[str, list[str]], *, until: str = "") -> None:
    """Answer each question as it comes, searching at each, until the program has ended or written `until`."""
    at = 0
    while True:
        ending = asyncio.ensure_future(shown.ended())
        seen = asyncio.ensure_future(shown.until(lambda written, at=at: _asked(written[at:], [*answers, until])))
        await asyncio.wait({ending, seen}, return_when=asyncio.FIRST_COMPLETED)
        seen.cancel()
        planted.look(shown.written)
        new = shown.written[at:]
        if ending.done() or (until and until.encode() in new):
            return
        question = next(each for each in answers if each.encode() in new)
        at = len(shown.written)
        shown.type(f"{answers[question].pop(0)}\r".encode())


def _asked(new: bytes, texts: list[str]) -> bool:
    return any(text and text.encode() in new for text in texts)


async def run(planted: Sentinels, answers: dict[str, list[str]], *words: str, until: str = "") -> tuple[int, bytes]:
    """Run a command at a terminal; returns its exit code and what was on the screen."""
    shown = Terminal(*words)
    try:
        await answered(shown, planted, {"or `trust`: ": ["trust"], **answers}, until=until)
        if until:
            shown.type(b"\r")
        code = await shown.ended()
        planted.look(shown.written)
        return code, shown.written
    finally:
        shown.close()


async def test_password_and_token_leave_no_trace(tmp_path: Path) -> None:
    planted = Sentinels(tmp_path)
    password, token = planted.new("password"), planted.new("token")
    async with JumpBox(password) as box, cluster(token) as api_port:
        write_profile(tmp_path, api_port, f'{{ ssh = "ops@127.0.0.1:{box.port}", password = true }}')
        answers = {"Password of": [password], "Token for": [token]}
        code, screen = await run(planted, answers, "--verbose", "pods", "leak")
        assert (code, planted.found) == (0, [])
        assert b"No resources found" in screen and b"kept in memory only" in screen
        assert (tmp_path / "state" / "jumpdeck.log").stat().st_size, "there was a log to search"


async def test_refused_secrets_leave_no_trace(tmp_path: Path) -> None:
    planted = Sentinels(tmp_path)
    password, token = planted.new("password"), planted.new("token")
    async with JumpBox(password) as box, cluster(token) as api_port:
        write_profile(tmp_path, api_port, f'{{ ssh = "ops@127.0.0.1:{box.port}", password = true }}')
        wrong = [planted.new("wrong") for _ in range(8)]
        code, screen = await run(planted, {"Password of": wrong[:4], "Token for": []}, "--verbose", "pods", "leak")
        assert (code, planted.found) == (4, []), screen
        answers = {"Password of": [password], "Token for": wrong[4:]}
        code, screen = await run(planted, answers, "--verbose", "pods", "leak")
        assert code in (4, 6), screen
        assert planted.found == []


async def test_a_passphrase_and_a_lent_token_leave_no_trace_in_other_programs(tmp_path: Path) -> None:
    planted = Sentinels(tmp_path)
    passphrase, token = planted.new("passphrase"), planted.new("token")
    key = make_key(tmp_path / "home" / "key", passphrase=passphrase)
    async with sshd(tmp_path / "sshd") as server, cluster(token) as api_port:
        server.authorize(key)
        write_profile(tmp_path, api_port, f'{{ ssh = "{USER}@127.0.0.1:{server.port}", key = "{key}" }}')
        answers = {"Passphrase of": [planted.new("wrong"), passphrase], "Token for": [token]}
        child = 'env; cat "$KUBECONFIG"; echo "LE""NT"; read line'
        code, screen = await run(planted, answers, "--verbose", "exec", "leak", "--", "sh", "-c", child, until="LENT")
        assert (code, planted.found) == (0, []), screen
        assert b"KUBECONFIG=" in screen and b'"exec": ' in screen and b"Token for" in screen


async def test_a_piped_secret_that_cannot_be_kept_leaves_no_trace(tmp_path: Path) -> None:
    planted = Sentinels(tmp_path)
    write_profile(tmp_path, 6443, '{ ssh = "ops@127.0.0.1", password = true }')
    for words in (("token", "leak"), ("password", "ops@127.0.0.1"), ("leak",)):
        sentinel = planted.new("piped")
        done = await jumpdeck("--verbose", "secrets", "set", *words, stdin=f"{sentinel}\n".encode())
        assert done.code in (2, 4)
        planted.look(done.out, done.err)
    assert planted.found == []


async def test_the_search_finds_what_lies_open(tmp_path: Path) -> None:
    """That nothing was found above means something."""
    planted = Sentinels(tmp_path)
    sentinel = planted.new("open")
    (tmp_path / "file").write_text(f"x{sentinel}y")
    script = "import sys; print(1, flush=True); sys.stdin.read()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, sentinel, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={"VALUE": sentinel},
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    planted.look(sentinel)
    await process.communicate(b"")
    assert {found.split(" in ")[1].split(" of ")[0] for found in planted.found} == {
        "output", "cmdline", "environ", str(tmp_path / "file"),
    }  # fmt: skip
