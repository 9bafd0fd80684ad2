"""A private kubeconfig for another program, and the channel over which it gets its credential from this process.

The file holds no secret: its `exec` entry runs `jumpdeck credential`, which asks here. POSIX: a 0600 socket in a 0700
folder, and the peer's user is checked where the system tells it. Windows: a named pipe of random name with a key in
the private folder.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.cluster.access import Access
from app.errors import JumpdeckError
from app.outbound import environment_proxy, is_loopback
from app.pids import is_taken

API_VERSION = "client.authentication.k8s.io/v1"
LONGEST_BASE = 68
"""Bytes of a folder's path that leave room for our folder and a socket in it (macOS: 104 in all)."""

PREFIX = "jumpdeck-exec-"
KEY_FILE = "key"
ANSWER_LIMIT = 256 << 10
"""Bytes of an answer: a token, or a certificate with its key."""
ANSWER_SECONDS = 45.0
"""Seconds for one answer: the credential may come from a command that itself may take 30."""


@asynccontextmanager
async def lent_kubeconfig(
    access: Callable[[], Access], name: str, namespace: str, *, port: int | None = None
) -> AsyncIterator[Path]:
    """A kubeconfig whose one context reaches the cluster with our identity, for as long as the caller stays inside.

    `access` gives the present one each time that the other program asks for its credential. With `port` the kubeconfig
    names a listener of ours there in place of the server.

    Raises JumpdeckError (JD-EXEC-FOLDER) when there is no private place for it.
    """
    try:
        base = temp_base()
        sweep(Path(base))
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))
    except OSError as exc:
        raise JumpdeckError("No place for the temporary kubeconfig", str(exc.strerror), "Set TMPDIR to a folder.",
                            code="JD-EXEC-FOLDER") from exc  # fmt: skip
    try:
        async with _channel(access, folder) as address:
            yield _write(folder / "config", describe(access(), name, namespace, address, port=port))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, config: dict[str, Any]) -> Path:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "wb") as file:
        file.write(json.dumps(config, indent=1).encode())
    return path


def rewrite(path: Path, access: Access) -> None:
    """Take the present CA into a lent kubeconfig, in one step: who reads it meanwhile sees the old or the new."""
    config = json.loads(path.read_bytes())
    assert access.ca is not None, "the caller looks"
    config["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(access.ca).decode()
    fresh = path.with_name("config.new")
    fresh.unlink(missing_ok=True)  # of a time when the disk was full
    os.replace(_write(fresh, config), path)


def describe(access: Access, name: str, namespace: str, address: str, *, port: int | None = None) -> dict[str, Any]:
    """The kubeconfig as data; it names the server, what it must prove, and where to ask for the credential."""
    scheme = access.server.partition(":")[0]
    host, at = (access.host, access.port) if port is None else ("127.0.0.1", port)
    shown = f"[{host}]" if ":" in host else host
    cluster: dict[str, Any] = {"server": f"{scheme}://{shown}:{at}{access.base_path}"}
    if access.tls_name != host:
        cluster["tls-server-name"] = access.tls_name
    if access.ca is not None:
        cluster["certificate-authority-data"] = base64.b64encode(access.ca).decode()
    if access.proxy is not None and not is_loopback(host) and (proxy := _without_secret(access.proxy, access.host)):
        cluster["proxy-url"] = proxy
    # -P: the folder in which the other program runs must not lend us modules.
    run = {
        "apiVersion": API_VERSION, "command": sys.executable, "args": ["-P", "-m", "jumpdeck", "credential", address],
        "interactiveMode": "Never", "provideClusterInfo": False,
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"exec": run}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
    }  # fmt: skip


def _without_secret(proxy: str, host: str) -> str | None:
    """A proxy's address for the file, which holds no secret.

    One of the environment with a password in it is left to the environment, which the other program has too (None);
    from any other the password is taken out, and the proxy then asks for it.
    """
    from urllib.parse import urlsplit

    parts = urlsplit(proxy)
    if "@" not in parts.netloc:
        return proxy
    if proxy in (environment_proxy(host), environment_proxy(host, secure=False)):
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


