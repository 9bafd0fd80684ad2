"""The lab's stand-in for the vendor's Arc proxy: `arcProxy_OS_ARCH_VERSION -c config.yml [-d]`.

A program of its own, installed in the lab's folder; started by whoever drives it as the published az client does. A
plain port takes `register`, a TLS port the identity calls and, below each cluster's prefix, its Kubernetes API, which
goes through Azure Relay's protocol to the lab's relay and nowhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs

from app.lab.arc_proxy_http import HEAD_MOST, BadRequest, Head, answer, body_pieces, read_body, read_head, refusal
from app.lab.arc_proxy_relay import RelayRefused, RelayStream, open_stream
from app.lab.arc_proxy_state import (
    Moods,
    Refused,
    Registration,
    Settings,
    SignedIn,
    cluster_id,
    kubeconfig_answer,
    prefix_of,
    read_registration,
    read_settings,
)
from app.tasks import TaskOwner

HOST = "127.0.0.1"
SLOW_START = 2.0
"""Seconds that the fault `arc-slow-start` takes, when the lab does not say."""
EXIT_CODE = 3
"""The exit code under `arc-exits` and `arc-dies`, when the lab does not say."""
LOOK_EVERY = 10.0
"""Seconds between two looks whether the lab is still there."""
GARBAGE = b'{"kubeconfigs": [{"name": "Kubec'
"""What register answers under `arc-register-garbage`."""


class Log:
    """Lines in logfmt on standard error; `debug` ones with `-d` only. What they hold is as careless as can be."""

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug

    def say(self, message: str, level: str = "info", **facts: object) -> None:
        if level == "debug" and not self._debug:
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        words = " ".join(f'{name}="{value}"' for name, value in facts.items())
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            sys.stderr.write(f'time="{stamp}" level={level} msg="{message}" {words}\n')
            sys.stderr.flush()


class Proxy:
    """Both ports and what stands behind them."""

    def __init__(self, settings: Settings, moods: Moods, log: Log) -> None:
        self.ended = asyncio.Event()
        self.code = 0
        self._settings, self._moods, self._log = settings, moods, log
        self._identity = SignedIn(settings)
        self._clusters: dict[str, Registration] = {}
        self._tls, self._ca_pem = _own_certificate()
        self._relay_tls = ssl.create_default_context()
        """Trusts the system's authorities, or those of SSL_CERT_FILE, as Go programs do."""

    async def serve(self, tasks: TaskOwner) -> None:
        """Listen until the end. Raises OSError when a port is taken."""
        plain, tls = self._settings.http_port, self._settings.https_port

        async def on_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve_client(reader, writer, tasks, control=True)

        async def on_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve_client(reader, writer, tasks, control=False)

        servers = [await asyncio.start_server(on_plain, HOST, plain, limit=HEAD_MOST)]
        if self._moods.on("arc-port-stolen"):
            _steal(tls)
        else:
            servers.append(await asyncio.start_server(on_tls, HOST, tls, ssl=self._tls, limit=HEAD_MOST))
        self._log.say("ProxyListening", httpPort=plain, httpsPort=tls)
        await self.ended.wait()
        for server in servers:
            server.close()

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tasks: TaskOwner, *, control: bool
    ) -> None:
        client = _Client(reader, writer, tasks)
        try:
            while (head := await read_head(reader)) is not None and await self._answer(client, head, control=control):
                pass
        except BadRequest as error:
            writer.write(answer(400, {"error": str(error)}))
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            await client.aclose()

    async def _answer(self, client: _Client, head: Head, *, control: bool) -> bool:
        """Answer a request; False when the connection is over."""
        if self._moods.on("arc-dies"):
            self.end(int(self._moods.number("exit_code", EXIT_CODE)))
        target = head.path
        if control:
            return await client.say(self._register(head, await read_body(client.reader, head)), head)
        if target.startswith("/identity/"):
            return await client.say(self._identify(head, await read_body(client.reader, head)), head)
        return await self._kubernetes(client, head)

    def end(self, code: int) -> None:
        """Stop with this exit code."""
        self.code = code
        self.ended.set()

    # control calls

    def _identify(self, head: Head, body: bytes) -> bytes:
        correlation = head.get("x-ms-correlation-request-id")
        if (head.method, head.path) == ("GET", "/identity/poppublickey"):
            self._log.say("ProxyPopPublicKeyComplete", sessionId=correlation)
            return answer(200, {"publicKey": {"kid": self._identity.kid}})
        if (head.method, head.path) != ("POST", "/identity/at"):
            return answer(404, {"error": "not found"})
        try:
            if self._moods.once("arc-key-expired-once") or self._moods.on("arc-key-expired"):
                self._identity.rotate()
                raise Refused(500, "public key expired")
            self._identity.take(body)
        except Refused as error:
            self._log.say("ProxyError", "error", sessionId=correlation, error=error)
            return answer(error.status, {"error": {"code": "InternalError", "message": str(error)}})
        self._log.say("ProxyPostIdentityAccessTokenComplete", sessionId=correlation)
        self._log.say("ProxyIdentity", "debug", accessToken=self._identity.token)
        return answer(200, {})

    def _register(self, head: Head, body: bytes) -> bytes:
        path, _, query = head.target.partition("?")
        correlation = head.get("x-ms-correlation-request-id")
        try:
            arm_id = cluster_id(path, parse_qs(query).get("api-version", [""])[0])
            if arm_id is None or head.method != "POST":
                raise Refused(404, "not found")
            if (spoilt := self._spoilt()) is not None:
                return spoilt
            known, config = read_registration(body)
        except Refused as error:
            self._log.say("ProxyError", "error", sessionId=correlation, error=error)
            return answer(error.status, {"error": {"code": "BadRequest", "message": str(error)}})
        prefix = prefix_of(arm_id)
        self._clusters[prefix] = known
        self._log.say("ProxyRegisterSucceeded", sessionId=correlation)
        server = f"https://{HOST}:{self._settings.https_port}/{prefix}"
        return answer(200, kubeconfig_answer(config, server, self._ca_pem))

    def _spoilt(self) -> bytes | None:
        on = self._moods.on
        if on("arc-register-403"):
            return answer(403, {"error": {"code": "Forbidden", "message": "The caller may not register."}})
        if on("arc-register-500"):
            return answer(500, {"error": {"code": "InternalError", "message": "The register call failed."}})
        if on("arc-register-garbage"):
            return answer(200, None, raw=GARBAGE)
        return answer(200, {"kubeconfigs": []}) if on("arc-register-empty") else None

    # the Kubernetes API

    def _refusal(self, known: Registration | None) -> bytes | None:
        """Why a request cannot go on. The vendor's own answers are unknown; these are chosen here."""
        if known is None:
            return refusal(503, "the cluster is not registered with this proxy")
        if not known.good:
            return refusal(503, "the hybrid connection's token has expired: register again")
        if self._settings.client and not self._identity.good:
            return refusal(401, "no access token: post one to /identity/at")
        return None

    async def _kubernetes(self, client: _Client, head: Head) -> bool:
        prefix, _, rest = head.target.removeprefix("/").partition("/")
        known = self._clusters.get(prefix)
        refused = self._refusal(known)
        if refused is None and known is not None and client.stream is None:
            refused = await self._reach(client, known)
        if refused is not None:
            async for _ in body_pieces(client.reader, head):
                pass
            return await client.say(refused, head)
        headers = head.headers
        if self._settings.client:
            headers = [pair for pair in headers if pair[0].lower() != "authorization"]
            headers.append(("Authorization", f"Bearer {self._identity.token}"))
        return await client.pass_on(head, head.wire(f"/{rest}", headers))

    async def _reach(self, client: _Client, known: Registration) -> bytes | None:
        namespace = f"{known.relay}.{self._settings.suffix}"
        self._log.say("OutboundWSHeaders", "debug", url=f"wss://{namespace}/$hc/{known.connection}", token=known.token)
        try:
            client.open(await open_stream(namespace, known.connection, known.token, self._relay_tls))
        except RelayRefused as error:
            self._log.say("ProxyError", "error", error=error)
            return refusal(502, f"cannot reach the cluster through the relay: {error}")
        return None


