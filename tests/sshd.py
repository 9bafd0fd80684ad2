"""OpenSSH's own server and tools as a test's peer: sshd on a loopback port, keys made by ssh-keygen."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.peers import require
from tests.ports import bound, unused_port

START_LIMIT = 20.0
"""Seconds until sshd says that it listens; a busy build machine takes one."""


def _account() -> str:
    """The name of the account that we run as; what the environment says may be another's."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return getpass.getuser()


USER = _account()
"""The only user that these servers let in: whoever runs the tests."""


def make_key(path: Path, kind: str = "ed25519", *, passphrase: str = "", bits: int | None = None) -> Path:
    """A key pair by ssh-keygen: `path` and `path.pub`. `kind` is ed25519, rsa or ecdsa."""
    require("ssh-keygen")
    size = ["-b", str(bits)] if bits else []
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return path


def fingerprint(key: Path) -> str:
    """`SHA256:…` of a key as ssh-keygen prints it."""
    done = subprocess.run(["ssh-keygen", "-lf", str(key)], check=True, capture_output=True, text=True)
    return done.stdout.split()[1]


def public_key(key: Path) -> str:
    """`type base64` of a key pair's public half."""
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


class Sshd:
    """One running sshd. Make it with `async with sshd(folder) as server`."""

    def __init__(self, folder: Path, port: int, host_key: Path, options: Mapping[str, str]) -> None:
        self.folder, self.port, self.host_key = folder, port, host_key
        self.log: list[str] = []
        """What it wrote on standard error, at LogLevel VERBOSE."""
        # Ours until the end, also while sshd is away; elsewhere than on Linux two sockets cannot have it.
        self._kept = bound(port) if sys.platform == "linux" else None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._listens = asyncio.Event()
        self._news = asyncio.Event()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation wants this folder
        self._authorized = folder / "authorized_keys"
        self._authorized.touch(mode=0o600)
        lines = {
            "ListenAddress": f"127.0.0.1:{port}", "HostKey": str(host_key), "PidFile": "none", "UsePAM": "no",
            "AuthorizedKeysFile": str(self._authorized), "StrictModes": "no", "PermitRootLogin": "yes",
            "LogLevel": "VERBOSE", "PrintMotd": "no",
            # Within sshd: what an account has set up for its shells is slow, and may leave locks when it is killed.
            "Subsystem": "sftp internal-sftp", "ForceCommand": "internal-sftp", **options,
        }  # fmt: skip
        text = "".join(f"{name} {value}\n" for name, value in lines.items())
        (folder / "sshd_config").write_text(text)

    @property
    def public_key(self) -> str:
        """`type base64` of the host key."""
        return public_key(self.host_key)

    @property
    def known_hosts_line(self) -> str:
        """The line that a person's known_hosts file has for it."""
        return f"[127.0.0.1]:{self.port} {self.public_key}\n"

    @property
    def fingerprint(self) -> str:
        """Of the host key."""
        return fingerprint(self.host_key)

    @property
    def logins(self) -> int:
        """How often somebody was let in."""
        return sum(1 for line in self.log if re.match(r"Accepted \S+ for ", line))

    @property
    def refusals(self) -> int:
        """How many connections ended without a login after a try (what a lockout counter would count)."""
        return sum(1 for line in self.log if re.match(r"(Connection closed by|Disconnected from) authenticating", line))

    async def until(self, wanted: Callable[[Sshd], bool]) -> None:
        """Wait until its log says so; the log comes a little after the fact."""
        async with asyncio.timeout(START_LIMIT):
            while not wanted(self):
                self._news.clear()
                await self._news.wait()

    async def logged_in(self, times: int) -> None:
        """Wait until its log has so many logins. They are written behind us, so a look at once may come too early."""
        await self.until(lambda server: server.logins >= times)
        assert self.logins == times

    async def logged(self, pattern: str, *, times: int = 1) -> None:
        """Wait until so many lines of its log begin with `pattern`."""
        await self.until(lambda server: sum(1 for line in server.log if re.match(pattern, line)) >= times)

    def authorize(self, key: Path) -> None:
        """Let the owner of this key pair in."""
        with self._authorized.open("a") as file:
            file.write(Path(f"{key}.pub").read_text())

    async def start(self) -> None:
        """Start it; returns when it listens."""
        program = require("sshd")
        self._listens.clear()
        self._process = await asyncio.create_subprocess_exec(
            program, "-D", "-e", "-f", str(self.folder / "sshd_config"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self._reader = asyncio.get_running_loop().create_task(self._read(self._process))
        async with asyncio.timeout(START_LIMIT):
            await self._listens.wait()
        assert self._process.returncode is None, f"sshd did not start: {self.log}"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.log.append(line.decode("utf-8", "replace").strip())
            self._news.set()
            if self.log[-1].startswith("Server listening"):
                self._listens.set()
        self._listens.set()

    def sessions(self) -> list[int]:
        """Ids of the processes that serve connections now: one for each, or, where we are not root, two.

        What they run for somebody (a login shell that is just starting) is not among them: killed in the middle of it,
        it could leave locks of the account behind.
        """
        assert self._process is not None
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):  # it has just ended
                    name, _, rest = (entry / "stat").read_text().rpartition(")")
                    if "(sshd" in name:
                        children.setdefault(int(rest.split()[1]), []).append(int(entry.name))
        found, asked = [], [self._process.pid]
        while asked:
            below = children.get(asked.pop(), [])
            found += below
            asked += below
        return found

    def signal_sessions(self, number: signal.Signals) -> None:
        """Send a signal to every process that serves a connection."""
        for pid in self.sessions():
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, number)

    async def stop(self, *, sessions: bool = True) -> None:
        """End the listener, and with `sessions` every connection too."""
        if self._process is None:
            return
        if sessions:
            self.signal_sessions(signal.SIGKILL)
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        assert self._reader is not None
        self._reader.cancel()
        await asyncio.wait({self._reader})
        self._process = None

    async def aclose(self) -> None:
        """End it for good."""
        await self.stop()
        if self._kept is not None:
            self._kept.close()


def _make(folder: Path, kind: str, host_key: Path | None, options: Mapping[str, str]) -> Sshd:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Sshd(folder, unused_port(), host_key or make_key(folder / "host_key", kind), options)


@asynccontextmanager
async def sshd(
    folder: Path, *, kind: str = "ed25519", host_key: Path | None = None, **options: str
) -> AsyncIterator[Sshd]:
    """A running sshd with a new host key, on a loopback port; `options` are lines of its configuration.

    `folder` must be new or empty. Only `authorize`d keys are let in unless options say otherwise.
    """
    require("sshd", "ssh-keygen")
    server = _make(folder, kind, host_key, options)
    try:
        await server.start()
        yield server
    finally:
        await server.aclose()
