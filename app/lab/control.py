"""The way to talk to a running lab: one JSON line there, one back, over a channel that only its user can open.

POSIX: a Unix socket, mode 0600, in the lab's private folder. Windows: a loopback port whose random token stands in the
lab's private `lab.json`. Each lab also leaves a note in this user's runtime folder, so that commands find the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ExitCode, JumpdeckError
from app.lab.config_folder import LabFolder, remove_left_behind, write_private
from app.text import prose

LINE_LIMIT = 64 * 1024
"""Bytes of a request or an answer."""

ANSWER_LIMIT = 10.0
"""Seconds for a whole exchange with a lab on the same machine."""

SOCKET_PATH_LIMIT = 100
"""Bytes of a Unix socket's path that every system takes (macOS: 104)."""

Request = dict[str, Any]
Handler = Callable[[Request], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Channel:
    """Where a lab listens: a Unix socket, or a loopback port with a token."""

    pid: int
    config: str
    socket: str = ""
    port: int = 0
    token: str = ""

    def to_json(self) -> str:
        """The content of `lab.json`."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields) + "\n"


def lab_error(title: str, detail: str = "", hint: str = "", code: str = "JD-LAB-GONE") -> JumpdeckError:
    """A failure to reach or use a lab."""
    return JumpdeckError(title, detail, hint, code=code, exit_code=ExitCode.FAILED)


def runtime_folder() -> Path:
    """This user's private folder for notes about running labs, made when it is missing. Raises JumpdeckError."""
    if sys.platform == "win32":
        folder = Path(tempfile.gettempdir()) / "jumpdeck"  # in the user's own profile there
        folder.mkdir(exist_ok=True)
        return folder
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return _own_folder(Path(base) / "jumpdeck" if base else Path(tempfile.gettempdir()) / f"jumpdeck-{os.getuid()}")


def _own_folder(folder: Path) -> Path:
    """This user's folder, mode 0700, made when it is missing (POSIX). Raises JumpdeckError."""
    if sys.platform == "win32":
        raise AssertionError("POSIX only")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid():
        raise lab_error(f"{folder} belongs to somebody else", "", "Remove it, or set XDG_RUNTIME_DIR.", "JD-LAB-FOLDER")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def _alive(pid: int) -> bool:
    """Whether the process exists. On Windows asking would end it, so there the channel itself has to tell."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_channel(path: Path) -> Channel | None:
    try:
        fields = json.loads(path.read_bytes()[:LINE_LIMIT])
        return Channel(**fields)
    except (OSError, ValueError, TypeError):
        return None


def find_labs() -> list[Channel]:
    """This user's running labs, the newest first; notes and folders of labs that are gone are removed."""
    notes = sorted(runtime_folder().glob("lab-*.json"), reverse=True)
    found = []
    for note in notes:
        channel = _read_channel(note)
        if channel is None or not _alive(channel.pid):
            if channel is not None:
                remove_left_behind(Path(channel.config).parent)
            note.unlink(missing_ok=True)
        else:
            found.append(channel)
    return found


def find_lab() -> Channel:
    """The lab of JUMPDECK_CONFIG_DIR, else this user's newest. Raises JumpdeckError when none is running."""
    if folder := os.environ.get("JUMPDECK_CONFIG_DIR"):
        channel = _read_channel(Path(folder) / "lab.json")
        if channel is not None and _alive(channel.pid):
            return channel
    labs = find_labs()
    if not labs:
        raise lab_error(
            "no lab is running", "None of this user's processes is a lab.", "Start one with `jumpdeck lab`.",
            "JD-LAB-NONE",
        )  # fmt: skip
    return labs[0]


def ask(channel: Channel, request: Request, limit: float = ANSWER_LIMIT) -> dict[str, Any]:
    """Send a request to a running lab and return its answer. Raises JumpdeckError, also the one that the lab names."""
    try:
        with _connect(channel, limit) as sock:
            sock.sendall(json.dumps({**request, "token": channel.token}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                piece = sock.recv(LINE_LIMIT)
                if not piece or len(answer) > LINE_LIMIT:
                    break
                answer += piece
        fields = json.loads(answer)
    except (OSError, ValueError) as error:
        hint = "Start it again with `jumpdeck lab`."
        raise lab_error("the lab does not answer", prose(str(error)), hint) from error
    if failure := fields.get("error"):
        raise JumpdeckError(
            prose(failure["title"]), prose(failure["detail"]), prose(failure["hint"]),
            code=failure["code"], exit_code=ExitCode(failure["exit_code"]),
        )  # fmt: skip
    return dict(fields)


def _connect(channel: Channel, limit: float) -> socket.socket:
    if channel.port:
        return socket.create_connection(("127.0.0.1", channel.port), timeout=limit)
    if sys.platform == "win32":
        raise AssertionError("its channel is a port")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(limit)
    try:
        sock.connect(channel.socket)
    except OSError:
        sock.close()
        raise
    return sock


class ControlServer:
    """The lab's side: hands each request to `handler` and sends its answer, or its JumpdeckError, back."""

    def __init__(self, folder: LabFolder, handler: Handler, *, tcp: bool = sys.platform == "win32") -> None:
        self._folder = folder
        self._handler = handler
        self._tcp = tcp
        self._token = secrets.token_urlsafe(32) if tcp else ""
        self._clean: list[Path] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ControlServer:
        if self._tcp:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LINE_LIMIT)
            port = self._server.sockets[0].getsockname()[1]
            channel = Channel(os.getpid(), str(self._folder.config), port=port, token=self._token)
        else:
            if sys.platform == "win32":
                raise AssertionError("its channel is a port")
            path = self._socket_path()
            self._server = await asyncio.start_unix_server(self._serve, path, limit=LINE_LIMIT)
            path.chmod(0o600)  # both folders that it may lie in are private from the start
            self._clean.append(path)
            channel = Channel(os.getpid(), str(self._folder.config), socket=str(path))
        write_private(self._folder.lab_json, channel.to_json())
        find_labs()  # sweeps what labs that were killed have left
        note = runtime_folder() / f"lab-{time.time_ns()}-{os.getpid()}.json"
        write_private(note, channel.to_json())
        self._clean.append(note)
        return self

    def _socket_path(self) -> Path:
        if sys.platform == "win32":
            raise AssertionError("POSIX only")
        name = f"lab-{os.getpid()}-{secrets.token_hex(4)}.sock"
        for path in (self._folder.root / "control.sock", runtime_folder() / name):
            if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
                return path
        return _own_folder(Path("/tmp") / f"jumpdeck-{os.getuid()}") / name  # noqa: S108 (ours and 0700, or refused)

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for path in self._clean:
            with contextlib.suppress(OSError):
                path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                answer = await self._answer(await reader.readline())
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, OSError, ValueError):
            return  # a client that sent nothing or went away; only its own connection suffers
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError("not an object")
        if self._tcp and not hmac.compare_digest(str(request.get("token", "")), self._token):
            raise ValueError("wrong token")
        try:
            return await self._handler(request)
        except JumpdeckError as error:
            fields = {"title": error.title, "detail": error.detail, "hint": error.hint, "code": error.code}
            return {"error": {**fields, "exit_code": int(error.exit_code)}}