async def answer(access: Access) -> bytes:
    """The ExecCredential for the other program, or an object with `error` when there is none."""
    try:
        header = (await access.credentials.headers()).get("Authorization", "")
    except JumpdeckError as exc:
        return json.dumps({"error": exc.lines()}).encode()
    status: dict[str, str] = {}
    if header:
        status["token"] = header.removeprefix("Bearer ")
    elif (stand_in := getattr(access.credentials, "stand_in", None)) is not None:
        status["token"] = stand_in.reveal()
    certificate = access.certificate()
    if certificate is not None:
        status["clientCertificateData"] = certificate.chain.decode("ascii", "replace")
        status["clientKeyData"] = certificate.key.reveal()
    expires = access.credentials_expiry()
    if expires is not None:
        status["expirationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
    return json.dumps({"apiVersion": API_VERSION, "kind": "ExecCredential", "status": status}).encode()


@asynccontextmanager
async def _channel(access: Callable[[], Access], folder: Path) -> AsyncIterator[str]:
    if sys.platform == "win32":
        async with _pipe(access, folder) as address:
            yield address
        return

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _is_ours(writer.get_extra_info("socket")):
                async with asyncio.timeout(ANSWER_SECONDS):
                    writer.write(await answer(access()))
                    await writer.drain()
        except (OSError, TimeoutError):
            return  # the other program has gone, or waits no longer
        finally:
            writer.close()

    path = folder / "ask"
    server = await asyncio.start_unix_server(serve, path)
    path.chmod(0o600)
    try:
        yield str(path)
    finally:
        server.close()


def _is_ours(sock: Any) -> bool:
    """Whether the peer is of our user; where the system does not tell, the folder's permissions stand."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or not hasattr(os, "getuid"):
        return True
    credentials = sock.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())


@asynccontextmanager
async def _pipe(access: Callable[[], Access], folder: Path) -> AsyncIterator[str]:
    """Windows: a pipe served by a daemon thread; the key in the folder keeps other users out."""
    import threading
    from multiprocessing.connection import Client, Listener

    key = secrets.token_bytes(32)
    (folder / KEY_FILE).write_bytes(key)
    address = rf"\\.\pipe\jumpdeck-{secrets.token_hex(16)}"
    listener = Listener(address, "AF_PIPE", authkey=key)
    loop = asyncio.get_running_loop()
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError, EOFError, TimeoutError, RuntimeError), listener.accept() as connection:
                if not ended.is_set():
                    future = asyncio.run_coroutine_threadsafe(answer(access()), loop)
                    connection.send_bytes(future.result(ANSWER_SECONDS))

    threading.Thread(target=serve, name="credential pipe", daemon=True).start()
    try:
        yield f"{address}|{folder / KEY_FILE}"
    finally:
        ended.set()
        with contextlib.suppress(OSError, EOFError):
            Client(address, "AF_PIPE", authkey=key).close()  # wakes the thread, which then ends
        listener.close()


def temp_base() -> str:
    """Where temporary folders go: the system's choice, unless its path leaves a socket's no room (macOS: 104 bytes)."""
    base = tempfile.gettempdir()
    return base if sys.platform == "win32" or len(os.fsencode(base)) <= LONGEST_BASE else "/tmp"  # noqa: S108


def sweep(base: Path) -> None:
    """Remove folders in `base` that a killed run has left behind."""
    for folder in base.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        try:
            ours = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
        except OSError:
            continue
        if ours and pid.isdecimal() and not is_taken(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def ask(address: str) -> bytes:
    """Ask the process that lends at `address`. Blocks. Raises OSError or EOFError when it has gone."""
    if address.startswith("\\\\"):
        from multiprocessing.connection import Client

        pipe, _, key_file = address.partition("|")
        with Client(pipe, "AF_PIPE", authkey=Path(key_file).read_bytes()) as connection:
            return connection.recv_bytes(ANSWER_LIMIT)
    if sys.platform == "win32":
        raise AssertionError("its address is a pipe")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_SECONDS)
        sock.connect(address)
        data = bytearray()
        while piece := sock.recv(1 << 16):
            data += piece
            if len(data) > ANSWER_LIMIT:
                raise OSError("the answer is too long")
        return bytes(data)