class _Client:
    """One connection of a client, and the stream behind it once there is one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tasks: TaskOwner) -> None:
        self.reader, self._writer, self._tasks = reader, writer, tasks
        self.stream: RelayStream | None = None
        self._heads: asyncio.Queue[bytes] | None = None
        """Where the first bytes of an answer go when it matters whether the protocol was switched."""

    async def say(self, data: bytes, head: Head) -> bool:
        """An answer of our own; whether the connection goes on."""
        self._writer.write(data)
        await self._writer.drain()
        return head.keeps_alive

    def open(self, stream: RelayStream) -> None:
        """Start to pass on what the cluster says."""
        self.stream = stream
        self._tasks.spawn(self._outward(stream), name="outward")

    async def _outward(self, stream: RelayStream) -> None:
        try:
            while data := await stream.read():
                if self._heads is not None:
                    self._heads.put_nowait(data)
                    self._heads = None
                self._writer.write(data)
                await self._writer.drain()
        except OSError:
            pass
        finally:
            if self._heads is not None:
                self._heads.put_nowait(b"")
            self._writer.close()  # the client reads to its end and comes again

    async def pass_on(self, head: Head, wire: bytes) -> bool:
        """Send a request on, and after a switch of protocols everything. False when the connection is over."""
        stream = self.stream
        if stream is None:
            return False
        heads = self._heads = asyncio.Queue() if head.upgrades else None
        await stream.write(wire)
        async for piece in body_pieces(self.reader, head):
            await stream.write(piece)
        if heads is None:
            return True
        first = await heads.get()
        if not first.startswith(b"HTTP/1.1 101"):
            return bool(first)
        while data := await self.reader.read(HEAD_MOST):
            await stream.write(data)
        return False

    async def aclose(self) -> None:
        if self.stream is not None:
            await self.stream.aclose()
        with contextlib.suppress(OSError):
            await self._writer.drain()
        self._writer.close()


def _own_certificate() -> tuple[ssl.SSLContext, bytes]:
    """TLS with a certificate that an authority of this process has signed, and that authority's PEM."""
    from app.lab.certificates import make_certificates

    with tempfile.TemporaryDirectory(prefix="arcproxy-") as folder:
        made = make_certificates(Path(folder))
        return made.server_context(), made.ca.read_bytes()


def _steal(port: int) -> None:
    """Somebody else takes the port: a process of another group that listens there until our end."""
    program = (
        "import socket, sys\n"
        f"s = socket.create_server(('{HOST}', {port}))\n"
        "print('up', flush=True)\n"
        "sys.stdin.read()\n"
    )
    thief = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert thief.stdout is not None
    thief.stdout.readline()


def _end_with_lab(proxy: Proxy, moods: Moods) -> None:
    """End some time after the lab: unlike the vendor's program, which a client that was killed leaves behind."""
    if moods.left_behind:
        proxy.end(0)
    else:
        asyncio.get_running_loop().call_later(LOOK_EVERY, _end_with_lab, proxy, moods)


async def _run(settings: Settings, moods: Moods, log: Log) -> int:
    proxy = Proxy(settings, moods, log)

    def stop() -> None:
        if moods.on("arc-ignores-sigterm"):
            log.say("ProxyKeepsRunning", "warning")
        else:
            proxy.end(0)

    with contextlib.suppress(NotImplementedError):  # Windows
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
    if moods.on("arc-exits"):
        log.say("ProxyError", "fatal", error="the lab was asked to fail")
        return int(moods.number("exit_code", EXIT_CODE))
    async with TaskOwner("arc proxy") as owner:
        _end_with_lab(proxy, moods)
        if moods.on("arc-never-starts"):
            await proxy.ended.wait()
        if moods.on("arc-slow-start"):
            log.say("ProxyStartsLate", "warning")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(proxy.ended.wait(), moods.number("slow_start", SLOW_START))
        if not proxy.ended.is_set():
            await proxy.serve(owner)
    return proxy.code


def main(arguments: list[str], faults: Path | None) -> int:
    """Run the program; `faults` is the file in which the lab says what goes wrong."""
    parser = argparse.ArgumentParser(prog="arcProxy", add_help=False)
    parser.add_argument("-c", dest="config", required=True)
    parser.add_argument("-d", dest="debug", action="store_true")
    args = parser.parse_args(arguments)
    log = Log(debug=args.debug)
    try:
        return asyncio.run(_run(read_settings(Path(args.config)), Moods(faults), log))
    except (OSError, ValueError) as error:
        log.say("ProxyError", "fatal", error=error)
        return 1
